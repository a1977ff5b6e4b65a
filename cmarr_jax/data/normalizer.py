"""Standardises features by mean and standard deviation of the training rows, fitted in memory or from a stream.

In a regression, the target is standardised, too: then every loss weight means the same, whatever its unit is.

Marks C, L, D: docs/decisions.md.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.batching import take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.packed import map_valid, valid_frames
from cmarr_jax.types import Array, Batch, modality_names

SMALLEST = np.finfo(np.float32).tiny  # a smaller variance is zero in float32
TARGET = "target"  # key of the target's statistics, `[1]`, in a regression; no modality may have this name
CONSTANT = 1e-5  # D: a dimension whose std is below this share of its root mean square is constant


class Normalizer(NamedTuple):
    """Mean and inverse standard deviation of each feature dimension, per modality `[D]`."""

    mean: dict[str, Array]
    inverse_std: dict[str, Array]


def fit_normalizer(data: DeviceCorpus, rows: Array, where: Array, *, chunk: int = 256) -> Normalizer:
    """Fits the normaliser to the valid frames of the present modalities of these rows; no other row is read.

    Two passes in float32, in chunks of rows: the mean, then the moments around it, which also correct the mean.

    Args:
      data: The corpus.
      rows: Rows to fit to, `[n]`, int.
      where: Rows that count, `[n]`, bool.
      chunk: Rows read at a time.

    Returns:
      Mean, and inverse standard deviation by the rule of `inverse_spread`.

    Raises:
      TypeError: if `data.features` is a plain dict, whose keys JAX sorts.
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

    def moments(batch: Batch, center: dict[str, Array]) -> dict[str, tuple[Array, Array, Array]]:
        """Per modality: number of valid frames, sum of their deviations from `center`, sum of the squares of these."""
        sums = {}
        for column, name in enumerate(modality_names(batch.features)):
            values, counted = batch.features[name], _counted(batch, name, column)
            deviation = jnp.where(counted[..., None], values - _as_row(center[name], values), 0.0)
            deviation = deviation.reshape(-1, values.shape[-1])
            sums[name] = (counted.sum(), deviation.sum(0), (deviation**2).sum(0))
        return sums

    center = {name: jnp.zeros(values.shape[-1]) for name, values in data.features.items()}
    divide = lambda count, value: value / jnp.maximum(count, 1)
    center = {name: divide(count, sums) for name, (count, sums, _) in total(lambda b: moments(b, center)).items()}
    mean, inverse_std = {}, {}
    for name, (count, deviations, squares) in total(lambda b: moments(b, center)).items():
        shift = divide(count, deviations)  # the rounding error of the first mean
        mean[name] = center[name] + shift
        inverse_std[name] = inverse_spread(mean[name], divide(count, squares) - shift**2)
    return Normalizer(mean, inverse_std)


def fit_normalizer_streamed(batches: Iterable[Batch]) -> Normalizer:
    """As `fit_normalizer`, in one pass over batches of numpy arrays.

    Mean and sum of squared deviations are updated batch by batch in float64 (Chan, Golub and LeVeque, 1983), which is
    accurate for large offsets too.

    Args:
      batches: Padded batches, from `cmarr_jax.data.streamed.read_ahead`.

    Raises:
      TypeError: if the features of a batch are a plain dict, whose keys JAX sorts.
    """
    moments: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    for batch in batches:
        for column, name in enumerate(modality_names(batch.features)):
            values = np.asarray(batch.features[name])
            counted = np.asarray(batch.present[:, column] & batch.where)
            if name in batch.length:
                counted = counted[:, None] & (np.arange(values.shape[1]) < np.asarray(batch.length[name])[:, None])
            zero = (0, np.zeros(values.shape[-1]), np.zeros(values.shape[-1]))
            moments[name] = _merge(moments.get(name, zero), values[counted].astype(np.float64))
    mean = {name: jnp.asarray(center, jnp.float32) for name, (_, center, _) in moments.items()}
    spread = {
        name: inverse_spread(center, squares / max(count, 1)) for name, (count, center, squares) in moments.items()
    }
    return Normalizer(mean, {name: jnp.asarray(values, jnp.float32) for name, values in spread.items()})


