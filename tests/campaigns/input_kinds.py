"""The kinds of input that the campaign spoils: how a small one is made, and how it is read.

`make(folder)` writes one; `read(folder)` returns what a program would use of it, and fails by an assertion where that
is nothing to work with. Imports are inside, so that a worker loads what its kind needs.
"""

import dataclasses
import hashlib
import json
import math
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

DIGEST = "0" * 64
IDS = ("u0", "u1", "u2", "u3", "u4", "u5")


class Kind(NamedTuple):
    """One kind of input.

    Attributes:
      make: Writes one into a folder that is there.
      read: Reads it as the library does.
      has_sum: Whether damaged bytes that give other values are a fault, since a checksum would show them.
      names_files: Whether its author may name files elsewhere, which are then read.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    has_sum: bool = False
    names_files: bool = False


def fingerprint(value: Any) -> str:
    """Equal for equal values, arrays, dataclasses and containers among them."""
    found = hashlib.sha256()
    _add(found, value)
    return found.hexdigest()


def _add(found: Any, value: Any) -> None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        value = [item for pair in value.items() for item in pair]
    if isinstance(value, np.ndarray) and value.dtype != object:
        found.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, list | tuple | np.ndarray):
        found.update(f"[{len(value)}".encode())
        for item in value:
            _add(found, item)
    else:
        found.update(repr(value).encode("utf-8", "surrogatepass") + b";")


def make_archive(folder: Path) -> None:
    from archives import make_arrays

    np.savez(folder / "a.npz", **make_arrays())


def read_archive(folder: Path) -> Any:
    from cmarr_jax.data.archive import read_archive
    from cmarr_jax.data.corpus import check_corpus

    corpus = read_archive(folder / "a.npz")
    check_corpus(corpus)
    assert all(np.isfinite(array).all() for array in corpus.features.values()), "absent entries are zeros"
    return corpus


def read_prediction(folder: Path) -> Any:
    from cmarr_jax.data.archive_blocks import read_utterances

    return list(read_utterances(folder / "a.npz"))


def make_manifest(folder: Path) -> None:
    from data_prep.manifest_table import write_manifest

    for name in IDS:
        (folder / f"{name}.wav").touch()
    (folder / "u5.txt").write_text("What a day!\n")
    rows = [
        {
            "utterance_id": name,
            "speaker": f"s{row // 2}",
            "label": ("sad", "happy")[row % 2],
            "split": ("train", "val", "test")[row // 2],
            "target": str(row - 2.5),
            "audio": f"{name}.wav",
            "video": "",
            "text": "Here, there, and “everywhere”" if row < 5 else "",
            "start": str(row),
            "end": str(row + 0.5),
            "transcript_file": "u5.txt" if row == 5 else "",
            "valence": "1.5",
            "take": str(row),
        }
        for row, name in enumerate(IDS)
    ]
    write_manifest(folder / "m.csv", rows)


def read_manifest(folder: Path) -> Any:
    from data_prep.manifest_file import read_manifest

    parsed = read_manifest(folder / "m.csv")
    assert parsed.utterances, "no utterance is left"
    assert len({item.media.utterance_id for item in parsed.utterances}) == len(parsed.utterances), (
        "an id is there twice"
    )
    assert all(item.speaker for item in parsed.utterances), "a speaker is empty"
    return parsed.utterances, read_manifest(folder / "m.csv", labelled=False).utterances


def make_mmin(folder: Path) -> None:
    from miniature import mmin_features

    mmin_features(folder)


def read_mmin(folder: Path) -> Any:
    from data_prep.known_counts import CLASS_NAMES
    from data_prep.mmin_features import _read_target
    from data_prep.mmin_files import find_target
    from data_prep.mmin_folds import check_folds, fold_differences
    from data_prep.mmin_frames import check_usable, read_frames
    from data_prep.mmin_report import check_mean_std

    root = folder / "iemocap_features"
    target = find_target(root)
    folds, data = _read_target(target, CLASS_NAMES)
    check_folds(fold_differences(folds, dict(zip(data.ids, data.names, strict=True)), None), target, None, allow=True)
    found = {}
    for name in ("A/comparE.h5", "V/denseface.h5", "L/bert_large.h5"):
        frames = read_frames(root / name, data.ids, zeros_are_present=False, keep_padding=False)
        check_usable(root / name, frames.entries, allow_missing=False)
        assert np.isfinite(frames.features).all(), "not finite"
        assert len(frames.features) == frames.length.sum(), "lengths do not fit"
        found[name] = (frames.features, frames.length)
        if name.startswith("A"):
            list(check_mean_std(root / "A/comparE_mean_std.h5", frames, folds, data.ids))
    return folds, data, found


def make_features(folder: Path) -> None:
    frames = {name: np.full((2 + row, 3), row + 1, np.float32) for row, name in enumerate(IDS)}
    np.savez(folder / "f.npz", **frames)
    with h5py.File(folder / "f.h5", "w") as file:
        for name, values in frames.items():
            file[name] = values
    lines = [f"{name},{row},{row / 2}" for row, name in enumerate(IDS)]
    (folder / "f.csv").write_text("\n".join(["utterance_id,a,b", *lines, ""]))


def read_features(folder: Path) -> Any:
    from data_prep.feature_files import FeatureFile

    found = [FeatureFile(folder / f"f.{kind}").read(IDS) for kind in ("npz", "h5", "csv")]
    assert all(np.isfinite(array).all() for good, _ in found for array in good.values()), "not finite"
    return found


def make_pickles(folder: Path) -> None:
    from miniature_sentiment import mmsa, mult

    mmsa(folder / "mmsa.pkl")
    mult(folder / "mult.pkl")
    (folder / "plain.pkl").write_bytes(pickle.dumps({"a": [1, "x", b"y", (2.5, None)], "b": np.arange(6)}, 0))


def read_pickles(folder: Path) -> Any:
    from data_prep.corpora import sentiment_pickle
    from data_prep.restricted_pickle import read_pickle

    found = [list(sentiment_pickle.read_segments(folder / f"{name}.pkl")) for name in ("mmsa", "mult")]
    return [*found, read_pickle(folder / "plain.pkl")]


def make_unit(folder: Path) -> None:
    from test_checkpoint import make_run

    from cmarr_jax.training.checkpoint import to_json

    record = {"name": "zero_fill", "fold": "f1", "seed": 0, "format": 1, "sha256": DIGEST, "status": "converged"}
    (folder / "run.json").write_text(to_json({"config": make_run("zero_fill")[0].to_dict(), **record}, indent=1))


def read_unit(folder: Path) -> Any:
    """The record of a saved run and the shapes of its network. The parameters are the kind `run`."""
    from cmarr_jax.training.checkpoint import read_record, state_like

    config, record = read_record(folder / "run.json")
    shapes = state_like(folder / "run.json", config)
    numbers = (config.learning_rate, config.dropout, *config.weights.values())
    assert all(math.isfinite(number) for number in numbers), "not finite"
    return config, record, repr(shapes)


def make_table(folder: Path) -> None:
    from results_by_hand import write_table

    from experiments.presets import SYNTHETIC

    write_table(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"preset": SYNTHETIC.to_dict()}, indent=1))


def read_table(folder: Path) -> Any:
    from experiments.results_folder import check_same, read_config
    from experiments.units import read_rows

    config = read_config(folder)
    check_same(folder, config, config)
    rows = read_rows(folder)
    assert all(row.status and len(row) == 8 for row in rows), "a row without a status"
    return config, rows


def make_tuned(folder: Path) -> None:
    choice = {"learning_rate": 1e-3, "dropout": 0.3, "weights": {"alignment": 0.1}}
    stored = {
        "data": {"sha256": DIGEST, "name": "toy"},
        "label_share": 1.0,
        "preset": {"dropout": 0.5},
        "folds": ["f1", "f2"],
        "chosen": {row: {fold: {**choice, "trials": 3} for fold in ("f1", "f2")} for row in ("cm_arr", "zero_fill")},
    }
    stored["chosen"]["zero_fill"] = {fold: {**choice, "weights": {}, "trials": 3} for fold in ("f1", "f2")}  # type: ignore[index]
    (folder / "tuned.json").write_text(json.dumps(stored, indent=1))


def read_tuned(folder: Path) -> Any:
    from tiny import run_config

    from experiments.tuned import read_tuned, tuned_config

    rows = ("cm_arr", "cm_arr_no_alignment", "zero_fill")
    wanted = {"data": {"sha256": DIGEST}, "label_share": 1.0, "preset": {"dropout": 0.5}, "folds": ["f1", "f2"]}
    chosen = read_tuned([folder], rows, wanted)
    configs = [
        tuned_config(row, run_config(method="zero_fill" if row == "zero_fill" else "cm_arr"), choice)
        for row, folds in chosen.items()
        for choice in folds.values()
    ]
    for config in configs:
        numbers = (config.learning_rate, config.dropout, *config.weights.values())
        assert all(isinstance(number, float | int) and math.isfinite(number) for number in numbers), "no number"
    return configs


def _checkpoint(name: str) -> Kind:
    """One of the kinds of `damage_checkpoints`, each in a subfolder."""

    def loader(folder: Path) -> Any:
        import damage_checkpoints

        return damage_checkpoints.READERS[name](folder / name)

    def make(folder: Path) -> None:
        import damage_checkpoints

        damage_checkpoints.WRITERS[name](folder)

    return Kind(make, loader, has_sum=True)


KINDS = {
    "archive": Kind(make_archive, read_archive, has_sum=True),
    "prediction": Kind(make_archive, read_prediction, has_sum=True),
    "manifest": Kind(make_manifest, read_manifest, names_files=True),
    "mmin": Kind(make_mmin, read_mmin),
    "features": Kind(make_features, read_features),
    "pickle": Kind(make_pickles, read_pickles),
    "unit": Kind(make_unit, read_unit),
    "table": Kind(make_table, read_table),
    "tuned": Kind(make_tuned, read_tuned),
    "run": _checkpoint("run"),
    "state": _checkpoint("state"),
    "progress": _checkpoint("progress"),
}
