"""Faults in the open corpora and in the pickles of CMU-MOSI."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from tests import miniature_corpora, miniature_sentiment
from tests.fault_case import Case
from tests.faulty_files import cut, nothing, remove, replace, write


def corpus(
    make: Callable[[Path], Path], spoil: Callable[[Path], object], *options: str, counts: bool = True
) -> Callable[[Path], list[str]]:
    """A miniature corpus, spoilt, and the manifest to make of it."""

    def argv(folder: Path) -> list[str]:
        root = make(folder)
        spoil(root)
        return [str(root), str(folder / "m.csv"), *(["--allow-count-differences"] if counts else []), *options]

    return argv


def sentiment(make: Callable[[Path], Path], spoil: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """A miniature CMU-MOSI, spoilt."""
    return corpus(lambda folder: make(folder / "mosi.pkl"), spoil)


class _Command:
    def __reduce__(self):
        return os.system, ("echo this is never run",)


def hostile(path: Path) -> None:
    """Replaces a pickle by one that runs a command."""
    path.write_bytes(pickle.dumps(_Command()))


def changed(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Changes what a pickle of our own holds."""

    def spoil(path: Path) -> None:
        data = pickle.loads(path.read_bytes())
        change(data)
        path.write_bytes(pickle.dumps(data))

    return spoil


def one_sound_less(root: Path) -> None:
    """Takes both copies of a sound of RAVDESS away."""
    for folder in ("", "audio_speech_actors_01-24/"):
        (root / f"{folder}Actor_01/03-01-03-01-01-01-01.wav").unlink()


SECOND = "audio_speech_actors_01-24/Actor_01/03-01-03-01-01-01-01.wav"
POINTER = b"version https://git-lfs.github.com/spec/v1\n"

