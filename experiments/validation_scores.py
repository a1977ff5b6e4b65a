"""Compares decisions on validation: `python -m experiments.validation_scores RESULTS_FOLDER`. Reads no test score."""

import json
from pathlib import Path

import numpy as np
import tyro

from cmarr_jax.metrics import uar
from experiments.report import Summary, summarize

RECORD = "run.json"


def validation_scores(folder: Path) -> dict[str, dict[tuple[str, int], float]]:
    """Validation UAR of the chosen epochs, the missing-modality conditions pooled, by row, and by fold and seed.

    Raises:
      FileNotFoundError: if the folder holds no finished run.
    """
    scores: dict[str, dict[tuple[str, int], float]] = {}
    for path in sorted(folder.glob(f"*/*/{RECORD}")):
        record = json.loads(path.read_text())
        counts = np.array(record["val_counts"])[:-1].sum(0)
        scores.setdefault(record["name"], {})[record["fold"], record["seed"]] = float(uar(counts))
    if not scores:
        raise FileNotFoundError(f"{folder} holds no finished run (ROW/RUN/{RECORD}); give the output folder of a table")
    return scores


def difference(scores: dict[tuple[str, int], float], baseline: dict[tuple[str, int], float]) -> Summary:
    """Summary of the paired difference, over the folds and seeds that both have."""
    both = sorted(scores.keys() & baseline.keys())
    folds, seeds = (sorted({key[axis] for key in both}) for axis in (0, 1))
    values = np.full((len(folds), len(seeds)), np.nan)
    for fold, seed in both:
        values[folds.index(fold), seeds.index(seed)] = scores[fold, seed] - baseline[fold, seed]
    return summarize(values)


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Prints the mean of each row, and its difference to the first one."""
    scores = validation_scores(folder)
    first, *others = scores
    for name, values in scores.items():
        print(f"{name}: validation UAR {100 * np.mean(list(values.values())):.2f} %, {len(values)} runs")
    for name in others:
        found = difference(scores[name], scores[first])
        mean, low, high = (100 * value for value in (found.mean, found.ci_low, found.ci_high))
        over = f"95 % interval over {found.unit}, paired: {low:+.2f} to {high:+.2f}"
        print(f"{name} minus {first}: {mean:+.2f} points ({over})")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
