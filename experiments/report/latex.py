"""The tables as LaTeX with booktabs: `\\input{table.tex}` after `\\usepackage{booktabs}`."""

from collections.abc import Sequence

import numpy as np

from experiments.comparison import Comparison
from experiments.report.differences import difference_notes, judged_text, p_text, signed_difference
from experiments.report.published import Published
from experiments.report.scores import (
    AVERAGE,
    BOLD,
    CEILINGS,
    LABELS,
    Intervals,
    best_means,
    collect,
    of_metric,
    over_text,
    summarize,
    with_interval,
)
from experiments.results import METRICS, Row

FIRST_LINE = "% Needs \\usepackage{booktabs}. Made by: python -m experiments.report FOLDER"
SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
}


def escape(text: str) -> str:
    """Text for LaTeX, with its special characters escaped."""
    return "".join(SPECIAL.get(sign, sign) for sign in text)


def to_latex(
    rows: list[Row],
    title: str,
    intervals: Intervals,
    comparisons: Sequence[Comparison] = (),
    published: Sequence[Published] = (),
    over: str = over_text(1),
) -> str:
    """A table for each metric, and one of the differences; `over` says what the intervals are over."""
    title = escape(title)
    parts = [FIRST_LINE]
    for metric in METRICS:
        of_this = [one for one in published if one.metric == metric]
        parts.append(_scores_table(rows, title, metric, intervals, of_this, over))
    if comparisons:
        parts.append(_differences_table(title, comparisons, rows))
    return "\n\n".join(parts) + "\n"


def _scores_table(
    rows: list[Row], title: str, metric: str, intervals: Intervals, published: Sequence[Published], over: str
) -> str:
    scores = collect(of_metric(rows, metric), metric)
    header = list(next(iter(scores.values())))
    best = best_means(scores)
    lines = []
    for place, (row, cells) in enumerate(scores.items()):
        if place and row not in CEILINGS and list(scores)[place - 1] in CEILINGS:
            lines.append("\\midrule")
        texts = []
        for name, values in cells.items():
            found = with_interval(summarize(values), intervals.get((row, metric, name)))
            text = "" if found.n == 0 else f"{100 * found.mean:.2f}"
            if row not in CEILINGS and not np.isnan(found.ci_low):  # the caption's interval is over speakers
                text += f" {{\\tiny [{100 * found.ci_low:.1f}, {100 * found.ci_high:.1f}]}}"
            is_best = found.n > 0 and row not in CEILINGS and np.isclose(found.mean, best[name])
            texts.append(f"\\textbf{{{text}}}" if is_best and len(scores) > 1 else text)
        lines.append(f"{escape(LABELS.get(row, row))} & " + " & ".join(texts) + r" \\")
    if published:
        lines.append("\\midrule")
        for one in published:
            given = ["" if score is None else f"{score:.2f}" for score in one.scores]
            lines.append(f"{escape(one.method)} (published; {escape(one.source)}) & " + " & ".join(given) + r" \\")
    caption = (
        f"{title}: {metric.upper()} in per cent, mean over folds of the mean over seeds, with 95\\,\\% intervals "
        f"{over}. Bold: {BOLD}."
    )
    names = [name if name == AVERAGE else f"\\texttt{{{escape(name)}}}" for name in header]
    return latex_table(caption, "l" + "r" * len(header), ["method", *names], lines)


def _differences_table(title: str, comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    lines = []
    for one in comparisons:
        label = escape(LABELS.get(one.baseline, one.baseline))
        cells = (label, one.metric.upper(), *signed_difference(one.difference), p_text(one.p), one.verdict)
        lines.append(" & ".join(cells) + r" \\")
    ours = LABELS.get(comparisons[0].method, comparisons[0].method)
    told = " ".join([judged_text(comparisons, "Interval"), *difference_notes(comparisons, rows)])
    caption = f"{title}: " + escape(
        f"{ours} minus each other row, average of the missing-modality conditions, points. {told}"
    )
    return latex_table(caption, "llrrrl", ["minus", "metric", "difference", "interval", "$p$", ""], lines)


def latex_table(caption: str, columns: str, header: Sequence[str], lines: Sequence[str]) -> str:
    """A floating table with rules, from a caption, columns, a header and lines that end in `\\\\`."""
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering\\small",
            f"\\caption{{{caption}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            " & ".join(header) + r" \\",
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    )