CASES = (
    Case("RAVDESS: not the corpus", "corpora.ravdess", lambda folder: [str(folder), str(folder / "m.csv")]),
    Case(
        "RAVDESS: some clips are missing",
        "corpora.ravdess",
        corpus(miniature_corpora.ravdess, nothing, counts=False),
    ),
    Case(
        "RAVDESS: the folder of the copy from Kaggle is there twice",
        "corpora.ravdess",
        corpus(miniature_corpora.ravdess, nothing),
        "note: files that are there twice",
    ),
    Case(
        "RAVDESS: two files of one name differ",
        "corpora.ravdess",
        corpus(miniature_corpora.ravdess, write(SECOND, b"another sound")),
    ),
    Case(
        "RAVDESS: two takes with the same sound",
        "corpora.ravdess",
        corpus(miniature_corpora.ravdess, nothing),
        "note: takes with the same sound",
    ),
    Case(
        "RAVDESS: a take without a sound file",
        "corpora.ravdess",
        corpus(miniature_corpora.ravdess, one_sound_less),
        "note: takes without a sound file",
    ),
    Case(
        "CREMA-D: cloned without Git LFS",
        "corpora.cremad",
        corpus(miniature_corpora.cremad, write("AudioWAV/1001_ITH_ANG_HI.wav", POINTER)),
    ),
    Case(
        "CREMA-D: the clip without sound",
        "corpora.cremad",
        corpus(miniature_corpora.cremad, nothing),
        "note: sounds that are known",
    ),
    Case(
        "CREMA-D: a clip under its name and under that of the tables, which differ",
        "corpora.cremad",
        corpus(miniature_corpora.cremad, write("AudioWAV/1040_ITH_SAD_XX.wav", b"another sound")),
    ),
    Case(
        "CREMA-D: a file of an unknown emotion",
        "corpora.cremad",
        corpus(miniature_corpora.cremad, write("AudioWAV/1001_ITH_JOY_HI.wav", b"")),
    ),
    Case(
        "CREMA-D votes: not the table",
        "cremad_rater_votes",
        corpus(miniature_corpora.cremad_votes, write("", b"clip,label\n1,2\n"), counts=False),
    ),
    Case(
        "CREMA-D votes: a row twice",
        "cremad_rater_votes",
        corpus(miniature_corpora.cremad_votes, replace("", '"100004"', '"200004"'), counts=False),
    ),
    Case(
        "CREMA-D votes: a vote that is no number",
        "cremad_rater_votes",
        corpus(miniature_corpora.cremad_votes, replace("", '"100002",1,', '"100002",NA,'), counts=False),
    ),
    Case(
        "CMU-MOSI, utterance level: features and labels in another order",
        "corpora.mosi_utterance",
        corpus(
            lambda folder: miniature_sentiment.bc_lstm(folder / "data"),
            replace("audio/audio_test0.csv", '"1"\n', '"0"\n'),
        ),
    ),
    Case("MELD: a table is missing", "corpora.meld", corpus(miniature_corpora.meld, remove("dev_sent_emo.csv"))),
    Case(
        "MELD: a table without a column",
        "corpora.meld",
        corpus(miniature_corpora.meld, replace("dev_sent_emo.csv", "Emotion", "Feeling")),
    ),
    Case(
        "MELD: an unknown emotion",
        "corpora.meld",
        corpus(miniature_corpora.meld, replace("dev_sent_emo.csv", ",joy,", ",glee,")),
    ),
    Case(
        "MELD: a clip is missing",
        "corpora.meld",
        corpus(miniature_corpora.meld, nothing),
        "note: utterances without a clip",
    ),
    Case(
        "MELD: a clip is damaged in the release",
        "corpora.meld",
        corpus(miniature_corpora.meld, nothing),
        "note: clips that are known to be damaged",
    ),
    Case(
        "SAVEE: sounds only", "corpora.savee", corpus(miniature_corpora.savee, nothing), "note: there are sounds only"
    ),
    Case(
        "EmoDB: a file of an unknown speaker",
        "corpora.emodb",
        corpus(miniature_corpora.emodb, write("wav/04a01Fa.wav", b"")),
    ),
    Case(
        "a manifest that is there already",
        "corpora.emodb",
        corpus(miniature_corpora.emodb, lambda root: (root.parent / "m.csv").write_text("kept")),
    ),
    Case("CMU-MOSI: a pickle that runs a command", "corpora.mosi", sentiment(miniature_sentiment.mmsa, hostile)),
    Case(
        "CMU-MOSI: a truncated pickle", "corpora.mosi", sentiment(miniature_sentiment.mmsa, lambda path: cut("")(path))
    ),
    Case(
        "CMU-MOSI: a pickle without a part",
        "corpora.mosi",
        sentiment(miniature_sentiment.mmsa, changed(lambda data: data.pop("valid"))),
    ),
    Case(
        "CMU-MOSI: an utterance twice",
        "corpora.mosi",
        sentiment(miniature_sentiment.mmsa, changed(lambda data: data["valid"].update(id=["a", "b", "a"]))),
    ),
    Case(
        "CMU-MOSI: a length of more frames than there are",
        "corpora.mosi",
        sentiment(miniature_sentiment.mmsa, changed(lambda data: data["valid"].update(audio_lengths=[1, 2, 99]))),
    ),
    Case(
        "CMU-MOSEI: a pickle with emotions instead of sentiment",
        "corpora.mosei",
        sentiment(
            miniature_sentiment.mult,
            changed(lambda data: data["train"].update(labels=data["train"]["labels"].repeat(6, axis=2))),
        ),
    ),
    Case(
        "CMU-MOSI: values of -inf in COVAREP",
        "corpora.mosi",
        sentiment(miniature_sentiment.mmsa, nothing),
        "note: audio:",
    ),
    Case(
        "CMU-MOSI: a .csd file that is none",
        "corpora.mosi",
        corpus(lambda folder: miniature_sentiment.csd(folder / "csd"), write("CMU_MOSI_COVAREP.csd", b"x")),
    ),
    Case(
        "CMU-MOSI: no labels among the .csd files",
        "corpora.mosi",
        corpus(lambda folder: miniature_sentiment.csd(folder / "csd"), remove("CMU_MOSI_Opinion_Labels.csd")),
    ),
)
