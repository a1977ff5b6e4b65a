"""Figures of the scores: conditions, differences, confusions, learning curves, missing rates."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from experiments.comparison import LEVEL, NO_INTERVAL, NOT_SHOWN, SHOWN
from experiments.report.differences import p_text, signed
from experiments.report.drawing import INK, MARKERS, MUTED, SERIES, Figure, canvas, legend_below, to_svg
from experiments.report.material import Material
from experiments.report.rates import RATES, scores_by_rate
from experiments.report.scores import AVERAGE, CEILINGS, Summary, collect, counted, of_metric, summarize, with_interval
from experiments.statistics import NUM_DRAWS, exchanges_text
from experiments.units import counts_by_speaker

MOST_ROWS = 8  # that are told apart by colour and marker


def chosen_rows(material: Material, most: int = MOST_ROWS) -> list[str]:
    """At most so many rows with outputs for a figure with a colour each: the main row and those of the highest UAR."""
    scores = collect(of_metric(material.rows, "uar"), "uar")
    order = lambda name: (name != material.main, -np.nan_to_num(summarize(scores[name][AVERAGE]).mean))
    return sorted(material.runs, key=order)[:most]


def chosen_text(material: Material, names: Sequence[str]) -> str:
    """Which rows a figure has, where it has not all of them."""
    if len(names) == len(material.runs):
        return ""
    others = counted(len(names) - 1, "other method")
    return f" Drawn are {material.label(names[0])} and the {others} with the highest average UAR."


def hide_rest(axes: np.ndarray, used: int) -> None:
    """Hides the panels after the first `used` ones."""
    for axis in axes.flat[used:]:
        axis.set_axis_off()


def conditions_figure(material: Material, metric: str = "uar") -> Figure:
    """A panel per condition: each row's mean with its interval, and the ceilings as lines."""
    scores = collect(of_metric(material.rows, metric), metric)
    trained, exact = material.trained(), [name for name in scores if name in CEILINGS]
    names = [*material.conditions[:-1], AVERAGE, material.conditions[-1]]
    numbers = []
    columns = 4
    rows = -(-len(names) // columns)
    with canvas(9.6, rows * (0.9 + 0.24 * len(trained)), rows, columns, sharey=True) as (figure, axes):
        for place, name in enumerate(names):
            axis = axes.flat[place]
            for level, row in enumerate(trained):
                found = with_interval(summarize(scores[row][name]), material.intervals.get((row, metric, name)))
                _draw_interval(axis, level, found, SERIES[0] if row == material.main else MUTED)
                numbers.append([material.label(row), name, *per_cent(found.mean, found.ci_low, found.ci_high), found.n])
            for line, row in enumerate(exact):
                mean = summarize(scores[row][name]).mean
                axis.axvline(100 * mean, color=INK, linestyle=("--", ":")[line % 2], linewidth=1.2)
                numbers.append([material.label(row), name, *per_cent(mean, np.nan, np.nan), ""])
            axis.set_title(name)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            axis.set_ylim(len(trained) - 0.4, -0.6)
            axis.set_yticks(range(len(trained)), [material.label(row) for row in trained])
            axis.tick_params(axis="y", length=0)
        hide_rest(axes, len(names))
        figure.supxlabel(f"{metric.upper()}, per cent", fontsize=10, color=INK)
        svg = to_svg(figure, f"conditions-{metric}")
    on_average = ", ".join(
        [f"{material.label(row)} {100 * summarize(scores[row][AVERAGE]).mean:.1f}" for row in trained]
    )
    lines = "; dashed line: Bayes ceiling; dotted line: late fusion of exact posteriors" if exact else ""
    return Figure(
        f"conditions-{metric}",
        f"{metric.upper()} in each condition",
        "A panel per condition, named by the modalities that are available. Dot: mean over folds of the mean over "
        f"seeds; bar: 95 % interval {material.over}{lines}. Each panel has a scale of its own.",
        f"{metric.upper()} of {len(trained)} methods in {len(names) - 1} conditions and on average, with intervals. On "
        f"average, per cent: {on_average}.",
        svg,
        ["method", "condition", metric.upper(), "low", "high", "runs"],
        numbers,
    )


def _draw_interval(axis: Axes, level: int, found: Summary, colour: str) -> None:
    """A mean with its interval, per cent."""
    if found.n:
        axis.plot([100 * found.ci_low, 100 * found.ci_high], [level, level], color=colour, linewidth=2, alpha=0.7)
        axis.plot(100 * found.mean, level, MARKERS[0], color=colour, markersize=5)


def differences_figure(material: Material) -> Figure | None:
    """A forest plot: the main row minus each other one."""
    if not material.comparisons:
        return None
    baselines = list(dict.fromkeys(one.baseline for one in material.comparisons))
    label, numbers = material.label(material.comparisons[0].method), []
    with canvas(9.0, 1.1 + 0.32 * len(baselines), 1, 2, sharey=True) as (figure, axes):
        for axis, metric in zip(axes[0], ("uar", "war"), strict=True):
            for one in (one for one in material.comparisons if one.metric == metric):
                level, (mean, low, high) = baselines.index(one.baseline), [100 * x for x in one.difference]
                is_muted = one.verdict in (NOT_SHOWN, NO_INTERVAL)
                colour = MUTED if is_muted else SERIES[0] if mean > 0 else SERIES[1]
                axis.plot([low, high], [level, level], color=colour, linewidth=2)
                marker = MARKERS[0 if is_muted else 1]
                inside = colour if one.verdict in SHOWN else "none"
                axis.plot(mean, level, marker, color=colour, markerfacecolor=inside, markersize=6)
                numbers.append([
                    material.label(one.baseline), metric.upper(), *map(signed, (mean, low, high)),
                    p_text(one.p_alone, 4), p_text(one.p), one.verdict,
                ])  # fmt: skip
            axis.axvline(0, color=INK, linewidth=1)
            axis.set_title(metric.upper())
            axis.set_ylim(len(baselines) - 0.4, -0.6)
            axis.set_yticks(range(len(baselines)), [f"minus {material.label(name)}" for name in baselines])
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        figure.supxlabel(f"percentage points; to the right of zero {label} is better", fontsize=10, color=INK)
        svg = to_svg(figure, "differences")
    num_shown = sum(one.verdict in SHOWN for one in material.comparisons)
    exchanges = exchanges_text(max(one.num_speakers for one in material.comparisons))
    return Figure(
        "differences",
        f"{label} minus each other method",
        "Average of the missing-modality conditions, from numbers that were not rounded; single conditions are not "
        f"tested. Bar: 95 % interval {material.over}, {counted(material.num_speakers, 'speaker')} (Student's t, "
        f"standard error of {NUM_DRAWS:,} draws); with few speakers it is rough. Circle: the interval has zero "
        "in it, no difference is shown, which does not show that there is none. Square: it leaves out zero, and "
        f"{label} is better (blue) or worse (orange). Filled square: p is below {LEVEL:g}, too, so the difference is "
        "shown. Hollow square: it is so by the interval only, as p is not. Both methods decide on the same utterances, "
        "so judge by these differences, not by whether intervals of two scores overlap. p, under Numbers: of a "
        f"permutation test over speakers ({exchanges}), alone and corrected after Holm for "
        "the number of methods, each metric by itself."
        + (" The interval also has how trainings vary, p has not." if material.num_seeds > 1 else ""),
        f"{label} minus {counted(len(baselines), 'other method')}, in UAR and WAR: {num_shown} of "
        f"{len(material.comparisons)} differences are shown.",
        svg,
        ["minus", "metric", "difference", "low", "high", "p alone", "p corrected", ""],
        numbers,
    )


def confusion_figure(material: Material) -> Figure | None:
    """Confusion matrices of the main row, a panel per condition, rows in per cent."""
    if material.main is None:
        return None
    counts = sum(
        counts_by_speaker(run, np.unique(run.speaker)).sum(0)
        for fold in material.outputs(material.main).values()
        for run in fold
    )
    names, classes = material.conditions, material.class_names
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    numbers: list[list] = []
    lowest: list[str] = []
    with canvas(9.6, 2.5 * rows, rows, columns) as (figure, axes):
        for place, name in enumerate(names):
            share = 100 * counts[place] / np.maximum(counts[place].sum(1, keepdims=True), 1)
            _draw_matrix(axes.flat[place], share, classes, with_names=place % columns == 0)
            axes.flat[place].set_title(name)
            at = int(share.diagonal().argmin())
            lowest.append(f"{classes[at]} {share[at, at]:.0f} per cent with {name}")
            numbers += [
                [name, classes[true], *(f"{x:.1f}" for x in share[true]), int(counts[place][true].sum())]
                for true in range(len(classes))
            ]
        hide_rest(axes, len(names))
        for axis in axes[:, 0]:
            axis.set_ylabel("true")
        figure.supxlabel("predicted", fontsize=10, color=INK)
        svg = to_svg(figure, "confusions")
    return Figure(
        "confusions",
        f"Confusions of {material.label(material.main)}",
        "Of the utterances of a true class (row), per cent that were given each class (column); all test folds and "
        "seeds together. The diagonal is the recall of each class in all folds together; the UAR of the tables "
        "is of each fold, then averaged.",
        f"Confusion matrices of {material.label(material.main)} in {len(names)} conditions. Smallest recalls: "
        f"{', '.join(lowest)}.",
        svg,
        ["condition", "true class", *classes, "decisions"],
        numbers,
    )


def _draw_matrix(axis: Axes, share: np.ndarray, classes: Sequence[str], *, with_names: bool) -> None:
    """A confusion matrix in per cent."""
    axis.grid(False)
    for true in range(len(classes)):
        for predicted in range(len(classes)):
            value = share[true, predicted]
            axis.add_patch(_square(predicted, true, SERIES[0], value / 100))
            if len(classes) <= 6:
                axis.text(predicted, true, f"{value:.0f}", ha="center", va="center", fontsize=8, color=INK)
    axis.set_xlim(-0.5, len(classes) - 0.5)
    axis.set_ylim(len(classes) - 0.5, -0.5)
    axis.set_aspect("equal")
    short = [text[:7] for text in classes]
    axis.set_xticks(range(len(classes)), short, rotation=45, ha="right", fontsize=8)
    axis.set_yticks(range(len(classes)), short if with_names else [""] * len(classes), fontsize=8)


def learning_figure(material: Material) -> Figure | None:
    """Every loss of the main row by epoch, all runs, with the chosen epoch."""
    main = material.main
    records = [one for one in material.records if one["name"] == main and "history" in one]
    if main is None or not records:
        return None
    names = [
        name
        for name in dict.fromkeys(key for one in records for stage in one["history"].values() for key in stage)
        if name != "score" and _is_told(records, name)
    ]
    columns = 4
    rows = -(-len(names) // columns)
    numbers = []
    with canvas(9.6, 1.9 * rows, rows, columns) as (figure, axes):
        for place, name in enumerate(names):
            axis = axes.flat[place]
            for record in records:
                numbers += _draw_curve(axis, record, name)
            axis.set_title(name.replace("_", " "), fontsize=9)
            axis.tick_params(labelsize=8)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.yaxis.set_major_formatter("{x:.3g}")
        hide_rest(axes, len(names))
        figure.supxlabel("epoch", fontsize=10, color=INK)
        svg = to_svg(figure, "learning")
    return Figure(
        "learning",
        f"Learning curves of {material.label(main)}",
        "Each line is a run. Vertical lines are where its last stage begins, from which on modalities are hidden, so "
        "values jump there: val uar (a share) is of complete data before, of the missing-modality conditions after. "
        f"The dot is the epoch that validation chose, in the last stage{_score_text(material)}. Losses are means over "
        "the steps of an epoch: loss is the total, with the weights of each run; the others are before their weights. "
        "nll: the flow's negative log-likelihood, nats per dimension. entropy: a penalty of Gaussians that "
        "are too narrow, with weight 0 by default. squared error: of the reconstruction, 0 until "
        "modalities are hidden. What is no loss: grad norm, before clipping; temperature, of the contrastive loss; log "
        "std, the mean log standard deviation of the embeddings; round trip error and log scale, the largest of the "
        "flow on validation.",
        f"Learning curves of {len(names)} quantities over the epochs of {len(records)} runs. {_chosen_text(numbers)}",
        svg,
        ["quantity", "fold", "seed", "chosen epoch", "first", "at the chosen epoch", "last"],
        numbers,
    )


def _score_text(material: Material) -> str:
    """Why the chosen epoch need not be that of the largest score."""
    epochs = material.score_epochs
    return "" if epochs == 1 else f", by the mean score of {epochs} epochs, so val uar of a later one can be larger"


def _is_told(records: Sequence[dict], name: str) -> bool:
    """Whether any run has values of a quantity; of skipped updates, any but 0."""
    values = [value for one in records for stage in one["history"].values() for value in stage.get(name, ())]
    return any(values) if name == "skipped" else bool(values)


def _draw_curve(axis: Axes, record: dict, name: str) -> list[list]:
    """A quantity of one run with the chosen epoch, and its row of the numbers."""
    curve, ends = _curve(record, name)
    axis.plot(np.arange(1, len(curve) + 1), curve, color=SERIES[0], linewidth=0.8, alpha=0.45)
    if len(ends) > 1:
        axis.axvline(ends[-2] + 0.5, color=MUTED, linewidth=0.6, alpha=0.5)
    at = (ends[-2] if len(ends) > 1 else 0) + record["best_epoch"]
    if record["best_epoch"] < 0 or at >= len(curve):  # -1: no epoch was chosen
        return []
    axis.plot(at + 1, curve[at], MARKERS[0], color=SERIES[1], markersize=3)
    return [[name, record["fold"], record["seed"], at + 1, *map(_number, (curve[0], curve[at], curve[-1]))]]


def rates_figure(material: Material) -> Figure | None:
    """Scores at random missing rates."""
    names = chosen_rows(material)
    if not names:
        return None
    numbers = []
    with canvas(9.0, 3.6, 1, 2) as (figure, axes):
        for number, row in enumerate(names):
            scores = scores_by_rate(list(material.outputs(row).values()))
            for axis, metric in zip(axes[0], ("uar", "war"), strict=True):
                axis.plot(RATES, 100 * scores[metric], color=SERIES[number], marker=MARKERS[number], markersize=4,
                          linewidth=1.5, label=material.label(row), zorder=3 - 0.1 * number)  # fmt: skip
                numbers.append([material.label(row), metric.upper(), *(f"{100 * x:.2f}" for x in scores[metric])])
        for axis, metric in zip(axes[0], ("UAR", "WAR"), strict=True):
            axis.set_title(f"{metric}, per cent")
            axis.set_xlabel("missing rate")
        legend_below(figure, axes[0, 0])
        svg = to_svg(figure, "rates")
    ends = ", ".join(f"{name} {first} and {last}" for name, metric, first, *_, last in numbers if metric == "UAR")
    return Figure(
        "rates",
        "Scores against the missing rate",
        "At rate r each modality of each utterance is missing with probability r; the case that all are missing is "
        "left out. Nothing is trained again: the decisions of each condition count as often as it occurs."
        + chosen_text(material, names),
        f"UAR and WAR of {len(names)} methods at missing rates from 0 to 0.7. UAR, per cent, at both ends: {ends}.",
        svg,
        ["method", "metric", *(f"{rate:.1f}" for rate in RATES)],
        numbers,
    )


def _chosen_text(numbers: list[list]) -> str:
    """Which epochs were chosen, from the numbers of the curves."""
    chosen = [line[3] for line in numbers]
    return f"Chosen epochs: {min(chosen)} to {max(chosen)}." if chosen else "No epoch was chosen."


def _curve(record: dict, name: str) -> tuple[np.ndarray, list[int]]:
    """A quantity over all epochs, nan where a stage does not log it, and where each stage ends."""
    parts = []
    for stage in record["history"].values():
        length = max((len(values) for values in stage.values()), default=0)
        values = [np.nan if value is None else value for value in stage.get(name, ())]
        parts.append(np.array(values if values else [np.nan] * length, float))
    return np.concatenate(parts), np.cumsum([len(part) for part in parts]).tolist()


def per_cent(*values: float) -> list[str]:
    """Scores in per cent, two decimals; nan is empty."""
    return ["" if np.isnan(value) else f"{100 * value:.2f}" for value in values]


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def _square(x: float, y: float, colour: str, alpha: float):
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=0.85 * alpha, linewidth=0)
