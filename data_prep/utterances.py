"""Utterances of a corpus before features are extracted: what a manifest holds, and what the parsers find."""

import dataclasses
import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape

from data_prep.media import Media

DIFFER = "differ in capitals, spaces or the way to write an accent only"  # names of `near_names`, in a sentence
MOST_PRINTED = 20


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One utterance with its label, ratings and media.

    Attributes:
      media: Its id, sound, video and transcript.
      speaker: Who speaks, as in `01F`.
      session: Recording session, as in `01`.
      label: As the corpus writes it (`ang`, `xxx`; `A`, `X`); empty: nobody labelled it.
      split: `train`, `val`, `test`, or empty.
      target: The number that a regression predicts; NaN: there is none.
      dialogue: Its conversation; empty where unknown, as the next one.
      sex: `F` or `M`.
      valence: Mean rating; NaN where unknown, as in the next two.
      arousal: Mean rating (activation).
      dominance: Mean rating.
      extra: Further columns of a manifest, as text.
    """

    media: Media
    speaker: str
    session: str
    label: str
    split: str = ""
    target: float = math.nan
    dialogue: str = ""
    sex: str = ""
    valence: float = math.nan
    arousal: float = math.nan
    dominance: float = math.nan
    extra: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Parsed:
    """All utterances of a corpus, and notes on irregular files.

    Attributes:
      utterances: In the order of the archive.
      notes: Sentences to print, without transcripts.
      not_there: Files of a manifest that are not there, by medium (`audio`, `video`, `text`) and utterance id.
    """

    utterances: tuple[Utterance, ...]
    notes: tuple[str, ...]
    not_there: Mapping[str, Mapping[str, Path]] = dataclasses.field(default_factory=dict)


class Chosen(NamedTuple):
    """Utterances that go into the archive, and what became of those without a class.

    Attributes:
      labelled: Those whose label is in the classes.
      all: These and the unlabelled ones, in the order given.
      unlabelled: How many are kept as unlabelled, by the label that the corpus gives them.
      left_out: How many are left out, by label.
    """

    labelled: list[Utterance]
    all: list[Utterance]
    unlabelled: Counter[str]
    left_out: Counter[str]


def choose(
    utterances: Iterable[Utterance], classes: Mapping[str, str], *, labelled_only: bool, others_unlabelled: bool
) -> Chosen:
    """Chooses by label.

    Args:
      utterances: All of them.
      classes: Which label becomes which class.
      labelled_only: Leaves out utterances with an empty label, which are otherwise kept as unlabelled.
      others_unlabelled: Keeps utterances with a label that is in no class as unlabelled, which are otherwise left out.
    """
    chosen = Chosen([], [], Counter(), Counter())
    for utterance in utterances:
        if utterance.label in classes:
            chosen.labelled.append(utterance)
        elif others_unlabelled if utterance.label else not labelled_only:
            chosen.unlabelled[utterance.label] += 1
        else:
            chosen.left_out[utterance.label] += 1
            continue
        chosen.all.append(utterance)
    return chosen


def by_label(counts: Mapping[str, int]) -> str:
    """Labels and their numbers, for messages."""
    return ", ".join(f"{label or '(no label)'} {count}" for label, count in sorted(counts.items())) or "none"


def near_names(names: Iterable[str]) -> list[list[str]]:
    """Groups of two or more names that are one if capitals, spaces and ways to write an accent do not count, sorted.

    A Mac gives names of files with accents as signs of their own, which look the same and are other text.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        groups.setdefault("".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def told_apart(names: Sequence[str]) -> list[str]:
    """Names as they are shown; with escapes, `Jos\\xe9`, where two of them look the same."""
    if len({unicodedata.normalize("NFC", name) for name in names}) == len(names):
        return list(names)
    return [name.encode("ascii", "backslashreplace").decode() for name in names]


def note_missing(utterances: Sequence[Utterance]) -> list[str]:
    """Sentences on utterances that lack a medium or ratings where others have them."""
    notes = []
    for key, what in (("audio", "a wav"), ("video", "a video"), ("text", "a transcript")):
        names = [item.media.utterance_id for item in utterances if getattr(item.media, key) is None]
        if names:
            notes.append(f"utterances without {what}: {examples(names)}")
    unrated = [item.media.utterance_id for item in utterances if math.isnan(item.valence)]
    if unrated:
        notes.append(f"utterances without ratings: {examples(unrated)}")
    return notes


def examples(names: Sequence[str]) -> str:
    """Number of names and the first one, for messages."""
    return f"{len(names)} ({min(names)!r} first)"


def print_missing(name: str, reasons: Mapping[str, str], console: Console) -> None:
    """Prints the first few utterances that lack a modality, and why; all of them are in the record of the archive."""
    for key, reason in itertools.islice(reasons.items(), MOST_PRINTED):
        console.print(escape(f"{name} of {key} taken as missing: {reason}"))
    if len(reasons) > MOST_PRINTED:
        rest = len(reasons) - MOST_PRINTED
        console.print(f"{name} of {rest} more taken as missing; the details file names them (key record, failures)")
