"""Gaussian embedding: an utterance is a diagonal Gaussian, so that its spread says how ambiguous it is.

The abstract of CM-ARR only says that the representations are Gaussians.

Marks C, L, D: docs/decisions.md.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array, GaussianEmbedding


class LinearHead(nn.Module):
    """The mean is `x` itself, `log_std` a bounded linear layer of it, whose gradient does not reach `x` (D)."""

    min_log_std: float
    max_log_std: float

    @nn.compact
    def __call__(self, x: Array) -> GaussianEmbedding:
        """`[..., D]` -> mean and log_std, `[..., D]` each."""
        raw = nn.Dense(x.shape[-1], name="log_std")(jax.lax.stop_gradient(x))
        return GaussianEmbedding(x, soft_bound(raw, self.min_log_std, self.max_log_std))


class ResidualMlp(nn.Module):
    """`x + W2 gelu(W1 x)` with a hidden layer `ratio` times as wide, `[..., D] -> [..., D]`."""

    ratio: int = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = nn.gelu(nn.Dense(self.ratio * x.shape[-1])(x))
        return x + nn.Dense(x.shape[-1])(hidden)


class ResidualHead(nn.Module):
    """`h = LayerNorm(gelu(W x))`; the mean is a residual of `x`, `log_std` is bounded smoothly.

    Form after MAP (Ji et al., CVPR 2023, probability distribution encoder; L) without sequence attention, since the
    input is one vector, and without normalisation before the residual MLPs (D).
    """

    min_log_std: float
    max_log_std: float
    ratio: int = 4

    @nn.compact
    def __call__(self, x: Array) -> GaussianEmbedding:
        """`[..., D]` -> mean and log_std, `[..., D]` each."""
        size = x.shape[-1]
        hidden = nn.LayerNorm()(nn.gelu(nn.Dense(size, name="shared")(x)))
        mean = ResidualMlp(self.ratio, name="mean_mlp")(x + nn.Dense(size, name="mean")(hidden))
        raw = ResidualMlp(self.ratio, name="log_std_mlp")(nn.Dense(size, name="log_std")(hidden))
        return GaussianEmbedding(mean, soft_bound(raw, self.min_log_std, self.max_log_std))


def soft_bound(x: Array, low: float, high: float) -> Array:
    """Smoothly bounds `x` to `(low, high)` by tanh; slope 1 at the middle, where `x = 0` lands."""
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * jnp.tanh(x / half)


def sample(key: Array, embedding: GaussianEmbedding) -> Array:
    """Reparameterised sample `mean + std * eps`, `[..., D]`."""
    noise = jax.random.normal(key, embedding.mean.shape, embedding.mean.dtype)
    return embedding.mean + jnp.exp(embedding.log_std) * noise
