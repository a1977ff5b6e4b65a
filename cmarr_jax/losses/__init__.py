"""Losses of CM-ARR as pure functions of arrays; needs jax and chex only.

No loss is reduced. What comes back depends on whether the loss takes a mask:

- Losses with `where` return `MaskedLoss(value, valid)`: `info_nce`, `distribution_info_nce`, `point_info_nce`,
  `alignment`, `point_alignment`, `supervised_contrastive`, `squared_error`. `value` is 0 where not `valid`. Reduce them
  with `masked_mean(*out)`: a plain mean of `value` would count the zeros.
- Losses without `where` return a bare array: `squared_w2`, the `pairwise_` distances, `gaussian_entropy`,
  `entropy_floor`, `flow_nll_per_dim`. Reduce them with `masked_mean(out)`, or with `masked_mean(out, where)`.

`where=None` counts everything. Arguments may be NumPy arrays or nested lists of floats; results are JAX arrays.
Integers are refused where floats are expected.

Examples:
  >>> import jax.numpy as jnp
  >>> from cmarr_jax import losses
  >>> out = losses.squared_error(jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.array([True, False]))
  >>> print(out.value, out.valid, losses.masked_mean(*out))
  [1. 0.] [ True False] 1.0
"""

from cmarr_jax.losses._alignment import alignment, distribution_info_nce, point_alignment, point_info_nce
from cmarr_jax.losses._contrastive import info_nce, supervised_contrastive
from cmarr_jax.losses._gaussian import (
    entropy_floor,
    gaussian_entropy,
    pairwise_squared_mean_distance,
    pairwise_squared_w2,
    pairwise_symmetric_kl,
    squared_w2,
)
from cmarr_jax.losses._reconstruct import flow_nll_per_dim, squared_error
from cmarr_jax.losses._reduce import masked_mean
from cmarr_jax.types import MaskedLoss

__all__ = [
    "MaskedLoss",
    "alignment",
    "distribution_info_nce",
    "entropy_floor",
    "flow_nll_per_dim",
    "gaussian_entropy",
    "info_nce",
    "masked_mean",
    "pairwise_squared_mean_distance",
    "pairwise_squared_w2",
    "pairwise_symmetric_kl",
    "point_alignment",
    "point_info_nce",
    "squared_error",
    "squared_w2",
    "supervised_contrastive",
]
