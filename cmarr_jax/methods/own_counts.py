"""Adam that counts the updates of each parameter by itself."""

import jax
import jax.numpy as jnp
import optax

from cmarr_jax.types import Array


def scale_by_adam(b1: float = 0.9) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with a count for each parameter, which begins at its first gradient that is not zero.

    A part that the first stage does not train has gradients of zero there. With one count for all, the correction of
    the moments would be over when such a part begins, and its first steps several times as long as those of the
    others were. PyTorch counts for each parameter, too.
    """
    adam = optax.scale_by_adam(b1)

    def update_one(grad: Array, state: optax.ScaleByAdamState) -> tuple[Array, optax.ScaleByAdamState]:
        updates, new = adam.update(grad, state)
        has_begun = (state.count > 0) | jnp.any(grad != 0)
        return updates, new._replace(count=jnp.where(has_begun, new.count, 0))

    def update(grads: optax.Updates, state: optax.OptState, params: optax.Params | None = None):
        del params
        found = jax.tree.map(update_one, grads, state)
        updates, new = (jax.tree.map(lambda _, pair, part=part: pair[part], grads, found) for part in (0, 1))
        return updates, new

    return optax.GradientTransformation(lambda params: jax.tree.map(adam.init, params), update)
