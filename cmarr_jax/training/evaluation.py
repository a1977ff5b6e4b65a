"""Scores in every availability condition: each utterance is encoded once, then classified per condition."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.batching import PartPlan, arrange, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.normalizer import Normalizer, in_target_units, normalize
from cmarr_jax.methods.base import Embedding, Method, Params
from cmarr_jax.types import Array, Batch


class Evaluation(NamedTuple):
    """Scores of some rows by condition, in the order of `availability_patterns`.

    Attributes:
      counts: Confusion counts, `[P, K, K]` int32. Of a regression, the sums of `cmarr_jax.metrics.agreement_sums`,
        `[P, 7]`, of standardised numbers.
      finite: Whether all logits behind them were finite, a bool.
      logits: `[P, n, K]`, in the order of the rows, zeros for rows that do not count; `None` if they are not kept. Of a
        regression, the predicted numbers, K = 1; in the unit of the target where `evaluate` gives them.
    """

    counts: Array
    finite: Array
    logits: Array | None = None


def evaluate_batch(method: Method, params: Params, batch: Batch) -> Evaluation:
    """Scores one batch in every condition, and keeps no logits."""
    return evaluate_embedding(method, params, method.encode(params, batch), batch)._replace(logits=None)


def evaluate_embedding(
    method: Method, params: Params, embedding: Embedding, batch: Batch, normalizer: Normalizer | None = None
) -> Evaluation:
    """Scores one batch, whose embedding is known, in every condition.

    An utterance that has none of a condition's modalities is not counted in it. Numbers of a regression are given in
    the unit of the target if the normaliser is given.
    """

    def one(pattern: Array) -> Evaluation:
        available = pattern[None] & batch.present
        logits = method.predict(params, embedding, available)
        counted = batch.where & available.any(axis=-1)
        counts = method.task.sums(logits, batch, counted)
        logits = logits if normalizer is None else in_target_units(normalizer, logits)
        logits = jnp.where(counted[:, None], logits, 0.0)
        return Evaluation(counts, jnp.isfinite(logits).all(), logits)

    evaluation = jax.vmap(one)(jnp.asarray(availability_patterns(batch.present.shape[1])))
    return evaluation._replace(finite=evaluation.finite.all())


def evaluate(
    method: Method,
    params: Params,
    normalizer: Normalizer,
    data: DeviceCorpus,
    rows: Array,
    where: Array,
    plan: PartPlan | None = None,
) -> tuple[Evaluation, dict[str, Array]]:
    """Scores rows of a corpus in every condition, and keeps their logits.

    Args:
      method: Its `encode`, `predict` and `diagnose` are used.
      params: Parameters.
      normalizer: Of the training rows.
      data: The corpus.
      rows: `[n]`, int.
      where: Rows that count, `[n]`, bool.
      plan: Batches of these rows; by default 256 rows each, padded to the longest utterance.

    Returns:
      The evaluation, and the method's diagnostics on the first batch.
    """
    plan = plan or PartPlan(min(256, len(rows)))
    # Batches of positions in `rows`, so that the logits can go back to them.
    lengths = {name: frames[rows] for name, frames in data.length.items()}
    (position, counted), _ = arrange(lengths, jnp.arange(len(rows)), where, plan)
    is_first = jnp.arange(len(position)) == 0

    def one(part: tuple[Array, Array, Array]) -> tuple[Evaluation, dict[str, Array]]:
        first, position, counted = part
        batch = normalize(normalizer, take(data, rows[position], counted, plan))
        embedding = method.encode(params, batch)
        diagnose = lambda: method.diagnose(params, embedding, batch.where)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(diagnose))
        evaluation = evaluate_embedding(method, params, embedding, batch, normalizer)
        return evaluation, jax.lax.cond(first, diagnose, lambda: nothing)

    (counts, finite, logits), diagnostics = jax.lax.map(one, (is_first, position, counted))
    logits = in_row_order(logits.swapaxes(1, 2), position, counted, len(rows)).swapaxes(0, 1)
    diagnostics = jax.tree.map(lambda values: values[0], diagnostics)
    return Evaluation(counts.sum(0), finite.all(), logits), diagnostics


def in_row_order(values: Array, position: Array, counted: Array, num_rows: int) -> Array:
    """Values of batches, `[batches, B, ...]`, as `[num_rows, ...]`; zeros for rows that do not count.

    Args:
      values: Of each row of each batch.
      position: Which row that is, `[batches, B]`.
      counted: False for rows that fill up a batch, `[batches, B]`.
      num_rows: How many rows there are.
    """
    to = jnp.where(counted, position, num_rows).reshape(-1)  # rows that fill up a batch are dropped
    flat = values.reshape(-1, *values.shape[2:])
    return jnp.zeros((num_rows, *flat.shape[1:]), values.dtype).at[to].set(flat, mode="drop")
