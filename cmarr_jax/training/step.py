"""One training step: gradient, optimizer, moving average. The same for a run in memory, a sweep and a streamed run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.availability import sample_available
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.types import Array, Batch


class ModelState(NamedTuple):
    """What a step changes.

    Attributes:
      params: Parameters.
      opt_state: Of `Method.optimizer`.
      average: Exponential moving average of the parameters; `None` if `TrainConfig.average` is 0.
      step: Steps of this stage whose update was made, int32.
      skipped: Updates skipped in a row until now, int32. At `TrainConfig.max_skipped` nothing changes any more.
    """

    params: Params
    opt_state: Any
    average: Params | None
    step: Array
    skipped: Array

    @property
    def chosen(self) -> Params:
        """The parameters to evaluate and to keep: the average, if there is one."""
        return self.params if self.average is None else self.average


def first_state(method: Method, config: TrainConfig, params: Params, opt_state: Any = None) -> ModelState:
    """The state before the first step of a stage, with a fresh optimizer if none is given."""
    opt_state = method.optimizer.init(params) if opt_state is None else opt_state
    average = jax.tree.map(jnp.copy, params) if config.average else None  # a step may donate both
    return ModelState(params, opt_state, average, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def make_train_step(method: Method, config: TrainConfig, axis_name: str | None = None):
    """A training step of any stage, `(state, batch, key, hide, hyper) -> (state, aux)`.

    `hide` (bool) says whether each utterance draws which of its modalities are available (`Stage.hide`). `hyper` are
    the hyperparameters of this step: its learning rate, and the weights of its stage. `aux` holds the terms of the
    loss, `loss`, `grad_norm` (before clipping) and `skipped`: 1 if the update was not made, because the loss, the
    gradient or what the update gives is not finite, or because that was so `max_skipped` times in a row.

    Args:
      method: Its loss and optimizer are used.
      config: The schedule.
      axis_name: With a device axis the batch is this device's part: losses are shares of global means, and gradients
        are their sum over devices.
    """

    def draw(key: Array, present: Array) -> Array:
        """Availability patterns `[B, M]`, or `[P, B, M]` where the method wants several."""
        one = lambda key: sample_available(key, present, include_complete=config.include_complete)
        return one(key) if method.patterns == 1 else jax.vmap(one)(jax.random.split(key, method.patterns))

    def train_step(
        state: ModelState, batch: Batch, key: Array, hide: Array, hyper: Hyperparameters
    ) -> tuple[ModelState, dict[str, Array]]:
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))  # other noise on each device
        pattern_key, loss_key = jax.random.split(key)
        available = jnp.where(hide, draw(pattern_key, batch.present), batch.present)
        (loss, aux), grads = jax.value_and_grad(method.loss, has_aux=True)(
            state.params, batch, available, loss_key, hyper, axis_name
        )
        if axis_name is not None:
            loss, aux, grads = jax.lax.psum((loss, aux, grads), axis_name)
        updates, opt_state = method.optimizer.update(grads, state.opt_state, state.params)
        updates = jax.tree.map(lambda update: -hyper.learning_rate * update, updates)
        params = optax.apply_updates(state.params, updates)
        average = None if state.average is None else _averaged(state.average, params, state.step, config.average)
        new = ModelState(params, opt_state, average, state.step + 1, jnp.zeros_like(state.skipped))
        grad_norm = optax.tree.norm(grads)
        finite = _all_finite((loss, grad_norm, params))  # a rate that is too large can leave finite gradients behind
        state, made = _update_or_skip(state, new, finite, config.max_skipped)
        return state, dict(aux, loss=loss, grad_norm=grad_norm, skipped=1.0 - made)

    return train_step


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def _update_or_skip(state: ModelState, new: ModelState, finite: Array, max_skipped: int) -> tuple[ModelState, Array]:
    """The new state, or the old one with the skipped update counted; and whether the update was made."""
    stopped = state.skipped >= max_skipped
    made = finite & ~stopped
    kept = state._replace(skipped=state.skipped + ~stopped)
    # `cond`, as XLA would fuse a `where` into the arithmetic before it, which changes the last bits.
    return jax.lax.cond(made, lambda new, kept: new, lambda new, kept: kept, new, kept), made


def _averaged(average: Params, params: Params, step: Array, decay: float) -> Params:
    """The moving average after one more step. Its decay starts low, so that it forgets where the stage began."""
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: keep * a + (1 - keep) * p, average, params)
