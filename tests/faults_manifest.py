"""Faults in manifests and in files of finished features."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from data_prep.manifest_table import write_manifest
from tests import miniature
from tests.fault_case import Case

ROWS = [
    {"utterance_id": f"{who}{take}", "speaker": who, "label": label, "text": "well", "start": 0, "end": 1}
    for who in ("ann", "bo", "cy")
    for take, label in enumerate(("calm", "angry"))
]


def table(*changes: tuple[int, Mapping[str, object]], options: tuple[str, ...] = ()) -> Callable[[Path], list[str]]:
    """A manifest with two files of features, of which some rows are changed."""

    def argv(folder: Path) -> list[str]:
        rows = [dict(row) for row in ROWS]
        for row, change in changes:
            rows[row] |= change
        write_manifest(folder / "m.csv", rows)
        return command(folder, *options)

    return argv


def raw(data: bytes) -> Callable[[Path], list[str]]:
    """A manifest of these bytes."""

    def argv(folder: Path) -> list[str]:
        (folder / "m.csv").write_bytes(data)
        return command(folder)

    return argv


def command(folder: Path, *options: str) -> list[str]:
    """Command line with two files of features of all rows."""
    for name in ("face", "heart"):
        np.savez(folder / f"{name}.npz", **{str(row["utterance_id"]): np.ones((2, 3), "f4") for row in ROWS})
    given = [f"{name}=features:{folder}/{name}.npz" for name in ("face", "heart")]
    return [str(folder / "m.csv"), str(folder / "out.npz"), "--without-tfds", *(options or ("--modality", *given))]


def features(change: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """A manifest whose features are spoilt."""

    def argv(folder: Path) -> list[str]:
        made = table()(folder)
        change(folder)
        return made

    return argv


def one_nan(folder: Path) -> None:
    """Puts a nan into the features of one utterance."""
    arrays = {str(row["utterance_id"]): np.ones((2, 3), "f4") for row in ROWS}
    np.savez(folder / "face.npz", **{**arrays, "bo1": np.full((2, 3), np.nan)})


def one_id_twice(folder: Path) -> None:
    """Replaces features by a table of vectors in which a row is there twice."""
    ids = [str(row["utterance_id"]) for row in ROWS]
    lines = [f"{name},1,{index}" for index, name in enumerate([*ids, ids[3]])]
    (folder / "face.csv").write_text("\n".join(["utterance_id,x,y", *lines]) + "\n")


def table_of_vectors(folder: Path) -> list[str]:
    """A manifest whose features are in such a table."""
    argv = features(one_id_twice)(folder)
    return [item.replace("face.npz", "face.csv") for item in argv]


def one_sound_of_six(folder: Path) -> list[str]:
    """Six videos, of which one has a sound file beside it, in a manifest with a column `audio`."""
    miniature.write_wav(folder / "0.wav", np.zeros(8000, np.int16), 16000)
    (folder / "v.mp4").write_bytes(b"is not opened")
    changes = [(row, {"video": "v.mp4", "audio": "" if row else "0.wav"}) for row in range(len(ROWS))]
    return table(*changes, options=("--audio", "egemaps", "--text", "text_hashing", "--dry-run"))(folder)


def without_angry(folder: Path) -> None:
    """Takes the label of one angry utterance away, and the features of the others."""
    rows = [{**row, "label": "" if row["utterance_id"] == "bo1" else row["label"]} for row in ROWS]
    write_manifest(folder / "m.csv", rows)
    for name in ("face", "heart"):
        ids = [str(row["utterance_id"]) for row in rows if row["label"] != "angry"]
        np.savez(folder / f"{name}.npz", **{key: np.ones((2, 3), "f4") for key in ids})


HEAD = b"utterance_id,speaker,label,text\n"
CASES = (
    Case("manifest: is not there", "manifest", lambda folder: command(folder)),
    Case("manifest: a column is missing", "manifest", raw(b"id,speaker,label\nu,s,l\n")),
    Case("manifest: a column in capitals", "manifest", raw(b"utterance_id,Speaker,label\nu,s,l\n")),
    Case("manifest: another column in capitals", "manifest", raw(b"utterance_id,speaker,label,Split\nu,s,l,train\n")),
    Case("manifest: a label that stands for nothing", "manifest", table((2, {"label": "NaN"}))),
    Case("manifest: a column twice", "manifest", raw(b"utterance_id,speaker,label,label\nu,s,l,l\n")),
    Case("manifest: a column of the archive's own", "manifest", table((0, {"class_names": "x"}))),
    Case("manifest: no row", "manifest", raw(HEAD)),
    Case("manifest: a comma in a text without quotes", "manifest", raw(HEAD + b"u,s,l,Well, no\n")),
    Case("manifest: a quote that is not closed", "manifest", raw(HEAD + b'u,s,l,"Well\n')),
    Case("manifest: bytes that are no text", "manifest", raw(b"PK\3\4\0\0")),
    Case("manifest: a spreadsheet", "manifest", lambda folder: [str(folder / "m.xlsx"), *command(folder)[1:]]),
    Case("manifest: an id twice", "manifest", table((3, {"utterance_id": "ann0"}))),
    Case("manifest: an id is empty", "manifest", table((3, {"utterance_id": ""}))),
    Case("manifest: a speaker is empty", "manifest", table((3, {"speaker": ""}))),
    Case("manifest: a time that is none", "manifest", table((1, {"start": "0:12"}))),
    Case("manifest: ends before it starts", "manifest", table((1, {"start": 5}))),
    Case("manifest: starts before the beginning", "manifest", table((1, {"start": -1}))),
    Case("manifest: an unknown part", "manifest", table((1, {"split": "dev"}))),
    Case("manifest: a split of some rows", "manifest", table((1, {"split": "test"}))),
    Case("manifest: one class only", "manifest", table(*((row, {"label": "calm"}) for row in range(len(ROWS))))),
    Case("manifest: one speaker only", "manifest", table(*((row, {"speaker": "ann"}) for row in range(len(ROWS))))),
    Case("manifest: a label in capitals", "manifest", table((0, {"label": "Calm"})), "note: "),
    Case("manifest: an unknown half", "manifest", table((1, {"half": "top"}))),
    Case("manifest: text and transcript file", "manifest", table((1, {"transcript_file": "a.txt"}))),
    Case("manifest: no file is there", "manifest", table((1, {"audio": "a.wav"}), (2, {"audio": "b.wav"}))),
    Case(
        "manifest: a transcript file is missing",
        "manifest",
        table((1, {"transcript_file": "a.txt", "text": ""})),
        "note: ",
    ),
    Case("manifest: one modality only", "manifest", table(options=("--text", "text_hashing"))),
    Case(
        "manifest: a modality that is no name",
        "manifest",
        table(options=("--modality", "my face=features:f.npz", "b=features:g.npz")),
    ),
    Case(
        "manifest: a modality twice",
        "manifest",
        table(options=("--text", "text_hashing", "--modality", "text=features:f.npz")),
    ),
    Case("manifest: a modality without a source", "manifest", table(options=("--text", "none", "--modality", "face"))),
    Case(
        "manifest: an unknown extractor",
        "manifest",
        table(options=("--text", "bert", "--modality", "face=features:face.npz")),
    ),
    Case(
        "manifest: an extractor of another modality",
        "manifest",
        table(options=("--text", "egemaps", "--modality", "face=egemaps")),
    ),
    Case(
        "manifest: no class of that name", "manifest", table(options=("--classes", "happy", "--modality", "a=b", "c=d"))
    ),
    Case("manifest: no row has a label", "manifest", table(*((row, {"label": ""}) for row in range(len(ROWS))))),
    Case("manifest: a label without a target", "manifest", table((1, {"target": 0.5}))),
    Case(
        "manifest: a target without a label",
        "manifest",
        table(*((row, {"target": row / 2}) for row in range(len(ROWS))), (3, {"label": ""})),
    ),
    Case("manifest: a target that is no number", "manifest", table((1, {"target": "high"}))),
    Case("manifest: a target that is not finite", "manifest", table((1, {"target": "inf"}))),
    Case(
        "manifest: the same target everywhere",
        "manifest",
        table(*((row, {"target": 1.5}) for row in range(len(ROWS)))),
    ),
    Case(
        "manifest: two options that contradict each other",
        "manifest",
        table(options=("--labelled-only", "--others-unlabelled", "--modality", "a=b", "c=d")),
    ),
    Case("manifest: sounds of some videos only", "manifest", one_sound_of_six, "note: 5 of 6"),
    Case("manifest: no labelled utterance of a class has features", "manifest", features(without_angry)),
    Case("features: is not there", "manifest", features(lambda folder: (folder / "face.npz").unlink())),
    Case("features: truncated", "manifest", features(lambda folder: (folder / "face.npz").write_bytes(b"PK\3\4"))),
    Case("features: of other utterances", "manifest", features(lambda folder: np.savez(folder / "face.npz", x=1.0))),
    Case("features: nan in one utterance", "manifest", features(one_nan), "face of bo1"),
    Case("features: an id twice in a table of vectors", "manifest", table_of_vectors, "face: face.csv"),
)
