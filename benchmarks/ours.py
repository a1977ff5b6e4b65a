"""Our side of `benchmarks.step`: a step, the steps of an epoch, and the parts of a step, as calls to be timed."""

import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from benchmarks.workload import init_params
from cmarr_jax.batching import make_plan, place, shuffle
from cmarr_jax.config import Hyperparameters, ModalityConfig, ModelConfig, TrainConfig
from cmarr_jax.encoders import make_encoder
from cmarr_jax.folds import Fold
from cmarr_jax.input import Data, Normalizer, fit_normalizer, normalize, take
from cmarr_jax.objectives import make_method
from cmarr_jax.parallel import AXIS, map_step, replicate, split_batch
from cmarr_jax.train import make_train_step, make_tx
from cmarr_jax.types import Array, Batch

TRAIN, HYPER = TrainConfig(), Hyperparameters()


def our_step(config: ModelConfig, batch: Batch) -> Callable[[], Any]:
    """A step on the same batch."""
    step = jax.jit(_make_step(config), donate_argnums=(0, 1))
    return _on_what_it_gave(lambda *args: step(*args, True, HYPER), _start(config), batch)


def our_steps_of_one_program(
    config: ModelConfig, batch: Batch, num_steps: int, *, on_each_device: bool = False
) -> Callable[[], Any]:
    """Steps on the same batch without a return to the host between them, as an epoch has them.

    Of one model, or of as many as there are devices, side by side, as a sweep has them.
    """
    several = _several(_make_step(config), num_steps)
    steps = lambda params, opt_state, batch, key: several(params, opt_state, batch, key, True, HYPER)
    return _program(steps, config, batch, on_each_device=on_each_device)


def our_parallel_steps(config: ModelConfig, batch: Batch, num_steps: int) -> Callable[[], Any]:
    """As `our_steps_of_one_program`, with the batch of one model split over all devices."""
    steps = map_step(_several(_make_step(config, axis_name=AXIS), num_steps))
    parts = split_batch(batch, jax.device_count())
    return _on_what_it_gave(lambda *args: steps(*args, True, HYPER), replicate(_start(config)), parts)


def our_steps(
    config: ModelConfig, data: Data, num_steps: int, batch_size: int, *, on_each_device: bool = False
) -> Callable[[], Any]:
    """The first steps of an epoch as one program on the data in device memory, with planned batches."""
    step = _make_step(config)
    rows, where = jnp.arange(len(data.label)), jnp.ones(len(data.label), bool)
    fold = Fold(*(rows[None], where[None]) * 3)
    plan = make_plan(data, fold, dataclasses.replace(TRAIN, batch_size=batch_size)).train
    normalizer = jax.jit(fit_normalizer)(data, rows, where)

    def steps(params, opt_state, data: Data, normalizer: Normalizer, key: Array):
        batches, _ = place(data.length, rows, where, plan)
        drawn = jax.tree.map(lambda x: x[:num_steps], shuffle(key, batches, plan))
        inputs_of = lambda *chosen: (normalize(normalizer, take(data, *chosen, plan)), True, HYPER)
        return _scan(step, params, opt_state, key, inputs_of, jnp.arange(num_steps), *drawn)

    return _program(steps, config, data, normalizer, on_each_device=on_each_device)


def _program(steps, config: ModelConfig, *inputs: Any, on_each_device: bool) -> Callable[[], Any]:
    """Calls of `steps(params, opt_state, *inputs, key)`, compiled for one model or for one on each device."""
    if not on_each_device:
        return _on_what_it_gave(jax.jit(steps, donate_argnums=(0, 1)), _start(config), *inputs)
    number = jax.local_device_count()
    state = jax.tree.map(lambda x: jnp.stack([x] * number), _start(config))
    mapped = jax.pmap(steps, in_axes=(0, 0, *[None] * len(inputs), 0), donate_argnums=(0, 1))
    inputs = replicate(inputs)  # once, not at each call
    return _on_what_it_gave(lambda *args: mapped(*args[:-1], jax.random.split(args[-1], number)), state, *inputs)


