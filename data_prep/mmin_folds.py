"""Compares the folds of the MMIN family's files with leaving one speaker out, and takes one of them as a split."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.ids import Name
from data_prep.mmin_files import PARTS, FileFold


class Difference(NamedTuple):
    """One difference.

    Attributes:
      text: What differs.
      stops: Whether a result of these folds would be wrong: a fold repeats another, a speaker is not tested once, or
        the chosen fold tests whom it trains on.
    """

    text: str
    stops: bool


def fold_differences(folds: Sequence[FileFold], names: dict[str, Name], chosen: str | None) -> list[Difference]:
    """Differences between the folds of the files and leaving one speaker out; `chosen` is the fold to be used."""
    found = [Difference(f"fold {two.name} repeats fold {one.name}", True) for one, two in _repeats(folds)]
    for fold in folds:
        found += _of_one(fold, names, fold.name == chosen)
    return found + list(_not_tested_once(folds, names))


def check_folds(differences: Sequence[Difference], target: Path, chosen: str | None, *, allow: bool) -> None:
    """Stops at differences that make a result wrong.

    Raises:
      ArchiveError: with these differences, unless `allow`.
    """
    stops = [item.text for item in differences if item.stops]
    if not stops or allow:
        return
    use = f"fold {chosen} becomes the split" if chosen else "the library makes its own folds from the speakers"
    more = f"; and {len(stops) - 4} more" if len(stops) > 4 else ""
    text = f"{'; '.join(stops[:4])}{more}; correct the folders, or give --allow-fold-differences ({use})"
    raise ArchiveError(f"{target}: {text}")


def split_of(folds: Sequence[FileFold], name: str | None, utterances: Sequence[str], target: Path) -> np.ndarray | None:
    """Parts of the fold `name`, `[N]` str; `None` without a name.

    Raises:
      ArchiveError: if there is no such fold, or it lacks an utterance.
    """
    if name is None:
        return None
    for fold in folds:
        if fold.name == name:
            part = {item: part for part, rows in fold.parts.items() for item in rows}
            lacking = [item for item in utterances if item not in part]
            if lacking:
                text = f"does not name {lacking[0]!r}, which other folds do; choose another --fold"
                raise ArchiveError(f"{target / name}: {text}")
            return np.array([part[item] for item in utterances], str)
    raise ArchiveError(f"{target}: there is no fold {name!r}; it has {', '.join(fold.name for fold in folds)}")


def _repeats(folds: Sequence[FileFold]) -> Iterator[tuple[FileFold, FileFold]]:
    """Pairs of folds that test the same utterances, the first of them and each later one."""
    first: dict[frozenset[str], FileFold] = {}
    for fold in folds:
        earlier = first.setdefault(frozenset(fold.parts["test"]), fold)
        if earlier is not fold:
            yield earlier, fold


def _of_one(fold: FileFold, names: dict[str, Name], is_chosen: bool) -> Iterator[Difference]:
    of = {part: {names[item].speaker for item in rows} for part, rows in fold.parts.items()}
    for one, other in itertools.combinations(PARTS, 2):
        if shared := sorted(of[one] & of[other]):
            text = f"fold {fold.name}: {PARTS[one]} and {PARTS[other]} share {_of_speakers(shared)}"
            yield Difference(text, is_chosen)
    test, val = sorted(of["test"]), sorted(of["val"])
    if len(test) != 1:
        yield Difference(f"fold {fold.name}: tst has {len(test)} speakers, where one is left out", False)
    else:
        speakers = {name.speaker for name in names.values()}
        partners = sorted(name for name in speakers if name[:2] == test[0][:2] and name != test[0])
        if val != partners:
            partner = " ".join(partners) or "nobody"
            yield Difference(
                f"fold {fold.name}: val is {' '.join(val)}, where {partner} is the partner of {test[0]}", False
            )
    if missing := len(names) - sum(len(rows) for rows in fold.parts.values()):
        first = min(set(names) - {item for rows in fold.parts.values() for item in rows})
        text = f"fold {fold.name}: lacks {missing} of the {len(names)} utterances of all folds, {first!r} first"
        yield Difference(text, False)


def _not_tested_once(folds: Sequence[FileFold], names: dict[str, Name]) -> Iterator[Difference]:
    test = {fold.name: {names[item].speaker for item in fold.parts["test"]} for fold in folds}
    tested = Counter(speaker for speakers in test.values() for speaker in speakers)
    for speaker in sorted({name.speaker for name in names.values()}):
        if tested[speaker] != 1:
            where = " and ".join(name for name, speakers in test.items() if speaker in speakers)
            yield Difference(f"speaker {speaker} is tested in {f'folds {where}' if where else 'no fold'}", True)


def _of_speakers(speakers: Sequence[str]) -> str:
    return f"speaker {speakers[0]}" if len(speakers) == 1 else f"{len(speakers)} speakers, {speakers[0]} first"
