"""Packed frames (sequences of unequal length in blocks of time, like PyTorch's PackedSequence) and their masks.

A padded array `[B, T, D]` is one block, so code written for blocks handles both forms.
"""

from collections.abc import Callable

import chex
import jax.numpy as jnp

from cmarr_jax.types import Array, PackedFrames


def as_packed(frames: Array | PackedFrames) -> PackedFrames:
    """Returns packed frames unchanged, and a padded array `[B, T, D]` as one block with the same order of rows."""
    if isinstance(frames, PackedFrames):
        return frames
    return PackedFrames((frames,), jnp.arange(frames.shape[0]))


def map_valid(
    function: Callable[[Array, Array], Array], frames: Array | PackedFrames, length: Array
) -> Array | PackedFrames:
    """Applies `function(block [n, t, D], valid [n, t])` to every block.

    Args:
      function: From a block and the mask of its valid frames to a block of the same leading shape.
      frames: `[B, T, D]` or packed frames.
      length: Valid frames of each row of the batch, `[B]`, int.

    Returns:
      An array or packed frames, as `frames`.
    """
    packed = as_packed(frames)
    chex.assert_rank([*packed.blocks, length], [3] * len(packed.blocks) + [1])
    valid = valid_blocks(packed, length)
    blocks = tuple(function(*pair) for pair in zip(packed.blocks, valid, strict=True))
    return packed._replace(blocks=blocks) if isinstance(frames, PackedFrames) else blocks[0]


def without_padding(frames: Array | PackedFrames, length: Array) -> Array | PackedFrames:
    """Sets the frames after the end of each utterance to zero, NaN included."""
    return map_valid(lambda block, valid: jnp.where(valid[..., None], block, 0), frames, length)


def valid_frames(length: Array, num_frames: int) -> Array:
    """`[B] -> [B, T]` bool, `True` for the first `length` frames."""
    return jnp.arange(num_frames)[None] < length[:, None]


def valid_blocks(packed: PackedFrames, length: Array) -> list[Array]:
    """Masks of the valid frames of each block, `[n_k, t_k]`, bool."""
    length, start, valid = length[packed.row], 0, []
    for block in packed.blocks:
        rows, frames = block.shape[:2]
        valid.append(start + jnp.arange(frames)[None] < length[:rows, None])
        start += frames
    return valid
