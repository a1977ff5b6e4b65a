"""Frames of unequal length without padding all of them to the longest.

A plain array `[B, T, D]` is a staircase of one step, so what is written for blocks serves both.
"""

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array, Staircase


def as_staircase(frames: Array | Staircase) -> Staircase:
    """The frames as blocks; `[B, T, D]` becomes one block with the rows as they are."""
    if isinstance(frames, Staircase):
        return frames
    return Staircase((frames,), jnp.arange(frames.shape[0]))


def map_valid(function: Callable[[Array, Array], Array], frames: Array | Staircase, length: Array) -> Array | Staircase:
    """`function(block [n, t, D], valid [n, t])` of every block, in the form that `frames` had.

    Args:
      function: What to do.
      frames: `[B, T, D]` or a staircase.
      length: Frames that count, `[B]`, int.
    """
    stairs = as_staircase(frames)
    chex.assert_rank([*stairs.blocks, length], [3] * len(stairs.blocks) + [1])
    valid = valid_blocks(stairs, length)
    blocks = tuple(function(*pair) for pair in zip(stairs.blocks, valid, strict=True))
    return stairs._replace(blocks=blocks) if isinstance(frames, Staircase) else blocks[0]


def without_padding(frames: Array | Staircase, length: Array) -> Array | Staircase:
    """The frames with zeros after the end of each utterance, whatever was there, NaN included."""
    return map_valid(lambda block, valid: jnp.where(valid[..., None], block, 0), frames, length)


def valid_blocks(stairs: Staircase, length: Array) -> list[Array]:
    """Which frames of each block count, `[n_k, t_k]` bool."""
    length, start, valid = length[stairs.row], 0, []
    for block in stairs.blocks:
        rows, frames = block.shape[:2]
        valid.append(start + jnp.arange(frames)[None] < length[:rows, None])
        start += frames
    return valid


def time_first(stairs: Staircase) -> list[Array]:
    """The blocks with time as their first axis, `[t_k, n_k, D]`."""
    return [block.swapaxes(0, 1) for block in stairs.blocks]


def unfold(blocks: Sequence[Array]) -> Array:
    """Blocks `[t_k, n_k, D]` -> `[T, B, D]`, zeros where no block is; rows stay in the order of the blocks."""
    rows = blocks[0].shape[1]
    return jnp.concatenate([jnp.pad(b, ((0, 0), (0, rows - b.shape[1]), (0, 0))) for b in blocks])


def highest(blocks: Sequence[Array], count: Array) -> Array:
    """Maximum over the first frames of blocks `[t_k, n_k, D]`, `count [B, 1]` or `[B, D]` of them -> `[B, D]`.

    Zeros where none counts. The frames that count are inside the blocks.
    """
    rows, lowest, start, parts = blocks[0].shape[1], jnp.finfo(blocks[0].dtype).min, 0, []
    for block in blocks:
        frames, here, _ = block.shape
        counted = start + jnp.arange(frames)[:, None, None] < count[None, :here]
        part = largest(jnp.where(counted, block, lowest))
        parts.append(jnp.pad(part, ((0, rows - here), (0, 0)), constant_values=lowest))
        start += frames
    return jnp.where(count > 0, largest(jnp.stack(parts)), 0)


@jax.custom_vjp
def largest(x: Array) -> Array:
    """`jnp.max(x, axis=0)`, NaN and the gradient included, which equal ones share.

    Written out because XLA takes maxima and float sums over a leading axis from a library on a CPU, up to twenty times
    slower than what it compiles itself (jaxlib 0.10.2).
    """
    return jax.lax.reduce(x, jnp.array(-jnp.inf, x.dtype), lambda a, b: jnp.where((a >= b) | (a != a), a, b), (0,))


def _largest_forward(x: Array):
    value = largest(x)
    return value, (x, value)


def _largest_backward(residuals, grad: Array):
    x, value = residuals
    is_largest = x == value[None]
    share = grad / jnp.maximum(jnp.sum(is_largest, axis=0, dtype=jnp.int32), 1)
    return (jnp.where(is_largest, share[None], 0),)


largest.defvjp(_largest_forward, _largest_backward)


def to_batch_rows(values: Array, stairs: Staircase) -> Array:
    """Values per row of the blocks, `[B, ...]`, in the order of the batch."""
    return values[jnp.argsort(stairs.row)]
