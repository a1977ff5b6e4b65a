"""Length-stratified batches: all batches of a part share one small static shape (D).

The rows of a part (training, validation, test) are sorted by length and cut into strata of S rows, where S is the
number of batches. Each batch has one row of every stratum; which one is drawn again in each pass. Row p of any batch is
then of stratum p, and the longest utterance of that stratum bounds its length. These bounds give one packed shape
(`PackedShape`) for all batches, so the program compiles once, also under vmap. Every utterance is still read once a
pass. Two utterances of one stratum never share a batch.

With two sequence modalities, rows are sorted by the second one within groups of strata of the first.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import ModalityConfig, TrainConfig
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold, unlabelled_rows
from cmarr_jax.types import Array, Batch, PackedFrames, modality_names

GROUP_SHARES = (1 / 16, 1 / 4)  # the first modality's groups end at these shares of the batch, longest first
MAX_BLOCKS = 4  # more save little and take longer to compile
MIN_SAVING = 0.05  # share of the frames that another block must save to be worth compiling


@dataclasses.dataclass(frozen=True)
class PackedShape:
    """The packed shape of one modality, the same in all batches.

    Attributes:
      row: Batch row of each packed row, longest bound first.
      bound: Most frames that a packed row may have.
      blocks: `(rows, first frame, last frame + 1)` of each block.
    """

    row: tuple[int, ...]
    bound: tuple[int, ...]
    blocks: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class PartPlan:
    """Batches of one part.

    Attributes:
      batch_size: Rows of a batch.
      order: Modalities by whose length the rows are sorted: one, or two, the second within groups; none: not sorted.
      shape: Packed shape of each sequence modality; a modality without one is padded.
    """

    batch_size: int
    order: tuple[str, ...] = ()
    shape: Mapping[str, PackedShape] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Plans of the parts of a fold.

    Attributes:
      train: Labelled training rows.
      val: Validation rows.
      test: Test rows.
      unlabelled: Unlabelled training rows; `None`: no fold has any.
      both: Shapes of a batch of labelled rows with unlabelled ones behind them.
    """

    train: PartPlan
    val: PartPlan
    test: PartPlan
    unlabelled: PartPlan | None = None
    both: PartPlan | None = None


def plan_batches(data: DeviceCorpus, folds: Fold, config: TrainConfig, deciding: int | None = None) -> BatchPlan:
    """Plans the batches for all folds of a corpus (`[F, n]` arrays). Runs on the host, in well under a second.

    Args:
      data: The corpus.
      folds: What the batches must hold.
      config: Has the sizes.
      deciding: As in `plan_part`.
    """
    plain = plain_plan(folds, config)
    widths = {name: values.shape[-1] for name, values in data.features.items()}
    part = lambda size, rows, where: plan_part(data.length, rows, where, size, widths, deciding)
    planned = BatchPlan(
        part(plain.train.batch_size, folds.train, folds.train_where),
        part(plain.val.batch_size, folds.val, folds.val_where),
        part(plain.test.batch_size, folds.test, folds.test_where),
    )
    if plain.unlabelled is None:
        return planned
    rows = unlabelled_rows(folds)
    planned = dataclasses.replace(planned, unlabelled=part(plain.unlabelled.batch_size, *rows), both=plain.both)
    assert planned.both is not None
    length, folds = jax.device_get((dict(data.length), folds))
    longest = [_longest_rows(length, jax.tree.map(lambda x, i=i: x[i], folds), planned) for i in range(len(rows[0]))]
    shape = {name: _packed_shape(np.stack([fold[name] for fold in longest])[:, None]) for name in length}
    return dataclasses.replace(planned, both=dataclasses.replace(planned.both, shape=shape))


