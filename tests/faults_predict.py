"""Faults of what `experiments.predict` reads: units, features, manifests, options. The unit is made once."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import manifest
from data_prep.manifest_table import write_manifest
from experiments.datasets import load_archive
from tests.fault_case import Case
from tests.predict_units import make_unit

UNIT = Path("runs/zero_fill/group1_seed0")
WORDS = ("so", "well", "we", "meet", "here", "again")
Arrays = dict[str, np.ndarray]
Argv = Callable[[Path], list[str]]
case = partial(Case, command="predict", package="experiments")


@functools.cache
def trained() -> tempfile.TemporaryDirectory:
    """A folder with a prepared corpus, `text` (frames) and `face` (a vector), and a unit; deleted at the end."""
    kept = tempfile.TemporaryDirectory()
    folder = Path(kept.name)
    rows = [
        {"utterance_id": f"u{row}", "speaker": f"s{row // 8}", "label": "abcd"[row % 4], "text": WORDS[row % 6]}
        for row in range(40)
    ]
    write_manifest(folder / "m.csv", rows)
    vectors = np.random.default_rng(0).normal(size=(40, 4)).astype("f4")
    np.savez(folder / "face.npz", **{row["utterance_id"]: vector for row, vector in zip(rows, vectors, strict=True)})
    sources = "--text", "text_hashing:dims=12", "--modality", f"face=features:{folder}/face.npz"
    given = [str(folder / "m.csv"), str(folder / "a.npz"), *sources, "--without-tfds", "--num-workers", "1"]
    assert manifest.main(given) == 0
    source = load_archive(folder / "a.npz")
    make_unit(folder / "runs", "zero_fill", source.corpus, extractors=source.extractors)
    return kept


def command(folder: Path, source: str, *options: str, out: str = "p.csv") -> list[str]:
    """The command line, with a copy of the unit."""
    if not (folder / "runs").exists():
        shutil.copytree(Path(trained().name) / "runs", folder / "runs")
    given = ["--run", str(folder / UNIT), "--input", str(folder / source), "--out", str(folder / out)]
    return [*given, "--num-workers", "1", *options]


def features(change: Callable[[Arrays], Mapping[str, Any]] = dict, *options: str, **names: str) -> Argv:
    """An .npz whose arrays are changed; keys that become `None` are left out."""

    def argv(folder: Path) -> list[str]:
        with np.load(Path(trained().name) / "a.npz") as file:
            arrays = change(dict(file))
        np.savez(folder / "new.npz", **{key: array for key, array in arrays.items() if array is not None})
        return command(folder, "new.npz", *options, **names)

    return argv


def words(row: Mapping[str, object], *options: str) -> Argv:
    """A manifest of one ordinary row and of this one."""

    def argv(folder: Path) -> list[str]:
        write_manifest(folder / "new.csv", [{"utterance_id": "u0", "text": "well"}, {"utterance_id": "new", **row}])
        shutil.copy(Path(trained().name) / "face.npz", folder)
        return command(folder, "new.csv", *(option.replace("DIR", str(folder)) for option in options))

    return argv


def unit(change: Callable[[Path], object]) -> Argv:
    """A unit that is spoilt."""

    def argv(folder: Path) -> list[str]:
        made = features()(folder)
        change(folder / UNIT)
        return made

    return argv


def record(change: Callable[[dict[str, Any]], object]) -> Argv:
    """A unit whose record is changed."""

    def spoil(folder: Path) -> None:
        values = json.loads((folder / "run.json").read_text())
        change(values)
        (folder / "run.json").write_text(json.dumps(values))

    return unit(spoil)


def diverged(folder: Path) -> list[str]:
    """A unit without parameters that could answer."""
    made = record(lambda values: values.update(status="diverged"))(folder)
    (folder / UNIT / "params").rename(folder / UNIT / "last_good")
    (folder / UNIT / "outputs.npz").unlink()
    return made


def two_units(folder: Path) -> list[str]:
    """Units of two tables, whose classes have other names."""
    made = record(lambda values: values["input"].update(class_names=["b", "a", "c", "d"]))(folder)
    shutil.copytree(Path(trained().name) / UNIT, folder / "other")
    return [*made, "--run", str(folder / UNIT), str(folder / "other")]


def spoilt(key: str, row: int, value: object) -> Callable[[Arrays], Arrays]:
    """Changes one row of one array."""

    def change(arrays: Arrays) -> Arrays:
        array = arrays[key].astype(np.result_type(arrays[key], np.asarray(value)))
        array[row] = value
        return arrays | {key: array}

    return change


def with_scent(arrays: Arrays) -> Mapping[str, Any]:
    """A modality that the model does not have, in the last row only."""
    where = np.arange(40) == 39
    return arrays | {"modalities": None, "scent": np.ones((40, 2), "f4"), "scent_present": where}


def without(arrays: Arrays) -> Mapping[str, Any]:
    """The last row has no modality."""
    where = np.arange(40) < 39
    return arrays | {"text_present": where, "face_present": where}


def wide(arrays: Arrays) -> Mapping[str, Any]:
    """Faces of the last row only, and wider than those of the training."""
    return arrays | {"face": np.ones((40, 6), "f4"), "face_present": np.arange(40) == 39}


def framed(arrays: Arrays) -> Mapping[str, Any]:
    """Faces of the last row only, as frames."""
    length = np.where(np.arange(40) == 39, 3, 0)
    return arrays | {"face": np.ones((3, 4), "f4"), "face_length": length, "face_present": length > 0}


def no_frame(arrays: Arrays) -> Mapping[str, Any]:
    """The last text has no frame."""
    rows = int(arrays["text_length"][-1])
    return spoilt("text_length", -1, 0)(arrays) | {"text": arrays["text"][:-rows]}


def cut(folder: Path) -> None:
    """The validation logits are truncated."""
    data = (folder / "outputs.npz").read_bytes()
    (folder / "outputs.npz").write_bytes(data[: len(data) // 2])


def one_of(folder: Path) -> list[str]:
    """The output is there."""
    (folder / "p.csv").write_text("mine")
    return features()(folder)


ONLY_TEXT = "--only", "text"
CASES = (
    case("predict: no modality is there", argv=features(without), column="error"),
    case("predict: a modality that the model does not have", argv=features(with_scent), column="error"),
    case("predict: another width than in training", argv=features(wide), column="error"),
    case("predict: frames where training had one vector", argv=features(framed), column="error"),
    case("predict: a modality without frames", argv=features(no_frame), column="error"),
    case("predict: nan in a vector", argv=features(spoilt("face", 39, np.nan)), column="error"),
    case("predict: nan in a frame", argv=features(spoilt("text", -1, np.nan)), column="error"),
    case("predict: too large for float32", argv=features(spoilt("face", 39, 1e300)), column="error"),
    case("predict: an empty row of a manifest", argv=words({}, *ONLY_TEXT), column="error"),
    case("predict: a text without words", argv=words({"text": "..."}, *ONLY_TEXT), column="note"),
    case(
        "predict: a file of features that lacks an utterance",
        argv=words({"text": "we meet"}, "--modality", "face=features:DIR/face.npz"),
        column="note",
    ),
    case(
        "predict: no utterance can be answered",
        argv=features(lambda a: a | {"face": wide(a)["face"], "text": None, "text_length": None, "modalities": None}),
    ),
    case("predict: no names", argv=features(lambda a: a | {"utterance_id": None})),
    case("predict: a name twice", argv=features(spoilt("utterance_id", 39, "u0"))),
    case("predict: frames and lengths do not agree", argv=features(lambda a: a | {"text": a["text"][:-1]})),
    case("predict: a modality that is not listed", argv=features(lambda a: a | {"scent": a["face"]})),
    case("predict: integers as presence", argv=features(lambda a: a | {"face_present": np.ones(40, int)})),
    case("predict: neither features nor a manifest", argv=lambda folder: command(folder, "new.txt")),
    case("predict: the features are not there", argv=lambda folder: command(folder, "new.npz")),
    case(
        "predict: the folder of a row, not of a unit",
        argv=lambda folder: [part.replace(f"/{UNIT}", "/runs/zero_fill") for part in features()(folder)],
    ),
    case("predict: a model that diverged", argv=diverged),
    case("predict: a unit of an older version", argv=record(lambda values: values.pop("input"))),
    case("predict: a damaged unit", argv=unit(cut)),
    case("predict: units of two tables", argv=two_units),
    case("predict: --only with another modality", argv=features(dict, "--only", "scent")),
    case(
        "predict: --only with a modality that the file lacks",
        argv=features(lambda a: a | {"face": None, "modalities": None}, "--only", "face"),
    ),
    case("predict: --coverage out of range", argv=features(dict, "--coverage", "90")),
    case("predict: --embeddings of a method without them", argv=features(dict, "--embeddings", out="p.jsonl")),
    case("predict: --embeddings into a CSV", argv=features(dict, "--embeddings")),
    case("predict: --modality beside features", argv=features(dict, "--modality", "text=text_hashing")),
    case("predict: --out with another ending", argv=features(out="p.txt")),
    case("predict: no folder for the output", argv=features(out="none/p.csv")),
    case("predict: the output is there already", argv=one_of),
    case("predict: another extractor than in training", argv=words({}, "--modality", "text=egemaps")),
    case(
        "predict: another option than in training", argv=words({}, *ONLY_TEXT, "--modality", "text=text_hashing:dims=6")
    ),
    case("predict: no file for features that came from one", argv=words({})),
    case(
        "predict: nothing says how the features were made",
        argv=lambda folder: [
            *record(lambda values: values["input"].update(extractors={}))(folder),
            "--input",
            words({})(folder)[3],
        ],
    ),
)
