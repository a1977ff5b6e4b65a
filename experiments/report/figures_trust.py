"""Figures of how far a model can be trusted: calibration, coverage, spread of the Gaussians, reconstructions."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import roc_auc_score

from cmarr_jax.calibration import fit_temperature, missing_decisions
from cmarr_jax.data.availability import availability_patterns
from experiments.report.confidence import confidence_and_hits, reliability, risk_by_coverage
from experiments.report.drawing import INK, MARKERS, MUTED, PAPER, SERIES, Figure, canvas, legend_below, to_svg
from experiments.report.figures import MOST_ROWS, chosen_rows, chosen_text
from experiments.report.material import Material
from experiments.report.scores import counted

COVERAGE = tuple(np.linspace(0.1, 1.0, 19).round(2).tolist())
LEAST = 0.005  # share of the decisions that a group of a reliability diagram has, to be drawn


def decisions_of(material: Material, row: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Confidence before and after temperature scaling, and hits, of all missing-modality decisions of a row.

    The temperature of each run is fitted to its validation part.
    """
    before, after, hits, temperatures = [], [], [], []
    for fold, runs in material.outputs(row).items():
        for number, run in enumerate(runs):
            validation = material.outputs(row, "val")[fold][number]
            temperature = fit_temperature(missing_decisions(validation.logits, validation.label, validation.present))
            decisions = missing_decisions(run.logits, run.label, run.present)
            confidence, right = confidence_and_hits(decisions)
            before.append(confidence)
            after.append(confidence_and_hits(decisions, temperature)[0])
            hits.append(right)
            temperatures.append(temperature)
    return np.concatenate(before), np.concatenate(after), np.concatenate(hits), temperatures


def reliability_figure(material: Material) -> Figure | None:
    """Reliability diagrams before and after temperature scaling, with the expected calibration error."""
    names = chosen_rows(material, most=4)
    if not names:
        return None
    numbers = []
    with canvas(9.6, 2.8, 1, len(names), sharey=True) as (figure, axes):
        for axis, row in zip(axes[0], names, strict=True):
            numbers += _draw_reliability(axis, material, row)
            axis.set_title(textwrap.fill(material.label(row), 30), fontsize=9)
            axis.set_xlabel("confidence")
            axis.set_xlim(0, 1)
            axis.set_ylim(0, 1)
        axes[0, 0].set_ylabel("share of right decisions")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        svg = to_svg(figure, "reliability")
    found = {(row, name): error for row, name, *_, error, _ in numbers if error}
    errors = [
        f"{label} {' and '.join(found[label, name] for name in ('before', 'after'))}"
        for label in map(material.label, names)
    ]
    return Figure(
        "reliability",
        "Reliability of the probabilities",
        "Decisions in the missing-modality conditions by confidence, the largest probability. On the diagonal, a "
        "confidence of 70 per cent is right in 70 per cent. Error: expected calibration error, per cent, before and "
        "after temperature scaling; the temperature of each run is fitted to its validation part. Groups of less "
        "than 1 in 200 decisions are not drawn." + chosen_text(material, names),
        f"Expected calibration error, per cent, before and after temperature scaling: {'; '.join(errors)}.",
        svg,
        ["method", "scaling", "mean confidence", "share right", "decisions", "error, per cent", "temperature"],
        numbers,
    )


def _draw_reliability(axis: Axes, material: Material, row: str) -> list[list]:
    """Both curves of a row, and their numbers."""
    before, after, hits, temperatures = decisions_of(material, row)
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
    texts, numbers = [], []
    for number, (name, confidence) in enumerate((("before", before), ("after", after))):
        bins = reliability(confidence, hits)
        style: dict[str, Any] = {"color": SERIES[1 - number], "marker": MARKERS[number], "label": f"{name} scaling"}
        drawn = bins.counts >= LEAST * len(hits)
        axis.plot(bins.confidence[drawn], bins.accuracy[drawn], markersize=4, linewidth=1.4, **style)
        texts.append(f"{name} {100 * bins.error:.2f}")
        for mean, share, count in zip(bins.confidence, bins.accuracy, bins.counts, strict=True):
            if count:
                numbers.append([material.label(row), name, f"{mean:.3f}", f"{share:.3f}", int(count), "", ""])
        temperature = f"{np.mean(temperatures) if number else 1:.2f}"
        error = f"{100 * bins.error:.2f}"
        numbers.append([material.label(row), name, "all", f"{hits.mean():.3f}", len(hits), error, temperature])
    axis.text(0.03, 0.97, "error\n" + "\n".join(texts), va="top", fontsize=8, color=INK)
    return numbers