def plain_plan(folds: Fold, config: TrainConfig) -> BatchPlan:
    """A plan without sorting: batches are drawn from all rows and padded to the longest utterance of the corpus."""
    part = lambda size, rows: PartPlan(min(size, rows.shape[-1]))  # D: no larger than the part
    plan = BatchPlan(
        part(config.batch_size, folds.train),
        part(config.eval_batch_size, folds.val),
        part(config.eval_batch_size, folds.test),
    )
    if folds.unlabelled is None:
        return plan
    unlabelled = part(config.batch_size, folds.unlabelled)  # D: as many as a batch may have labelled ones
    both = PartPlan(plan.train.batch_size + unlabelled.batch_size)
    return dataclasses.replace(plan, unlabelled=unlabelled, both=both)


def plan_part(
    length: Mapping[str, Array],
    rows: Array,
    where: Array,
    batch_size: int,
    widths: Mapping[str, int],
    deciding: int | None = None,
) -> PartPlan:
    """Plans one part: tries each order of sorting and keeps the one with the fewest frames to compute.

    Args:
      length: Frames of each utterance per sequence modality, `[N]`.
      rows: Utterances of the part in each fold, `[F, n]`.
      where: Rows that count, `[F, n]`.
      batch_size: Rows of a batch.
      widths: Feature width per modality, taken as the cost of one frame.
      deciding: How many of the folds, the first ones, decide the order; all by default. Which utterances are in a batch
        follows from the order, so it must not change with folds that are added.
    """
    length, rows, where = jax.device_get((dict(length), rows, where))
    best, lowest = PartPlan(batch_size), np.inf
    for order in itertools.chain(((name,) for name in length), itertools.permutations(length, 2)):
        plan = PartPlan(batch_size, order)
        placed = [arrange(length, *fold, plan)[1] for fold in zip(rows, where, strict=True)]
        shape_of = lambda folds: {name: _packed_shape(np.stack([fold[name] for fold in folds])) for name in length}
        decides = shape_of(placed[:deciding])
        area = {name: sum(n * (end - start) for n, start, end in part.blocks) for name, part in decides.items()}
        cost = sum(widths[name] * frames for name, frames in area.items())
        if cost < lowest:
            best, lowest = dataclasses.replace(plan, shape=shape_of(placed)), cost
    return best


