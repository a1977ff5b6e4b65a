"""From the arrays of a user to a corpus, and the validation part of a training."""

from typing import Any

import numpy as np

from cmarr_jax.data.corpus import Corpus, check_corpus
from cmarr_jax.data.modalities import Modalities


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
    speaker = names if groups is None else np.array([f"group {name}" for name in np.asarray(groups)])
    if speaker.shape != features.shape:
        raise ValueError(f"groups must have one entry per utterance, [{len(features)}], found {list(speaker.shape)}")
    joined = {name: _joined(name, entries) for name, entries in features.entries.items()}
    corpus = Corpus(
        utterance_id=names,
        speaker=speaker,
        session=speaker,
        label=label.astype(np.int32),
        class_names=class_names,
        features={name: values for name, (values, _) in joined.items()},
        length={name: length for name, (_, length) in joined.items() if length is not None},
        present=np.array(
            [[entry is not None for entry in row] for row in zip(*features.entries.values(), strict=True)]
        ),
        target=target,
    )
    check_corpus(corpus, "X")
    return corpus


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


def hold_out(validation: Any, corpus: Corpus, fraction: float, *, by_group: bool, seed: int) -> np.ndarray:
    """The validation part, `[N]` bool: what is given, a share of the groups, or a share of each class.

    Raises:
      ValueError: if what is given is no mask, or the fraction is out of range.
    """
    labelled = corpus.labelled
    if validation is not None:
        given = np.asarray(validation)
        if given.shape != corpus.label.shape or given.dtype != bool or given.all() or not given.any():
            raise ValueError(f"validation must be a mask [{len(corpus)}] that holds out some utterances, not all")
        return given
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must be between 0 and 1, found {fraction}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(corpus), bool)
    if by_group:
        for group in rng.permutation(np.unique(corpus.speaker[labelled])):
            chosen = labelled & (corpus.speaker == group)
            if held_out.sum() + chosen.sum() / 2 <= fraction * labelled.sum() or not held_out.any():
                held_out |= chosen
    else:
        for label in range(corpus.num_classes):
            rows = rng.permutation(np.flatnonzero(corpus.label == label))
            held_out[rows[: max(1, round(fraction * len(rows)))]] = len(rows) > 1
    return held_out
