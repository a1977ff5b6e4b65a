"""Results as rows of one long table, one JSON object a line: method, fold, seed, condition, scores, counts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.metrics import uar, war
from cmarr_jax.missing import condition_names
from cmarr_jax.types import Array

FILE = "results.jsonl"
METRICS = ("war", "uar")


class Row(NamedTuple):
    """Scores of one run on its test fold in one condition; fractions, and the confusion counts `[K, K]` behind them."""

    method: str
    fold: str
    seed: int
    condition: str
    war: float
    uar: float
    counts: list[list[int]]


def rows_from_counts(
    method: str, fold: str, seed: int, modalities: Iterable[str], counts: np.ndarray | Array
) -> list[Row]:
    """Rows of a run from its confusion counts `[P, K, K]`, in the order of the availability patterns."""
    names = condition_names(tuple(modalities))
    return [
        Row(method, fold, seed, name, float(war(c)), float(uar(c)), c.tolist())
        for name, c in zip(names, np.asarray(counts), strict=True)
    ]


def append_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Adds rows to the results file of a folder."""
    with (folder / FILE).open("a") as file:
        file.writelines(json.dumps(row._asdict()) + "\n" for row in rows)


def read_rows(folder: Path) -> list[Row]:
    """The rows of a results folder.

    Raises:
      ValueError: if a line is not a row.
    """
    path = folder / FILE
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            rows.append(Row(**json.loads(line)))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}, line {number} is not a result ({error}); delete the line") from error
    return rows
