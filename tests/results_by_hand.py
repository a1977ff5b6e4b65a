"""Scores made by hand, for the tests of the table; a table's folder with units of counts."""

import json

from experiments.results import Row
from experiments.units import Unit, write_counts

CONFIG = {
    "commands": [["/somewhere/python", "-m", "experiments.reproduce", "--data", "a file.npz"]],
    "started": "2026-01-01T00:00:00+00:00",
    "data": {
        "path": "toy.npz",
        "name": "toy",
        "sha256": "0" * 64,
        "utterances": 8,
        "class_names": ["no", "yes"],
        "modalities": ["left", "right"],
        "widths": [3, 5],
    },
    "folds": [{"name": name, "train": 2, "val": 2, "test": 4} for name in ("f2", "f1")],
    "preset": {},
    "versions": {"python": "3.11"},
    "tuned": {},
    "methods": {"b": {}, "a": {}},
    "seeds": [0, 1],
    "smoke": False,
    "devices": "2 x cpu",
    "commit": "c0ffee",
}
COUNTS = [[[3, 1], [0, 0]], [[0, 0], [1, 1]], [[2, 0], [0, 2]]]


def write_table(folder, units=(("a", "f1", 0), ("b", "f1", 0), ("a", "f2", 1), ("a", "f2", 0))) -> None:
    """Units with `COUNTS` in the conditions l, r, lr, written in this order."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for unit in units:
        write_counts(folder, Unit(*unit), ("left", "right"), COUNTS)


# Statistics, from rows made by hand: two folds, two seeds, conditions a, b, ab.
SCORES = {
    ("m", "f1", 0): (0.1, 0.3, 0.9),
    ("m", "f1", 1): (0.3, 0.5, 0.9),
    ("m", "f2", 0): (0.5, 0.7, 0.9),
    ("m", "f2", 1): (0.7, 0.9, 0.9),
}


def rows_of(scores) -> list[Row]:
    return [
        Row(method, fold, seed, condition, score, score / 2, [[1, 0], [0, 1]])
        for (method, fold, seed), three in scores.items()
        for condition, score in zip(("a", "b", "ab"), three, strict=True)
    ]
