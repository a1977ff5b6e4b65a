"""RealNVP on distrax: an invertible map between an embedding and a latent whose base is the standard normal.

The only module that imports distrax. Affine couplings over alternating halves (Dinh et al. 2017), so that every
dimension changes; the last layer of each conditioner starts at zero, so the flow starts as the identity.

The log-scale of the whole flow is bounded, and each coupling has an equal share of the bound. Without it the inverse
loses its precision, and a latent that no point has, such as the mean of two, can be sent far away from all points.

Two couplings, one for each half, are compiled once and scanned over the depth, so the program's size does not depend
on the depth.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array

try:
    import distrax
except Exception as error:  # a stable tensorflow-probability fails with errors of many types
    raise ImportError(
        f"distrax cannot be imported ({type(error).__name__}: {error}). It needs tfp-nightly, and no stable "
        "tensorflow-probability beside it: pip uninstall tensorflow-probability tfp-nightly, then "
        "pip install --constraint constraints.txt tfp-nightly"
    ) from error

Weights = dict[str, Array]


def check_flow(layers: int, hidden: int, log_scale_bound: float) -> None:
    """Raises ValueError for a flow that cannot be made, in the names that the methods' options have."""
    if layers < 2 or layers % 2:
        raise ValueError(f"flow_layers must be even (one coupling for each half), found {layers}")
    if hidden < 1 or not log_scale_bound > 0:
        raise ValueError(f"flow_hidden and flow_total_log_scale must be positive, found {hidden} and {log_scale_bound}")


class RealNVP(nn.Module):
    """A flow on vectors of `size` dimensions. `to_latent` and `from_latent` are inverse to each other.

    A conditioner has two hidden layers; its parameters have the pair of couplings as a leading axis.

    Attributes:
      size: D.
      num_layers: Couplings, an even number; half of them change one half of the dimensions, half the other.
      hidden: Width of a conditioner's hidden layers.
      log_scale_bound: Largest absolute log-scale of a dimension, over all couplings.
    """

    size: int
    num_layers: int = 8
    hidden: int = 128
    log_scale_bound: float = 2.0

    def setup(self) -> None:
        check_flow(self.num_layers, self.hidden, self.log_scale_bound)
        second = self.size // 2  # the first coupling of a pair changes what comes after it
        self.pairs = [
            self._conditioner(name, given, changed)
            for name, given, changed in (("first", second, self.size - second), ("second", self.size - second, second))
        ]

    def _conditioner(self, name: str, given: int, changed: int) -> Weights:
        sizes, weights = (given, self.hidden, self.hidden, 2 * changed), {}
        pairs, normal = self.num_layers // 2, nn.initializers.lecun_normal(batch_axis=(0,))
        for layer in range(3):
            start = nn.initializers.zeros if layer == 2 else normal
            shape = (pairs, *sizes[layer : layer + 2])
            weights[f"kernel_{layer}"] = self.param(f"{name}_kernel_{layer}", start, shape, jnp.float32)
            bias = (f"{name}_bias_{layer}", nn.initializers.zeros, (pairs, shape[2]), jnp.float32)
            weights[f"bias_{layer}"] = self.param(*bias)
        return weights

    def to_latent(self, x: Array) -> tuple[Array, Array]:
        """Embedding -> latent, `[..., D]`, and `log |det d latent / d x|`, `[...]`, nats."""
        chex.assert_axis_dimension(x, -1, self.size)

        def step(carry: tuple[Array, Array], pair: list[Weights]):
            x, log_det = carry
            x, added = self._bijector(pair).inverse_and_log_det(x)
            return (x, log_det + added), None

        with jax.default_matmul_precision("float32"):  # TF32 or bfloat16 would cost the inverse its digits
            return jax.lax.scan(step, (x, jnp.zeros_like(x[..., 0])), self.pairs)[0]

    def from_latent(self, latent: Array) -> Array:
        """Latent -> embedding, `[..., D]`."""
        chex.assert_axis_dimension(latent, -1, self.size)
        step = lambda x, pair: (self._bijector(pair).forward(x), None)
        with jax.default_matmul_precision("float32"):
            return jax.lax.scan(step, latent, self.pairs, reverse=True)[0]

    def largest_log_scale(self, x: Array) -> Array:
        """Largest absolute log-scale of a coupling on the way of embeddings `[..., D]` to the latent, `[...]`."""
        second = self.size // 2

        def step(carry: tuple[Array, Array], pair: list[Weights]):
            x, largest = carry
            halves = slice(None, second), slice(second, None)  # what the first coupling of a pair reads, and the second
            for half, weights, coupling in zip(halves, pair, self._couplings(pair), strict=True):
                log_scale = self._affine(conditioner(weights, x[..., half])).log_scale
                largest = jnp.maximum(largest, jnp.abs(log_scale).max(-1))
                x = coupling.inverse(x)
            return (x, largest), None

        with jax.default_matmul_precision("float32"):
            return jax.lax.scan(step, (x, jnp.zeros_like(x[..., 0])), self.pairs)[0][1]

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.to_latent(x)

    def _bijector(self, pair: list[Weights]) -> distrax.Bijector:
        return distrax.Chain(self._couplings(pair))

    def _couplings(self, pair: list[Weights]) -> list[distrax.Bijector]:
        return [
            distrax.SplitCoupling(
                split_index=self.size // 2,
                event_ndims=1,
                conditioner=lambda x, weights=weights: conditioner(weights, x),
                bijector=self._affine,
                swap=number == 1,
            )
            for number, weights in enumerate(pair)
        ]

    def _affine(self, raw: Array) -> distrax.Bijector:
        shift, raw_log_scale = jnp.split(raw, 2, axis=-1)
        bound = self.log_scale_bound / (self.num_layers // 2)  # the couplings that change a half
        return distrax.ScalarAffine(shift=shift, log_scale=bound * jnp.tanh(raw_log_scale / bound))


def conditioner(weights: Weights, x: Array) -> Array:
    """Two hidden layers -> shift and raw log-scale, `[..., D_given] -> [..., 2 D_changed]`."""
    for layer in range(3):
        bias = weights[f"bias_{layer}"]
        x = x @ weights[f"kernel_{layer}"] + bias.reshape((1,) * (x.ndim - 1) + bias.shape)
        x = nn.relu(x) if layer < 2 else x
    return x


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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def call_and_detached_copy(function: Callable[[Any, Array], Any], params: Any, x: Array) -> tuple[Any, Any]:
    """Returns `function(params, x)` and `function(params, stop_gradient(x))` with one forward pass.

    The gradient is linear in what flows back, so both results share one backward pass to the parameters.
    """
    value = function(params, x)
    return value, value


def _detached_forward(function, params: Any, x: Array):
    value, vjp = jax.vjp(function, params, x)
    return (value, value), vjp


def _detached_backward(function, vjp, grads):
    grad_params, _ = vjp(jax.tree.map(jnp.add, *grads))
    _, grad_x = vjp(grads[0])
    return grad_params, grad_x


call_and_detached_copy.defvjp(_detached_forward, _detached_backward)