def coverage_figure(material: Material) -> Figure | None:
    """Risk against coverage."""
    names = chosen_rows(material)
    if not names:
        return None
    numbers = []
    with canvas(9.0, 3.8) as (figure, axes):
        axis = axes[0, 0]
        for number, row in enumerate(names):
            _, after, hits, _ = decisions_of(material, row)
            risk = risk_by_coverage(after, hits, COVERAGE)
            axis.plot(COVERAGE, 100 * risk, color=SERIES[number], marker=MARKERS[number], markersize=3, linewidth=1.4,
                      label=material.label(row))  # fmt: skip
            numbers.append([material.label(row), *(f"{100 * x:.2f}" for x in risk)])
        axis.set_xlabel("coverage: share of decisions that are kept, the most confident first")
        axis.set_ylabel("wrong, per cent")
        axis.legend()
        svg = to_svg(figure, "coverage")
    ends = ", ".join(f"{name} {first} and {last}" for name, first, *_, last in numbers)
    return Figure(
        "coverage",
        "Risk against coverage",
        "If the least confident decisions are left to a person, what share of the others is wrong. Missing-modality "
        "conditions, all folds and seeds together, after temperature scaling." + chosen_text(material, names),
        f"Per cent of wrong decisions if a tenth is kept, and if all are: {ends}.",
        svg,
        ["method", *(f"{share:.2f}" for share in COVERAGE)],
        numbers,
    )


def spread_figure(material: Material) -> Figure | None:
    """Spread of the Gaussians of right and wrong decisions, each modality alone."""
    main = material.main
    found = material.inspections(main) if main else []
    found = [(outputs, values) for outputs, values in found if "spread" in values]
    if main is None or not found:
        return None
    modalities, numbers, wider = material.config["data"]["modalities"], list[list](), list[str]()
    with canvas(1.2 + 2.6 * len(modalities), 2.8, 1, len(modalities), sharey=True) as (figure, axes):
        for column, name in enumerate(modalities):
            spread, right, shares = [], [], []
            for outputs, inspection in found:
                has = outputs.present[:, column]
                spread.append(inspection["spread"][has, column])
                right.append((outputs.logits[column].argmax(-1) == outputs.label)[has])
                if 0 < right[-1].mean() < 1:
                    shares.append(roc_auc_score(~right[-1], spread[-1]))
            if shares:
                wider.append(f"{100 * np.mean(shares):.0f} per cent ({name})")
            values, hits = np.concatenate(spread), np.concatenate(right)
            parts = [values[hits], values[~hits]]
            axis = axes[0, column]
            for place, (part, label) in enumerate(zip(parts, ("right", "wrong"), strict=True)):
                if len(part) < 2:
                    continue
                low, first, middle, third, high = np.quantile(part, [0.05, 0.25, 0.5, 0.75, 0.95])
                colour = SERIES[place]
                axis.plot([place, place], [low, high], color=colour, linewidth=1.5)
                axis.plot([place, place], [first, third], color=colour, linewidth=9, alpha=0.5, solid_capstyle="butt")
                axis.plot(place, middle, MARKERS[0], color=colour, markersize=6, markeredgecolor=PAPER)
                numbers.append([name, label, *(f"{x:.4f}" for x in (low, first, middle, third, high)), len(part)])
            axis.set_title(name)
            axis.set_xticks([0, 1], ["right", "wrong"])
            axis.set_xlim(-0.6, 1.6)
        axes[0, 0].set_ylabel("mean log standard deviation")
        svg = to_svg(figure, "spread")
    answer = (
        "Of a wrong and a right decision of a run drawn at random, the wrong one has the wider Gaussian in "
        f"{', '.join(wider)}; 50 per cent would be chance. Mean over {counted(len(found), 'run')}."
    )
    return Figure(
        "spread",
        f"Spread of the Gaussians of {material.label(main)}",
        f"Does a wide Gaussian mean a wrong decision? {answer} Drawn is the mean natural log of the standard "
        "deviations of an utterance's embedding, for decisions from that modality alone. Dot: median; thick: "
        "quartiles; thin: 5 to 95 per cent.",
        f"Spread of the Gaussians of right and of wrong decisions. {answer}",
        svg,
        ["modality", "decision", "5 %", "25 %", "median", "75 %", "95 %", "decisions"],
        numbers,
    )


