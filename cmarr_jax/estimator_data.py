"""From the arrays of a user to a corpus, and the parts of a training."""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from cmarr_jax.data.corpus import Corpus, check_corpus
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.modalities import Modalities, Values, as_modalities

LARGEST_SEED = 2**32 - 1  # JAX takes the lower 32 bits of larger ones, so that two seeds would give the same numbers


def read_features(X: Modalities | Mapping[str, Values]) -> Modalities:
    """The features of one utterance or more.

    Raises:
      ValueError: if X is no dict, has no utterance, or `Modalities` cannot hold it.
    """
    if not isinstance(X, Modalities | Mapping):
        text = "a dict from the names of the modalities to their features, or Modalities of one"
        raise ValueError(f"X must be {text}, found {type(X).__name__}")
    features = as_modalities(X)
    if not len(features):
        raise ValueError("X has no utterance; give one or more")
    return features


def check_known(what: str, values: Any, advice: str) -> None:
    """Raises ValueError at the first entry that is masked, None, nan, NaT or pandas' NA.

    It reads what the user gave: in an array of numpy some look like others, as nan among text becomes the text "nan".

    Args:
      what: What an entry is, the subject of the sentence.
      values: One entry per utterance, `[N]`.
      advice: What to do; the end of the sentence.
    """
    entries = np.asarray(values, object)
    masked = np.broadcast_to(np.ma.getmask(values), entries.shape)
    for row, value in enumerate(entries):
        if masked[row] or _is_missing(value):
            raise ValueError(f"{what} of utterance {row} is {'masked' if masked[row] else value}; {advice}")


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)  # nan and NaT differ from themselves
    except TypeError:  # pandas' NA is neither true nor false
        return True


