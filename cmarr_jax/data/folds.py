"""Folds for cross-validation: by speaker (L), or the archive's own split into training, validation and test.

Marks C, L, D: docs/decisions.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cmarr_jax.data.corpus import PARTS, Corpus
from cmarr_jax.types import Array


class FoldError(ValueError):
    """No folds can be made of a corpus; the message is one sentence with what to do."""


class FoldSplit(NamedTuple):
    """Rows of training, validation and test of one fold, each `[n]`, int, ascending; all of them are labelled.

    `unlabelled` are training rows whose label is not known, or is not to be read. Where folds are made by speaker, an
    unlabelled utterance of a validation or test speaker is in no part; an archive's own split says itself what trains.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    unlabelled: np.ndarray = np.zeros(0, int)


class Fold(NamedTuple):
    """The parts of F folds, padded to one size to map over: `[F, n]` rows, int32, and `where`, bool.

    Padding (`where` False) repeats the first row of the same part of the same fold. A program that forgets the mask
    therefore still reads no row of another part. That of `unlabelled` repeats a training row; it is None if no fold has
    unlabelled rows.
    """

    train: Array
    train_where: Array
    val: Array
    val_where: Array
    test: Array
    test_where: Array
    unlabelled: Array | None = None
    unlabelled_where: Array | None = None


def make_folds(corpus: Corpus, *, num_folds: int = 5) -> list[FoldSplit]:
    """Makes the folds of a corpus.

    1. The corpus has a split: one fold, named `split`.
    2. Every session has two speakers, and every speaker one session (two sessions at least): leave one speaker out.
       Test is that speaker, validation the other speaker of the session, training the other sessions. A fold is named
       by its test speaker; folds are sorted by name.
    3. Otherwise `num_folds` groups of speakers, `group1`, `group2`, ... Test is the group, validation the next one
       (after the last one, the first), training all others. Groups have about equal size: speakers are sorted by number
       of utterances, descending, then by name, and each joins the group that is smallest so far. Nothing is random.

    Only the training part must have every class and every modality. A speaker, and so a validation or test part, may
    lack some.

    These rules see labelled utterances only: unlabelled ones change no part of a fold. They are the fold's `unlabelled`
    rows if they are of the split's `train`, or, without a split, if their speaker (in case 2, their session, too) has
    no utterance in the fold's validation and test.

    Args:
      corpus: A checked corpus.
      num_folds: Number of groups in case 3, >= 3. Cases 1 and 2 do not use it.

    Returns:
      The folds. No speaker is in two parts of a fold, except in an archive's own split.

    Raises:
      FoldError: if there are too few speakers, or a training part has no utterance of a class or of a modality.
    """
    if num_folds < 3:
        raise FoldError(f"at least three folds are needed (training, validation, test), found {num_folds}")
    labelled = corpus.labelled
    if corpus.split is not None:
        parts = (np.flatnonzero(labelled & (corpus.split == part)) for part in PARTS)
        unlabelled = np.flatnonzero(~labelled & (corpus.split == "train"))
        folds = [FoldSplit("split", *parts)._replace(unlabelled=unlabelled)]
    else:
        pairs = _has_speaker_pairs(corpus)
        folds = _leave_one_speaker_out(corpus) if pairs else _group_folds(corpus, num_folds)
        apart = [corpus.speaker, corpus.session] if pairs else [corpus.speaker]
        folds = [fold._replace(unlabelled=_unlabelled_rows(fold, corpus, apart)) for fold in folds]
        for fold in folds:
            _assert_speaker_disjoint(fold, corpus.speaker)
    for fold in folds:
        _check_training_part(fold, corpus)
    return folds


def stack_folds(folds: list[FoldSplit]) -> Fold:
    """Stacks folds; each part is padded to its largest size over the folds.

    Raises:
      FoldError: if there is no fold or a part is empty.
    """
    if not folds:
        raise FoldError("at least one fold is needed, found none")
    stacked: dict[str, np.ndarray] = {}
    for part in PARTS:
        rows = [getattr(fold, part) for fold in folds]
        empty = [fold.name for fold, row in zip(folds, rows, strict=True) if len(row) == 0]
        if empty:
            raise FoldError(f"fold {empty[0]!r}: the {part} part is empty; every part needs an utterance")
        stacked |= _padded(part, rows, [row[0] for row in rows])
    if any(len(fold.unlabelled) for fold in folds):
        stacked |= _padded("unlabelled", [fold.unlabelled for fold in folds], [fold.train[0] for fold in folds])
    return Fold(**{name: jnp.asarray(part) for name, part in stacked.items()})


def unlabelled_rows(fold: Fold) -> tuple[Array, Array]:
    """Unlabelled rows and which of them count, of folds that have some."""
    assert fold.unlabelled is not None
    assert fold.unlabelled_where is not None
    return fold.unlabelled, fold.unlabelled_where