def _make_step(config: ModelConfig, axis_name: str | None = None):
    """A step of training."""
    return make_train_step(make_method("cm_arr", config, TRAIN).loss, make_tx(TRAIN), TRAIN, axis_name)


def _several(step, num_steps: int):
    """As many steps on the same batch, with the arguments of one."""

    def steps(params, opt_state, batch: Batch, key: Array, hide: Array, hyper: Hyperparameters):
        return _scan(step, params, opt_state, key, lambda: (batch, hide, hyper), jnp.arange(num_steps))

    return steps


def _start(config: ModelConfig) -> tuple[Any, Any]:
    """Parameters and optimizer state."""
    params = init_params(config)
    return params, make_tx(TRAIN).init(params)


def _scan(step, params, opt_state, key: Array, inputs_of: Callable[..., tuple], numbers: Array, *chosen: Array):
    """A step for each number, on the batch, the hiding and the hyperparameters that what is chosen for it gives."""

    def body(state, inputs):
        number, *chosen = inputs
        batch, hide, hyper = inputs_of(*chosen)
        *state, aux = step(*state, batch, jax.random.fold_in(key, number), hide, hyper)
        return tuple(state), aux["loss"]

    (params, opt_state), losses = jax.lax.scan(body, (params, opt_state), (numbers, *chosen))
    return params, opt_state, losses


def _on_what_it_gave(program: Callable[..., Any], state: tuple[Any, Any], *rest: Any) -> Callable[[], Any]:
    """Calls `program(params, opt_state, *rest, key) -> (params, opt_state, out)`, each time on what it gave before."""
    held, numbers = list(state), itertools.count()

    def call() -> Any:
        *held[:], out = program(*held, *rest, jax.random.key(next(numbers)))
        return out

    return call


def encoder_gradient(modality: ModalityConfig, config: ModelConfig, batch: Batch) -> Callable[[], Any]:
    """Gradient of one encoder's parameters."""
    encoder = make_encoder(modality, config)
    frames, length = batch.features[modality.name], batch.length[modality.name]
    params = jax.jit(encoder.init)(jax.random.key(0), frames, length)

    def loss(params, frames, length, key):
        embedding = encoder.apply(params, frames, length, train=True, rngs={"dropout": key})
        return jnp.sum(jnp.square(embedding))

    gradient = jax.jit(jax.grad(loss))
    return lambda: gradient(params, frames, length, jax.random.key(1))


def projection_gradient(frames: Array, size: int) -> Callable[[], Any]:
    """One product over all frames and the gradient of its kernel."""
    layer = nn.Dense(size)
    params = layer.init(jax.random.key(0), frames[:1])
    gradient = jax.jit(jax.grad(lambda params, frames: jnp.sum(jnp.square(layer.apply(params, frames)))))
    return lambda: gradient(params, frames)


def our_step_without_encoders(config: ModelConfig, batch: Batch) -> Callable[[], Any]:
    """The step of a network whose inputs are embeddings already: two small layers in the place of each encoder."""
    vectors = tuple(ModalityConfig(m.name, config.embedding, "vector") for m in config.modalities)
    features = OrderedDict((name, frames[:, 0, : config.embedding]) for name, frames in batch.features.items())
    batch = batch._replace(features=features, length={})
    return our_step(dataclasses.replace(config, modalities=vectors), batch)


def optimizer_update(config: ModelConfig) -> Callable[[], Any]:
    """Clipping, Adam and the new parameters."""
    tx = make_tx(TRAIN)
    params = init_params(config)
    state = [params, tx.init(params)]

    def update(params, opt_state, grads):
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -HYPER.learning_rate * u, updates)), opt_state

    program = jax.jit(update, donate_argnums=(0, 1))
    grads = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)

    def call() -> Any:
        state[:] = program(*state, grads)
        return state

    return call
