"""One row against all others of a table: `python -m experiments.row_differences RESULTS_FOLDER ROW`.

The report compares the row `cm_arr`; this compares any. Of a table with shares of the labels, give the folder of one
share.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from experiments.comparison import Comparison, compare
from experiments.jax_setup import user_errors_as_messages
from experiments.report.differences import difference_notes, judged_text, p_text, signed_difference
from experiments.report.material import Material
from experiments.report.regression import is_regression
from experiments.report.scores import AVERAGE, Summary, summarize_cells
from experiments.report.text import plain_table


def main(folder: tyro.conf.Positional[Path], row: tyro.conf.Positional[str]) -> None:
    """Prints two tables in Markdown: the scores of all rows, and a row minus each other one, with 95 % intervals.

    Rows are named as `--methods` takes them, and those with the highest UAR (of a regression, CCC) come first. Scores
    are per cent, differences points; those of a regression are as they are. Differences are of the average of the
    missing-modality conditions. Intervals are over speakers (a bootstrap) and seeds, p is of a permutation test over
    speakers, corrected after Holm.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote.
      row: Such as `zero_fill`.
    """
    material = Material(folder)
    names = list(material.runs)
    if row not in names:
        raise ValueError(f"{folder} has no outputs of row {row}; it has those of {', '.join(names) or 'none'}")
    metrics, factor, digits = ("uar", "war"), 100, 2
    if is_regression(folder):
        metrics, factor, digits = ("ccc", "mae"), 1, 3
    print(_scores_table(material, metrics, factor, digits))
    comparisons = compare(folder, material.rows, row)
    if comparisons:
        print(f"\n{row} minus each other row, average of the missing-modality conditions:\n")
        print(_differences_table(comparisons, metrics, factor, digits))
        print(f"\n{judged_text(comparisons)}")
    for note in difference_notes(comparisons, material.rows):
        print(note)


def _scores_table(material: Material, metrics: Sequence[str], factor: float, digits: int) -> str:
    """Scores on average and on complete data of the rows that have kept outputs, the first metric's highest first."""
    columns = [(metric, name) for name in (AVERAGE, material.conditions[-1]) for metric in metrics]
    cells = {metric: summarize_cells(material.rows, metric, material.intervals) for metric in metrics}
    rows = sorted(material.runs, key=lambda name: -np.nan_to_num(cells[metrics[0]][name][AVERAGE].mean, nan=-np.inf))
    text = lambda found: _score_text(found, factor, digits)
    return plain_table(
        ["row", *(f"{metric.upper()}, {'average' if name == AVERAGE else 'complete'}" for metric, name in columns)],
        [[f"`{name}`", *(text(cells[metric][name][condition]) for metric, condition in columns)] for name in rows],
    )


def _score_text(found: Summary, factor: float, digits: int) -> str:
    if np.isnan(found.mean):
        return ""
    text = lambda value: f"{factor * value:.{digits}f}"
    around = "" if np.isnan(found.ci_low) else f" ({text(found.ci_low)} to {text(found.ci_high)})"
    return text(found.mean) + around


def _differences_table(comparisons: Sequence[Comparison], metrics: Sequence[str], factor: float, digits: int) -> str:
    """A line for each other row, the strongest one in the first metric first."""
    found = {(one.baseline, one.metric): one for one in comparisons}
    others = sorted(
        dict.fromkeys(one.baseline for one in comparisons), key=lambda name: found[name, metrics[0]].difference.mean
    )
    lines = []
    for name in others:
        line = [f"`{name}`"]
        for metric in metrics:
            one = found[name, metric]
            mean, around = signed_difference(one.difference, factor, digits)
            line += [f"{mean} ({around})" if around else mean, p_text(one.p), one.verdict]
        lines.append(line)
    return plain_table(["minus", *(text for metric in metrics for text in (metric.upper(), "p", ""))], lines)


if __name__ == "__main__":
    with user_errors_as_messages(OSError, ValueError):
        tyro.cli(main)
