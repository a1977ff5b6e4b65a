"""The ended trials of `experiments.tune`, one JSON object a line, and the best choice of each row and fold."""

import json
import sys
from pathlib import Path
from typing import Any

from cmarr_jax.data.json_object import check_kinds
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.disk import write_text
from experiments.results import complete_lines
from experiments.tuned import FILE, Choice

TRIALS = "trials.jsonl"
_KINDS = {"row": str, "fold": str, "trial": int, "val_uar": float, "learning_rate": float, "dropout": float}

Line = dict[str, Any]
"""An ended trial: `row`, `fold`, `trial`, `val_uar`, its parameters, `status`, `epochs`."""

Lines = dict[tuple[str, str, int], Line]
"""By row, fold and number of the trial."""


def read_lines(folder: Path) -> Lines:
    """The ended trials of the folder by row, fold and number, sorted.

    Raises:
      ValueError: for a line that holds no trial.
    """
    path = folder / TRIALS
    texts = complete_lines(path) if path.is_file() else []
    lines = [_line(path, number, text) for number, text in enumerate(texts, 1)]
    by_name = {(line["row"], line["fold"], line["trial"]): line for line in lines}
    return dict(sorted(by_name.items()))


def _line(path: Path, number: int, text: str) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    check_kinds(path, value, _KINDS, f"line {number}", "delete the line")
    return value


def write_tuned(folder: Path, settings: dict[str, Any]) -> None:
    """Writes the best choice of each row and fold, and sorts the lines of all trials."""
    lines = list(read_lines(folder).values())
    chosen: dict[str, dict[str, Choice]] = {}
    for line in lines:
        of_row = chosen.setdefault(line["row"], {})
        before = of_row.get(line["fold"], {"val_uar": -1.0, "trials": 0})
        better = line["val_uar"] > before["val_uar"]  # of equal ones the first
        of_row[line["fold"]] = (_choice_of_line(line) if better else before) | {"trials": before["trials"] + 1}
    write_text(folder / TRIALS, "".join(to_json(line) + "\n" for line in lines))
    write_text(folder / FILE, to_json({**settings, "command": sys.argv, "chosen": chosen}, indent=1) + "\n")


def _choice_of_line(line: Line) -> Choice:
    others = {"row", "fold", "trial", "val_uar", "learning_rate", "dropout", "status", "epochs"}
    weights = {name: value for name, value in line.items() if name not in others}
    return {
        "learning_rate": line["learning_rate"],
        "dropout": line["dropout"],
        "weights": weights,
        "val_uar": line["val_uar"],
    }
