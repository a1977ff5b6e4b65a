"""Diagonal Gaussians: distances of pairs, entropy and its floor.

The `pairwise_` distances have one signature, `mean_a, std_a [N, D], mean_b, std_b [M, D] -> [N, M]`: each can be the
`distance` of `distribution_info_nce` and `alignment`.
"""

import math

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cmarr_jax.losses._reduce import at_least_float32, pairwise_dot
from cmarr_jax.types import Array

GAUSSIANS = "in order: mean_a, std_a, mean_b, std_b"  # in the messages of chex, which count the arguments from 0


def squared_w2(mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike) -> Array:
    """Squared 2-Wasserstein distance between diagonal Gaussians, row by row.

    `out = ||mean_a - mean_b||^2 + ||std_a - std_b||^2`, exact to rounding. No square root is taken, so the gradient is
    finite (zero) when the two are equal.

    Args:
      mean_a: Means, `[..., D]`, float.
      std_a: Standard deviations (not variances, not logs), `[..., D]`, float, >= 0 (not checked).
      mean_b: Means, `[..., D]`, float.
      std_b: Standard deviations, `[..., D]`, float.

    Returns:
      Distances, `[...]`, in squared embedding units, >= 0, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if the four shapes differ or a dtype is not float.

    Examples:
      >>> from cmarr_jax import losses
      >>> print(losses.squared_w2([[0.0, 0.0]], [[1.0, 1.0]], [[3.0, 4.0]], [[2.0, 3.0]]))  # 9 + 16 + 1 + 4
      [30.]

    References:
      Givens and Shortt, A class of Wasserstein metrics for probability distributions, 1984, diagonal case.
    """
    mean_a, std_a, mean_b, std_b = map(jnp.asarray, (mean_a, std_a, mean_b, std_b))
    chex.assert_type([mean_a, std_a, mean_b, std_b], float, custom_message=GAUSSIANS)
    chex.assert_equal_shape([mean_a, std_a, mean_b, std_b], custom_message=GAUSSIANS)
    mean_a, std_a, mean_b, std_b = map(at_least_float32, (mean_a, std_a, mean_b, std_b))
    return jnp.sum((mean_a - mean_b) ** 2 + (std_a - std_b) ** 2, axis=-1)


def pairwise_squared_w2(mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike) -> Array:
    """Squared 2-Wasserstein distance between all pairs of diagonal Gaussians.

    `out[i, j] = ||mean_a[i] - mean_b[j]||^2 + ||std_a[i] - std_b[j]||^2`, as one matrix product: with `a = [mean_a,
    std_a]` and `b = [mean_b, std_b]`, both shifted by the mean row of `b`, `||a||^2 + ||b||^2 - 2 a b`, clamped at 0
    (the gradient is 0 where the clamp acts). The shift changes neither value nor gradient, but keeps a common offset
    from cancelling: the error is about `1e-6 * (||a||^2 + ||b||^2)` *after* the shift, so distances far below the
    squared diameter of the whole set are inexact; `squared_w2` is exact for single pairs. The product is taken in full
    float32 also where the default is TF32 or bfloat16.

    Measured against differences broadcast to `[N, M, D]`, D = 128, 2 CPU cores, both directions of an InfoNCE with
    gradients: 0.8 against 8.0 ms at N = M = 128, 5.7 against 551 ms at 384; largest error of a distance near 500 was
    3e-4 against 6e-5, also with a common offset of 100 (4.0 without the shift).

    Args:
      mean_a: Means, `[N, D]`, float.
      std_a: Standard deviations (not variances, not logs), `[N, D]`, float, >= 0 (not checked).
      mean_b: Means, `[M, D]`, float.
      std_b: Standard deviations, `[M, D]`, float.

    Returns:
      Distances, `[N, M]`, in squared embedding units, >= 0, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> mean, std = jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.ones((2, 2))
      >>> print(np.asarray(losses.pairwise_squared_w2(mean, std, mean, 2 * std)).round(3))
      [[ 2. 27.]
       [27.  2.]]

    References:
      Givens and Shortt, A class of Wasserstein metrics for probability distributions, 1984, diagonal case.
    """
    mean_a, std_a, mean_b, std_b = _checked_pairs(mean_a, std_a, mean_b, std_b)
    a, b = jnp.concatenate([mean_a, std_a], axis=-1), jnp.concatenate([mean_b, std_b], axis=-1)
    return _pairwise_squared_distance(a, b)


