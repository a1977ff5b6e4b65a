"""Gradient clipping of networks one by one, where a method consists of several."""

from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
import optax

from cmarr_jax.types import Array

ParamPath = tuple[str, ...]  # of a parameter: names in nested dicts


def clip_each_network(max_norm: float, network_of: Callable[[ParamPath], Hashable]) -> optax.GradientTransformation:
    """Scales the gradient of each network down to a norm, if it is larger; it has no state.

    Args:
      max_norm: Largest norm of a network's gradient.
      network_of: The network of a parameter.
    """

    def update(grads: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None):
        del params
        flat, tree = jax.tree_util.tree_flatten_with_path(grads)
        networks = [network_of(tuple(key.key for key in path)) for path, _ in flat]
        squares: dict[Hashable, Array] = {}
        for network, (_, grad) in zip(networks, flat, strict=True):
            squares[network] = squares.get(network, 0.0) + jnp.sum(jnp.square(grad))
        factor = {network: max_norm / jnp.maximum(jnp.sqrt(square), max_norm) for network, square in squares.items()}
        clipped = [factor[network] * grad for network, (_, grad) in zip(networks, flat, strict=True)]
        return jax.tree_util.tree_unflatten(tree, clipped), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
