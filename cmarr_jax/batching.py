"""Which utterances meet in a batch, so that the longest does not decide how much is computed for the others.

The rows of a part (training, validation, test) are sorted by length and cut into strata of S rows, S batches in all;
each batch has one row of every stratum, drawn anew each epoch. So row p of any batch is of stratum p, and the longest
of a stratum bounds it: all batches have one shape, the staircase under these bounds, on any device and under vmap.
Every utterance is still read once an epoch; only who may meet whom is restricted, to rows of different strata.

The blocks are what PyTorch's PackedSequence does, with row counts that are fixed beforehand; the strata are ours.

A second modality is sorted within groups of strata of the first, which bounds it as well.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import TrainConfig
from cmarr_jax.folds import Fold
from cmarr_jax.types import Array

if TYPE_CHECKING:
    from cmarr_jax.input import Data

GROUP_SHARES = (1 / 16, 1 / 4)  # the first modality's groups end at these shares of the batch, longest first
MAX_BLOCKS = 4  # more save little and take longer to compile
MIN_SAVING = 0.05  # share of the frames that another block must save to be worth compiling


@dataclasses.dataclass(frozen=True)
class Stairs:
    """One modality of a plan.

    Attributes:
      row: Batch row of each row of the staircase, longest bound first.
      bound: Most frames that a row may have, in the order of the staircase.
      blocks: `(rows, first frame, last frame + 1)` of each block.
    """

    row: tuple[int, ...]
    bound: tuple[int, ...]
    blocks: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class PartPlan:
    """Batches of one part. `order`: names of the modalities by which rows are sorted, one or two (none: not sorted)."""

    batch_size: int
    order: tuple[str, ...] = ()
    stairs: Mapping[str, Stairs] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Batches of the three parts of a fold."""

    train: PartPlan
    val: PartPlan
    test: PartPlan


def make_plan(data: "Data", folds: Fold, config: TrainConfig) -> Plan:
    """The plan for a corpus and its stacked folds, `[F, n]` arrays; computed on the host, in well under a second."""
    plain = unsorted_plan(folds, config)
    widths = {name: values.shape[-1] for name, values in data.features.items()}
    part = lambda size, rows, where: plan_part(data.length, rows, where, size, widths)
    return Plan(
        part(plain.train.batch_size, folds.train, folds.train_where),
        part(plain.val.batch_size, folds.val, folds.val_where),
        part(plain.test.batch_size, folds.test, folds.test_where),
    )


def unsorted_plan(folds: Fold, config: TrainConfig) -> Plan:
    """Batches drawn from all rows, each sequence padded to the longest of the corpus."""
    size = lambda rows: min(config.eval_batch_size, rows.shape[-1])
    return Plan(PartPlan(config.batch_size), PartPlan(size(folds.val)), PartPlan(size(folds.test)))


def plan_part(
    length: Mapping[str, Array], rows: Array, where: Array, batch_size: int, widths: Mapping[str, int]
) -> PartPlan:
    """The cheapest plan of one part over the choices of what to sort by.

    Args:
      length: Frames of each utterance per sequence modality, `[N]`.
      rows: Utterances of the part in each fold, `[F, n]`.
      where: Rows that count, `[F, n]`.
      batch_size: Rows of a batch.
      widths: Feature width per modality: what a frame costs, roughly.
    """
    length, rows, where = jax.device_get((dict(length), rows, where))
    best, lowest = PartPlan(batch_size), np.inf
    for order in itertools.chain(((name,) for name in length), itertools.permutations(length, 2)):
        plan = PartPlan(batch_size, order)
        placed = [place(length, *fold, plan)[1] for fold in zip(rows, where, strict=True)]
        stairs = {name: _stairs(np.stack([batch[name] for batch in placed])) for name in length}
        area = {name: sum(n * (end - start) for n, start, end in part.blocks) for name, part in stairs.items()}
        cost = sum(widths[name] * frames for name, frames in area.items())
        if cost < lowest:
            best, lowest = dataclasses.replace(plan, stairs=stairs), cost
    return best


