"""From the points of the available modalities to a latent that they share, and back to the missing ones.

Marks C, L, D: docs/decisions.md.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array


class Autoencoder(nn.Module):
    """An MLP to the latent and another one back: what a flow is without being invertible, so without a likelihood (D).

    Attributes:
      size: D, of the points and of the latent.
      hidden: Width of the two hidden layers of each MLP, as of a flow's conditioner.
    """

    size: int
    hidden: int

    def setup(self) -> None:
        self.encoder = [nn.Dense(self.hidden), nn.Dense(self.hidden), nn.Dense(self.size)]
        self.decoder = [nn.Dense(self.hidden), nn.Dense(self.hidden), nn.Dense(self.size)]

    def to_latent(self, points: Array) -> Array:
        """`[B, D] -> [B, D]`."""
        return _mlp(self.encoder, points)

    def from_latent(self, latent: Array) -> Array:
        """`[B, D] -> [B, D]`."""
        return _mlp(self.decoder, latent)


def _mlp(layers: list[nn.Dense], x: Array) -> Array:
    for layer in layers[:-1]:
        x = nn.relu(layer(x))
    return layers[-1](x)


def mean_latent(latent: Array, available: Array, log_std: Array | None = None) -> Array:
    """The mean latent of the available modalities; with `log_std`, weighted by the precision of their embeddings.

    Args:
      latent: `[B, M, D]`; unavailable rows are not read.
      available: `[B, M]`, bool.
      log_std: Spread of the embeddings, `[B, M, D]`; unavailable rows are not read.

    Returns:
      `[B, D]`; zeros where nothing is available.
    """
    seen = available[..., None]
    latent = jnp.where(seen, latent, 0.0)
    weight = jnp.ones_like(latent)
    if log_std is not None:
        # One weight per modality, from its mean log-variance: the flow mixes the dimensions.
        log_weight = -2 * jnp.where(seen, log_std, 0.0).mean(-1, keepdims=True)
        largest = jnp.where(seen, log_weight, -jnp.inf).max(1, keepdims=True, initial=-jnp.inf)
        log_weight = log_weight - jax.lax.stop_gradient(jnp.where(jnp.isfinite(largest), largest, 0.0))
        weight = jnp.exp(jnp.where(seen, log_weight, 0.0)) * weight  # the largest is 1, so that none overflows
    weight = jnp.where(seen, weight, 0.0)
    return jnp.sum(weight * latent, axis=1) / jnp.maximum(weight.sum(1), 1e-6)
