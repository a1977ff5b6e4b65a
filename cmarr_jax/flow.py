"""RealNVP on distrax: an invertible map between an embedding and a standard normal latent.

The only module that imports distrax. Affine couplings over alternating halves (Dinh et al. 2017), so that every
dimension changes; the log-scale is bounded, without which the inverse loses its precision; the last layer of each
conditioner starts at zero, so the flow starts as the identity.
"""

from collections.abc import Callable

import chex
import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array


class Conditioner(nn.Module):
    """Two hidden layers -> shift and raw log-scale, zero at the start."""

    hidden: int
    size: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
        return nn.Dense(2 * self.size, kernel_init=nn.initializers.zeros)(x)


class RealNVP(nn.Module):
    """A flow on vectors of `size` dimensions. `to_latent` and `from_latent` are inverse to each other."""

    size: int
    num_layers: int = 8
    hidden: int = 128
    log_scale_bound: float = 2.0

    def setup(self) -> None:
        halves = (self.size - self.size // 2, self.size // 2)  # what layer 0, 1, 0, ... changes
        self.conditioners = [Conditioner(self.hidden, halves[layer % 2]) for layer in range(self.num_layers)]

    def to_latent(self, x: Array) -> tuple[Array, Array]:
        """Embedding -> latent, `[..., D]`, and `log |det d latent / d x|`, `[...]`, nats."""
        chex.assert_axis_dimension(x, -1, self.size)
        with jax.default_matmul_precision("float32"):  # TF32 or bfloat16 would cost the inverse its digits
            return self._bijector().inverse_and_log_det(x)

    def from_latent(self, latent: Array) -> Array:
        """Latent -> embedding, `[..., D]`."""
        chex.assert_axis_dimension(latent, -1, self.size)
        with jax.default_matmul_precision("float32"):
            return self._bijector().forward(latent)

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.to_latent(x)

    def _bijector(self) -> distrax.Bijector:
        couplings = [
            distrax.SplitCoupling(
                split_index=self.size // 2,
                event_ndims=1,
                conditioner=conditioner,
                bijector=self._affine,
                swap=layer % 2 == 1,
            )
            for layer, conditioner in enumerate(self.conditioners)
        ]
        return distrax.Chain(couplings)

    def _affine(self, raw: Array) -> distrax.Bijector:
        shift, raw_log_scale = jnp.split(raw, 2, axis=-1)
        bound = self.log_scale_bound
        return distrax.ScalarAffine(shift=shift, log_scale=bound * jnp.tanh(raw_log_scale / bound))


def per_modality(module: type[nn.Module], methods: list[str] | None = None) -> Callable[..., nn.Module]:
    """A copy of `module` for each modality, applied along axis 1 of `[B, M, D]` with stacked parameters `[M, ...]`."""
    return nn.vmap(
        module,
        in_axes=1,
        out_axes=1,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        methods=methods,
    )
