"""Hyperparameters that `experiments.tune` has chosen for each fold, and how a table uses them.

`tuned.json` holds, for each row and fold, what was chosen on that fold's own validation part.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cmarr_jax.config import RunConfig
from cmarr_jax.data.json_object import check_kinds, read_object
from experiments.results_folder import SHARE
from experiments.rows import TABLE_ROWS

FILE = "tuned.json"
_ADVICE = "copy it again, or tune again with experiments.tune"

Choice = dict[str, Any]
"""`learning_rate`, `dropout`, `weights` of one fold."""


def tuned_row(row: str, known: Mapping[str, Any]) -> str | None:
    """Whose choices a row uses: its own, or those of the unchanged method, such as the full model of an ablation."""
    if row in known:
        return row
    method = TABLE_ROWS[row].method if row in TABLE_ROWS else None
    return method if method in known else None


def read_tuned(
    paths: Iterable[Path], digest: str, rows: Iterable[str], folds: Iterable[str], share: float = 1.0
) -> dict[str, dict[str, Choice]]:
    """The choices of some rows, by row and fold.

    Args:
      paths: Each is a `tuned.json`, or the folder that holds it. Several searches may have tuned different rows.
      digest: SHA-256 of the data of the table.
      rows: That the table trains with them.
      folds: Names of the folds of the table.
      share: Of the labels that the table uses.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a file is damaged, of other data or of another share of the labels, if a row or a fold is lacking,
        if two files have the same row, or if the rows had different numbers of trials: their table would not be fair.
    """
    known: dict[str, tuple[Path, Any]] = {}  # by row: which file, and the choices of its folds
    paths, folds = [path / FILE if path.is_dir() else path for path in paths], list(folds)
    for path in paths:
        for row, of_folds in _read_choices(path, digest, share).items():
            if row in known:
                raise ValueError(f"{known[row][0]} and {path} both have row {row}; give one of them")
            known[row] = path, of_folds
    names, chosen = ", ".join(map(str, paths)), {}
    for row in rows:
        source = tuned_row(row, known)
        if source is None:
            raise ValueError(
                f"{names} has no row {row}; add it: python -m experiments.tune --methods {row} --out {paths[0].parent}"
            )
        path, chosen[row] = known[source]
        check_kinds(path, {source: chosen[row]}, {source: dict}, "chosen", _ADVICE)
        for fold in folds:
            if fold not in chosen[row]:
                raise ValueError(f"{path} has no choice for fold {fold} of {source}; tune with the folds of the table")
            _check_choice(path, chosen[row][fold], f"chosen.{source}.{fold}")
    trials = {row: {chosen[row][fold].get("trials") for fold in folds} for row in chosen}
    if len(set().union(*trials.values())) > 1:
        counts = ", ".join(f"{row} {'/'.join(map(str, sorted(found, key=str)))}" for row, found in trials.items())
        raise ValueError(
            f"{names}: the rows had different numbers of trials ({counts}), which is not fair; go on with "
            "experiments.tune and the same --trials for all of them"
        )
    return chosen


def _read_choices(path: Path, digest: str, share: float) -> dict[str, Any]:
    """What a file has chosen, by row. Raises ValueError if it is damaged, of other data, or of another share."""
    stored = read_object(path, _ADVICE)
    check_kinds(path, stored, {"data": dict, "chosen": dict}, "", _ADVICE)
    check_kinds(path, stored["data"], {"sha256": str}, "data", _ADVICE)
    check_kinds(path, {SHARE: 1.0} | stored, {SHARE: float}, "", _ADVICE)
    if stored["data"]["sha256"] != digest:
        raise ValueError(
            f"{path} was tuned on other data (SHA-256 {stored['data']['sha256'][:16]}, here {digest[:16]}); tune again "
            "with experiments.tune"
        )
    if (then := stored.get(SHARE, 1.0)) != share:
        raise ValueError(
            f"{path} was tuned with the share {then:g} of the labels, and the table uses {share:g}; tune again with "
            f"experiments.tune --label-share {share:g}"
        )
    return stored["chosen"]


def _check_choice(path: Path, choice: Any, where: str) -> None:
    """Raises ValueError unless this is the choice of one fold, with numbers that can be trained with."""
    check_kinds(path, choice, {"learning_rate": float, "dropout": float, "weights": dict}, where, _ADVICE)
    check_kinds(path, {"trials": 0} | choice, {"trials": int}, where, _ADVICE)  # those of older files have no number
    check_kinds(path, choice["weights"], dict.fromkeys(choice["weights"], float), f"{where}.weights", _ADVICE)
    if not (choice["learning_rate"] > 0 and 0 <= choice["dropout"] < 1):
        text = f"learning_rate {choice['learning_rate']:g} and dropout {choice['dropout']:g}"
        raise ValueError(f"{path} is damaged ({where} has {text}, where > 0 and [0, 1) are needed); {_ADVICE}")


def tuned_config(row: str, config: RunConfig, choice: Mapping[str, Any]) -> RunConfig:
    """The configuration of a row with the choice of one fold. Weights that the row itself changes stay."""
    return dataclasses.replace(
        config,
        learning_rate=choice["learning_rate"],
        dropout=choice["dropout"],
        weights={**config.weights, **choice["weights"], **TABLE_ROWS[row].weights},
    )