def pairwise_squared_mean_distance(mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike) -> Array:
    """Squared Euclidean distance between the means of all pairs; the standard deviations are not read.

    `out[i, j] = ||mean_a[i] - mean_b[j]||^2`, as one matrix product like `pairwise_squared_w2`, with the same error.
    The ablation of a distribution-based distance to points.

    Args:
      mean_a: Means, `[N, D]`, float.
      std_a: Not read; `[N, D]`, float.
      mean_b: Means, `[M, D]`, float.
      std_b: Not read; `[M, D]`, float.

    Returns:
      Distances, `[N, M]`, in squared embedding units, >= 0, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> mean, std = jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.ones((2, 2))
      >>> print(np.asarray(losses.pairwise_squared_mean_distance(mean, std, mean, 2 * std)).round(3))
      [[ 0. 25.]
       [25.  0.]]
    """
    mean_a, _, mean_b, _ = _checked_pairs(mean_a, std_a, mean_b, std_b)
    return _pairwise_squared_distance(mean_a, mean_b)


def pairwise_symmetric_kl(mean_a: ArrayLike, std_a: ArrayLike, mean_b: ArrayLike, std_b: ArrayLike) -> Array:
    """Symmetric Kullback-Leibler divergence between all pairs of diagonal Gaussians.

    The mean of both directions, half of Jeffreys' divergence:
    `out[i, j] = (KL(a[i] || b[j]) + KL(b[j] || a[i])) / 2`, which is
    `sum((var_a - var_b)^2 / (var_a var_b) + (mean_a - mean_b)^2 (1 / var_a + 1 / var_b)) / 4` over the dimensions, with
    `var = std^2`. The logs of the two directions cancel. Unlike the 2-Wasserstein distance it does not change when a
    dimension is rescaled, and grows without bound as a standard deviation goes to 0.

    Taken as one matrix product, with the means shifted by the mean row of `mean_b`, clamped at 0 (the gradient is 0
    where the clamp acts). The error is about 1e-6 of the largest values, so values far below them are inexact: D = 128,
    128 rows, a positive of 34 nats beside others of 60,000 (standard deviations of 0.05) had an error of 0.04. Standard
    deviations below about 1e-9 overflow float32 in the gradient.

    Args:
      mean_a: Means, `[N, D]`, float.
      std_a: Standard deviations (not variances, not logs), `[N, D]`, float, > 0 (not checked).
      mean_b: Means, `[M, D]`, float.
      std_b: Standard deviations, `[M, D]`, float, > 0 (not checked).

    Returns:
      Divergences, `[N, M]`, nats, >= 0, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.

    Examples:
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> print(np.asarray(losses.pairwise_symmetric_kl([[0.0]], [[1.0]], [[0.0], [2.0]], [[2.0], [1.0]])).round(4))
      [[0.5625 2.    ]]

    References:
      Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    mean_a, std_a, mean_b, std_b = _checked_pairs(mean_a, std_a, mean_b, std_b)
    centre = jax.lax.stop_gradient(jnp.mean(mean_b, axis=0, keepdims=True))
    mean_a, mean_b = mean_a - centre, mean_b - centre
    precision_a, precision_b = (1 / std_a) ** 2, (1 / std_b) ** 2
    a = jnp.concatenate([mean_a**2 + std_a**2, precision_a, -2 * mean_a, -2 * mean_a * precision_a], axis=-1)
    b = jnp.concatenate([precision_b, mean_b**2 + std_b**2, mean_b * precision_b, mean_b], axis=-1)
    own_a = jnp.sum(mean_a**2 * precision_a - 1, axis=-1)
    own_b = jnp.sum(mean_b**2 * precision_b - 1, axis=-1)
    return 0.25 * _clamped(pairwise_dot(a, b) + own_a[:, None] + own_b[None])


def gaussian_entropy(log_std: ArrayLike) -> Array:
    """Differential entropy of diagonal Gaussians.

    `sum(log_std) + D / 2 * log(2 pi e)`; negative for narrow ones.

    Args:
      log_std: Logs of the standard deviations, `[..., D]`, float.

    Returns:
      Entropy, `[...]`, nats, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if `log_std` has no axis or is not float.

    Examples:
      >>> from cmarr_jax import losses
      >>> print(f"{losses.gaussian_entropy([0.0, 0.0]):.3f}")  # log(2 pi e)
      2.838

    References:
      Cover and Thomas, Elements of Information Theory, 2nd ed. 2006, theorem 8.4.1.
    """
    log_std = jnp.asarray(log_std)
    chex.assert_shape(log_std, (..., None), custom_message="log_std")
    chex.assert_type(log_std, float, custom_message="log_std")
    return jnp.sum(at_least_float32(log_std), axis=-1) + 0.5 * log_std.shape[-1] * math.log(2 * math.pi * math.e)


def entropy_floor(log_std: ArrayLike, *, floor_per_dim: ArrayLike) -> Array:
    """Hinge that keeps diagonal Gaussians from collapsing to points.

    `relu(floor_per_dim - gaussian_entropy(log_std) / D)`: zero, with zero gradient, for Gaussians whose mean entropy
    per dimension is at least the floor. Not given in the paper; a hinge on the entropy as in DistributionNet, but per
    item instead of over the batch, and per dimension so that the floor does not depend on D: a standard deviation of
    `s` in all dimensions has `log(s) + 1.419` nats per dimension.

    Args:
      log_std: Logs of the standard deviations, `[..., D]`, float.
      floor_per_dim: Least entropy that costs nothing, nats per dimension; a number or a scalar array.

    Returns:
      Penalty, `[...]`, nats per dimension, >= 0, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if `log_std` has no axis or is not float, or `floor_per_dim` has an axis.

    Examples:
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> print(np.asarray(losses.entropy_floor([[-1.0], [0.0]], floor_per_dim=1.0)).round(3))
      [0.581 0.   ]

    References:
      Yu et al., Robust Person Re-identification by Modelling Feature Uncertainty (DistributionNet), ICCV 2019.
    """
    log_std = jnp.asarray(log_std)
    chex.assert_rank(floor_per_dim, 0, custom_message="floor_per_dim")
    return jax.nn.relu(floor_per_dim - gaussian_entropy(log_std) / log_std.shape[-1])


def _checked_pairs(*args: ArrayLike) -> list[Array]:
    """The four arguments of a pairwise distance as arrays of at least float32, checked."""
    arrays = [jnp.asarray(x) for x in args]
    mean_a, std_a, mean_b, std_b = arrays
    chex.assert_rank(arrays, 2, custom_message=GAUSSIANS)
    chex.assert_type(arrays, float, custom_message=GAUSSIANS)
    chex.assert_equal_shape([mean_a, std_a], custom_message="in order: mean_a, std_a")
    chex.assert_equal_shape([mean_b, std_b], custom_message="in order: mean_b, std_b")
    chex.assert_equal_shape_suffix([mean_a, mean_b], 1, custom_message="in order: mean_a, mean_b")
    return [at_least_float32(x) for x in arrays]


def _pairwise_squared_distance(a: Array, b: Array) -> Array:
    """`||a[i] - b[j]||^2` as one matrix product, `[N, D], [M, D] -> [N, M]`; see `pairwise_squared_w2`."""
    centre = jax.lax.stop_gradient(jnp.mean(b, axis=0, keepdims=True))
    a, b = a - centre, b - centre
    return _clamped(jnp.sum(a**2, axis=-1)[:, None] + jnp.sum(b**2, axis=-1)[None] - 2 * pairwise_dot(a, b))


def _clamped(x: Array) -> Array:
    """Negative values, which are rounding errors, to 0; nan stays nan, so that it is seen."""
    return jnp.where(x < 0, 0.0, x)
