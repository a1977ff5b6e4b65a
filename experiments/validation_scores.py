"""Compares decisions on validation: `python -m experiments.validation_scores RESULTS_FOLDER`. Reads no test score."""

from pathlib import Path

import numpy as np
import tyro

from cmarr_jax.metrics import uar
from cmarr_jax.training.schedule import DIVERGED, STATUS
from experiments.report.scores import Summary, stopping_text, summarize
from experiments.units import read_records

Scores = dict[tuple[str, int], float]
"""Validation UAR (a fraction) by fold and seed: of the chosen epoch, the missing-modality conditions pooled."""


def read_runs(folder: Path) -> tuple[dict[str, Scores], dict[str, list[str]]]:
    """Scores of every row of a table, and how its runs ended.

    Raises:
      FileNotFoundError: if the folder holds no finished run.
    """
    scores: dict[str, Scores] = {}
    statuses: dict[str, list[str]] = {}
    for record in read_records(folder):
        if "val_counts" not in record or record["status"] == STATUS[DIVERGED]:  # the ceiling; no result
            continue
        counts = np.array(record["val_counts"])[:-1].sum(0)
        scores.setdefault(record["name"], {})[record["fold"], record["seed"]] = float(uar(counts))
        statuses.setdefault(record["name"], []).append(record["status"])
    if not scores:
        raise FileNotFoundError(f"{folder} holds no finished run (ROW/RUN/run.json); give the output folder of a table")
    return scores, statuses


def difference(scores: Scores, baseline: Scores) -> Summary:
    """Summary of the paired difference, over the folds and seeds that both have."""
    both = sorted(scores.keys() & baseline.keys())
    folds, seeds = (sorted({key[axis] for key in both}) for axis in (0, 1))
    values = np.full((len(folds), len(seeds)), np.nan)
    for fold, seed in both:
        values[folds.index(fold), seeds.index(seed)] = scores[fold, seed] - baseline[fold, seed]
    return summarize(values)


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Prints the mean of each row, how its runs ended, and its difference to the first one."""
    scores, statuses = read_runs(folder)
    first, *others = scores
    for name, values in scores.items():
        mean = 100 * float(np.mean(list(values.values())))
        print(f"{name}: validation UAR {mean:.2f} %, {len(values)} runs; {stopping_text(statuses[name])}")
    for name in others:
        found = difference(scores[name], scores[first])
        mean, low, high = (100 * value for value in (found.mean, found.ci_low, found.ci_high))
        over = f"95 % interval over {found.unit}, paired: {low:+.2f} to {high:+.2f}"
        print(f"{name} minus {first}: {mean:+.2f} points ({over})")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
