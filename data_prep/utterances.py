"""Parsed utterances of a raw corpus, before features are extracted."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance with label, ratings and times from the files of the corpus.

    Attributes:
      media: Its id, sound, video and transcript.
      speaker: As in `01F`.
      session: As in `01`.
      dialogue: Its conversation.
      sex: `F` or `M`.
      emotion: The majority label as the corpus writes it (`ang`, `xxx`; `A`, `X`).
      valence: Mean rating; NaN where unknown, as in the next four.
      arousal: Mean rating (activation).
      dominance: Mean rating.
      start: Second of the dialogue.
      end: Second of the dialogue.
    """

    media: Media
    speaker: str
    session: str
    dialogue: str
    sex: str
    emotion: str
    valence: float
    arousal: float
    dominance: float
    start: float
    end: float


@dataclasses.dataclass(frozen=True)
class Parsed:
    """All utterances of a raw corpus, and notes on irregular files.

    Attributes:
      utterances: Sorted by name.
      notes: Sentences to print, without transcripts.
    """

    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...]


def choose(utterances: Iterable[Utterance], classes: Mapping[str, str]) -> tuple[list[Utterance], Counter[str]]:
    """The utterances whose emotion is in `classes`, and the number of utterances of each other label."""
    chosen, left_out = [], Counter[str]()
    for utterance in utterances:
        if utterance.emotion in classes:
            chosen.append(utterance)
        else:
            left_out[utterance.emotion] += 1
    return chosen, left_out


def read_lines(path: Path) -> list[str]:
    """Lines of a text file: any line ends, with or without a byte-order mark, UTF-8 or Latin-1.

    Raises:
      ArchiveError: if it cannot be read or is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror}); copy the corpus again") from error
    if b"\0" in data:
        raise ArchiveError(f"{path}: is not a text file (it has zero bytes); copy the corpus again")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def examples(names: Sequence[str]) -> str:
    """Number of names and the first one, for messages."""
    return f"{len(names)} ({min(names)!r} first)"