def check_weights(sample_weight: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of utterances, `[N]` float64. Raises ValueError unless there is one finite number >= 0 for each."""
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != shape or np.ma.is_masked(sample_weight) or not (np.isfinite(weight) & (weight >= 0)).all():
        text = f"must be one finite number of at least 0 per utterance, {list(shape)}"
        raise ValueError(f"sample_weight {text}, found shape {list(weight.shape)}: {weight}")
    return weight


def make_corpus(
    features: Modalities,
    label: np.ndarray,
    class_names: tuple[str, ...],
    groups: Any,
    target: np.ndarray | None = None,
) -> Corpus:
    """A checked corpus.

    Args:
      features: Of N utterances.
      label: Class index, or -1, `[N]`.
      class_names: Names of the classes.
      groups: Speakers, `[N]`; `None`: every utterance is its own.
      target: Numbers of a regression, `[N]`.

    Raises:
      ValueError: if the data have a fault (`cmarr_jax.data.corpus.ArchiveError` is one).
    """
    names = np.array([f"utterance {row}" for row in range(len(features))])
    speaker = names if groups is None else _speakers(groups, features)
    present = np.array([[entry is not None for entry in row] for row in zip(*features.entries.values(), strict=True)])
    if len(without := np.flatnonzero(~present.any(1))):
        raise ValueError(f"X: utterance {without[0]} has no modality; leave it out")
    known = np.unique(speaker[label >= 0])
    if groups is not None and len(known) == 1:
        text = "give two groups or more, or none"
        raise ValueError(f"groups: all utterances with a label are of {str(known[0])!r}; {text}")
    joined = {name: _joined(name, entries) for name, entries in features.entries.items()}
    corpus = Corpus(
        utterance_id=names,
        speaker=speaker,
        session=speaker,
        label=label.astype(np.int32),
        class_names=class_names,
        features={name: values for name, (values, _) in joined.items()},
        length={name: length for name, (_, length) in joined.items() if length is not None},
        present=present,
        target=target,
    )
    check_corpus(corpus, "X")
    return corpus


def _speakers(groups: Any, features: Modalities) -> np.ndarray:
    """Names of the groups, `[N]`. Raises ValueError unless every utterance has one."""
    given = np.asarray(groups)
    if given.shape != features.shape:
        raise ValueError(f"groups must have one entry per utterance, [{len(features)}], found {list(given.shape)}")
    check_known("the group", groups, "write a name, one of its own where the speaker is unknown")
    return np.array([f"group {name}" for name in given])


def _joined(name: str, entries: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Features as a corpus holds them, and the lengths of sequences."""
    shapes = {(entry.ndim, entry.shape[-1]) for entry in entries if entry is not None}
    if not shapes:
        raise ValueError(f"{name}: no utterance has it; leave it out")
    if len(shapes) > 1:
        raise ValueError(f"{name}: entries must be all [D] or all [T, D] of one width, found {sorted(shapes)}")
    [(ndim, width)] = shapes
    if ndim == 1:
        return np.stack([np.zeros(width, np.float32) if entry is None else entry for entry in entries]), None
    length = np.array([0 if entry is None else len(entry) for entry in entries], np.int32)
    return np.concatenate([entry for entry in entries if entry is not None]), length


def make_parts(corpus: Corpus, validation: Any, fraction: float, *, by_group: bool, seed: int) -> FoldSplit:
    """Training and validation of one fit; the validation part is also the test part, which nothing reads.

    As in `make_folds`, an unlabelled utterance of a validation speaker is in no part, and the training part must have
    every class and every modality.

    Args:
      corpus: The utterances.
      validation: Which are the validation part, `[N]` bool; `None`: a share of each class, or whole groups of about
        this share together, the smallest one if all are too large.
      fraction: This share.
      by_group: Whether it is one of the groups.
      seed: Of the choice.

    Raises:
      ValueError: if an argument is out of its range, or the parts cannot be trained with.
    """
    if not isinstance(seed, numbers.Integral) or not 0 <= seed <= LARGEST_SEED:
        text = "give a number, since the same number gives the same bits"
        raise ValueError(f"random_state must be a whole number from 0 to {LARGEST_SEED}, found {seed!r}; {text}")
    is_held_out = _hold_out(validation, corpus, fraction, by_group=by_group, seed=int(seed))
    labelled = corpus.labelled
    val = np.flatnonzero(labelled & is_held_out)
    of_val_speaker = np.isin(corpus.speaker, corpus.speaker[val])
    train = np.flatnonzero(labelled & ~is_held_out)
    unlabelled = np.flatnonzero(~labelled & ~is_held_out & ~of_val_speaker)
    fold = FoldSplit("fit", train, val, val, unlabelled)
    _check_parts(fold, corpus)
    return fold


def _hold_out(validation: Any, corpus: Corpus, fraction: float, *, by_group: bool, seed: int) -> np.ndarray:
    """Which utterances are held out for validation, `[N]` bool."""
    labelled = corpus.labelled
    if validation is not None:
        given = np.asarray(validation)
        is_mask = given.shape == labelled.shape and given.dtype == bool and not np.ma.is_masked(validation)
        if not is_mask or given.all() or not given.any():
            raise ValueError(f"validation must be a mask [{len(corpus)}] that holds out some utterances, not all")
        return given
    if not isinstance(fraction, numbers.Real) or not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must be a number between 0 and 1, found {fraction!r}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(corpus), bool)
    if by_group:
        parts = [labelled & (corpus.speaker == group) for group in rng.permutation(np.unique(corpus.speaker[labelled]))]
        for part in parts:
            if held_out.sum() + part.sum() / 2 <= fraction * labelled.sum():
                held_out |= part
        if not held_out.any():  # each alone is more than twice the share
            held_out |= min(parts, key=np.sum)
    else:
        for label in range(corpus.num_classes):
            rows = rng.permutation(np.flatnonzero(corpus.label == label))
            held_out[rows[: max(1, round(fraction * len(rows)))]] = len(rows) > 1
    return held_out


def _check_parts(fold: FoldSplit, corpus: Corpus) -> None:
    """Raises ValueError unless both parts have utterances, of other groups, and training has all there is to learn."""
    advice = "give more utterances or groups, or another validation mask"
    kind = "label" if corpus.target is None else "number"
    for part, rows in (("training", fold.train), ("validation", fold.val)):
        if not len(rows):
            raise ValueError(f"the {part} part has no utterance with a {kind}; {advice}")
    shared = np.intersect1d(corpus.speaker[fold.train], corpus.speaker[fold.val])
    if len(shared):
        raise ValueError(f"{shared[0]} is in training and in validation; give a validation mask of whole groups")
    lacking = sorted(set(range(corpus.num_classes)) - set(corpus.label[fold.train].tolist()))
    if lacking and corpus.target is None:
        raise ValueError(f"class {corpus.class_names[lacking[0]]!r} is not in the training part; {advice}")
    absent = np.flatnonzero(~corpus.present[fold.train].any(axis=0))
    if len(absent):
        name = corpus.modalities[absent[0]]
        raise ValueError(
            f"modality {name!r} is in no utterance with a {kind} of the training part; {advice}, or leave it out"
        )