def place(
    length: Mapping[str, Array], rows: Array, where: Array, plan: PartPlan
) -> tuple[tuple[Array, Array], dict[str, Array]]:
    """The batches of a part, not shuffled, and the lengths in them.

    Args:
      length: Frames of each utterance, `[N]` per modality; numpy or JAX.
      rows: Utterances of the part, `[n]` int.
      where: Rows that count, `[n]` bool.
      plan: Of this part.

    Returns:
      `(rows, where)`, `[S, batch_size]` each, filled up with the first row, which then does not count; and per modality
      the frames that count, `[S, batch_size]`.
    """
    xp = rows.__array_namespace__()
    num_batches = -(-len(rows) // plan.batch_size)
    missing = num_batches * plan.batch_size - len(rows)
    rows = xp.concatenate([rows, xp.broadcast_to(rows[:1], (missing,))])
    where = xp.concatenate([where, xp.zeros((missing,), bool)])
    counted = {name: xp.where(where, frames[rows], 0) for name, frames in length.items()}
    order = xp.arange(len(rows))
    if plan.order:
        order = xp.argsort(-counted[plan.order[0]], stable=True)
        ends = [num_batches * round(share * plan.batch_size) for share in GROUP_SHARES]
        group = xp.searchsorted(xp.asarray(ends), xp.arange(len(rows)), side="right")
        for name in plan.order[1:]:
            order = order[xp.lexsort((-counted[name][order], group))]
    cut = lambda x: x[order].reshape(plan.batch_size, num_batches).T if plan.order else x.reshape(num_batches, -1)
    return (cut(rows), cut(where)), {name: cut(frames) for name, frames in counted.items()}


def shuffle(key: Array, batches: tuple[Array, Array], plan: PartPlan) -> tuple[Array, Array]:
    """Draws the batches of an epoch: rows of `place`'s change places within their stratum, or, unsorted, anywhere."""
    num_batches, size = batches[0].shape
    if plan.order:
        order = jax.random.permutation(key, jnp.tile(jnp.arange(num_batches)[:, None], (1, size)), independent=True)
        return jax.tree.map(lambda x: jnp.take_along_axis(x, order, axis=0), batches)
    order = jax.random.permutation(key, num_batches * size)
    return jax.tree.map(lambda x: x.reshape(-1)[order].reshape(num_batches, size), batches)


def fold_fits(length: Mapping[str, Array], fold: Fold, plan: Plan) -> Array:
    """Whether no utterance is longer than its place in the plan, a bool; so if the plan was made for this fold."""
    parts = (
        (plan.train, fold.train, fold.train_where),
        (plan.val, fold.val, fold.val_where),
        (plan.test, fold.test, fold.test_where),
    )
    inside = [jnp.array(True)]
    for part, rows, where in parts:
        _, counted = place(length, rows, where, part)
        for name, stairs in part.stairs.items():
            inside.append((counted[name][:, jnp.array(stairs.row)] <= jnp.array(stairs.bound)[None]).all())
    return jnp.stack(inside).all()


def _stairs(length: np.ndarray) -> Stairs:
    """The staircase over the lengths of all batches of all folds, `[F, S, B]`."""
    bound = np.maximum(length.max(axis=(0, 1)), 1)
    row = np.argsort(-bound, kind="stable")
    return Stairs(tuple(row.tolist()), tuple(bound[row].tolist()), _blocks(bound[row].tolist()))


def _blocks(bound: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """At most MAX_BLOCKS blocks of least area over falling bounds; row counts are handy ones."""
    size, longest = len(bound), bound[0]
    heights = sorted({size, *(n for n in _handy(size) if bound[n] < longest)}, reverse=True)
    # best[k][i]: least area of the frames from where heights[i] rows are enough, in at most k blocks
    start = [0 if n == size else bound[n] for n in heights]
    best: list[list[tuple[int, tuple[int, ...]]]]
    best = [[(n * (longest - begin), (i,)) for i, (n, begin) in enumerate(zip(heights, start, strict=True))]]
    for _ in range(MAX_BLOCKS - 1):
        options = lambda i, last=best[-1]: (
            (heights[i] * (start[j] - start[i]) + last[j][0], (i, *last[j][1])) for j in range(i + 1, len(heights))
        )
        best.append([min([best[-1][i], *options(i)]) for i in range(len(heights))])
    area, chosen = best[0][0]
    for (smaller, finer), *_ in best[1:]:
        if smaller > (1 - MIN_SAVING) * area:
            break
        area, chosen = smaller, finer
    ends = [start[i] for i in chosen[1:]] + [longest]
    return tuple((heights[i], start[i], end) for i, end in zip(chosen, ends, strict=True) if end > start[i])


def _handy(size: int) -> list[int]:
    """Row counts below `size` that waste little and keep the search small: 4 to 7 times powers of two, and 1 to 3."""
    return sorted({m * 2**k for k in range(size.bit_length()) for m in (1, 2, 3, 4, 5, 6, 7) if 0 < m * 2**k < size})
