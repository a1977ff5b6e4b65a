"""What figures are drawn from: the results of a table's folder, read once."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.comparison import Comparison, cell_intervals, compare, runs_with_outputs, seeds_by_fold
from experiments.report.scores import AVERAGE, CEILINGS, LABELS, Intervals, counted, over_text
from experiments.results import Row
from experiments.results_folder import read_config
from experiments.rows import TABLE_ROWS
from experiments.units import Outputs, Unit, read_inspection, read_outputs, read_records, read_rows

METHOD = "cm_arr"


def of_tested_folds(rows: Sequence[Row]) -> list[Row]:
    """Without the ceilings of folds that no run was tested in, so that means are of the same folds; all if none was."""
    tested = {row.fold for row in rows if row.method not in CEILINGS}
    return [row for row in rows if row.fold in tested or not tested]


def compared_row(names: Sequence[str]) -> str | None:
    """The row that others are compared with: CM-ARR, or else the first of its variants; None without any."""
    variants = [name for name in names if name in TABLE_ROWS and TABLE_ROWS[name].method == METHOD]
    return METHOD if METHOD in names else next(iter(variants), None)


class Material:
    """The folder of a table; what is slow to read or compute is kept.

    Attributes:
      folder: Of the table.
      config: Its `config.json`.
      rows: Its results; ceilings of the folds in which a run was tested only.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.config: dict[str, Any] = read_config(folder)
        self.rows: list[Row] = of_tested_folds(read_rows(folder))

    @cached_property
    def conditions(self) -> list[str]:
        """Names of the conditions, complete data last."""
        return list(dict.fromkeys(row.condition for row in self.rows))

    @cached_property
    def runs(self) -> dict[str, dict[str, list[int]]]:
        """Seeds of each fold of each row that has kept outputs, in the order of the configuration."""
        return {name: seeds_by_fold(runs) for name, runs in runs_with_outputs(self.folder, self.rows).items()}

    @cached_property
    def main(self) -> str | None:
        """The row that figures of a single row show: that of CM-ARR, or the last one with outputs."""
        return self.method if self.method in self.runs else next(reversed(self.runs), None)

    @cached_property
    def method(self) -> str | None:
        """The row that others are compared with: CM-ARR, or else its first variant in the order of the command."""
        return compared_row(self.config["methods"])

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The records of all runs."""
        return list(read_records(self.folder))

    @cached_property
    def comparisons(self) -> Sequence[Comparison]:
        """The row of CM-ARR with every other one."""
        return [] if self.method is None else compare(self.folder, self.rows, self.method)

    @cached_property
    def intervals(self) -> Intervals:
        """Of each cell."""
        return cell_intervals(self.folder, self.rows, AVERAGE)

    @property
    def score_epochs(self) -> int:
        """Epochs whose validation scores are averaged when an epoch is chosen."""
        return self.config["preset"].get("train", {}).get("score_epochs", 1)

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the classes, or their numbers."""
        num_classes = len(self.rows[0].counts)
        return list(self.config["data"].get("class_names") or map(str, range(num_classes)))

    @property
    def folds_text(self) -> str:
        """In how many folds there are runs: `5 folds`, or `1 of 5 folds`."""
        number, of = len({row.fold for row in self.rows if row.method not in CEILINGS}), len(self.config["folds"])
        return counted(of, "fold") if number in (0, of) else f"{number} of {counted(of, 'fold')}"

    @cached_property
    def num_speakers(self) -> int:
        """Speakers in the test folds of any row."""
        row_of = {fold: row for row, folds in self.runs.items() for fold in folds}
        return len({speaker for fold, row in row_of.items() for speaker in self.outputs(row)[fold][0].speaker})

    @cached_property
    def num_seeds(self) -> int:
        """The most seeds of which a row has a run in a fold; fewer than were asked for where a command was stopped."""
        return max((len(seeds) for folds in self.runs.values() for seeds in folds.values()), default=0)

    @property
    def seeds_text(self) -> str:
        """Of how many seeds there are runs: `3 seeds`, or `1 of 3 seeds`."""
        of = len(self.config["seeds"])
        return counted(of, "seed") if self.num_seeds in (0, of) else f"{self.num_seeds} of {counted(of, 'seed')}"

    @property
    def over(self) -> str:
        """What the intervals are over."""
        return over_text(self.num_seeds)

    def class_counts(self) -> list[int]:
        """Test utterances of each class, `[K]`, of the folds in which a run was scored."""
        scored = [row for row in self.rows if row.condition == self.conditions[-1] and np.any(row.counts)]
        by_fold = {row.fold: np.asarray(row.counts).sum(1) for row in scored}
        return np.sum([np.zeros(len(self.class_names)), *by_fold.values()], axis=0).astype(int).tolist()

    def outputs(self, row: str, part: str = "test") -> Mapping[str, list[Outputs]]:
        """Outputs of each fold of a row, one per seed."""
        cache = self.__dict__.setdefault("_outputs", {})
        if (row, part) not in cache:
            cache[row, part] = {
                fold: [read_outputs(self.folder, Unit(row, fold, seed), part) for seed in seeds]
                for fold, seeds in self.runs[row].items()
            }
        return cache[row, part]

    def inspections(self, row: str) -> list[tuple[Outputs, dict[str, np.ndarray]]]:
        """Test outputs and inspection of the runs of a row that have one, first fold and seed first."""
        found = []
        for fold, seeds in self.runs[row].items():
            for number, seed in enumerate(seeds):
                inspection = read_inspection(self.folder, Unit(row, fold, seed))
                if inspection is not None:
                    found.append((self.outputs(row)[fold][number], inspection))
        return found

    def label(self, row: str) -> str:
        """What a row is called."""
        return LABELS.get(row, row)

    def trained(self) -> list[str]:
        """Rows that are not exact ceilings, in order."""
        return [name for name in dict.fromkeys(row.method for row in self.rows) if name not in CEILINGS]
