"""InfoNCE from logits, and supervised contrastive: one value per anchor."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cmarr_jax.losses._reduce import (
    all_rows,
    as_mask,
    at_least_float32,
    checked_temperature,
    pairwise_dot,
    row_index,
    select_rows,
)
from cmarr_jax.types import Array, MaskedLoss

_NORM_EPS = 1e-8  # added to the squared norm: the gradient at a zero vector is finite, at most 1e4


def info_nce(
    logits: ArrayLike,
    positive: ArrayLike,
    where: ArrayLike | None = None,
    candidate: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 1.0,
    positive_in_denominator: bool = True,
) -> MaskedLoss:
    """InfoNCE from logits: cross-entropy of picking the positive among the candidates.

    With `s = logits / temperature`, `value[i] = log(sum_j exp(s[i, j])) - s[i, positive[i]]`, j over the candidates and
    the positive. An anchor with no other candidate has the value 0 (log 1) and stays valid.

    With `positive_in_denominator=False` (decoupled) j runs over the other candidates only. Values may then be negative.
    An anchor with no other candidate is invalid and adds 0: its sum would be empty.

    Unused entries are replaced before any arithmetic, so that nan or inf in them reaches neither values nor gradients,
    that of `temperature` included. Divide by a learned temperature here, not before: `-inf / temperature` is -inf, but
    its gradient with respect to the temperature is nan.

    Args:
      logits: Similarity of anchors and candidates, `[N, C]`, float; -inf means "no candidate", unless it is the
        positive. Entries that are not used may be nan.
      positive: Index of each anchor's positive, `[N]`, int, in `[0, C)` where valid (not checked). It counts as a
        candidate whatever `candidate` says.
      where: Anchors that count, `[N]`, bool; all if None.
      candidate: What may be contrasted, `[C]` or by anchor `[N, C]`, bool; everything if None.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      positive_in_denominator: Whether the positive is a term of the sum; a Python bool.

    Returns:
      Loss `[N]`, nats, >= 0 with the positive in the denominator, 0 where invalid, float32 (float64 for float64
      inputs); `valid` is `where`, decoupled: where there is another candidate, too.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> logits = jnp.array([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
      >>> print(np.asarray(losses.info_nce(logits, jnp.array([0, 1])).value).round(3))
      [0.24  1.099]
      >>> print(np.asarray(losses.info_nce(logits, jnp.array([0, 1]), positive_in_denominator=False).value).round(3))
      [-1.307  0.693]

    References:
      van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding, 2018, eq. 4.
      Yeh et al., Decoupled Contrastive Learning, ECCV 2022, loss L_DC (unweighted).
    """
    logits, positive = jnp.asarray(logits), jnp.asarray(positive)
    chex.assert_rank(logits, 2, custom_message="logits")
    chex.assert_type([logits, positive], [float, int], custom_message="in order: logits, positive")
    chex.assert_shape(positive, logits.shape[:1], custom_message="positive")
    where = as_mask(where, logits.shape[:1])
    shape = logits.shape[-1:] if candidate is None or jnp.ndim(candidate) < 2 else logits.shape
    candidate = as_mask(candidate, shape, "candidate")
    temperature = checked_temperature(temperature)

    is_positive = positive[:, None] == jnp.arange(logits.shape[1])[None]
    negative = jnp.atleast_2d(candidate) & ~is_positive & (logits != -jnp.inf)
    terms, valid = is_positive | negative, where
    if not positive_in_denominator:
        terms, valid = negative, where & jnp.any(negative, axis=-1)
    used = (is_positive | negative) & valid[:, None]
    logits = jnp.where(used, at_least_float32(logits), 0.0) / temperature
    positive_logit = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)
    return MaskedLoss(jnp.where(valid, _log_sum_exp(logits, terms, valid) - positive_logit, 0.0), valid)


def supervised_contrastive(
    points: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 0.1,
    axis_name: str | None = None,
) -> MaskedLoss:
    """Supervised contrastive loss, the sum over positives outside the log (L_out).

    `value[i] = log(sum_a exp(s[i, a])) - mean_p s[i, p]` with `s = cos(points[i], points[a]) / temperature`, a over all
    points that count but i, p over those with the label of i. Cosines use `x * rsqrt(||x||^2 + 1e-8)` for `x / ||x||`,
    so a zero vector has a finite gradient. An anchor with no positive is invalid and adds 0. Unlabelled points (label
    < 0) are left out altogether: they are neither anchors nor candidates, as with `where` False.

    Args:
      points: Points of all modalities, real and recovered, one a row, `[N, D]`, float; need not be normalised.
      labels: Class of each point, `[N]`, int; negative: unlabelled.
      where: Points that count, as anchors and as candidates, `[N]`, bool; all if None. Other rows may hold nan.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      axis_name: Device axis of an enclosing `pmap`. Anchors are then this device's rows, candidates those of all
        devices, which keep their gradient: reduce with `masked_mean(*out, axis_name=...)`, psum loss and gradients.

    Returns:
      Loss `[N]`, nats, 0 where invalid, float32 (float64 for float64 inputs); `valid` where a point counts, has a label
      and has a positive on any device.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> points = jnp.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
      >>> out = losses.supervised_contrastive(points, jnp.array([0, 0, 1, -1]), temperature=0.5)
      >>> print(np.asarray(out.value).round(3), out.valid)  # no positive for the third point, no label for the fourth
      [0.127 0.127 0.    0.   ] [ True  True False False]

    References:
      Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.
    """
    points, labels = jnp.asarray(points), jnp.asarray(labels)
    chex.assert_rank(points, 2, custom_message="points")
    chex.assert_type([points, labels], [float, int], custom_message="in order: points, labels")
    chex.assert_shape(labels, points.shape[:1], custom_message="labels")
    where = as_mask(where, points.shape[:1]) & (labels >= 0)
    temperature = checked_temperature(temperature)

    points = normalize(select_rows(points, where, 1.0))
    candidates, candidate_labels, candidate_where = all_rows((points, labels, where), axis_name)
    index = row_index(len(points), axis_name)
    is_self = index[:, None] == jnp.arange(len(candidates))[None]
    allowed = candidate_where[None] & ~is_self
    is_positive = allowed & (labels[:, None] == candidate_labels[None])
    num_positives = jnp.sum(is_positive, axis=-1)
    valid = where & (num_positives > 0)
    logits = pairwise_dot(points, candidates) / temperature
    positive_sum = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)
    value = _log_sum_exp(logits, allowed, valid) - positive_sum / jnp.maximum(num_positives, 1)
    return MaskedLoss(jnp.where(valid, value, 0.0), valid)


def normalize(points: Array) -> Array:
    """Rows of length 1 (a zero vector stays zero)."""
    return points * jax.lax.rsqrt(jnp.sum(points**2, axis=-1, keepdims=True) + _NORM_EPS)


def _log_sum_exp(logits: Array, terms: Array, valid: Array) -> Array:
    """Log of the sum of `exp` over the terms of each row; rows of invalid anchors, which may have none, are finite."""
    return jax.nn.logsumexp(jnp.where(valid[:, None], jnp.where(terms, logits, -jnp.inf), 0.0), axis=-1)
