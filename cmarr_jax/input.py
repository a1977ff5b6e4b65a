"""A corpus in device memory: padded frames, batches by row index, normalisation from the training rows."""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.batching import PartPlan
from cmarr_jax.config import ModalityConfig
from cmarr_jax.corpus import Corpus
from cmarr_jax.encoders import valid_frames
from cmarr_jax.staircase import map_valid
from cmarr_jax.types import Array, Batch, Staircase


class Data(NamedTuple):
    """All utterances of a corpus: `features` `[N, T, D]` (zeros after `length`) or `[N, D]`; the rest as in `Batch`."""

    features: dict[str, Array]
    length: dict[str, Array]
    present: Array
    label: Array


class Normalizer(NamedTuple):
    """Mean and inverse standard deviation of each feature dimension, per modality `[D]`."""

    mean: dict[str, Array]
    inverse_std: dict[str, Array]


def modality_configs(corpus: Corpus) -> tuple[ModalityConfig, ...]:
    """The encoders a corpus calls for: `conv` for sequences named `text...`, `lstm` for others, `vector` otherwise."""

    return tuple(
        ModalityConfig(name, corpus.features[name].shape[-1], encoder_kind(name, sequence=name in corpus.length))
        for name in corpus.modalities
    )


def encoder_kind(name: str, *, sequence: bool) -> str:
    """The encoder of a modality, by its name and whether it has frames."""
    if not sequence:
        return "vector"
    return "conv" if name.startswith("text") else "lstm"


def shorten(frames: np.ndarray, max_frames: int) -> np.ndarray:
    """One utterance as float32, longer ones averaged down: `[T, D] -> [min(T, max_frames), D]`.

    Each new frame is the mean of a run of old ones, as when features are resampled to a lower frame rate.
    """
    frames = frames.astype(np.float32)
    num_frames = len(frames)
    if num_frames <= max_frames:
        return frames
    starts = np.arange(max_frames) * num_frames // max_frames
    runs = np.diff(np.append(starts, num_frames))
    return np.add.reduceat(frames, starts, axis=0) / runs[:, None].astype(np.float32)


def to_data(corpus: Corpus, *, max_frames: int | None = None) -> Data:
    """Pads a corpus and moves it to the device as float32.

    Args:
      corpus: Checked corpus.
      max_frames: Longer sequences are shortened to this many frames: each new frame is the mean of a run of old ones,
        as when features are resampled to a lower frame rate. `None` keeps every frame.
    """
    features: dict[str, Array] = OrderedDict()  # JAX sorts a plain dict; columns of `present` keep this order
    length: dict[str, Array] = {}
    for name, values in corpus.features.items():
        if name in corpus.length:
            padded, frames = _pad(values, corpus.length[name], max_frames)
            features[name], length[name] = jnp.asarray(padded), jnp.asarray(frames)
        else:
            features[name] = jnp.asarray(values, jnp.float32)
    return Data(features, length, jnp.asarray(corpus.present), jnp.asarray(corpus.label, jnp.int32))


def take(data: Data, rows: Array, where: Array, plan: PartPlan | None = None) -> Batch:
    """The batch of these rows, `rows [B]` int, `where [B]` bool; sequences as the staircase of `plan`, if any."""
    one = jax.tree.map(lambda x: x[rows], data._replace(features={}))
    features: dict[str, Any] = OrderedDict()
    for name, values in data.features.items():
        if plan is not None and name in plan.stairs:
            stairs = plan.stairs[name]
            row = jnp.asarray(stairs.row)
            blocks = tuple(values[rows[row[:num]], start:end] for num, start, end in stairs.blocks)
            features[name] = Staircase(blocks, row)
        else:
            features[name] = values[rows]
    return Batch(features, one.length, one.present, one.label, where)


