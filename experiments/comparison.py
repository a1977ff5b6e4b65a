"""Differences between the rows of a table, with intervals and tests, from the outputs that the runs have kept."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.metrics import ccc, mae, uar, war
from experiments.results import Row, ValueRow
from experiments.statistics import FoldCounts, Interval, Metric, bootstrap, holm, interval, swap_test
from experiments.units import Unit, counts_by_speaker, has_outputs, read_outputs

METRICS: dict[str, Metric] = {"war": war, "uar": uar}
VALUE_METRICS: dict[str, Metric] = {"ccc": ccc, "mae": mae}  # of a regression
LEVEL = 0.05  # of corrected p values
BETTER, WORSE, INTERVAL_ONLY, NOT_SHOWN, NO_INTERVAL = VERDICTS = (
    "better",
    "worse",
    "by the interval only",  # it leaves out zero, but p is not below the level: too few speakers, or the correction
    "no difference shown",
    "not judged",  # one speaker: there is no interval
)
SHOWN = BETTER, WORSE


class Comparison(NamedTuple):
    """One row against another: the average of the missing-modality conditions.

    Attributes:
      method: The row that is subtracted from.
      baseline: The other row.
      metric: `war` or `uar`; of a regression `ccc` or `mae`.
      difference: With its 95 % interval, fractions.
      p: Of the permutation test, corrected after Holm for the number of baselines.
      p_alone: Before the correction.
      num_runs: Folds and seeds that both rows have.
      num_folds: Of these runs.
      num_speakers: In the test parts of these folds.
    """

    method: str
    baseline: str
    metric: str
    difference: Interval
    p: float
    p_alone: float
    num_runs: int
    num_folds: int
    num_speakers: int

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        if math.isnan(self.difference.low):
            return NO_INTERVAL
        if not self.difference.excludes_zero:
            return NOT_SHOWN
        if not self.p < LEVEL:
            return INTERVAL_ONLY
        larger_is_better = self.metric != "mae"
        return BETTER if (self.difference.mean > 0) == larger_is_better else WORSE


def metrics_of(rows: Sequence[Row | ValueRow]) -> dict[str, Metric]:
    """The metrics of a table by name."""
    return VALUE_METRICS if rows and isinstance(rows[0], ValueRow) else METRICS


def read_counts(folder: Path, row: str, seeds_of: Mapping[str, Sequence[int]]) -> list[FoldCounts]:
    """Counts of one row per fold, `[S, G, P, K, K]`, of the seeds of each fold."""
    found = []
    for fold, seeds in seeds_of.items():
        outputs = [read_outputs(folder, Unit(row, fold, seed)) for seed in seeds]
        speakers = np.unique(outputs[0].speaker)
        found.append(np.stack([counts_by_speaker(one, speakers) for one in outputs]))
    return found


def compare(folder: Path, rows: Sequence[Row | ValueRow], method: str = "cm_arr") -> list[Comparison]:
    """Compares a row with every other one, each on the folds and seeds that both have.

    Args:
      folder: Of the table.
      rows: Its results.
      method: The row to compare with the others.
    """
    runs = runs_with_outputs(folder, rows)
    common = {name: runs[method] & runs[name] for name in runs if method in runs and name != method}
    seeds_of = {name: seeds_by_fold(both) for name, both in common.items() if both}
    counts = {
        name: (read_counts(folder, method, seeds), read_counts(folder, name, seeds)) for name, seeds in seeds_of.items()
    }
    sizes = {
        name: (len(common[name]), len(ours), sum(fold.shape[1] for fold in ours)) for name, (ours, _) in counts.items()
    }
    found = []
    for metric, function in metrics_of(rows).items():
        average = lambda counts, function=function: function(counts)[..., :-1].mean(-1, keepdims=True)
        differences = {name: interval(bootstrap(ours, theirs, average)) for name, (ours, theirs) in counts.items()}
        p_alone = [float(swap_test(ours, theirs, average)[0]) for ours, theirs in counts.values()]
        found += [
            Comparison(method, name, metric, differences[name], corrected, alone, *sizes[name])
            for name, corrected, alone in zip(counts, holm(p_alone), p_alone, strict=True)
        ]
    return found


def cell_intervals(folder: Path, rows: Sequence[Row | ValueRow], average: str) -> dict[tuple[str, str, str], Interval]:
    """The interval of every cell whose row has kept its outputs, by row, metric and condition.

    Args:
      folder: Of the table.
      rows: Its results.
      average: Name for the average of the missing-modality conditions.
    """
    conditions = list(dict.fromkeys(row.condition for row in rows))
    names = [*conditions[:-1], average, conditions[-1]]
    found: dict[tuple[str, str, str], Interval] = {}
    for method, runs in runs_with_outputs(folder, rows).items():
        counts = read_counts(folder, method, seeds_by_fold(runs))
        for metric, function in metrics_of(rows).items():
            with_average = lambda counts, function=function: _insert_average(function(counts))
            samples = bootstrap(counts, None, with_average)
            found |= {(method, metric, name): interval(samples, place) for place, name in enumerate(names)}
    return found


def runs_with_outputs(folder: Path, rows: Sequence[Row | ValueRow]) -> dict[str, set[tuple[str, int]]]:
    """Fold and seed of the runs of each row that have kept their outputs."""
    runs: dict[str, set[tuple[str, int]]] = {}
    for row in rows:
        if has_outputs(folder, Unit(row.method, row.fold, row.seed)):
            runs.setdefault(row.method, set()).add((row.fold, row.seed))
    return runs


def seeds_by_fold(runs: Collection[tuple[str, int]]) -> dict[str, list[int]]:
    """The seeds of each fold, both sorted, from folds and seeds."""
    return {fold: sorted(seed for name, seed in runs if name == fold) for fold in sorted({fold for fold, _ in runs})}


def _insert_average(scores: np.ndarray) -> np.ndarray:
    """Scores `[..., P]` with the mean of all but the last before the last, `[..., P + 1]`."""
    return np.concatenate([scores[..., :-1], scores[..., :-1].mean(-1, keepdims=True), scores[..., -1:]], axis=-1)