def reconstruction_figure(material: Material) -> Figure | None:
    """Squared error of recovered embeddings relative to predicting the mean."""
    found = {row: material.inspections(row) for row in chosen_rows(material, len(material.runs))}
    rows = [row for row, runs in found.items() if runs and "error" in runs[0][1]][:MOST_ROWS]
    if not rows:
        return None
    modalities = material.config["data"]["modalities"]
    patterns, numbers = availability_patterns(len(modalities)), []
    missing = [(m, p) for m in range(len(modalities)) for p in range(len(patterns)) if not patterns[p][m]]
    names = [f"{modalities[m]} from {material.conditions[p]}" for m, p in missing]
    with canvas(8.0, 1.0 + 0.3 * len(missing)) as (figure, axes):
        axis = axes[0, 0]
        for number, row in enumerate(rows):
            relative = np.array([relative_errors(outputs, values, missing) for outputs, values in found[row]])
            mean, std = np.nanmean(relative, axis=0), np.nanstd(relative, axis=0)
            level = np.arange(len(missing)) + 0.5 * (number + 0.5) / len(rows) - 0.25
            axis.hlines(level, mean - std, mean + std, color=SERIES[number], linewidth=1, alpha=0.6)
            axis.plot(mean, level, MARKERS[number], color=SERIES[number], markersize=5, linestyle="none",
                      label=material.label(row))  # fmt: skip
            numbers += [
                [material.label(row), name, f"{m:.3f}", f"{s:.3f}"] for name, m, s in zip(names, mean, std, strict=True)
            ]
        axis.axvline(1.0, color=INK, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(missing)), names)
        axis.set_ylim(len(missing) - 0.4, -0.6)
        axis.set_xlabel("squared error, relative to predicting the mean (dashed line)")
        if len(rows) > 1:
            legend_below(figure, axis)
        svg = to_svg(figure, "reconstruction")
    below = [
        f"{label}: below 1 in {sum(float(line[2]) < 1 for line in numbers if line[0] == label)} of {len(missing)} cases"
        for label in map(material.label, rows)
    ]
    return Figure(
        "reconstruction",
        "Error of the recovered embeddings",
        "Squared error between the recovered and the true embedding of a missing modality, divided by that of "
        "predicting the mean embedding of the test utterances. Below 1: something of the utterance was recovered; "
        "above 1: worse than the mean. Dot: mean over the runs; bar: standard deviation over them. "
        + ". ".join(below)
        + ". Methods that recover no embeddings, or keep no record of them, are left out. Each has its own "
        "embedding space: compare a method with the dashed line, not with another method.",
        f"Relative error of recovered embeddings. {'; '.join(below)}.",
        svg,
        ["method", "case", "relative error", "standard deviation over runs"],
        numbers,
    )


def relative_errors(outputs, values: dict[str, np.ndarray], missing: list[tuple[int, int]]) -> list[float]:
    """Mean squared error of each case (modality, condition) relative to that of the mean embedding."""
    patterns, errors = availability_patterns(outputs.present.shape[1]), []
    point = values["point"].astype(np.float64)
    for m, p in missing:
        where = outputs.present[:, m] & (outputs.present & patterns[p]).any(1)
        variance = np.mean(np.var(point[where, m], axis=0)) if where.sum() > 1 else np.nan
        errors.append(float(np.mean(values["error"][p, where, m]) / variance) if variance else np.nan)
    return errors
