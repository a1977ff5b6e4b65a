"""Scores against the number of labels: what the tables of several shares of the labels hold, as lines."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.comparison import Comparison, compare
from experiments.label_shares import share_folders
from experiments.report.label_equivalence import Equivalence, equivalences
from experiments.report.material import Material, compared_row
from experiments.report.scores import (
    AVERAGE,
    CEILINGS,
    Scores,
    Summary,
    collect,
    counted,
    ending_notes,
    of_metric,
    over_text,
    summarize,
    with_interval,
)
from experiments.results import METRICS

BASELINE = "zero_fill"  # the row of the sentences
NOTHING = Summary(np.nan, np.nan, np.nan, np.nan, 0, "folds")


class LabelPoint(NamedTuple):
    """One share of the labels.

    Attributes:
      share: Of the training and validation labels.
      train: Labelled training utterances, mean over the folds.
      val: Labelled validation utterances, mean over the folds.
      unlabelled: Unlabelled training utterances, mean over the folds.
    """

    share: float
    train: float
    val: float
    unlabelled: float

    @property
    def text(self) -> str:
        """`10 %`."""
        return f"{100 * self.share:g} %"


class LabelCurves:
    """The tables of all shares below a folder that have a finished run, the smallest share first.

    Attributes:
      materials: Of each share.
      points: Of each share.
      conditions: The average of the missing-modality conditions, and complete data.
    """

    def __init__(self, root: Path):
        found = [(share, Material(folder)) for share, folder in share_folders(root).items()]
        found = [(share, material) for share, material in found if material.trained()]
        if not found:
            raise FileNotFoundError(
                f"{root} holds no finished run; train some with experiments.reproduce --table labels --out {root}"
            )
        self.materials = [material for _, material in found]
        self.points = [_point(share, material.config) for share, material in found]
        self.conditions = (AVERAGE, self.last.conditions[-1])

    @property
    def last(self) -> Material:
        """The table with the most labels."""
        return self.materials[-1]

    @property
    def over(self) -> str:
        """What the intervals are over."""
        return over_text(max(material.num_seeds for material in self.materials))

    @property
    def seeds_text(self) -> str:
        """Of how many seeds there are runs; of all shares, where these differ."""
        numbers = sorted({material.num_seeds for material in self.materials})
        return self.last.seeds_text if len(numbers) == 1 else f"{numbers[0]} to {counted(numbers[-1], 'seed')}"

    @property
    def labels(self) -> list[float]:
        """Labelled training utterances of each share."""
        return [point.train for point in self.points]

    @cached_property
    def rows(self) -> list[str]:
        """The trained rows, in the order of the tables."""
        order = list(dict.fromkeys(name for material in self.materials for name in material.config["methods"]))
        return sorted({name for material in self.materials for name in material.trained()}, key=order.index)

    def drawn(self, most: int) -> list[str]:
        """At most so many rows: `method` first, then those with the highest UAR with the most labels."""
        score = lambda row: np.nan_to_num(self.line(row, "uar", AVERAGE)[-1].mean)
        return sorted(self.rows, key=lambda row: (row != self.method, -score(row)))[:most]

    @cached_property
    def scores(self) -> dict[str, list[Scores]]:
        """By metric, for each share."""
        return {
            metric: [collect(of_metric(material.rows, metric), metric) for material in self.materials]
            for metric in METRICS
        }

    def line(self, row: str, metric: str, condition: str) -> list[Summary]:
        """The scores of a row with their intervals, for each share; without runs all is nan."""
        line = []
        for material, scores in zip(self.materials, self.scores[metric], strict=True):
            found = summarize(scores[row][condition]) if row in scores else NOTHING
            line.append(with_interval(found, material.intervals.get((row, metric, condition))))
        return line

    def ceiling(self, metric: str, condition: str) -> float:
        """Bayes' rule, where it is known; nan elsewhere."""
        names = [name for name, of in CEILINGS.items() if of == metric and name.startswith("bayes")]
        found = [scores[name][condition] for scores in self.scores[metric][-1:] for name in names if name in scores]
        return summarize(found[0]).mean if found else np.nan

    @cached_property
    def method(self) -> str | None:
        """The row that others are compared with, if one is trained: CM-ARR, or else the first of its variants."""
        return compared_row(self.rows)

    @cached_property
    def baseline(self) -> str | None:
        """The row that the sentences compare `method` with: zero-fill, or else the first one; None without any."""
        others = [row for row in self.rows if row != self.method]
        if self.method is None or not others:
            return None
        return BASELINE if BASELINE in others else others[0]

    @cached_property
    def comparisons(self) -> list[Sequence[Comparison]]:
        """Of `method` with every other row, for each share; none without it."""
        if self.method is None:
            return [[] for _ in self.materials]
        return [
            material.comparisons
            if material.method == self.method
            else compare(material.folder, material.rows, self.method)
            for material in self.materials
        ]

    @cached_property
    def equivalences(self) -> dict[str, list[Equivalence]]:
        """Of `method` with every other row, UAR over the missing-modality conditions; none without it."""
        if self.method is None:
            return {}
        method = self.method
        mean = lambda row: [found.mean for found in self.line(row, "uar", AVERAGE)]
        compared = [{one.baseline: one for one in found if one.metric == "uar"} for found in self.comparisons]
        return {
            row: equivalences(self.labels, mean(method), mean(row), [found.get(row) for found in compared])
            for row in self.rows
            if row != method
        }

    def notes(self) -> list[str]:
        """Sentences on how the runs of all shares ended, and on shares that lack runs of a row."""
        runs = [
            row._replace(method=f"{row.method}/{point.share}")
            for point, material in zip(self.points, self.materials, strict=True)
            for row in material.rows
            if row.method not in CEILINGS
        ]
        notes = ending_notes(runs)
        counts = {row: [found.n for found in self.line(row, "uar", self.conditions[-1])] for row in self.rows}
        most = max(max(line) for line in counts.values())
        fewer = [
            f"{self.last.label(row)} at {point.text} ({count})"
            for row, line in counts.items()
            for point, count in zip(self.points, line, strict=True)
            if count < most
        ]
        if fewer:
            notes.append(f"Fewer than {most} runs have a score: {', '.join(fewer)}.")
        equal = [
            f"{one.text} and {two.text}"
            for one, two in zip(self.points, self.points[1:], strict=False)
            if (one.train, one.val) == (two.train, two.val)
        ]
        if equal:
            notes.append(f"The same labels, as counts are rounded to whole utterances: {', '.join(equal)}.")
        return notes


def _point(share: float, config: dict[str, Any]) -> LabelPoint:
    mean = lambda part: float(np.mean([fold.get(part, 0) for fold in config["folds"]]))
    return LabelPoint(share, mean("train"), mean("val"), mean("unlabelled"))
