"""Compares decisions on validation: `python -m experiments.validation_scores RESULTS_FOLDER`. Reads no test score."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from cmarr_jax.metrics import ccc, uar
from cmarr_jax.training.schedule import DIVERGED, STATUS
from experiments.jax_setup import user_errors_as_messages
from experiments.report.differences import signed_difference
from experiments.report.regression import is_regression
from experiments.report.scores import Summary, counted, stopping_text, summarize
from experiments.statistics import Interval
from experiments.units import read_records

Scores = dict[tuple[str, int], float]
"""Validation UAR (a fraction), or CCC of a regression, by fold and seed.

Of the chosen epoch, the missing-modality conditions pooled.
"""


def read_runs(folder: Path) -> tuple[dict[str, Scores], dict[str, list[str]]]:
    """Scores of every row of a table, and how its runs ended; one that diverged has no score.

    Raises:
      FileNotFoundError: if the folder holds no finished run with a score.
    """
    scores: dict[str, Scores] = {}
    statuses: dict[str, list[str]] = {}
    for record in read_records(folder):
        if "val_counts" not in record:  # the ceiling
            continue
        statuses.setdefault(record["name"], []).append(record["status"])
        if record["status"] == STATUS[DIVERGED]:
            continue
        counts = np.array(record["val_counts"])[:-1].sum(0)
        score = ccc(counts) if counts.ndim == 1 else uar(counts)  # sums of a regression, or confusion counts
        scores.setdefault(record["name"], {})[record["fold"], record["seed"]] = float(score)
    if not scores:
        raise FileNotFoundError(f"{folder} holds no finished run (ROW/RUN/run.json); give the output folder of a table")
    return scores, statuses


def difference(scores: Scores, baseline: Scores) -> Summary:
    """Summary of the paired difference, over the folds and seeds that both have."""
    return summary({key: scores[key] - baseline[key] for key in scores.keys() & baseline.keys()})


def summary(scores: Scores) -> Summary:
    """Mean over the folds of the means over their seeds, with its interval."""
    folds, seeds = (sorted({key[axis] for key in scores}) for axis in (0, 1))
    values = np.full((len(folds), len(seeds)), np.nan)
    for (fold, seed), score in scores.items():
        values[folds.index(fold), seeds.index(seed)] = score
    return summarize(values)


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Compares the rows of a table on validation, for decisions; reads no test score.

    Prints the mean of each row (over the folds, of the means over their seeds), how its runs ended, and its difference
    to the first one.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote.
    """
    scores, statuses = read_runs(folder)
    first, *others = scores
    regression = is_regression(folder)
    metric, factor, unit, points = ("CCC", 1, "", "") if regression else ("UAR", 100, " %", " points")
    digits = 3 if regression else 2
    for name, ended in statuses.items():
        mean = f"{factor * summary(scores[name]).mean:.{digits}f}{unit}" if name in scores else "not known"
        print(f"{name}: validation {metric} {mean}, {counted(len(ended), 'run')}; {stopping_text(ended)}")
    for name in others:
        found = difference(scores[name], scores[first])
        mean, around = signed_difference(Interval(found.mean, found.ci_low, found.ci_high), factor, digits)
        over = f" (95 % interval over {found.unit}, paired: {around})" if around else ""
        print(f"{name} minus {first}: {mean}{points}{over}" if mean else f"{name} minus {first}: no run of both")


def run_command(argv: Sequence[str] | None = None) -> None:
    """The command line; exit code 2 for what a user can mend."""
    with user_errors_as_messages(OSError, ValueError):
        tyro.cli(main, args=argv, prog="python -m experiments.validation_scores")


if __name__ == "__main__":
    run_command()
