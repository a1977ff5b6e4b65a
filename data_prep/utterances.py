"""Utterances of a raw corpus before features: what the parsers return, and what is chosen from them."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cmarr_jax.corpus import ArchiveError
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance as the files of the corpus describe it.

    Attributes:
      media: Its name, sound, picture and words.
      speaker: As in `01F`.
      session: As in `01`.
      dialogue: The conversation that it is from.
      sex: `F` or `M`.
      emotion: The majority label in the corpus's own writing (`ang`, `xxx`; `A`, `X`).
      valence: Mean rating; nan where unknown, here and in the next four.
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
    """All utterances of a raw corpus, and what was odd in its files.

    Attributes:
      utterances: In the order of their names.
      notes: One sentence each, without transcripts; every one is printed.
    """

    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...]


def choose(utterances: Iterable[Utterance], classes: Mapping[str, str]) -> tuple[list[Utterance], Counter[str]]:
    """The utterances whose emotion is in `classes`, and how many have each of the other labels."""
    chosen, left_out = [], Counter[str]()
    for utterance in utterances:
        if utterance.emotion in classes:
            chosen.append(utterance)
        else:
            left_out[utterance.emotion] += 1
    return chosen, left_out


def read_lines(path: Path) -> list[str]:
    """Lines of a text file of a corpus, whatever its line ends; with or without a byte-order mark; UTF-8 or Latin-1.

    Raises:
      ArchiveError: if it cannot be read or is no text.
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
    """How many there are, and the first of them."""
    return f"{len(names)} ({min(names)!r} first)"