def fit_normalizer(data: Data, rows: Array, where: Array, *, chunk: int = 256) -> Normalizer:
    """Mean and spread over the valid frames of the present modalities of these rows; no other row is read.

    Two passes in float32, in chunks of rows. A dimension that is constant keeps its scale.
    """
    rows, where = _fill_up(rows, chunk), _fill_up(where, chunk, value=False)
    chunks = (rows.reshape(-1, chunk), where.reshape(-1, chunk))

    def total(value_of):
        def add(sums, part):
            return jax.tree.map(jnp.add, sums, value_of(take(data, *part))), None

        first = jax.tree.map(
            jnp.zeros_like, jax.eval_shape(value_of, take(data, *jax.tree.map(lambda x: x[0], chunks)))
        )
        return jax.lax.scan(add, first, chunks)[0]

    def moment(batch: Batch, power: int, center: dict[str, Array]):
        sums, counts = {}, {}
        for column, (name, values) in enumerate(batch.features.items()):
            counted = _counted(batch, name, column)
            shape = (-1,) + (1,) * (values.ndim - counted.ndim)
            counted = counted.reshape(counted.shape + shape[1:])
            deviation = jnp.where(counted, values - _as_row(center[name], values), 0.0) ** power
            sums[name] = deviation.reshape(-1, values.shape[-1]).sum(0)
            counts[name] = counted.sum()
        return sums, counts

    zero = {name: jnp.zeros(values.shape[-1]) for name, values in data.features.items()}
    divide = lambda sums, counts: {name: sums[name] / jnp.maximum(counts[name], 1) for name in sums}
    mean = divide(*total(lambda batch: moment(batch, 1, zero)))
    variance = divide(*total(lambda batch: moment(batch, 2, mean)))
    inverse_std = {
        name: jnp.where(v > 1e-12, jax.lax.rsqrt(jnp.maximum(v, 1e-12)), 1.0) for name, v in variance.items()
    }
    return Normalizer(mean, inverse_std)


def normalize(normalizer: Normalizer, batch: Batch) -> Batch:
    """Standardises the features of a batch; padding and absent modalities become zeros again."""
    features: dict[str, Any] = OrderedDict()
    for column, (name, values) in enumerate(batch.features.items()):
        mean, inverse_std = normalizer.mean[name], normalizer.inverse_std[name]

        def scale(values: Array, counted: Array, mean=mean, inverse_std=inverse_std) -> Array:
            scaled = (values - _as_row(mean, values)) * _as_row(inverse_std, values)
            return jnp.where(counted[..., None], scaled, 0.0)

        has = batch.present[:, column] & batch.where
        if name in batch.length:
            features[name] = map_valid(scale, values, jnp.where(has, batch.length[name], 0))
        else:
            features[name] = scale(values, has)
    return batch._replace(features=features)


def _counted(batch: Batch, name: str, column: int) -> Array:
    """Entries of a padded modality that hold data, `[B, T]` or `[B]`, bool."""
    has = batch.present[:, column] & batch.where
    if name not in batch.length:
        return has
    return has[:, None] & valid_frames(batch.length[name], batch.features[name].shape[1])


def _as_row(vector: Array, like: Array) -> Array:
    """`[D]` with the rank of `like`, for broadcasting."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def _fill_up(values: Array, multiple: int, value: bool | None = None) -> Array:
    """Pads an array to a multiple, by its first entry or a value."""
    missing = -len(values) % multiple
    tail = jnp.broadcast_to(values[0] if value is None else value, (missing,)).astype(values.dtype)
    return jnp.concatenate([values, tail])


def _pad(values: np.ndarray, length: np.ndarray, max_frames: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Concatenated frames `[sum of T, D]` -> `[N, T, D]` float32 and the lengths kept, int32."""
    limit = max_frames or max(int(length.max()), 1)
    kept = np.minimum(length, limit).astype(np.int32)
    padded = np.zeros((len(length), max(int(kept.max()), 1), values.shape[-1]), np.float32)
    ends = np.cumsum(length)
    for row, (end, frames, keep) in enumerate(zip(ends, length, kept, strict=True)):
        padded[row, :keep] = shorten(values[end - frames : end], limit)
    return padded, kept
