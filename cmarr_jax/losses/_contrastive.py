"""Contrastive losses: InfoNCE from logits, between Gaussians or points of two modalities, and supervised contrastive.

All return one value per anchor. With `axis_name`, anchors are this device's rows and candidates the rows of all
devices, which keep their gradient: reduce with `masked_mean(..., axis_name)` and psum loss and gradients.
"""

import functools
import itertools
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from cmarr_jax.losses._gaussian import pairwise_squared_w2
from cmarr_jax.losses._reduce import all_rows, at_least_float32, checked_temperature, row_index, select_rows
from cmarr_jax.types import AnchorLoss, Array

_NORM_EPS = 1e-8  # added to the squared norm: the gradient at a zero vector is finite, at most 1e4


def info_nce(logits: Array, positive: Array, valid: Array, candidate: Array) -> AnchorLoss:
    """InfoNCE from logits: cross-entropy of picking the positive among the candidates.

    `value[i] = log(sum_j exp(logits[i, j])) - logits[i, positive[i]]`, j over the candidates and the positive. An
    anchor with no other candidate has the value 0 (log 1) and stays valid.

    Args:
      logits: Similarity of anchors and candidates, `[N, C]`, float; entries that are not used may be nan.
      positive: Index of each anchor's positive, `[N]`, int, in `[0, C)` where valid (not checked). It counts as a
        candidate whatever `candidate` says.
      valid: Anchors that count, `[N]`, bool.
      candidate: What may be contrasted, `[C]` or by anchor `[N, C]`, bool.

    Returns:
      Loss `[N]`, nats, >= 0, 0 where invalid, float32 (float64 for float64 inputs); `valid` as given.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.

    References:
      van den Oord, Li and Vinyals, Representation Learning with Contrastive Predictive Coding, 2018, eq. 4.
    """
    chex.assert_rank([logits, candidate], [2, {1, 2}])
    chex.assert_type([logits, positive, valid, candidate], [float, int, bool, bool])
    chex.assert_shape([positive, valid], logits.shape[:1])
    chex.assert_shape(candidate, logits.shape[-candidate.ndim :])
    is_positive = positive[:, None] == jnp.arange(logits.shape[1])[None]
    logits = _select_logits(logits, is_positive | jnp.atleast_2d(candidate), valid)
    positive_logit = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)
    return AnchorLoss(jnp.where(valid, jax.nn.logsumexp(logits, axis=-1) - positive_logit, 0.0), valid)


def distribution_info_nce(
    mean_a: Array,
    std_a: Array,
    mean_b: Array,
    std_b: Array,
    where: Array,
    *,
    temperature: float | Array,
    scale: float | Array | None = None,
    distance: Callable[[Array, Array, Array, Array], Array] = pairwise_squared_w2,
    axis_name: str | None = None,
) -> AnchorLoss:
    """InfoNCE between the Gaussians of two modalities; row i of one is the positive of row i of the other.

    `logits[i, j] = -scale * distance(a[i], b[j]) / temperature`; the value of a pair is the mean of both directions (a
    among all b, b among all a). No labels are used. Candidates are the other modality of all utterances that count. A
    pair without any other candidate has the value 0 and stays valid. The paper's form is not public: scale and
    temperature as in MAP, whose added shift cancels in the softmax; the default scale 1/D is not given there.

    Args:
      mean_a: Means of the first modality, `[B, D]`, float.
      std_a: Standard deviations (not variances, not logs), `[B, D]`, float, >= 0 (not checked).
      mean_b: Means of the second modality, `[B, D]`, float.
      std_b: Standard deviations, `[B, D]`, float.
      where: Pairs that count, as anchors and as candidates, `[B]`, bool. Other rows may hold nan.
      temperature: Softmax temperature, > 0; a number or a scalar array.
      scale: Factor of the distance; 1/D if None.
      distance: `mean, std` `[N, D]` and `mean, std` `[M, D]` to `[N, M]`; need not be symmetric. Rows that do not count
        reach it as ones.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B]`, nats, >= 0, 0 where invalid, float32 (float64 for float64 inputs); `valid` is `where`.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number that is not > 0.

    References:
      Ji et al., MAP: Multimodal Uncertainty-Aware Vision-Language Pre-training Model, CVPR 2023.
    """
    chex.assert_rank([mean_a, where], [2, 1])
    chex.assert_type([mean_a, std_a, mean_b, std_b], float)
    chex.assert_equal_shape([mean_a, std_a, mean_b, std_b])
    temperature = checked_temperature(temperature)
    factor = (1 / mean_a.shape[1] if scale is None else scale) / temperature
    logits_fn = lambda a, b: -factor * distance(*a, *b)
    return _symmetric_info_nce(logits_fn, (mean_a, std_a), (mean_b, std_b), where, axis_name)


