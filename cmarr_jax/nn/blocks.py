"""Blocks of packed frames with time as their first axis: joined to one array, maximum over time.

`Blocks` below means arrays `[t_k, n_k, D]`, successive in time, with falling `n_k` (`cmarr_jax.types.PackedFrames`).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cmarr_jax.types import Array, PackedFrames


def time_first(packed: PackedFrames) -> list[Array]:
    """The blocks with time as their first axis, `[t_k, n_k, D]`."""
    return [block.swapaxes(0, 1) for block in packed.blocks]


def unfold(blocks: Sequence[Array]) -> Array:
    """Blocks `[t_k, n_k, D]` -> `[T, B, D]`, zeros where a row has no frames; rows stay in the order of the blocks."""
    rows = blocks[0].shape[1]
    return jnp.concatenate([jnp.pad(b, ((0, 0), (0, rows - b.shape[1]), (0, 0))) for b in blocks])


def masked_max_over_time(blocks: Sequence[Array], count: Array) -> Array:
    """Maximum over the first frames of blocks `[t_k, n_k, D]`, `count [B, 1]` or `[B, D]` of them -> `[B, D]`.

    Zeros where none counts. The frames that count are inside the blocks.
    """
    rows, lowest, start, parts = blocks[0].shape[1], jnp.finfo(blocks[0].dtype).min, 0, []
    for block in blocks:
        frames, here, _ = block.shape
        counted = start + jnp.arange(frames)[:, None, None] < count[None, :here]
        part = max_over_first_axis(jnp.where(counted, block, lowest))
        parts.append(jnp.pad(part, ((0, rows - here), (0, 0)), constant_values=lowest))
        start += frames
    return jnp.where(count > 0, max_over_first_axis(jnp.stack(parts)), 0)


@jax.custom_vjp
def max_over_first_axis(x: Array) -> Array:
    """`jnp.max(x, axis=0)`, NaN included, and its gradient, which equal ones share; beside NaN the gradient is 0.

    Written out because XLA takes maxima and float sums over a leading axis from a library on a CPU, up to twenty times
    slower than what it compiles itself (jaxlib 0.10.2).
    """
    return jax.lax.reduce(x, jnp.array(-jnp.inf, x.dtype), lambda a, b: jnp.where((a >= b) | (a != a), a, b), (0,))


def _max_forward(x: Array):
    value = max_over_first_axis(x)
    return value, (x, value)


def _max_backward(residuals, grad: Array):
    x, value = residuals
    is_max = x == value[None]
    share = grad / jnp.maximum(jnp.sum(is_max, axis=0, dtype=jnp.int32), 1)
    return (jnp.where(is_max, share[None], 0),)


max_over_first_axis.defvjp(_max_forward, _max_backward)


def to_batch_rows(values: Array, packed: PackedFrames) -> Array:
    """Values per row of the blocks, `[B, ...]`, in the order of the batch."""
    return values[jnp.argsort(packed.row)]
