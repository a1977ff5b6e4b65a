"""Dropout at a rate that may be traced, so that runs with different rates share one compiled program."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array

Rate = float | Array | None
"""Probability that an entry becomes 0, in [0, 1), a scalar; `None` outside of training."""


class Dropout(nn.Module):
    """Inverted dropout: an entry becomes 0 with probability `rate`, the others are divided by `1 - rate`.

    `flax.linen.Dropout` wants a Python number. This one draws from the same stream, `dropout`.
    """

    @nn.compact
    def __call__(self, x: Array, rate: Rate) -> Array:
        """`x` of any shape; itself if `rate` is None."""
        if rate is None:
            return x
        keep = 1.0 - jnp.asarray(rate, x.dtype)
        return jnp.where(jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape), x / keep, 0.0)
