"""What all losses share: the masked mean, masks, dtypes, inner products, rows of all devices, checked temperatures."""

import numbers
from collections.abc import Sequence
from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from cmarr_jax.types import Array

Tree = TypeVar("Tree")


def masked_mean(values: ArrayLike, where: ArrayLike | None = None, *, axis_name: str | None = None) -> Array:
    """Mean of the values that count.

    `sum(values[where]) / count(where)`, and 0 with zero gradient where nothing counts. With `axis_name` the count is
    the one over all devices, so that each device returns its *share* of the global mean: the psum of the shares, and
    of their gradients, is the mean over the whole batch and its gradient. (A mean of per-device means is another
    number.) For a loss that returns `MaskedLoss`: `masked_mean(*loss)`.

    Args:
      values: Any shape, float. Values that do not count may be nan: they are dropped before the sum.
      where: Values that count, same shape, bool; all if None.
      axis_name: Device axis of an enclosing `pmap`, or None on one device.

    Returns:
      Scalar in the unit of `values`, float32 (float64 for float64 values).

    Raises:
      AssertionError: at trace time, if shapes differ, `values` is not float or `where` not bool.

    Examples:
      >>> import jax.numpy as jnp
      >>> from cmarr_jax import losses
      >>> print(losses.masked_mean(jnp.array([1.0, jnp.nan, 4.0]), jnp.array([True, False, True])))
      2.5
    """
    values = jnp.asarray(values)
    chex.assert_type(values, float, custom_message="values")
    where = as_mask(where, values.shape)
    total = jnp.sum(jnp.where(where, at_least_float32(values), 0.0))
    count = jnp.sum(where)
    if axis_name is not None:
        count = jax.lax.psum(count, axis_name)
    return total / jnp.maximum(count, 1).astype(total.dtype)


def as_mask(where: ArrayLike | None, shape: Sequence[int], name: str = "where") -> Array:
    """The mask as an array, checked; all `True` if None. The argument's name is for messages."""
    if where is None:
        return jnp.ones(shape, bool)
    where = jnp.asarray(where)
    chex.assert_type(where, bool, custom_message=name)
    chex.assert_shape(where, shape, custom_message=name)
    return where


def at_least_float32(values: Array) -> Array:
    """Casts bfloat16 and float16 to float32 and leaves wider floats alone."""
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def select_rows(values: Array, where: Array, fill: float | Array) -> Array:
    """Replaces rows that do not count by a constant: `[..., D], [...] -> [..., D]`; no nan of theirs gets further."""
    return jnp.where(where[..., None], at_least_float32(values), fill)


def mean_row(values: Array, where: Array, axis_name: str | None) -> Array:
    """The mean of the rows that count, on all devices, as a constant: `[B, D], [B] -> [D]`; ones where none counts.

    Rows that do not count get it: a distance that is centred on all rows then stays as exact as without them.
    """
    total, count = select_rows(values, where, 0.0).sum(0), where.sum()
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return jax.lax.stop_gradient(jnp.where(count > 0, total / jnp.maximum(count, 1), 1.0))


def pairwise_dot(a: Array, b: Array) -> Array:
    """All inner products, `[N, D], [M, D] -> [N, M]`, in full float32 also where TF32 or bfloat16 is the default."""
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def all_rows(tree: Tree, axis_name: str | None) -> Tree:
    """Rows of all devices, `[B, ...] -> [devices * B, ...]`, with their gradient; unchanged without a device axis."""
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axis_name, tiled=True), tree)


def row_index(num_rows: int, axis_name: str | None) -> Array:
    """Where this device's rows are among `all_rows`, `[B]`, int32."""
    first = 0 if axis_name is None else num_rows * jax.lax.axis_index(axis_name)
    return first + jnp.arange(num_rows)


def checked_temperature(temperature: ArrayLike) -> float | Array:
    """The temperature, a scalar. Raises `ValueError` if it is not > 0; a traced value cannot be looked at."""
    chex.assert_rank(temperature, 0, custom_message="temperature")
    if not isinstance(temperature, jax.core.Tracer) and not float(np.asarray(temperature)) > 0:  # also true for nan
        raise ValueError(f"temperature must be > 0, found {temperature}")
    if isinstance(temperature, numbers.Real):
        return float(temperature)
    return at_least_float32(jnp.asarray(temperature))
