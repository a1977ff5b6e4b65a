"""Results as rows of one long table: method, fold, seed, condition, scores, counts (or sums), status.

`results.jsonl` holds them, one JSON object a line. It is made from the folders of the runs (`units.py`).
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmarr_jax.data.availability import condition_names
from cmarr_jax.metrics import ccc, mae, uar, war
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.schedule import CONVERGED, STATUS
from cmarr_jax.types import Array

FILE = "results.jsonl"
METRICS = ("war", "uar")
VALUE_METRICS = ("ccc", "mae")


class Row(NamedTuple):
    """Scores of one run on its test fold in one condition.

    Attributes:
      method: Row of the table.
      fold: Name of the fold.
      seed: Seed.
      condition: Name of the availability pattern.
      war: Fraction; nan where nothing was counted: a diverged run, or no test utterance with these modalities.
      uar: As `war`.
      counts: Confusion counts behind both, `[K, K]`.
      status: How the run ended, one of `cmarr_jax.training.schedule.STATUS`, or `exact`.
    """

    method: str
    fold: str
    seed: int
    condition: str
    war: float
    uar: float
    counts: list[list[int]]
    status: str = STATUS[CONVERGED]


class ValueRow(NamedTuple):
    """Scores of one regression on its test fold in one condition.

    Attributes:
      method: As in `Row`, as the next three.
      fold: Name of the fold.
      seed: Seed.
      condition: Name of the availability pattern.
      ccc: Concordance correlation; nan where nothing was counted.
      mae: Mean absolute error, in the unit of the target; nan as `ccc`.
      sums: Behind both (`cmarr_jax.metrics.agreement_sums`), in the unit of the target, `[7]`.
      status: As in `Row`.
    """

    method: str
    fold: str
    seed: int
    condition: str
    ccc: float
    mae: float
    sums: list[float]
    status: str = STATUS[CONVERGED]

    @property
    def counts(self) -> list[float]:
        """The number of utterances, where `Row` has confusion counts."""
        return self.sums[:1]


def rows_from_counts(
    method: str,
    fold: str,
    seed: int,
    modalities: Iterable[str],
    counts: np.ndarray | Array,
    status: str = STATUS[CONVERGED],
) -> list[Any]:
    """Rows of a run from its confusion counts `[P, K, K]`, in the order of the availability patterns.

    From the sums of a regression, `[P, 7]`, `ValueRow`s.
    """
    names, counts = condition_names(tuple(modalities)), np.asarray(counts)
    kind: Any
    kind, first, second = (Row, war, uar) if counts.ndim == 3 else (ValueRow, ccc, mae)
    return [
        kind(method, fold, seed, name, float(first(c)), float(second(c)), c.tolist(), status)
        for name, c in zip(names, counts, strict=True)
    ]


def rows_text(rows: Iterable[Row | ValueRow]) -> str:
    """What the results file holds."""
    return "".join(to_json(row._asdict()) + "\n" for row in rows)


def append_lines(path: Path, values: Iterable[dict]) -> None:
    """Adds JSON objects to a file of lines, after cutting off a half line at its end."""
    with path.open("a+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # rare: only then is the whole file read
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write("".join(to_json(value) + "\n" for value in values).encode())


def complete_lines(path: Path) -> list[str]:
    """The lines of a file; a half line at its end, which a killed process left, is left out."""
    text = path.read_text(encoding="utf-8", errors="replace")  # what is no text is told with its line, as no JSON
    return text[: text.rfind("\n") + 1].splitlines()