def arrange(
    length: Mapping[str, Array], rows: Array, where: Array, plan: PartPlan
) -> tuple[tuple[Array, Array], dict[str, Array]]:
    """Arranges the rows of a part into batches, not shuffled.

    Args:
      length: Frames of each utterance, `[N]` per modality; numpy or JAX.
      rows: Utterances of the part, `[n]` int.
      where: Rows that count, `[n]` bool.
      plan: Of this part.

    Returns:
      `(rows, where)`, `[S, batch_size]` each, padded with the first row, where `where` is False; and the number of
      frames per modality, `[S, batch_size]`, 0 for rows that do not count.
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
    """Draws the batches of a pass: permutes the rows of `arrange` within each stratum or, if not sorted, all rows."""
    num_batches, size = batches[0].shape
    if plan.order:
        order = jax.random.permutation(key, jnp.tile(jnp.arange(num_batches)[:, None], (1, size)), independent=True)
        return jax.tree.map(lambda x: jnp.take_along_axis(x, order, axis=0), batches)
    order = jax.random.permutation(key, num_batches * size)
    return jax.tree.map(lambda x: x.reshape(-1)[order].reshape(num_batches, size), batches)


def take(data: DeviceCorpus, rows: Array, where: Array, plan: PartPlan | None = None) -> Batch:
    """Gathers rows of a corpus as a batch.

    Args:
      data: The corpus.
      rows: `[B]`, int.
      where: Rows that count, `[B]`, bool.
      plan: Sequences that have a packed shape in it become `PackedFrames`; without a plan all are padded.

    Raises:
      TypeError: if `data.features` is a plain dict, whose keys JAX sorts.
    """
    features: dict[str, Any] = OrderedDict()
    for name in modality_names(data.features):
        values = data.features[name]
        if plan is not None and name in plan.shape:
            shape = plan.shape[name]
            row = jnp.asarray(shape.row)
            blocks = tuple(values[rows[row[:num]], start:end] for num, start, end in shape.blocks)
            features[name] = PackedFrames(blocks, row)
        else:
            features[name] = values[rows]
    length = {name: frames[rows] for name, frames in data.length.items()}
    optional = [None if values is None else values[rows] for values in (data.target, data.speaker)]
    return Batch(features, length, data.present[rows], data.label[rows], where, *optional)


def example_batch(modalities: Sequence[ModalityConfig], size: int = 2, num_frames: int = 8) -> Batch:
    """A batch of zeros with the shapes of these modalities, to initialise parameters with."""
    features: dict[str, Any] = OrderedDict()
    length = {}
    for modality in modalities:
        frames = () if modality.encoder == "vector" else (num_frames,)
        features[modality.name] = jnp.zeros((size, *frames, modality.width))
        if frames:
            length[modality.name] = jnp.full((size,), num_frames, jnp.int32)
    present = jnp.ones((size, len(modalities)), bool)
    return Batch(features, length, present, jnp.zeros((size,), jnp.int32), jnp.ones((size,), bool))


def fold_matches_plan(length: Mapping[str, Array], fold: Fold, plan: BatchPlan) -> Array:
    """Whether every utterance of a fold fits into its packed row, a bool array. True for the folds of the plan."""
    parts = (
        (plan.train, fold.train, fold.train_where),
        (plan.val, fold.val, fold.val_where),
        (plan.test, fold.test, fold.test_where),
    )
    inside = [jnp.array(True)]
    for part, rows, where in parts:
        inside.append(_fits(arrange(length, rows, where, part)[1], part))
    if plan.both is not None:
        longest = _longest_rows(length, fold, plan)
        inside.append(_fits({name: frames[None] for name, frames in longest.items()}, plan.both))
    return jnp.stack(inside).all()


def _fits(counted: Mapping[str, Array], part: PartPlan) -> Array:
    """Whether frames per batch row, `[S, B]` per modality, are inside the packed rows, a bool array."""
    inside = [jnp.array(True)]
    for name, shape in part.shape.items():
        inside.append((counted[name][:, jnp.array(shape.row)] <= jnp.array(shape.bound)[None]).all())
    return jnp.stack(inside).all()


def _longest_rows(length: Mapping[str, Any], fold: Fold, plan: BatchPlan) -> dict[str, Any]:
    """Most frames of each row of a fold's batches with both streams, `[B]` per modality; numpy or JAX."""
    assert plan.unlabelled is not None
    xp = fold.train.__array_namespace__()
    labelled = arrange(length, fold.train, fold.train_where, plan.train)[1]
    others = arrange(length, *unlabelled_rows(fold), plan.unlabelled)[1]
    most = lambda frames: xp.max(frames, axis=0)
    return {name: xp.concatenate([most(labelled[name]), most(others[name])]) for name in length}


def _packed_shape(length: np.ndarray) -> PackedShape:
    """The packed shape into which all batches of all folds fit: `length` is `[F, S, B]`."""
    bound = np.maximum(length.max(axis=(0, 1)), 1)
    row = np.argsort(-bound, kind="stable")
    return PackedShape(tuple(row.tolist()), tuple(bound[row].tolist()), _blocks(bound[row].tolist()))


def _blocks(bound: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Covers rows with falling bounds by at most MAX_BLOCKS blocks of least area; row counts are from `_row_counts`."""
    size, longest = len(bound), bound[0]
    heights = sorted({size, *(n for n in _row_counts(size) if bound[n] < longest)}, reverse=True)
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


def _row_counts(size: int) -> list[int]:
    """The row counts below `size` that are tried: 1 to 7 times powers of two, so that the search stays small."""
    return sorted({m * 2**k for k in range(size.bit_length()) for m in (1, 2, 3, 4, 5, 6, 7) if 0 < m * 2**k < size})
