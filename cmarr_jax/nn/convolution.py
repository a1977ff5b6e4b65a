"""Convolutions over time of several widths, in three forms with the same result.

`conv_direct`: all taps of all kernels in one product, then shifted and added. `conv_winograd`: minimal filtering, which
makes four outputs of a kernel of width w from w + 3 products instead of 4 w. Its rounding error is about ten times as
large; it is faster on CPUs. `conv_one`: for a single utterance on a CPU.

Time is the first axis here, and frames are blocks `[t_k, n_k, D]` with falling `n_k`, as those of a `PackedFrames`.
Kernels have their channels before the features: so XLA makes their gradient fastest on a CPU.

References:
  Winograd, Arithmetic complexity of computations, 1980; for networks, Lavin and Gray, CVPR 2016.
"""

import functools
import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from cmarr_jax.nn.blocks import unfold
from cmarr_jax.types import Array

TILE = 4  # windows of a tile
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2)  # where polynomials are multiplied, and at infinity
WIDEST = len(POINTS) + 2 - TILE  # kernel that tiles can have


def conv_direct(frames: Sequence[Array], kernels: Sequence[Array]) -> list[Array]:
    """The window that begins at each frame, of each kernel; past the last frame there are zeros.

    Args:
      frames: Blocks, float, zeros after the end of an utterance.
      kernels: Each `[width, C, D]`, float.

    Returns:
      Blocks of windows, `[t_j, n_j, sum of C]`, cut otherwise than the frames: every window that lies inside an
      utterance is there, and the first of each row.
    """
    taps = jnp.concatenate([tap for kernel in kernels for tap in kernel])
    products = unfold([jnp.einsum("tnd,cd->tnc", block, taps) for block in frames])
    num_frames, widths = products.shape[0], [len(kernel) for kernel in kernels]
    products = jnp.pad(products, ((0, max(widths) - 1), (0, 0), (0, 0)))
    ends = np.cumsum([width for kernel in kernels for width in [kernel.shape[1]] * len(kernel)])[:-1]
    parts = iter(jnp.split(products, ends, axis=-1))
    shift = lambda tap: next(parts)[tap : tap + num_frames]
    return [jnp.concatenate([sum((shift(tap) for tap in range(1, w)), start=shift(0)) for w in widths], axis=-1)]


def conv_one(frames: Sequence[Array], kernels: Sequence[Array]) -> list[Array]:
    """As `conv_direct`, for one row on a CPU, where it is 2.4 times as fast.

    The kernels are the left factor of the product. As the right one, XLA copies them into another order at each call,
    which takes longer than a product with a few frames (jaxlib 0.10.2).
    """
    whole = unfold(frames)
    num_frames, windows = whole.shape[0], []
    for kernel in kernels:
        products = jnp.einsum("wcd,tnd->wctn", kernel, whole)
        products = jnp.pad(products, ((0, 0), (0, 0), (0, len(kernel) - 1), (0, 0)))
        shift = lambda tap, products=products: products[tap, :, tap : tap + num_frames]
        windows.append(sum((shift(tap) for tap in range(1, len(kernel))), start=shift(0)))
    return [jnp.concatenate(windows).transpose(1, 2, 0)]


def conv_winograd(frames: Sequence[Array], kernels: Sequence[Array]) -> list[Array]:
    """As `conv_direct`, for kernels up to the width `WIDEST`."""
    width, narrowest = max(map(len, kernels)), min(map(len, kernels))
    of_tile, of_kernel, of_windows = _transforms(width)
    points = len(of_tile)
    widen = lambda kernel: jnp.pad(kernel, ((0, width - len(kernel)), (0, 0), (0, 0)))
    kernel = jnp.concatenate([widen(kernel) for kernel in kernels], axis=1)
    num_channels = kernel.shape[1]
    kernel = jnp.matmul(of_kernel, kernel.reshape(width, -1)).reshape(points, num_channels, -1)
    whole = unfold(frames)
    # A tile has the rows in which its first window can be whole; the first has all, for utterances shorter than that.
    rows_at = [rows for block in frames for rows in [block.shape[1]] * len(block)]
    runs = [
        (rows, len(list(run))) for rows, run in itertools.groupby([rows_at[0], *rows_at[TILE + narrowest - 1 :: TILE]])
    ]
    first, tiles = 0, []
    for rows, number in runs:
        part = whole[TILE * first : TILE * (first + number) + width - 1, :rows]
        matrix = _banded(of_tile, number)[:, : len(part)]
        tiles.append(jnp.matmul(matrix, part.reshape(len(part), -1)).reshape(points, number * rows, -1))
        first += number
    products = jnp.einsum("pnd,pcd->pnc", jnp.concatenate(tiles, axis=1), kernel)
    windows, first = [], 0
    for rows, number in runs:
        part = products[:, first : first + number * rows].reshape(points * number, -1)
        windows.append(jnp.matmul(_blockwise(of_windows, number), part).reshape(TILE * number, rows, num_channels))
        first += number * rows
    return windows


@functools.cache
def _transforms(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Toom and Cook's matrices of a tile, `[n, n]`, of a kernel, `[n, width]`, and of the windows, `[TILE, n]`.

    `windows = c @ ((a @ tile) * (b @ kernel))`, the transposed form of a product of polynomials at n points.
    """
    num_points = TILE + width - 1
    at = np.array(POINTS[: num_points - 1], np.float64)[:, None]
    infinity = lambda size: np.eye(size)[-1:]
    evaluate = lambda size: np.concatenate([at ** np.arange(size), infinity(size)])
    of_tile, of_kernel = np.linalg.inv(evaluate(num_points)).T, evaluate(width)
    # Rows of one size on both sides, which leaves the products as they are and rounds less.
    balance = np.sqrt(np.abs(of_tile).sum(1, keepdims=True) / np.abs(of_kernel).sum(1, keepdims=True))
    single = lambda x: x.astype(np.float32)
    return single(of_tile / balance), single(of_kernel * balance), single(evaluate(TILE).T)


def _banded(matrix: np.ndarray, number: int) -> np.ndarray:
    """`[n, n]` -> `[n * number, TILE * number + n - TILE]`: each tile at its place in time, points first."""
    size = len(matrix)
    band = np.zeros((size, number, TILE * number + size - TILE), matrix.dtype)
    for tile in range(number):
        band[:, tile, TILE * tile : TILE * tile + size] = matrix
    return band.reshape(size * number, -1)


def _blockwise(matrix: np.ndarray, number: int) -> np.ndarray:
    """`[TILE, n]` -> `[number * TILE, n * number]`: from the points of each tile to its windows."""
    return np.einsum("wp,st->swpt", matrix, np.eye(number, dtype=matrix.dtype)).reshape(number * len(matrix), -1)
