"""InfoNCE between modalities: Gaussians or points, for one pair of modalities or for all pairs.

Row i of one modality is the positive of row i of the other. With `axis_name`, anchors are this device's rows and
candidates the rows of all devices, which keep their gradient: reduce with `masked_mean(*out, axis_name=axis_name)` and
psum loss and gradients.
"""

import functools
import itertools
from collections.abc import Callable, Mapping

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cmarr_jax.losses._contrastive import info_nce, normalize
from cmarr_jax.losses._gaussian import GAUSSIANS, pairwise_squared_w2
from cmarr_jax.losses._reduce import (
    all_rows,
    as_mask,
    checked_temperature,
    mean_row,
    pairwise_dot,
    row_index,
    select_rows,
)
from cmarr_jax.types import Array, MaskedLoss


def distribution_info_nce(
    mean_a: ArrayLike,
    std_a: ArrayLike,
    mean_b: ArrayLike,
    std_b: ArrayLike,
    where: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    temperature: ArrayLike,
    scale: ArrayLike | None = None,
    distance: Callable[[Array, Array, Array, Array], Array] = pairwise_squared_w2,
    positive_in_denominator: bool = True,
    axis_name: str | None = None,
) -> MaskedLoss:
    """InfoNCE between the Gaussians of two modalities; row i of one is the positive of row i of the other.

    `logits[i, j] = -scale * distance(a[i], b[j]) / temperature`; the value of a pair is the mean of both directions (a
    among all b, b among all a). No labels are used. Candidates are the other modality of all utterances that count. A
    pair without any other candidate has the value 0 and stays valid; decoupled (`positive_in_denominator=False`), it is
    invalid and adds 0. The paper's form is not public: scale and temperature as in MAP, whose added shift cancels in
    the softmax; the default scale 1/D is not given there.

    Args:
      mean_a: Means of the first modality, `[B, D]`, float.
      std_a: Standard deviations (not variances, not logs), `[B, D]`, float, >= 0 (not checked).
      mean_b: Means of the second modality, `[B, D]`, float.
      std_b: Standard deviations, `[B, D]`, float.
      where: Pairs that count, as anchors and as candidates, `[B]`, bool; all if None. Other rows may hold nan.
      group: Number of a row's group, `[B]`, int: candidates of other groups do not count; one group if None.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      scale: Factor of the distance, a number or a scalar array; 1/D if None.
      distance: `mean, std` `[N, D]` and `mean, std` `[M, D]` to `[N, M]`; need not be symmetric. Rows that do not count
        reach it as the mean of those that do. Here: `pairwise_squared_w2`, `pairwise_symmetric_kl`,
        `pairwise_squared_mean_distance`.
      positive_in_denominator: False for the decoupled loss, as in `info_nce`.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B]`, nats, >= 0 with the positive in the denominator, 0 where invalid, float32 (float64 for float64
      inputs); `valid` is `where`, decoupled: where there is another candidate, too.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> mean, std = jnp.array([[0.0], [2.0]]), jnp.ones((2, 1))
      >>> out = losses.distribution_info_nce(mean, std, mean, std, temperature=2.0)
      >>> print(np.asarray(out.value).round(3))  # squared distances 0 and 4: log(1 + exp(-4 / 2))
      [0.127 0.127]

    References:
      Ji et al., MAP: Multimodal Uncertainty-Aware Vision-Language Pre-training Model, CVPR 2023.
      Yeh et al., Decoupled Contrastive Learning, ECCV 2022, loss L_DC; there, the negatives are those of both views.
    """
    mean_a, std_a, mean_b, std_b = map(jnp.asarray, (mean_a, std_a, mean_b, std_b))
    chex.assert_rank(mean_a, 2, custom_message="mean_a")
    chex.assert_type([mean_a, std_a, mean_b, std_b], float, custom_message=GAUSSIANS)
    chex.assert_equal_shape([mean_a, std_a, mean_b, std_b], custom_message=GAUSSIANS)
    where = as_mask(where, mean_a.shape[:1])
    if scale is not None:
        chex.assert_rank(scale, 0, custom_message="scale")
    factor = (1 / mean_a.shape[1] if scale is None else scale) / checked_temperature(temperature)
    logits_fn = lambda a, b: jnp.multiply(-factor, distance(*a, *b))
    return _symmetric_info_nce(
        logits_fn, (mean_a, std_a), (mean_b, std_b), where, group, positive_in_denominator, axis_name
    )


