"""Reconstruction: negative log-likelihood of a flow, squared error of what it recovers."""

import math

import chex
import jax.numpy as jnp
from jax.typing import ArrayLike

from cmarr_jax.losses._reduce import as_mask, at_least_float32, select_rows
from cmarr_jax.types import Array, MaskedLoss


def flow_nll_per_dim(latent: ArrayLike, log_det: ArrayLike) -> Array:
    """Negative log-likelihood per dimension of a flow with base N(0, I).

    `(||latent||^2 / 2 + D / 2 * log(2 pi) - log_det) / D`. There is no mask: hand in finite latents (a constant for
    absent modalities) and drop those values in `masked_mean`.

    Args:
      latent: What the flow made of the data, `u = to_latent(x)`, `[..., D]`, float.
      log_det: `log |det du/dx|` of that direction, `[...]`, float.

    Returns:
      `-log p(x) / D`, `[...]`, nats per dimension, float32 (float64 for float64 inputs).

    Raises:
      AssertionError: at trace time, if shapes or dtypes differ from the above.

    Examples:
      >>> import jax.numpy as jnp
      >>> import numpy as np
      >>> from cmarr_jax import losses
      >>> print(np.asarray(losses.flow_nll_per_dim(jnp.ones((1, 4)), jnp.zeros(1))).round(3))  # 1/2 + log(2 pi) / 2
      [1.419]

    References:
      Dinh, Sohl-Dickstein and Bengio, Density estimation using Real NVP, ICLR 2017, eqs. 2-3.
    """
    latent, log_det = jnp.asarray(latent), jnp.asarray(log_det)
    chex.assert_type([latent, log_det], float, custom_message="in order: latent, log_det")
    chex.assert_shape(log_det, latent.shape[:-1], custom_message="log_det")
    latent, log_det = at_least_float32(latent), at_least_float32(log_det)
    energy = 0.5 * jnp.mean(latent**2, axis=-1)
    return energy + 0.5 * math.log(2 * math.pi) - log_det / latent.shape[-1]


def squared_error(prediction: ArrayLike, target: ArrayLike, where: ArrayLike | None = None) -> MaskedLoss:
    """Mean squared error over the embedding, per item.

    `mean((prediction - target)^2, axis=-1)`. The gradient reaches both: for a fixed target, as in the reconstruction
    phase, the caller wraps it in `jax.lax.stop_gradient`.

    Args:
      prediction: Recovered embeddings, `[..., D]`, float.
      target: True embeddings, `[..., D]`, float.
      where: Items that count, `[...]`, bool; all if None. The others may hold nan: they reach neither value nor
        gradient.

    Returns:
      Error `[...]` in squared embedding units (not nats), 0 where invalid, float32 (float64 for float64 inputs);
      `valid` is `where`.

    Raises:
      AssertionError: at trace time, if shapes or dtypes differ from the above.

    Examples:
      >>> from cmarr_jax import losses
      >>> print(losses.squared_error([[1.0, 3.0]], [[0.0, 0.0]]).value)
      [5.]
    """
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    chex.assert_type([prediction, target], float, custom_message="in order: prediction, target")
    chex.assert_equal_shape([prediction, target], custom_message="in order: prediction, target")
    where = as_mask(where, prediction.shape[:-1])
    difference = select_rows(prediction, where, 0.0) - select_rows(target, where, 0.0)
    return MaskedLoss(jnp.mean(difference**2, axis=-1), where)