def unpaired_sessions(corpus: Corpus) -> list[str]:
    """Sentences on sessions that keep folds from leaving one speaker out, where most sessions have two speakers.

    A corpus of pairs that lost one speaker gets folds of another kind, and so other numbers.
    """
    if corpus.split is not None or _has_speaker_pairs(corpus):
        return []
    sessions, names = corpus.session[corpus.labelled], corpus.speaker[corpus.labelled]
    speakers = {session: np.unique(names[sessions == session]) for session in np.unique(sessions)}
    others = [name for name, found in speakers.items() if len(found) != 2]
    if not others or 2 * len(others) >= len(speakers):
        return []
    listed = ", ".join(f"{name} {' '.join(speakers[name])}" for name in others)
    text = "folds leave no single speaker out, but are groups of speakers, since not every session has two speakers"
    return [f"{text}: {listed}; add the missing speakers or take these sessions out"]


def _padded(name: str, rows: list[np.ndarray], fillers: list[int]) -> dict[str, np.ndarray]:
    """One part of all folds, padded, and which rows count."""
    size = np.array([len(row) for row in rows])
    filled = [np.r_[row, np.full(size.max() - len(row), filler)] for row, filler in zip(rows, fillers, strict=True)]
    return {name: np.stack(filled).astype(np.int32), f"{name}_where": np.arange(size.max()) < size[:, None]}


def _unlabelled_rows(fold: FoldSplit, corpus: Corpus, apart: Sequence[np.ndarray]) -> np.ndarray:
    """Unlabelled rows that share no entry of `apart` (speakers, sessions, `[N]` each) with validation and test."""
    held_out = np.r_[fold.val, fold.test]
    shares = [np.isin(names, names[held_out]) for names in apart]
    return np.flatnonzero(~corpus.labelled & ~np.any(shares, axis=0))


def _has_speaker_pairs(corpus: Corpus) -> bool:
    """Whether there are two or more sessions, each with two speakers of its own."""
    labelled = corpus.labelled
    pairs = sorted(set(zip(corpus.session[labelled].tolist(), corpus.speaker[labelled].tolist(), strict=True)))
    sessions, speakers = [session for session, _ in pairs], [speaker for _, speaker in pairs]
    return (
        len(set(sessions)) >= 2
        and len(set(speakers)) == len(speakers)
        and all(sessions.count(session) == 2 for session in set(sessions))
    )


def _leave_one_speaker_out(corpus: Corpus) -> list[FoldSplit]:
    folds, labelled = [], corpus.labelled
    for speaker in np.unique(corpus.speaker[labelled]):
        is_test = labelled & (corpus.speaker == speaker)
        in_session = corpus.session == corpus.session[is_test][0]
        folds.append(
            FoldSplit(
                name=str(speaker),
                train=np.flatnonzero(labelled & ~in_session),
                val=np.flatnonzero(labelled & in_session & ~is_test),
                test=np.flatnonzero(is_test),
            )
        )
    return folds


def _group_folds(corpus: Corpus, num_folds: int) -> list[FoldSplit]:
    labelled = np.flatnonzero(corpus.labelled)
    speakers, inverse, counts = np.unique(corpus.speaker[labelled], return_inverse=True, return_counts=True)
    if len(speakers) < num_folds:
        advice = "give more speakers or a split"
        if len(speakers) >= 3:
            advice = f"ask for {len(speakers)} folds, in the commands with --folds {len(speakers)}"
        raise FoldError(f"{num_folds} folds need {num_folds} speakers or more, found {len(speakers)}; {advice}")
    group, size = np.zeros(len(speakers), int), np.zeros(num_folds, int)
    for index in np.argsort(-counts, kind="stable"):  # speakers are sorted by name, so equals stay in that order
        group[index] = np.argmin(size)
        size[group[index]] += counts[index]
    row_group = group[inverse]
    folds = []
    for test in range(num_folds):
        val = (test + 1) % num_folds
        folds.append(
            FoldSplit(
                name=f"group{test + 1}",
                train=labelled[(row_group != test) & (row_group != val)],
                val=labelled[row_group == val],
                test=labelled[row_group == test],
            )
        )
    return folds


def _assert_speaker_disjoint(fold: FoldSplit, speaker: np.ndarray) -> None:
    train, val, test = (
        set(speaker[rows].tolist()) for rows in (np.r_[fold.train, fold.unlabelled], fold.val, fold.test)
    )
    assert len(train | val | test) == len(train) + len(val) + len(test), (
        f"fold {fold.name!r}: a speaker is in two parts"
    )


def _check_training_part(fold: FoldSplit, corpus: Corpus) -> None:
    lacking = np.flatnonzero(np.bincount(corpus.label[fold.train], minlength=corpus.num_classes) == 0)
    if len(lacking):
        name = corpus.class_names[lacking[0]]
        raise FoldError(
            f"fold {fold.name!r}: no training utterance of class {name!r}; use other folds or fewer classes"
        )
    absent = np.flatnonzero(~corpus.present[fold.train].any(axis=0))
    if len(absent):
        name = corpus.modalities[absent[0]]
        raise FoldError(
            f"fold {fold.name!r}: no training utterance has modality {name!r}; use other folds or leave it out"
        )