def point_info_nce(
    points_a: ArrayLike,
    points_b: ArrayLike,
    where: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    temperature: ArrayLike,
    positive_in_denominator: bool = True,
    axis_name: str | None = None,
) -> MaskedLoss:
    """InfoNCE between points of two modalities, by cosine similarity: the ablation of `distribution_info_nce`.

    `logits[i, j] = cos(points_a[i], points_b[j]) / temperature`, with `x * rsqrt(||x||^2 + 1e-8)` for `x / ||x||`; the
    value of a pair is the mean of both directions. Pairs without another candidate: as in `distribution_info_nce`. Not
    given in the paper; as in CLIP.

    Args:
      points_a: Points of the first modality, `[B, D]`, float.
      points_b: Points of the second modality, `[B, D]`, float.
      where: Pairs that count, as anchors and as candidates, `[B]`, bool; all if None. Other rows may hold nan.
      group: Number of a row's group, `[B]`, int: candidates of other groups do not count; one group if None.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      positive_in_denominator: False for the decoupled loss, as in `info_nce`.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B]`, nats, >= 0 with the positive in the denominator, 0 where invalid, float32 (float64 for float64
      inputs); `valid` is `where`, decoupled: where there is another candidate, too.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> points = jnp.array([[3.0, 0.0], [0.0, 1.0]])
      >>> print(np.asarray(losses.point_info_nce(points, points, temperature=0.5).value).round(3))  # cosines 1 and 0
      [0.127 0.127]

    References:
      Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, figure 3.
      Yeh et al., Decoupled Contrastive Learning, ECCV 2022, loss L_DC; there, the negatives are those of both views.
    """
    points_a, points_b = jnp.asarray(points_a), jnp.asarray(points_b)
    chex.assert_rank(points_a, 2, custom_message="points_a")
    chex.assert_type([points_a, points_b], float, custom_message="in order: points_a, points_b")
    chex.assert_equal_shape([points_a, points_b], custom_message="in order: points_a, points_b")
    where = as_mask(where, points_a.shape[:1])
    temperature = checked_temperature(temperature)
    logits_fn = lambda a, b: pairwise_dot(normalize(a), normalize(b)) / temperature
    return _symmetric_info_nce(logits_fn, points_a, points_b, where, group, positive_in_denominator, axis_name)


def alignment(
    mean: ArrayLike,
    std: ArrayLike,
    present: ArrayLike,
    where: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    temperature: ArrayLike,
    scale: ArrayLike | None = None,
    distance: Callable[[Array, Array, Array, Array], Array] = pairwise_squared_w2,
    positive_in_denominator: bool = True,
    axis_name: str | None = None,
) -> MaskedLoss:
    """Cross-modal alignment: `distribution_info_nce` for every pair of modalities.

    Pairs come in the order (0, 1), (0, 2), ..., (M-2, M-1). A pair of an utterance counts where both modalities are
    present. `masked_mean` of the result weighs all counted pairs alike. Pairs without another candidate: as in
    `distribution_info_nce`.

    Args:
      mean: Means, `[B, M, D]`, float; absent modalities may hold nan.
      std: Standard deviations (not variances, not logs), `[B, M, D]`, float, >= 0 (not checked).
      present: Modalities that count, `[B, M]`, bool.
      where: Utterances that count, `[B]`, bool; all if None.
      group: As in `distribution_info_nce`.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      scale: Factor of the distance, a number or a scalar array; 1/D if None.
      distance: As in `distribution_info_nce`.
      positive_in_denominator: False for the decoupled loss, as in `info_nce`.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B, M (M - 1) / 2]`, nats, >= 0 with the positive in the denominator, 0 where invalid, float32 (float64 for
      float64 inputs); `valid` where the pair counts, decoupled: where there is another candidate, too.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> mean = jnp.array([[[0.0], [0.0], [0.0]], [[2.0], [2.0], [2.0]]])  # 2 utterances, 3 modalities, D = 1
      >>> present = jnp.array([[True, True, True], [True, True, False]])
      >>> out = losses.alignment(mean, jnp.ones_like(mean), present, temperature=2.0)
      >>> print(np.asarray(out.value).round(3))
      [[0.127 0.    0.   ]
       [0.127 0.    0.   ]]
      >>> print(f"{losses.masked_mean(*out):.3f}")  # 4 pairs count; two of them have no other candidate
      0.063

    References:
      CM-ARR, arXiv 2407.09029 (the abstract: distribution-based, unsupervised, 2-Wasserstein); the form as in MAP.
    """
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    chex.assert_equal_shape([mean, std], custom_message="in order: mean, std")
    loss_fn = functools.partial(
        distribution_info_nce,
        group=group,
        temperature=temperature,
        scale=scale,
        distance=distance,
        positive_in_denominator=positive_in_denominator,
        axis_name=axis_name,
    )
    return _over_pairs(loss_fn, {"mean": mean, "std": std}, present, where)


