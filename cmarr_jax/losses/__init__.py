"""Losses of CM-ARR as pure functions of arrays; needs jax and chex only.

They return one value per item or anchor. Reduce them with `masked_mean`.
"""

from cmarr_jax.losses._contrastive import (
    alignment,
    distribution_info_nce,
    info_nce,
    point_info_nce,
    supervised_contrastive,
)
from cmarr_jax.losses._gaussian import entropy_floor, gaussian_entropy, pairwise_squared_w2, squared_w2
from cmarr_jax.losses._reconstruct import flow_nll_per_dim, squared_error
from cmarr_jax.losses._reduce import masked_mean

__all__ = [
    "alignment",
    "distribution_info_nce",
    "entropy_floor",
    "flow_nll_per_dim",
    "gaussian_entropy",
    "info_nce",
    "masked_mean",
    "pairwise_squared_w2",
    "point_info_nce",
    "squared_error",
    "squared_w2",
    "supervised_contrastive",
]
