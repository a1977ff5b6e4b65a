"""The figure of scores against the number of labels."""

from matplotlib.axes import Axes

from experiments.report.drawing import INK, MARKERS, SERIES, Figure, canvas, legend_below, to_svg
from experiments.report.figures import MOST_ROWS, per_cent
from experiments.report.label_curves import LabelCurves
from experiments.report.scores import AVERAGE, Summary, counted

APART = 1.012  # lines are moved sideways by this factor, so that their intervals do not lie on each other


def label_figure(curves: LabelCurves, condition: str, metric: str = "uar") -> Figure:
    """A line for each row against the number of labelled training utterances, with 95 % intervals."""
    rows, numbers = curves.drawn(MOST_ROWS), []
    with canvas(9.6, 4.6) as (figure, axes):
        axis = axes[0, 0]
        for number, row in enumerate(rows):
            line = curves.line(row, metric, condition)
            shift = APART ** (number - (len(rows) - 1) / 2)
            _draw_line(
                axis, number, [shift * x for x in curves.labels], line, curves.last.label(row), row == curves.method
            )
        for row in rows + [row for row in curves.rows if row not in rows]:
            line = curves.line(row, metric, condition)
            numbers += [
                [
                    curves.last.label(row),
                    point.text,
                    f"{point.train:g}",
                    *per_cent(found.mean, found.ci_low, found.ci_high),
                    found.n,
                ]
                for point, found in zip(curves.points, line, strict=True)
            ]  # fmt: skip
        if (ceiling := curves.ceiling(metric, condition)) == ceiling:  # nan: it is not known
            axis.axhline(100 * ceiling, color=INK, linestyle="--", linewidth=1, label="Bayes ceiling (exact)")
        axis.set_xscale("log")
        ticks = {point.train: f"{point.train:.4g}\n{point.text}" for point in curves.points}
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.minorticks_off()
        axis.set_xlabel("labelled training utterances (mean over the folds), and their share")
        axis.set_ylabel(f"{metric.upper()}, per cent")
        legend_below(figure, axis)
        svg = to_svg(figure, _name(condition))
    missing = len(curves.last.conditions) - 1
    what = f"on average over the {missing} missing-modality conditions" if condition == AVERAGE else "on complete data"
    return Figure(
        _name(condition),
        f"{metric.upper()} against the number of labels, {what}",
        f"Point: mean over folds of the mean over seeds; bar: 95 % interval {curves.over}. The number of labels "
        "is on a logarithmic axis; points of one share are moved apart a little. The validation part has the same "
        "share of its labels. The test part is whole, and the same at every share."
        + (
            ""
            if len(rows) == len(curves.rows)
            else f" Drawn are {curves.last.label(rows[0])} and the {len(rows) - 1} others of the highest UAR."
        ),
        f"{metric.upper()} of {counted(len(curves.rows), 'method')} {what} with {len(curves.points)} shares of the "
        f"labels. {_ends(curves, metric, condition)}",
        svg,
        ["method", "share", "labels", metric.upper(), "low", "high", "runs"],
        numbers,
    )


def _draw_line(axis: Axes, number: int, places: list[float], line: list[Summary], label: str, is_main: bool) -> None:
    """A row's scores, per cent. The main row is thicker and above the others."""
    known = [(x, found) for x, found in zip(places, line, strict=True) if found.n]
    colour = SERIES[number]
    order = 4 if is_main else 3
    for x, found in known:
        axis.plot([x, x], [100 * found.ci_low, 100 * found.ci_high], color=colour, linewidth=1, alpha=0.6, zorder=order)
    axis.plot(
        [x for x, _ in known], [100 * found.mean for _, found in known], color=colour,
        marker=MARKERS[number], markersize=5 if is_main else 4, linewidth=2.5 if is_main else 1.3,
        label=label, zorder=order,
    )  # fmt: skip


def _ends(curves: LabelCurves, metric: str, condition: str) -> str:
    """The scores of each row with the fewest and with the most labels."""
    texts = []
    for row in curves.rows:
        known = [found for found in curves.line(row, metric, condition) if found.n]
        if known:
            texts.append(f"{curves.last.label(row)} {100 * known[0].mean:.1f} and {100 * known[-1].mean:.1f}")
    return f"Per cent with the fewest and the most labels: {', '.join(texts)}."


def _name(condition: str) -> str:
    return "labels-average" if condition == AVERAGE else "labels-complete"