def point_alignment(
    points: ArrayLike,
    present: ArrayLike,
    where: ArrayLike | None = None,
    *,
    group: ArrayLike | None = None,
    temperature: ArrayLike,
    positive_in_denominator: bool = True,
    axis_name: str | None = None,
) -> MaskedLoss:
    """Cross-modal alignment of points: `point_info_nce` for every pair of modalities, the ablation of `alignment`.

    Order of the pairs, and which count: as in `alignment`.

    Args:
      points: Points, `[B, M, D]`, float; absent modalities may hold nan.
      present: Modalities that count, `[B, M]`, bool.
      where: Utterances that count, `[B]`, bool; all if None.
      group: As in `point_info_nce`.
      temperature: Softmax temperature, > 0 (not checked where traced); a number or a scalar array.
      positive_in_denominator: False for the decoupled loss, as in `info_nce`.
      axis_name: Device axis of an enclosing `pmap`: candidates are then gathered from all devices.

    Returns:
      Loss `[B, M (M - 1) / 2]`, nats, >= 0 with the positive in the denominator, 0 where invalid, float32 (float64 for
      float64 inputs); `valid` where the pair counts, decoupled: where there is another candidate, too.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
      ValueError: if `temperature` is a number or a concrete array that is not > 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> points = jnp.array([[[3.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 7.0]]])  # 2 utterances, 2 modalities
      >>> print(np.asarray(losses.point_alignment(points, jnp.ones((2, 2), bool), temperature=0.5).value).round(3))
      [[0.127]
       [0.127]]

    References:
      Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, figure 3.
    """
    loss_fn = functools.partial(
        point_info_nce,
        group=group,
        temperature=temperature,
        positive_in_denominator=positive_in_denominator,
        axis_name=axis_name,
    )
    return _over_pairs(loss_fn, {"points": jnp.asarray(points)}, present, where)


def _over_pairs(
    loss_fn: Callable[..., MaskedLoss], named: Mapping[str, Array], present: ArrayLike, where: ArrayLike | None
) -> MaskedLoss:
    """Applies `loss_fn(*embeddings of a, *embeddings of b, where)` to all pairs of modalities a < b, along axis 1.

    `named` are the embeddings `[B, M, D]`, of one shape, by the name of the argument.
    """
    embeddings, order = list(named.values()), f"in order: {', '.join(named)}"
    chex.assert_rank(embeddings, 3, custom_message=order)
    chex.assert_type(embeddings, float, custom_message=order)
    batch_size, num_modalities, _ = embeddings[0].shape
    chex.assert_axis_dimension_gteq(embeddings[0], 1, 2, custom_message=order)
    present = as_mask(present, (batch_size, num_modalities), "present")
    where = as_mask(where, (batch_size,))
    first, second = jnp.asarray(list(itertools.combinations(range(num_modalities), 2))).T
    pair_where = present[:, first] & present[:, second] & where[:, None]
    pairs = [x[:, side] for side in (first, second) for x in embeddings]
    return jax.vmap(loss_fn, in_axes=1, out_axes=1)(*pairs, pair_where)


def _symmetric_info_nce(
    logits_fn: Callable[..., Array],
    a: chex.ArrayTree,
    b: chex.ArrayTree,
    where: Array,
    group: ArrayLike | None,
    positive_in_denominator: bool,
    axis_name: str | None,
) -> MaskedLoss:
    """Mean of InfoNCE from `a` to `b` and back; `logits_fn` takes anchors `[B, D]` and candidates `[C, D]`."""
    a, b = jax.tree.map(lambda x: select_rows(x, where, mean_row(x, where, axis_name)), (a, b))
    all_a, all_b, candidate = all_rows((a, b, where), axis_name)
    positive = row_index(len(where), axis_name)
    if group is not None:
        group = jnp.asarray(group)
        chex.assert_shape(group, where.shape, custom_message="group")
        chex.assert_type(group, int, custom_message="group")
        candidate = candidate[None] & (group[:, None] == all_rows(group, axis_name)[None])
    loss_fn = lambda logits: info_nce(
        logits, positive, where, candidate, positive_in_denominator=positive_in_denominator
    )
    to_b, to_a = loss_fn(logits_fn(a, all_b)), loss_fn(logits_fn(b, all_a))
    valid = to_b.valid & to_a.valid
    return MaskedLoss(jnp.where(valid, 0.5 * (to_b.value + to_a.value), 0.0), valid)
