"""Faults of a user's files, and the sentence that each one gives.

    python -m tests.fault_cases

prints the table of docs/faults.md. Each case makes a miniature corpus, damages it and runs a command on it. Most end
with exit code 1 and one sentence on stderr ("stops"); the others print a sentence on stdout and continue ("goes on").
"""

import contextlib
import importlib
import io
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tests import miniature
from tests.faulty_files import (
    change_h5,
    change_npy,
    copy_wav,
    cut,
    cut_records,
    mmin,
    move_to_train,
    nothing,
    pickled,
    raw,
    remove,
    rename,
    reorder,
    replace,
    stereo,
    swap_parts,
    tfds_folder,
    to_five,
    write,
)


class Case(NamedTuple):
    """One fault.

    Attributes:
      text: What is wrong.
      command: Module of `data_prep`.
      argv: Makes the files in a folder and returns the command line.
      says: Start of the line on stdout, for a case that goes on; empty for one that stops.
    """

    text: str
    command: str
    argv: Callable[[Path], list[str]]
    says: str = ""


class Outcome(NamedTuple):
    """Exit code, what was printed, and the sentence (without the folder) that the table shows."""

    code: int
    stdout: str
    stderr: str
    sentence: str


def run(case: Case, folder: Path) -> Outcome:
    """Runs a case in an empty folder."""
    argv = case.argv(folder)
    out, err = io.StringIO(), io.StringIO()
    module = importlib.import_module(f"data_prep.{case.command}")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = module.main(argv)
    stdout, stderr = out.getvalue(), err.getvalue()
    lines = [line for line in stdout.splitlines() if line.startswith(case.says)] if case.says else [stderr.strip()]
    sentence = lines[0] if lines else ""
    return Outcome(code, stdout, stderr, sentence.replace(f"{folder}/", "").replace(str(folder), "DIR"))


UTTERANCE = "Ses01F_impro01_F000"  # of class 0; Ses01F_impro01_F001 is the other one of that speaker and class
EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
WAV = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
LINE = "\tang\t[2.0000, 3.5000, 3.0000]"

