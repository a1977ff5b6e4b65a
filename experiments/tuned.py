"""Hyperparameters that `experiments.tune` has chosen for each fold, and how a table uses them.

`tuned.json` holds, for each row and fold, what was chosen on that fold's own validation part.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cmarr_jax.config import RunConfig
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.json_object import check_kinds, read_object
from cmarr_jax.training.checkpoint import to_json
from experiments.presets import Preset
from experiments.results_folder import SHARE, first_difference
from experiments.rows import TABLE_ROWS, table_row

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


def search_settings(digest: str, preset: Preset, folds: Iterable[FoldSplit], share: float) -> dict[str, Any]:
    """What a search and the table that uses its choices must have in common.

    With other folds, a speaker that a table tests could be one that chose.

    Args:
      digest: SHA-256 of the data.
      preset: With the changes of the command line.
      folds: All of them.
      share: Of the labels.
    """
    return {
        "data": {"sha256": digest},
        "preset": preset.to_dict(),
        SHARE: share,
        "folds": [fold.name for fold in folds],
    }


def read_tuned(paths: Iterable[Path], rows: Iterable[str], wanted: Mapping[str, Any]) -> dict[str, dict[str, Choice]]:
    """The choices of some rows, by row and fold.

    Args:
      paths: Each is a `tuned.json`, or the folder that holds it. Several searches may have tuned different rows.
      rows: That the table trains with them.
      wanted: `search_settings` of the table.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if a file is damaged or was made with another setting, if a row or a fold is lacking, if two files
        have the same row, or if the rows had different numbers of trials: their table would not be fair.
    """
    known: dict[str, tuple[Path, Any]] = {}  # by row: which file, and the choices of its folds
    paths, folds = [path / FILE if path.is_dir() else path for path in paths], wanted["folds"]
    for path in paths:
        for row, of_folds in _read_choices(path, wanted).items():
            if row in known:
                raise ValueError(f"{known[row][0]} and {path} both have row {row}; give one of them")
            known[row] = path, of_folds
    names, chosen = ", ".join(map(str, paths)), {}
    for row in rows:
        source = tuned_row(row, known)
        if source is None:
            raise ValueError(
                f"{names} has no row {row}; tune it into a new folder, with the --data, --trials and settings of the "
                f"other rows (python -m experiments.tune --methods {row} --out NEW), and give all: --tuned {names} NEW"
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


def _read_choices(path: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What a file has chosen, by row. Raises ValueError if it is damaged or was made with another setting."""
    stored = {SHARE: 1.0} | read_object(path, _ADVICE)
    check_kinds(path, stored, {"data": dict, "preset": dict, "folds": list, SHARE: float, "chosen": dict}, "", _ADVICE)
    check_kinds(path, stored["data"], {"sha256": str}, "data", _ADVICE)
    then, now = stored["data"]["sha256"], wanted["data"]["sha256"]
    if then != now:
        raise ValueError(
            f"{path} was tuned on other data (SHA-256 {then[:16]}, here {now[:16]}); tune again with experiments.tune"
        )
    for name, value in json.loads(to_json({name: wanted[name] for name in (SHARE, "folds", "preset")})).items():
        if difference := first_difference(stored[name], value, name):
            raise ValueError(
                f"{path} was tuned with another setting: {difference}; tune again with experiments.tune and the "
                "settings of the table"
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
        weights={**config.weights, **choice["weights"], **table_row(row).weights},
    )
