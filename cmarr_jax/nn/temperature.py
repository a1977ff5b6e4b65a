"""The temperature of a contrastive loss, learned between two bounds."""

import math

import jax.numpy as jnp

from cmarr_jax.nn.gaussian import soft_bound
from cmarr_jax.types import Array


def check_temperatures(lowest: float, highest: float) -> None:
    """Raises ValueError if these cannot be the bounds."""
    if not 0 < lowest < highest:
        raise ValueError(f"0 < min_temperature < max_temperature is needed, found {lowest}, {highest}")


def bounded_temperature(raw: Array, lowest: float, highest: float) -> Array:
    """A temperature between the bounds; a parameter `raw` of 0 gives their geometric middle."""
    return jnp.exp(soft_bound(raw, math.log(lowest), math.log(highest)))
