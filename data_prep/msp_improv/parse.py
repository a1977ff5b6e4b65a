"""Reads labels, ratings, transcripts and paths of media from MSP-IMPROV.

Layout and syntax are from general knowledge of the corpus and public code that reads it; they have not been checked
against the licensed disks. Lines of another form raise an error or are counted, and the numbers of utterances per
speaker and class are compared with those of the literature.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.ids import parse_name
from data_prep.media import Media
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


def parse(root: Path, *, condition: str = "S") -> Parsed:
    """Reads the corpus. No media file is opened.

    Labels and means (A activation, V valence, D dominance, N naturalness) are those of `Evalution.txt`, whose names
    start with UTD-IMPROV where media start with MSP-IMPROV. Sounds, videos and transcripts (`NAME.wav`, `.avi`, `.txt`)
    are found by name anywhere below `root`, as in `session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav`; transcripts only
    in folders that are called human something. The camera shows the speaker alone.

    Args:
      root: Folder of the corpus.
      condition: Which utterances, by the letter in their name: S for the improvised turns.

    Raises:
      ArchiveError: if a file is missing or the evaluation file is written in another way.
    """
    paths = [
        path for name in EVALUATION_NAMES for path in (root / name, *sorted(root.glob(f"*/{name}"))) if path.is_file()
    ]
    if not paths:
        raise ArchiveError(f"{root}: there is no {' or '.join(EVALUATION_NAMES)} in it; {HOW_TO_GET}")
    files = _index(root)
    utterances: dict[str, Utterance] = {}
    others = 0
    for row, utterance, found in _evaluation(paths[0], files):
        name = utterance.media.utterance_id
        if name in utterances:
            raise ArchiveError(f"{paths[0]}: line {row}: utterance {name!r} is given a second time; keep one")
        if found == condition:
            utterances[name] = utterance
        else:
            others += 1
    notes = [f"{paths[0]}: utterances of other conditions than {condition}: {others}"] if others else []
    notes += note_missing(list(utterances.values()))
    return Parsed(tuple(utterances[name] for name in sorted(utterances)), tuple(notes))


def _evaluation(path: Path, files: dict[str, Path]) -> Iterator[tuple[int, Utterance, str]]:
    """Line number, utterance and condition of every line that starts with UTD-; other lines are of single raters."""
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
        parts = parse_name(name, f"{path}: line {row}")
        video, transcript = files.get(f"{name}.avi"), files.get(f"{name}.txt")
        text = " ".join(read_lines(transcript)).strip() if transcript else ""
        media = Media(name, audio=files.get(f"{name}.wav"), video=video, text=text or None)
        utterance = Utterance(
            media=media,
            speaker=parts.speaker,
            session=parts.session,
            label=emotion,
            dialogue=parts.dialogue,
            sex=parts.sex,
            valence=float(valence),
            arousal=float(arousal),
            dominance=float(dominance),
        )
        yield row, utterance, parts.condition


def _index(root: Path) -> dict[str, Path]:
    """Sounds, videos and transcripts by file name.

    Raises:
      ArchiveError: if two files of the same name differ in size, so that it is not clear which one is meant.
    """
    files: dict[str, Path] = {}
    for folder, _, names in os.walk(root):
        is_human = "human" in os.path.relpath(folder, root).lower()  # not what a speech recogniser wrote
        for name in names:
            if not name.startswith("MSP-IMPROV-") or (name.endswith(".txt") and not is_human):
                continue
            path = Path(folder) / name
            known = files.setdefault(name, path)
            if known.stat().st_size != path.stat().st_size:
                raise ArchiveError(f"{path}: is another file than {known}, of the same name; remove one of them")
    return files
