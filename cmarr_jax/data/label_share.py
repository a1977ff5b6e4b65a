"""A share of the labels of a fold: which utterances keep theirs, to train with fewer labels."""

import hashlib

import numpy as np

from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldError, FoldSplit


def check_share(share: float) -> None:
    """Raises ValueError if a share of the labels is not above 0 and at most 1."""
    if not 0 < share <= 1:
        raise ValueError(f"a share of the labels must be above 0 and at most 1, found {share}")


def keep_labels(corpus: Corpus, fold: FoldSplit, share: float, seed: int) -> FoldSplit:
    """A fold in which only a share of the training and validation utterances is labelled.

    In each part and class, `round(share * n)` of its n labelled utterances keep their label, at least one. They are
    taken from the speakers in turn, so that the numbers of two speakers differ by one at most, as long as both have
    some left. The order of the speakers and that of the utterances of a speaker are random. Both come from a hash of
    the seed and their names. So it is promised:

    - Of two shares with one seed, the smaller one keeps a subset of what the larger one keeps.
    - What is kept in a part depends on the ids, speakers and classes of that part and on the seed, and on nothing else:
      not on the order of the rows, on the other parts, or on features.
    - How many utterances are kept does not depend on the seed.
    - Share 1 returns the fold as it is.

    Args:
      corpus: The utterances.
      fold: Its parts have labelled utterances only.
      share: Of the labels, above 0 and at most 1.
      seed: Each has a subset of its own.

    Returns:
      The fold with fewer rows in `train` and `val`. The other training rows are in `unlabelled`, with those that were
      there before; the other validation rows are in no part. `test` is the same.

    Raises:
      ValueError: if the share is out of its range.
      FoldError: if no training utterance that keeps its label has a modality.
    """
    check_share(share)
    if share == 1:
        return fold
    train, val = (_kept(corpus, rows, share, seed) for rows in (fold.train, fold.val))
    absent = np.flatnonzero(~corpus.present[train].any(axis=0))
    if len(absent):
        raise FoldError(
            f"fold {fold.name!r}, seed {seed}: of the {len(train)} training utterances that keep their label at the "
            f"share {share:g}, none has modality {corpus.modalities[absent[0]]!r}; give a larger share"
        )
    unlabelled = np.union1d(fold.unlabelled, np.setdiff1d(fold.train, train))
    return fold._replace(train=train, val=val, unlabelled=unlabelled.astype(fold.train.dtype))


def _kept(corpus: Corpus, rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The rows of a part that keep their label, ascending."""
    kept = []
    for number in np.unique(corpus.label[rows]):
        of_class = rows[corpus.label[rows] == number]
        count = max(1, round(share * len(of_class)))
        kept.append(_in_turn(corpus, of_class, f"{seed}/{corpus.class_names[number]}")[:count])
    return np.sort(np.concatenate([rows[:0], *kept]))


def _in_turn(corpus: Corpus, rows: np.ndarray, name: str) -> np.ndarray:
    """Rows in a random order in which the speakers take turns; `name` stands for the random numbers."""
    keyed = sorted((_random(f"{name}/utterance/{corpus.utterance_id[row]}"), int(row)) for row in rows)
    turns: dict[str, int] = {}
    order = []
    for _, row in keyed:
        speaker = str(corpus.speaker[row])
        turns[speaker] = turns.get(speaker, -1) + 1
        order.append((turns[speaker], _random(f"{name}/speaker/{speaker}"), row))
    return np.array([row for *_, row in sorted(order)], rows.dtype)


def _random(text: str) -> bytes:
    """A random number that depends on the text only, the same on every machine."""
    return hashlib.sha256(text.encode()).digest()
