"""A corpus as arrays on the device: padded frames, or one vector per utterance."""

import numbers
from collections import OrderedDict
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import ModalityConfig, default_encoder
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.types import Array


class DeviceCorpus(NamedTuple):
    """All utterances of a corpus; fields as in `Batch`, with N utterances instead of B.

    `features` is an `OrderedDict` in the order of the columns of `present`. Sequences are `[N, T, D]`, zeros after
    `length`; targets are zero where there is no label. Leaves may be numpy arrays: a jitted function transfers its
    arguments to the device.
    """

    features: dict[str, Array]
    length: dict[str, Array]
    present: Array
    label: Array
    target: Array | None = None
    speaker: Array | None = None


def modality_configs(corpus: Corpus) -> tuple[ModalityConfig, ...]:
    """Name, width and encoder (`default_encoder`) of each modality of a corpus."""
    return tuple(
        ModalityConfig(name, corpus.features[name].shape[-1], default_encoder(name, sequence=name in corpus.length))
        for name in corpus.modalities
    )


def check_max_frames(max_frames: int) -> None:
    """Raises ValueError unless `max_frames` is a whole number of at least 1."""
    if not isinstance(max_frames, numbers.Integral) or max_frames < 1:
        raise ValueError(
            f"max_frames must be a whole number of at least 1, a frame for every utterance; found {max_frames!r}"
        )


def shorten(frames: np.ndarray, max_frames: int) -> np.ndarray:
    """Shortens one utterance by averaging runs of successive frames: `[T, D] -> [min(T, max_frames), D]`, float32.

    Raises:
      ValueError: if `max_frames` is below 1.
    """
    check_max_frames(max_frames)
    frames = frames.astype(np.float32)
    num_frames = len(frames)
    if num_frames <= max_frames:
        return frames
    starts = np.arange(max_frames) * num_frames // max_frames
    runs = np.diff(np.append(starts, num_frames))
    return np.add.reduceat(frames, starts, axis=0) / runs[:, None].astype(np.float32)


def to_device(corpus: Corpus, *, max_frames: int | None = None) -> DeviceCorpus:
    """Pads a corpus and moves it to the device as float32.

    Args:
      corpus: Checked corpus.
      max_frames: Longer sequences are shortened to this many frames, each the mean of a run of successive frames, as
        when features are resampled to a lower frame rate. `None` keeps every frame.

    Raises:
      ValueError: if `max_frames` is below 1.
    """
    if max_frames is not None:
        check_max_frames(max_frames)
    features: dict[str, Array] = OrderedDict()  # JAX sorts a plain dict; columns of `present` keep this order
    length: dict[str, Array] = {}
    for name, values in corpus.features.items():
        if name in corpus.length:
            padded, frames = _pad(values, corpus.length[name], max_frames)
            features[name], length[name] = jnp.asarray(padded), jnp.asarray(frames)
        else:
            features[name] = jnp.asarray(values, jnp.float32)
    target = None
    if corpus.target is not None:  # zeros are read nowhere; checks of each operation would stop at nan
        target = jnp.asarray(np.where(corpus.labelled, corpus.target, 0), jnp.float32)
    present, label = jnp.asarray(corpus.present), jnp.asarray(corpus.label, jnp.int32)
    return DeviceCorpus(features, length, present, label, target, _speaker_numbers(corpus))


def _speaker_numbers(corpus: Corpus) -> Array | None:
    """`Batch.speaker` of all utterances; `None` if no speaker has two: each is then its own because none is known."""
    names, number = np.unique(corpus.speaker, return_inverse=True)
    return None if len(names) == len(corpus) else jnp.asarray(number, jnp.int32)


def _pad(values: np.ndarray, length: np.ndarray, max_frames: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated frames `[sum of T, D]` -> `[N, T, D]` float32 and their new lengths, int32."""
    limit = max(int(length.max()), 1) if max_frames is None else max_frames
    kept = np.minimum(length, limit).astype(np.int32)
    padded = np.zeros((len(length), max(int(kept.max()), 1), values.shape[-1]), np.float32)
    ends = np.cumsum(length)
    for row, (end, frames, keep) in enumerate(zip(ends, length, kept, strict=True)):
        padded[row, :keep] = shorten(values[end - frames : end], limit)
    return padded, kept
