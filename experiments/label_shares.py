"""A table for each of several shares of the labels: its folder, and what is said of the shares before training."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.disk import is_unused
from experiments.results_folder import CONFIG, SHARE, check_same, read_config
from experiments.table import Table

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
PREFIX = "labels_"


def share_name(share: float) -> str:
    """The folder of a share, in per cent: `labels_010`, `labels_2.5`."""
    return f"{PREFIX}{100 * share:03g}"


def share_folders(root: Path) -> dict[float, Path]:
    """The folders of tables below `root` by their share, the smallest first; none if it holds no such tables.

    A folder of another name than that of its share, such as a copy that somebody has kept, is none of them.
    """
    paths = [path.parent for path in root.glob(f"{PREFIX}*/{CONFIG}")]
    found = [(read_config(path).get(SHARE, 1.0), path) for path in paths]
    return {share: path for share, path in sorted(found) if path.name == share_name(share)}


def check_root(root: Path, config: dict[str, Any]) -> None:
    """Checks that a folder can be given tables of several shares.

    Args:
      root: New, empty, or with such tables.
      config: What the `config.json` of any of these tables should hold.

    Raises:
      FileExistsError: if it holds something else, also a single table.
      ValueError: if a table there differs in more than its labels.
    """
    folders = share_folders(root)
    if (root / CONFIG).is_file() or not (folders or _is_new(root)):
        raise FileExistsError(
            f"{root} is not empty and holds no tables of --table labels; name a new folder with --out, or delete it"
        )
    for folder in folders.values():
        check_same(folder, _shared(read_config(folder)), _shared(config))


def _is_new(root: Path) -> bool:
    """Whether a folder is unused, but for unused folders of shares: its command was killed before the first table."""
    if not root.is_dir():
        return not root.exists()
    rest = (path for path in root.iterdir() if not path.name.startswith("."))
    return all(path.name.startswith(PREFIX) and is_unused(path) for path in rest)


def _shared(config: dict[str, Any]) -> dict[str, Any]:
    """What the tables of all shares have in common: of what was tuned, the rows, as each share has its own choices."""
    folds = [{"name": fold["name"], "test": fold["test"]} for fold in config["folds"]]
    tuned = {row: "tuned" if row in config["tuned"] else "not tuned" for row in config["methods"]}
    return json.loads(to_json(config | {SHARE: 1.0, "tuned": tuned, "folds": folds}))


def labels_text(table: Table) -> str:
    """How many labels a share keeps: `0.1 of the labels: 44 to 46 of 440 to 459 training utterances of a fold`."""
    kept, whole = (_range([len(split.train) for split in splits]) for splits in (table.splits, table.folds))
    return f"{table.label_share:g} of the labels: {kept} of {whole} training utterances of a fold"


def same_labels(tables: Sequence[Table]) -> list[str]:
    """Sentences on shares that keep the same labels, as counts are rounded to whole utterances."""
    return [
        f"The shares {one.label_share:g} and {two.label_share:g} keep the same labels of these data, as counts are "
        "rounded to whole utterances: their runs are equal."
        for one, two in itertools.pairwise(tables)
        if all(
            np.array_equal(one.split_of(number).train, two.split_of(number).train)
            and np.array_equal(one.split_of(number).val, two.split_of(number).val)
            for number in range(len(one.units))
        )
    ]


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