def point_info_nce(
    points_a: Array, points_b: Array, where: Array, *, temperature: float | Array, axis_name: str | None = None
) -> AnchorLoss:
    """InfoNCE between points of two modalities, by cosine similarity: the ablation of `distribution_info_nce`.

    `logits[i, j] = cos(points_a[i], points_b[j]) / temperature`, with `x * rsqrt(||x||^2 + 1e-8)` for `x / ||x||`; the
    value of a pair is the mean of both directions. Not given in the paper; as in CLIP.

    Args:
      points_a: Points of the first modality, `[B, D]`, float.
      points_b: Points of the second modality, `[B, D]`, float.
      where: Pairs that count, as anchors and as candidates, `[B]`, bool. Other rows may hold nan.
      temperature: Softmax temperature, > 0; a number or a scalar array.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B]`, nats, >= 0, 0 where invalid, float32 (float64 for float64 inputs); `valid` is `where`.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number that is not > 0.

    References:
      Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, figure 3.
    """
    chex.assert_rank([points_a, where], [2, 1])
    chex.assert_type([points_a, points_b], float)
    chex.assert_equal_shape([points_a, points_b])
    temperature = checked_temperature(temperature)
    logits_fn = lambda a, b: _dot(_normalize(a), _normalize(b)) / temperature
    return _symmetric_info_nce(logits_fn, points_a, points_b, where, axis_name)


def alignment(
    mean: Array,
    std: Array,
    present: Array,
    where: Array,
    *,
    temperature: float | Array,
    scale: float | Array | None = None,
    distance: Callable[[Array, Array, Array, Array], Array] = pairwise_squared_w2,
    axis_name: str | None = None,
) -> AnchorLoss:
    """Cross-modal alignment: `distribution_info_nce` for every pair of modalities.

    Pairs come in the order (0, 1), (0, 2), ..., (M-2, M-1). A pair of an utterance counts where both modalities are
    present. `masked_mean` of the result weighs all counted pairs alike.

    Args:
      mean: Means, `[B, M, D]`, float; absent modalities may hold nan.
      std: Standard deviations (not variances, not logs), `[B, M, D]`, float, >= 0 (not checked).
      present: Modalities that count, `[B, M]`, bool.
      where: Utterances that count, `[B]`, bool.
      temperature: Softmax temperature, > 0; a number or a scalar array.
      scale: Factor of the distance; 1/D if None.
      distance: As in `distribution_info_nce`.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B, M (M - 1) / 2]`, nats, >= 0, 0 where invalid, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number that is not > 0.

    References:
      CM-ARR, arXiv 2407.09029 (the abstract: distribution-based, unsupervised, 2-Wasserstein); the form as in MAP.
    """
    chex.assert_rank([mean, present], [3, 2])
    chex.assert_axis_dimension_gteq(mean, 1, 2)
    chex.assert_equal_shape([mean, std])
    chex.assert_shape([present, where], [mean.shape[:2], mean.shape[:1]])
    chex.assert_type([present, where], bool)
    first, second = jnp.asarray(list(itertools.combinations(range(mean.shape[1]), 2))).T
    pair_where = present[:, first] & present[:, second] & where[:, None]
    loss_fn = functools.partial(
        distribution_info_nce, temperature=temperature, scale=scale, distance=distance, axis_name=axis_name
    )
    gaussians = mean[:, first], std[:, first], mean[:, second], std[:, second]
    return jax.vmap(loss_fn, in_axes=1, out_axes=1)(*gaussians, pair_where)


