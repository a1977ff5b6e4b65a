"""Reads labels, ratings, transcripts and paths of media from MSP-IMPROV.

Layout and syntax are from general knowledge of the corpus and public code that reads it; they have not been checked
against the licensed disks. Lines of another form raise an error or are counted, and the numbers of utterances per
speaker and class are compared with those of the literature.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cmarr_jax.data.corpus import ArchiveError
from data_prep.find_folder import find_folder
from data_prep.ids import Name, parse_name
from data_prep.media import Media
from data_prep.msp_improv.media_index import index_media
from data_prep.msp_improv.msp_improv_dataset_builder import HOW_TO_GET
from data_prep.text_files import read_lines
from data_prep.utterances import Parsed, Utterance, note_missing

EMOTIONS = ("A", "H", "N", "S", "O", "X")  # O: other, X: no majority
CLASSES = {
    4: {"A": "angry", "H": "happy", "N": "neutral", "S": "sad"},
    5: {"A": "angry", "H": "happy", "N": "neutral", "O": "other", "S": "sad"},
}
EVALUATION_NAMES = ("Evalution.txt", "Evaluation.txt")  # the first is the release's own spelling
_RATING = r"\s*([\d.]+|NaN)\s*;"
_EVALUATION = re.compile(
    rf"UTD-(IMPROV-[A-Z0-9-]+)\.avi\s*;\s*([A-Z])\s*;\s*A:{_RATING}\s*V:{_RATING}\s*D:{_RATING}\s*N:{_RATING}?\s*",
    re.IGNORECASE,
)


class Ratings(NamedTuple):
    """Majority label and mean ratings of an utterance."""

    label: str
    valence: float
    arousal: float
    dominance: float


def parse(root: Path, *, condition: str = "S", prefer: str | None = None, transcripts: str | None = None) -> Parsed:
    """Reads the corpus. No media file is opened.

    Labels and means (A activation, V valence, D dominance, N naturalness) are those of `Evalution.txt`, whose names
    start with UTD-IMPROV where media start with MSP-IMPROV. Sounds, videos and transcripts (`NAME.wav`, `.avi`, `.txt`)
    are found by name anywhere below `root`, as in `session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav`; transcripts only
    in folders that are called human something. The camera shows the speaker alone.

    Args:
      root: Folder of the corpus.
      condition: Which utterances, by the letter in their name: S for the improvised turns.
      prefer: Folder whose file is taken where a name is there twice, such as resampled wavs beside the original ones.
      transcripts: Folder of the transcripts; `None`: those in a folder called human something.

    Raises:
      ArchiveError: if a file is missing or the evaluation file is written in another way.
    """
    advice = f"there is no {' or '.join(EVALUATION_NAMES)} in it; {HOW_TO_GET}"
    folder, notes = find_folder(root, lambda path: _evaluation_file(path) is not None, advice)
    path = _evaluation_file(folder)
    assert path is not None
    media = index_media(root, prefer=prefer, transcripts=transcripts, notes=notes)
    utterances: dict[str, Utterance] = {}
    others = Counter[str]()
    for row, name, found, ratings in _evaluation(path):
        if name in utterances or name in others:
            raise ArchiveError(f"{path}: line {row}: utterance {name!r} is given a second time; keep one")
        if found.condition == condition:
            utterances[name] = _utterance(name, found, ratings, media.get(name, {}), notes)
        else:
            others[name] += 1
    if others:
        notes.append(f"{path}: utterances of other conditions than {condition}: {len(others)}")
    notes += note_missing(list(utterances.values()))
    return Parsed(tuple(utterances[name] for name in sorted(utterances)), tuple(notes))


def _evaluation_file(folder: Path) -> Path | None:
    return next((path for name in EVALUATION_NAMES if (path := folder / name).is_file()), None)


def _evaluation(path: Path) -> Iterator[tuple[int, str, Name, Ratings]]:
    """Line number, name, its parts, label and ratings of every line that starts with UTD-; others are of raters."""
    for row, line in enumerate(read_lines(path), 1):
        line = line.strip()
        if not line.upper().startswith("UTD-"):
            continue
        match = _EVALUATION.fullmatch(line)
        if not match:
            text = "is not written as UTD-IMPROV-...avi; label; A:...; V:...; D:...; N:...;"
            raise ArchiveError(f"{path}: line {row} {text} copy the corpus again")
        name, emotion, arousal, valence, dominance, _ = match.groups()
        name, emotion = f"MSP-{name.upper()}", emotion.upper()
        if emotion not in EMOTIONS:
            text = f"utterance {name!r} has the unknown label {emotion!r}; known are {', '.join(EMOTIONS)}"
            raise ArchiveError(f"{path}: line {row}: {text}")
        ratings = Ratings(emotion, float(valence), float(arousal), float(dominance))
        yield row, name, parse_name(name, f"{path}: line {row}"), ratings


def _utterance(name: str, parts: Name, ratings: Ratings, files: dict[str, Path], notes: list[str]) -> Utterance:
    text = ""
    try:
        text = " ".join(read_lines(files["text"])).strip() if "text" in files else ""
    except ArchiveError as error:
        notes.append(f"transcript taken as missing: {error}")
    return Utterance(
        media=Media(name, audio=files.get("audio"), video=files.get("video"), text=text or None),
        speaker=parts.speaker,
        session=parts.session,
        label=ratings.label,
        dialogue=parts.dialogue,
        sex=parts.sex,
        valence=ratings.valence,
        arousal=ratings.arousal,
        dominance=ratings.dominance,
    )