def with_target(normalizer: Normalizer, target: Array, rows: Array, where: Array) -> Normalizer:
    """Adds mean and inverse standard deviation of the target.

    Args:
      normalizer: Of the features.
      target: Of all utterances, `[N]`.
      rows: Labelled training rows, `[n]`; no other row is read.
      where: Rows that count, `[n]`, bool.
    """
    count, values = jnp.maximum(where.sum(), 1), target[rows]
    mean = jnp.sum(jnp.where(where, values, 0.0)) / count
    variance = jnp.sum(jnp.where(where, jnp.square(values - mean), 0.0)) / count
    inverse_std = inverse_spread(mean[None], variance[None])
    return Normalizer({**normalizer.mean, TARGET: mean[None]}, {**normalizer.inverse_std, TARGET: inverse_std})


def in_target_units(normalizer: Normalizer, outputs: Array) -> Array:
    """Outputs of a network `[..., 1]` in the unit of the target; those of a classification stay as they are."""
    if TARGET not in normalizer.mean:
        return outputs
    return outputs / _as_row(normalizer.inverse_std[TARGET], outputs) + _as_row(normalizer.mean[TARGET], outputs)


def identity_normalizer(modalities: Sequence[ModalityConfig], *, target: bool = False) -> Normalizer:
    """The normaliser that changes nothing; with `target`, that of a regression."""
    widths = {modality.name: modality.width for modality in modalities} | ({TARGET: 1} if target else {})
    filled = lambda value: {name: jnp.full(width, value) for name, width in widths.items()}
    return Normalizer(filled(0.0), filled(1.0))


def inverse_spread(mean: Array | np.ndarray, variance: Array | np.ndarray) -> Any:
    """`1 / std` per dimension, `[D]`; 1 for a constant, whose std is below `CONSTANT` times its root mean square.

    The limit is relative because the float32 mean of a constant such as 33.3 is rounded, so that its computed variance
    is above zero. A variance too small for float32 is a constant too.
    """
    xp = mean.__array_namespace__()
    variance = xp.maximum(variance, 0)
    varies = (variance > CONSTANT**2 * (mean**2 + variance)) & (variance >= SMALLEST)
    return xp.where(varies, 1 / xp.sqrt(xp.where(varies, variance, 1)), 1.0)


def normalize(normalizer: Normalizer, batch: Batch) -> Batch:
    """Standardises the features of a batch, and its target in a regression; padding and absent ones become zeros.

    Raises:
      TypeError: if the features are a plain dict, whose keys JAX sorts.
    """
    features: dict[str, Any] = OrderedDict()
    for column, name in enumerate(modality_names(batch.features)):
        values = batch.features[name]
        mean, inverse_std = normalizer.mean[name], normalizer.inverse_std[name]

        def scale(values: Array, counted: Array, mean=mean, inverse_std=inverse_std) -> Array:
            scaled = (values - _as_row(mean, values)) * _as_row(inverse_std, values)
            return jnp.where(counted[..., None], scaled, 0.0)

        present = batch.present[:, column] & batch.where
        if name in batch.length:
            features[name] = map_valid(scale, values, jnp.where(present, batch.length[name], 0))
        else:
            features[name] = scale(values, present)
    target = batch.target
    if target is not None and TARGET in normalizer.mean:
        target = (target - normalizer.mean[TARGET]) * normalizer.inverse_std[TARGET]
    return batch._replace(features=features, target=target)


def _counted(batch: Batch, name: str, column: int) -> Array:
    """Mask of the valid frames or vectors of a padded modality, `[B, T]` or `[B]`, bool."""
    present = batch.present[:, column] & batch.where
    if name not in batch.length:
        return present
    return present[:, None] & valid_frames(batch.length[name], batch.features[name].shape[1])


def _as_row(vector: Array, like: Array) -> Array:
    """Reshapes `[D]` to the rank of `like`, for broadcasting."""
    return vector.reshape((1,) * (like.ndim - 1) + vector.shape)


def _fill_up(values: Array, multiple: int, value: bool | None = None) -> Array:
    """Pads an array to a multiple, by its first entry or a value."""
    missing = -len(values) % multiple
    tail = jnp.broadcast_to(values[0] if value is None else value, (missing,)).astype(values.dtype)
    return jnp.concatenate([values, tail])


def _merge(moments: tuple[int, np.ndarray, np.ndarray], values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Adds `values [n, D]` to a count, a mean and a sum of squared deviations."""
    if len(values) == 0:
        return moments
    count, center, squares = moments
    total, new_center = count + len(values), values.mean(0)
    shift = new_center - center
    new_squares = ((values - new_center) ** 2).sum(0)
    weight = len(values) / total
    return total, center + shift * weight, squares + new_squares + shift**2 * (count * weight)