def supervised_contrastive(
    points: Array, labels: Array, where: Array, *, temperature: float | Array = 0.1, axis_name: str | None = None
) -> AnchorLoss:
    """Supervised contrastive loss, the sum over positives outside the log (L_out).

    `value[i] = log(sum_a exp(s[i, a])) - mean_p s[i, p]` with `s = cos(points[i], points[a]) / temperature`, a over all
    points that count but i, p over those with the label of i. Cosines use `x * rsqrt(||x||^2 + 1e-8)` for `x / ||x||`,
    so a zero vector has a finite gradient. An anchor with no positive is invalid and adds 0.

    Args:
      points: Points of all modalities, real and recovered, one a row, `[N, D]`, float; need not be normalised.
      labels: Class of each point, `[N]`, int.
      where: Points that count, as anchors and as candidates, `[N]`, bool. Other rows may hold nan.
      temperature: Softmax temperature, > 0; a number or a scalar array.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[N]`, nats, 0 where invalid, float32 (float64 for float64 inputs); `valid` where a point counts and has a
      positive on any device.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number that is not > 0.

    References:
      Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, eq. 2.
    """
    chex.assert_rank(points, 2)
    chex.assert_type([points, labels, where], [float, int, bool])
    chex.assert_shape([labels, where], points.shape[:1])
    temperature = checked_temperature(temperature)
    points = _normalize(select_rows(points, where, 1.0))
    candidates, candidate_labels, candidate_where = all_rows((points, labels, where), axis_name)
    index = row_index(len(points), axis_name)
    is_self = index[:, None] == jnp.arange(len(candidates))[None]
    allowed = candidate_where[None] & ~is_self
    is_positive = allowed & (labels[:, None] == candidate_labels[None])
    num_positives = jnp.sum(is_positive, axis=-1)
    valid = where & (num_positives > 0)
    logits = _select_logits(_dot(points, candidates) / temperature, allowed, valid)
    positive_sum = jnp.sum(jnp.where(is_positive, logits, 0.0), axis=-1)
    value = jax.nn.logsumexp(logits, axis=-1) - positive_sum / jnp.maximum(num_positives, 1)
    return AnchorLoss(jnp.where(valid, value, 0.0), valid)


def _symmetric_info_nce(
    logits_fn: Callable[..., Array], a: chex.ArrayTree, b: chex.ArrayTree, where: Array, axis_name: str | None
) -> AnchorLoss:
    """Mean of InfoNCE from `a` to `b` and back; `logits_fn` takes anchors `[B, D]` and candidates `[C, D]`."""
    chex.assert_type(where, bool)
    chex.assert_equal_shape_prefix([*jax.tree.leaves((a, b)), where], 1)
    a, b = jax.tree.map(lambda x: select_rows(x, where, 1.0), (a, b))
    all_a, all_b, candidate = all_rows((a, b, where), axis_name)
    positive = row_index(len(where), axis_name)
    to_b = info_nce(logits_fn(a, all_b), positive, where, candidate)
    to_a = info_nce(logits_fn(b, all_a), positive, where, candidate)
    return AnchorLoss(0.5 * (to_b.value + to_a.value), where)


def _select_logits(logits: Array, allowed: Array, valid: Array) -> Array:
    """Logits with -inf for what is no candidate, and zeros in the rows of invalid anchors, which may have none."""
    return jnp.where(valid[:, None], jnp.where(allowed, at_least_float32(logits), -jnp.inf), 0.0)


def _normalize(points: Array) -> Array:
    """Rows of length 1 (a zero vector stays zero)."""
    return points * jax.lax.rsqrt(jnp.sum(points**2, axis=-1, keepdims=True) + _NORM_EPS)


def _dot(a: Array, b: Array) -> Array:
    """All inner products, `[N, D], [M, D] -> [N, M]`, in full float32 also where TF32 or bfloat16 is the default."""
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