CASES = (
    Case("truncated HDF5", "mmin_features", mmin(cut("V/denseface.h5"))),
    Case("an HDF5 file that is none", "mmin_features", mmin(write("V/denseface.h5", b"<html>404</html>"))),
    Case("a feature file is missing", "mmin_features", mmin(remove("L/bert_large.h5"))),
    Case("wrong width", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((3, 4), "f4")))),
    Case("an utterance is missing in one modality", "mmin_features", mmin(change_h5("V/denseface.h5", UTTERANCE))),
    Case(
        "the same, allowed", "mmin_features", mmin(change_h5("V/denseface.h5", UTTERANCE), "--allow-missing"), "video:"
    ),
    Case("nan", "mmin_features", mmin(change_h5("L/bert_large.h5", UTTERANCE, np.full((3, 7), np.nan)))),
    Case("too large for float32", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.full((3, 5), 1e300)))),
    Case("no frames", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((0, 5), "f4")))),
    Case("a vector where frames are wanted", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones(5)))),
    Case("a group (the aligned features)", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, "group"))),
    Case(
        "names of the features are others",
        "mmin_features",
        mmin(lambda root: rename(root / "A/comparE.h5"), "--allow-missing"),
    ),
    Case("an unknown label", "mmin_features", mmin(change_npy("2/val_label.npy", to_five))),
    Case("a row that is not one-hot", "mmin_features", mmin(change_npy("2/val_label.npy", lambda label: label / 2))),
    Case(
        "two labels for one utterance", "mmin_features", mmin(change_npy("2/trn_label.npy", lambda label: label[::-1]))
    ),
    Case("fewer labels than names", "mmin_features", mmin(change_npy("1/trn_label.npy", lambda label: label[1:]))),
    Case("a pickled npy", "mmin_features", mmin(pickled)),
    Case("a pickle that calls itself npy", "mmin_features", mmin(write("target/1/trn_label.npy", pickle.dumps([1])))),
    Case("truncated npy", "mmin_features", mmin(cut("target/1/trn_int2name.npy"))),
    Case(
        "numbers where names are wanted",
        "mmin_features",
        mmin(change_npy("1/trn_int2name.npy", lambda name: np.ones(16))),
    ),
    Case("a name twice", "mmin_features", mmin(change_npy("1/trn_int2name.npy", lambda name: name[[0, *range(15)]]))),
    Case(
        "an utterance in two parts",
        "mmin_features",
        mmin(change_npy("1/val_int2name.npy", lambda name: np.r_[name[1:], [[b"Ses02F_impro01_F000"]]])),
    ),
    Case(
        "a name of no corpus",
        "mmin_features",
        mmin(change_npy("1/tst_int2name.npy", lambda name: np.r_[[[b"clip_17"]], name[1:]])),
    ),
    Case(
        "names of two corpora",
        "mmin_features",
        mmin(change_npy("1/tst_int2name.npy", lambda name: np.r_[[[b"MSP-IMPROV-S01A-F01-S-FM01"]], name[1:]])),
    ),
    Case("no target folder", "mmin_features", mmin(lambda root: (root / "target").rename(root / "targets") and None)),
    Case("other counts than the known ones", "mmin_features", mmin(nothing, counts=False)),
    Case("two folds that share a speaker", "mmin_features", mmin(swap_parts), "folds: speaker 01M"),
    Case("names in another order", "mmin_features", mmin(reorder), "folds: the folds"),
    Case(
        "a video without faces",
        "mmin_features",
        mmin(change_h5("V/denseface.h5", UTTERANCE, np.zeros((3, 6)))),
        "video:",
    ),
    Case("training and test share a speaker", "mmin_features", mmin(move_to_train), "folds: fold 1: trn and tst"),
    Case("--fold that is not there", "mmin_features", mmin(nothing, "--fold", "11")),
    Case(
        "the means of a fold are missing",
        "mmin_features",
        mmin(change_h5("A/comparE_mean_std.h5", "3")),
        "A/comparE_mean_std.h5: has no",
    ),
    Case("the archive is there already", "mmin_features", mmin(lambda root: write("out.npz", b"x")(root.parent))),
    Case("no folder for the archive", "mmin_features", lambda folder: [str(folder), str(folder / "none/out.npz")]),
    Case(
        "IEMOCAP: not the release",
        "iemocap.__main__",
        lambda folder: [str(folder), str(folder / "o.npz")],
    ),
    Case(
        "IEMOCAP: an evaluation line that is cut",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, LINE, "\tang")),
    ),
    Case(
        "IEMOCAP: an unknown label",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "\tang\t", "\tjoy\t")),
    ),
    Case(
        "IEMOCAP: an utterance ends before it starts",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "[1.0000", "[90.0000")),
    ),
    Case(
        "IEMOCAP: an utterance twice",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "_M000\t", "_F000\t")),
    ),
    Case(
        "IEMOCAP: an utterance of another dialogue",
        "iemocap.__main__",
        raw(miniature.iemocap, replace(EVALUATION, "Ses01F_impro01_F000", "Ses01F_impro02_F000")),
    ),
    Case(
        "IEMOCAP: an evaluation file of zero bytes",
        "iemocap.__main__",
        raw(miniature.iemocap, write(EVALUATION, b"\0" * 64)),
    ),
    Case(
        "IEMOCAP: no transcripts", "iemocap.__main__", raw(miniature.iemocap, remove("Session1/dialog/transcriptions"))
    ),
    Case(
        "IEMOCAP: missing transcript lines",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing),
        "note: utterances without a transcript",
    ),
    Case(
        "IEMOCAP: byte-order mark, CRLF, a Mac's ._ file",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing),
        "72 utterances",
    ),
    Case(
        "IEMOCAP: a video is missing",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "note: utterances without a video",
    ),
    Case(
        "IEMOCAP: an empty wav",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "audio of Ses01F_impro01_M000",
    ),
    Case(
        "IEMOCAP: a wav that is too short",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, media=True),
        "audio of Ses01F_impro01_F000",
    ),
    Case(
        "IEMOCAP: a wav that is none",
        "iemocap.__main__",
        raw(miniature.iemocap, write(WAV, b"not a sound"), media=True),
        "audio of Ses01F_impro01_F001",
    ),
    Case(
        "IEMOCAP: a stereo wav of another sample rate",
        "iemocap.__main__",
        raw(miniature.iemocap, stereo, media=True),
        "sounds:",
    ),
    Case("one modality only", "iemocap.__main__", raw(miniature.iemocap, nothing, text="none")),
    Case(
        "an extractor written wrongly",
        "iemocap.__main__",
        raw(miniature.iemocap, nothing, text="text_transformer:weights"),
    ),
    Case(
        "MSP-IMPROV: not the corpus",
        "msp_improv.__main__",
        lambda folder: [str(folder), str(folder / "o.npz")],
    ),
    Case(
        "MSP-IMPROV: an evaluation line that is cut",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", " V:1.000000;", "")),
    ),
    Case(
        "MSP-IMPROV: an unknown label",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", "; A; A:", "; Q; A:")),
    ),
    Case(
        "MSP-IMPROV: an utterance twice",
        "msp_improv.__main__",
        raw(miniature.msp_improv, replace("Evalution.txt", "S01H-F01-S-MF01", "S01A-F01-S-MF00")),
    ),
    Case("MSP-IMPROV: two files of one name", "msp_improv.__main__", raw(miniature.msp_improv, copy_wav, media=True)),
    Case("MSP-IMPROV: another condition than S", "msp_improv.__main__", raw(miniature.msp_improv, nothing), "note:"),
    Case("tfds: no data set in the folder", "tfds_corpus", lambda folder: [str(folder), str(folder / "out.npz")]),
    Case("tfds: truncated records", "tfds_corpus", tfds_folder(cut_records)),
)


def row(case: Case, outcome: Outcome) -> str:
    """A row of the Markdown table."""
    sentence = re.sub(r"\s+", " ", outcome.sentence).replace("|", "\\|").replace("<", "&lt;")
    return f"| {case.text} | {'goes on' if case.says else 'stops'} | {sentence} |"


def table() -> str:
    """The Markdown table."""
    lines = ["| fault | | sentence |", "|---|---|---|"]
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            lines.append(row(case, run(case, Path(name))))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
