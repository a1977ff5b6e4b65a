"""Training batches of a run: labelled rows, followed by unlabelled ones where the method reads them.

Labelled and unlabelled rows are two streams, each arranged and shuffled by itself, so every batch has up to
`batch_size` of each. With few labels it has all labelled rows, and more unlabelled ones. The labelled stream sets the
length of an epoch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from cmarr_jax.data.batching import BatchPlan, PartPlan, arrange, shuffle, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold, unlabelled_rows
from cmarr_jax.types import Array, Batch

Rows = tuple[Array, Array]  # rows and which of them count, `[S, B]` each
Streams = tuple[Rows] | tuple[Rows, Rows]  # labelled rows, and unlabelled ones


def arrange_streams(length: Mapping[str, Array], fold: Fold, plan: BatchPlan, *, unlabelled: bool) -> Streams:
    """The rows of a fold's training batches, not shuffled.

    Args:
      length: Frames of each utterance per sequence modality, `[N]`.
      fold: One fold.
      plan: Its batches.
      unlabelled: Whether the method reads unlabelled rows.
    """
    labelled, _ = arrange(length, fold.train, fold.train_where, plan.train)
    if not unlabelled or fold.unlabelled is None:
        return (labelled,)
    return labelled, arrange(length, *unlabelled_rows(fold), _present(plan.unlabelled))[0]


def draw_batches(key: Array, streams: Streams, plan: BatchPlan, num_steps: int) -> Rows:
    """The rows of an epoch's batches, `[num_steps, B]`. A stream that ends is shuffled again."""
    rows = _draw(key, streams[0], plan.train, num_steps)
    if len(streams) == 1:
        return rows
    others = _draw(jax.random.fold_in(key, 2**31 - 1), streams[1], _present(plan.unlabelled), num_steps)
    return jnp.concatenate([rows[0], others[0]], axis=1), jnp.concatenate([rows[1], others[1]], axis=1)


def take_batch(data: DeviceCorpus, rows: Array, where: Array, plan: BatchPlan) -> Batch:
    """A training batch; the label of unlabelled rows is -1, whatever the corpus says.

    Args:
      data: The corpus.
      rows: `[B]`, from `draw_batches`.
      where: Rows that count, `[B]`.
      plan: Batches with more rows than `plan.train` has are those of both streams.
    """
    size = plan.train.batch_size
    if len(rows) == size:
        return take(data, rows, where, plan.train)
    batch = take(data, rows, where, plan.both)
    return batch._replace(label=jnp.where(jnp.arange(len(rows)) < size, batch.label, -1))


def training_rows(fold: Fold) -> Rows:
    """All training rows of a fold, with and without label, and which of them count, `[n]`."""
    if fold.unlabelled is None:
        return fold.train, fold.train_where
    rows, where = unlabelled_rows(fold)
    return jnp.concatenate([fold.train, rows]), jnp.concatenate([fold.train_where, where])


def _draw(key: Array, batches: Rows, plan: PartPlan, num_steps: int) -> Rows:
    num_batches = len(batches[0])
    keys = jax.random.split(key, -(-num_steps // num_batches))
    passes = jax.vmap(lambda key: shuffle(key, batches, plan))(keys)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_steps], passes)


def _present(plan: PartPlan | None) -> PartPlan:
    assert plan is not None, "the plan was made for folds without unlabelled rows"
    return plan
