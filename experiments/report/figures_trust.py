"""Figures of how far a model can be trusted: calibration, coverage, spread of the Gaussians, reconstructions, maps."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.manifold import TSNE

from cmarr_jax.data.availability import availability_patterns
from experiments.report.confidence import (
    confidence_and_hits,
    fit_temperature,
    missing_decisions,
    reliability,
    risk_by_coverage,
)
from experiments.report.drawing import GRID, INK, MARKERS, MUTED, PAPER, SERIES, Figure, canvas, to_svg
from experiments.report.figures import chosen_rows
from experiments.report.material import Material

COVERAGE = tuple(np.linspace(0.1, 1.0, 19).round(2).tolist())
MOST_POINTS = 300  # utterances in a map


def decisions_of(material: Material, row: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[float]]:
    """Confidence before and after temperature scaling, and hits, of all missing-modality decisions of a row.

    The temperature of each run is fitted to its validation part.
    """
    before, after, hits, temperatures = [], [], [], []
    for fold, runs in material.outputs(row).items():
        for number, run in enumerate(runs):
            temperature = fit_temperature(missing_decisions(material.outputs(row, "val")[fold][number]))
            confidence, right = confidence_and_hits(missing_decisions(run))
            before.append(confidence)
            after.append(confidence_and_hits(missing_decisions(run), temperature)[0])
            hits.append(right)
            temperatures.append(temperature)
    return np.concatenate(before), np.concatenate(after), np.concatenate(hits), temperatures


def reliability_figure(material: Material) -> Figure | None:
    """Reliability diagrams before and after temperature scaling, with the expected calibration error."""
    names = chosen_rows(material)[:4]
    if not names:
        return None
    numbers = []
    with canvas(9.6, 2.8, 1, len(names), sharey=True) as (figure, axes):
        for axis, row in zip(axes[0], names, strict=True):
            numbers += _draw_reliability(axis, material, row)
            axis.set_title(_short(material.label(row)), fontsize=9)
            axis.set_xlabel("confidence")
            axis.set_xlim(0, 1)
            axis.set_ylim(0, 1)
        axes[0, 0].set_ylabel("share of right decisions")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        svg = to_svg(figure, "reliability")
    return Figure(
        "reliability",
        "Reliability of the probabilities",
        "Decisions in the missing-modality conditions by confidence, the largest probability. On the diagonal, a "
        "confidence of 70 per cent is "
        "right "
        "in 70 per cent. Error: expected calibration error, per cent, before and after temperature scaling; the "
        "temperature of each run is fitted to its validation part.",
        f"Reliability diagrams of {len(names)} methods before and after temperature scaling. The numbers follow as a "
        "table.",
        svg,
        ["method", "scaling", "mean confidence", "share right", "decisions"],
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
        axis.plot(bins.confidence, bins.accuracy, markersize=4, linewidth=1.4, **style)
        texts.append(f"{name} {100 * bins.error:.1f}")
        for mean, share, count in zip(bins.confidence, bins.accuracy, bins.counts, strict=True):
            if count:
                numbers.append([material.label(row), name, f"{mean:.3f}", f"{share:.3f}", int(count)])
        temperature = f"temperature {np.mean(temperatures) if number else 1:.2f}"
        error = [f"{name}: error, per cent", f"{100 * bins.error:.2f}"]
        numbers.append([material.label(row), *error, temperature, len(hits)])
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
    return Figure(
        "coverage",
        "Risk against coverage",
        "If the least confident decisions are left to a person, how many of the others are wrong. Missing-modality "
        "conditions, all folds and seeds together, after temperature scaling.",
        f"Line plot of the share of wrong decisions of {len(names)} methods against coverage. The numbers follow as "
        "a table.",
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
    modalities, numbers = material.config["data"]["modalities"], []
    with canvas(1.2 + 2.6 * len(modalities), 2.8, 1, len(modalities), sharey=True) as (figure, axes):
        for column, name in enumerate(modalities):
            spread, right = [], []
            for outputs, inspection in found:
                has = outputs.present[:, column]
                spread.append(inspection["spread"][has, column])
                right.append((outputs.logits[column].argmax(-1) == outputs.label)[has])
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
    return Figure(
        "spread",
        f"Spread of the Gaussians of {material.label(main)}",
        "Does a wide Gaussian mean a wrong decision? Mean log standard deviation of an utterance's embedding, for "
        "decisions "
        "from that modality alone. Dot: median; thick: quartiles; thin: 5 to 95 per cent.",
        "Box plots of the spread of right and of wrong decisions for each modality. The numbers follow as a table.",
        svg,
        ["modality", "decision", "5 %", "25 %", "median", "75 %", "95 %", "decisions"],
        numbers,
    )


def reconstruction_figure(material: Material) -> Figure | None:
    """Squared error of recovered embeddings relative to predicting the mean."""
    rows = [row for row in chosen_rows(material) if material.inspections(row)]
    rows = [row for row in rows if "error" in material.inspections(row)[0][1]]
    if not rows:
        return None
    modalities = material.config["data"]["modalities"]
    patterns, numbers = availability_patterns(len(modalities)), []
    missing = [(m, p) for m in range(len(modalities)) for p in range(len(patterns)) if not patterns[p][m]]
    names = [f"{modalities[m]} from {material.conditions[p]}" for m, p in missing]
    with canvas(8.0, 1.0 + 0.3 * len(missing)) as (figure, axes):
        axis = axes[0, 0]
        for number, row in enumerate(rows):
            relative = np.array(
                [relative_errors(outputs, values, missing) for outputs, values in material.inspections(row)]
            )
            mean, std = np.nanmean(relative, axis=0), np.nanstd(relative, axis=0)
            level = np.arange(len(missing)) + 0.5 * (number + 0.5) / len(rows) - 0.25
            axis.plot(mean, level, MARKERS[number], color=SERIES[number], markersize=5, label=material.label(row))
            numbers += [
                [material.label(row), name, f"{m:.3f}", f"{s:.3f}"] for name, m, s in zip(names, mean, std, strict=True)
            ]
        axis.axvline(1.0, color=INK, linewidth=1, linestyle="--")
        axis.set_yticks(range(len(missing)), names)
        axis.set_ylim(len(missing) - 0.4, -0.6)
        axis.set_xlabel("squared error, relative to predicting the mean (dashed line)")
        if len(rows) > 1:
            axis.legend()
        svg = to_svg(figure, "reconstruction")
    return Figure(
        "reconstruction",
        "Error of the recovered embeddings",
        "Squared error between the recovered and the true embedding of a missing modality, divided by that of "
        "predicting "
        "the mean embedding of the test utterances. Below 1: something of the utterance was recovered. Each method "
        "has an "
        "embedding space of its own. Mean over the runs.",
        f"Dot plot of the relative reconstruction error of {len(rows)} methods in {len(missing)} cases. The numbers "
        "follow "
        "as a table.",
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


def map_figure(material: Material) -> Figure | None:
    """A t-SNE map of the embeddings of one fold before training and after it, by class and by modality."""
    main = material.main
    found = material.inspections(main) if main else []
    found = [(outputs, values) for outputs, values in found if "initial_point" in values]
    if main is None or not found:
        return None
    outputs, values = found[0]
    modalities, classes = material.config["data"]["modalities"], material.class_names
    rows = np.random.default_rng(0).permutation(len(outputs.label))[:MOST_POINTS]
    at = np.argwhere(outputs.present[rows])
    label, numbers = outputs.label[rows][at[:, 0]], []
    with canvas(8.4, 8.0, 2, 2) as (figure, axes):
        for line, (name, key) in enumerate((("before training", "initial_point"), ("after training", "point"))):
            points, flat = _flattened(values[key][rows].astype(np.float64)[at[:, 0], at[:, 1]])
            for axis, groups, names in ((axes[line, 0], label, classes), (axes[line, 1], at[:, 1], modalities)):
                for number, group in enumerate(names):
                    where = groups == number
                    axis.plot(*flat[where].T, MARKERS[number % 8], color=SERIES[number % 8], markersize=3, alpha=0.75,
                              linestyle="none", label=group)  # fmt: skip
                axis.set_xticks([])
                axis.set_yticks([])
                axis.set_title(f"{name}, by {'class' if names is classes else 'modality'}")
                axis.spines[:].set_color(GRID)
                if line:
                    axis.legend(
                        loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=min(4, len(names)), markerscale=1.6
                    )
                numbers.append([name, "class" if names is classes else "modality", f"{_purity(points, groups):.3f}"])
        svg = to_svg(figure, "map")
    return Figure(
        "map",
        f"Map of the embeddings of {material.label(main)}",
        f"t-SNE of {len(rows)} test utterances of one fold, a point for each modality of each. Aligned embeddings "
        "mix the "
        "modalities (right); refined ones gather by class (left). Distances on such a map mean little; the table "
        "says how "
        "often the nearest neighbour in the embedding space is of the same group.",
        "Four scatter plots: embeddings before and after training, coloured by class and by modality. The shares of "
        "neighbours of the same group follow as a table.",
        svg,
        ["embeddings", "groups", "nearest neighbour of the same group"],
        numbers,
    )


def _flattened(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on a common scale, and their t-SNE in two dimensions."""
    points = (points - points.mean(0)) / np.maximum(points.std(), 1e-9)
    perplexity = min(30, (len(points) - 1) / 3)
    return points, TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points)


def _purity(points: np.ndarray, groups: np.ndarray) -> float:
    """Share of points whose nearest other point is of the same group."""
    squared = (points**2).sum(1)
    distance = squared[:, None] + squared[None] - 2 * points @ points.T
    np.fill_diagonal(distance, np.inf)
    return float(np.mean(groups[distance.argmin(1)] == groups))


def _short(text: str, most: int = 34) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
