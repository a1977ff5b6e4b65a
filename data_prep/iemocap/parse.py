"""Reads labels, ratings, transcripts and paths of media from IEMOCAP's full release.

Layout and syntax are from general knowledge of the corpus and public code that reads it; they have not been checked
against the licensed disks. Lines of another form raise an error or are counted, and the numbers of utterances per
speaker and class are compared with those of the literature.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from cmarr_jax.data.corpus import ArchiveError
from data_prep.find_folder import find_folder
from data_prep.ids import parse_name
from data_prep.iemocap.iemocap_dataset_builder import HOW_TO_GET
from data_prep.media import VIDEOS, Media
from data_prep.text_files import read_lines
from data_prep.utterances import Parsed, Utterance, examples, note_missing

EMOTIONS = ("ang", "hap", "exc", "sad", "neu", "fru", "fea", "sur", "dis", "oth", "xxx")  # xxx: no majority
CLASSES = {
    4: {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"},
    5: {"ang": "angry", "exc": "excited", "hap": "happy", "neu": "neutral", "sad": "sad"},
}
_NUMBER = r"\s*(-?\d+(?:\.\d+)?|nan)\s*"
_EVALUATION = re.compile(
    rf"\[{_NUMBER}-{_NUMBER}\]\s+(\S+)\s+(\S+)\s+\[{_NUMBER},{_NUMBER},{_NUMBER}\]\s*", re.IGNORECASE
)
_SESSION = re.compile(r"Session[1-9]\d*")
_RATER = re.compile(r"[A-Z]-\w+:")  # C-E1: Neutral; ()   A-E3: val 3; act 2; dom  2; ()   C-F1: ...
_TRANSCRIPT = re.compile(r"(Ses\d\d[FM]_\w+)\s*(?:\[[^\]]*\])?\s*:(.*)")


def parse(root: Path, *, marked_half: Literal["left", "right"] = "left") -> Parsed:
    """Reads the release. No media file is opened.

    The majority label, the means [valence, activation, dominance] and the times are those of the files
    `Session*/dialog/EmoEvaluation/Ses*.txt`. The video of a dialogue shows two people side by side; the one whose
    letter follows the session in the name of the dialogue wears the markers.

    Args:
      root: `IEMOCAP_full_release`.
      marked_half: Half of the picture with the actor who wears the markers. Not verified against the disks; look at a
        video before you trust it.

    Raises:
      ArchiveError: if a folder is missing or an evaluation file is written in another way.
    """
    release, notes = find_folder(
        root, lambda path: bool(_sessions(path)), f"there is no folder Session1 in it; {HOW_TO_GET}"
    )
    sessions = _sessions(release)
    others = [path.name for path in release.glob("Session*") if path.is_dir() and path not in sessions]
    if others:
        notes.append(f"{release}: folders that are not named as a session, not read: {examples(others)}")
    utterances: dict[str, Utterance] = {}
    for session in sessions:
        texts = _transcripts(session / "dialog/transcriptions", notes)
        for path in _text_files(session / "dialog/EmoEvaluation"):
            for utterance in _evaluation(path, session, texts, marked_half):
                name = utterance.media.utterance_id
                if name in utterances:
                    raise ArchiveError(f"{path}: utterance {name!r} is given a second time; copy the corpus again")
                utterances[name] = utterance
    notes += note_missing(list(utterances.values()))
    return Parsed(tuple(utterances[name] for name in sorted(utterances)), tuple(notes))


def _sessions(root: Path) -> list[Path]:
    """`Session1`, `Session2`, ..., without copies such as `Session3 copy`."""
    return sorted(path for path in root.glob("Session*") if path.is_dir() and _SESSION.fullmatch(path.name))


def _evaluation(
    path: Path, session: Path, texts: dict[str, str], marked_half: Literal["left", "right"]
) -> Iterator[Utterance]:
    for row, line in enumerate(read_lines(path), 1):
        line = line.strip()
        if not line or line.startswith("%") or _RATER.match(line):
            continue
        match = _EVALUATION.fullmatch(line)
        if not match:
            text = "is not written as [start - end] name label [valence, activation, dominance]"
            raise ArchiveError(f"{path}: line {row} {text}; copy the corpus again")
        yield _utterance(match.groups(), path, row, session, texts, marked_half)


def _utterance(
    fields: Sequence[str],
    path: Path,
    row: int,
    session: Path,
    texts: dict[str, str],
    marked_half: Literal["left", "right"],
) -> Utterance:
    """The utterance that a line of an evaluation file tells of."""
    start, end, name, emotion, valence, arousal, dominance = fields
    emotion = emotion.lower()
    if emotion not in EMOTIONS:
        text = f"utterance {name!r} has the unknown label {emotion!r}; known are {', '.join(EMOTIONS)}"
        raise ArchiveError(f"{path}: line {row}: {text}")
    if not float(end) > float(start):
        raise ArchiveError(f"{path}: line {row}: utterance {name!r} ends at {end} s, before it starts at {start} s")
    parts = parse_name(name, f"{path}: line {row}")
    in_session = session.name == f"Session{int(parts.session)}"
    if parts.corpus != "iemocap" or parts.dialogue != path.stem or not in_session:
        place = f"{session.name}/{path.name}"
        text = f"utterance {name!r} is of another dialogue or session than {place}; move the file where it belongs"
        raise ArchiveError(f"{path}: line {row}: {text}")
    is_marked = parts.sex == parts.dialogue[5]
    media = Media(
        utterance_id=name,
        audio=_existing(session / "sentences/wav" / path.stem / f"{name}.wav"),
        video=_video(session / "dialog/avi/DivX" / path.stem),
        start=float(start),
        end=float(end),
        half="left" if is_marked == (marked_half == "left") else "right",
        text=texts.get(name),
    )
    return Utterance(
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


def _transcripts(folder: Path, notes: list[str]) -> dict[str, str]:
    """Transcript by utterance. Without the folder, or where a file cannot be read, there is none, and a note."""
    texts: dict[str, str] = {}
    paths = _ses_files(folder)
    if not paths:
        notes.append(f"{folder}: there is no Ses*.txt in it, so its session has no transcripts")
    for path in paths:
        other = 0
        try:
            lines = read_lines(path)
        except ArchiveError as error:
            notes.append(f"transcripts taken as missing: {error}")
            continue
        for line in lines:
            match = _TRANSCRIPT.fullmatch(line.strip())
            if match and match[2].strip():
                texts[match[1]] = match[2].strip()
            elif line.strip():
                other += 1
        if other:
            notes.append(f"{path}: lines that are no transcript of a named utterance: {other}")
    return texts


def _text_files(folder: Path) -> list[Path]:
    paths = _ses_files(folder)
    if not paths:
        raise ArchiveError(f"{folder}: there is no Ses*.txt in it; the release is incomplete, copy it again")
    return paths


def _ses_files(folder: Path) -> list[Path]:
    """Files `Ses*.txt`, without the `._Ses*.txt` of macOS and without the raters' subfolders."""
    return sorted(path for path in folder.glob("Ses*.txt") if path.is_file())


def _video(path: Path) -> Path | None:
    """The video of that name with the ending `.avi`, or another one if people have converted it."""
    return next((found for ending in VIDEOS if (found := _existing(path.with_name(f"{path.name}{ending}")))), None)


def _existing(path: Path) -> Path | None:
    spellings = path, path.with_suffix(path.suffix.upper())  # a copy may have .WAV
    return next((found for found in spellings if os.path.isfile(found)), None)  # Path.is_file raises for a long name
