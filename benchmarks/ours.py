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

from benchmarks.multiply_adds import multiply_adds
from benchmarks.workload import init_params
from cmarr_jax.config import Hyperparameters, ModalityConfig, RunConfig
from cmarr_jax.data.batching import arrange, plan_batches, shuffle, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer, normalize
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.nn.encoders import make_encoder
from cmarr_jax.training.parallel import AXIS, map_step, replicate, split_batch
from cmarr_jax.training.step import ModelState, first_state, make_train_step
from cmarr_jax.types import Array, Batch


def our_step(config: RunConfig, batch: Batch) -> Callable[[], Any]:
    """A step on the same batch."""
    step, hyper = jax.jit(_make_step(config), donate_argnums=0), hyperparameters_of(config)
    return _on_what_it_gave(lambda *args: step(*args, True, hyper), _start(config), batch)


def our_steps_of_one_program(
    config: RunConfig, batch: Batch, num_steps: int, *, on_each_device: bool = False
) -> Callable[[], Any]:
    """Steps on the same batch without a return to the host between them, as an epoch has them.

    Of one model, or of as many as there are devices, side by side, as a sweep has them.
    """
    several, hyper = _several(_make_step(config), num_steps), hyperparameters_of(config)
    steps = lambda state, batch, key: several(state, batch, key, True, hyper)
    return _program(steps, config, batch, on_each_device=on_each_device)


def step_multiply_adds(config: RunConfig, batch: Batch) -> int:
    """Multiply-adds of the matrix products of one step."""
    step, hyper = _make_step(config), hyperparameters_of(config)
    return multiply_adds(step, _start(config), batch, jax.random.key(0), True, hyper)


def our_parallel_steps(config: RunConfig, batch: Batch, num_steps: int) -> Callable[[], Any]:
    """As `our_steps_of_one_program`, with the batch of one model split over all devices."""
    steps, hyper = map_step(_several(_make_step(config, axis_name=AXIS), num_steps)), hyperparameters_of(config)
    parts = split_batch(batch, jax.device_count())
    return _on_what_it_gave(lambda *args: steps(*args, True, hyper), replicate(_start(config)), parts)


def our_steps(
    config: RunConfig, data: DeviceCorpus, num_steps: int, batch_size: int, *, on_each_device: bool = False
) -> Callable[[], Any]:
    """The first steps of an epoch as one program on the data in device memory, with planned batches."""
    step, hyper = _make_step(config), hyperparameters_of(config)
    rows, where = jnp.arange(len(data.label)), jnp.ones(len(data.label), bool)
    fold = Fold(*(rows[None], where[None]) * 3)
    plan = plan_batches(data, fold, dataclasses.replace(config.train, batch_size=batch_size)).train
    normalizer = jax.jit(fit_normalizer)(data, rows, where)

    def steps(state: ModelState, data: DeviceCorpus, normalizer: Normalizer, key: Array):
        batches, _ = arrange(data.length, rows, where, plan)
        drawn = jax.tree.map(lambda x: x[:num_steps], shuffle(key, batches, plan))
        inputs_of = lambda *chosen: (normalize(normalizer, take(data, *chosen, plan)), True, hyper)
        return _scan(step, state, key, inputs_of, jnp.arange(num_steps), *drawn)

    return _program(steps, config, data, normalizer, on_each_device=on_each_device)


def _program(steps, config: RunConfig, *inputs: Any, on_each_device: bool) -> Callable[[], Any]:
    """Calls of `steps(state, *inputs, key)`, compiled for one model or for one on each device."""
    if not on_each_device:
        return _on_what_it_gave(jax.jit(steps, donate_argnums=0), _start(config), *inputs)
    number = jax.local_device_count()
    state = jax.tree.map(lambda x: jnp.stack([x] * number), _start(config))
    mapped = jax.pmap(steps, in_axes=(0, *[None] * len(inputs), 0), donate_argnums=(0,))
    inputs = replicate(inputs)  # once, not at each call
    return _on_what_it_gave(lambda *args: mapped(*args[:-1], jax.random.split(args[-1], number)), state, *inputs)


def _make_step(config: RunConfig, axis_name: str | None = None):
    """A step of training."""
    return make_train_step(make_method(config), config.train, axis_name)


def _several(step, num_steps: int):
    """As many steps on the same batch, with the arguments of one."""

    def steps(state: ModelState, batch: Batch, key: Array, hide: Array, hyper: Hyperparameters):
        return _scan(step, state, key, lambda: (batch, hide, hyper), jnp.arange(num_steps))

    return steps


def _start(config: RunConfig) -> ModelState:
    """Parameters and optimizer state; no two of its arrays share memory, so that it can be donated."""
    return jax.tree.map(jnp.copy, first_state(make_method(config), config.train, init_params(config)))


def _scan(step, state: ModelState, key: Array, inputs_of: Callable[..., tuple], numbers: Array, *chosen: Array):
    """A step for each number, on the batch, the hiding and the hyperparameters that what is chosen for it gives."""

    def body(state, inputs):
        number, *chosen = inputs
        batch, hide, hyper = inputs_of(*chosen)
        state, aux = step(state, batch, jax.random.fold_in(key, number), hide, hyper)
        return state, aux["loss"]

    return jax.lax.scan(body, state, (numbers, *chosen))


def _on_what_it_gave(program: Callable[..., Any], state: ModelState, *rest: Any) -> Callable[[], Any]:
    """Calls `program(state, *rest, key) -> (state, out)`, each time on what it gave before."""
    held, numbers = [state], itertools.count()

    def call() -> Any:
        held[0], out = program(held[0], *rest, jax.random.key(next(numbers)))
        return out

    return call


def encoder_gradient(modality: ModalityConfig, config: RunConfig, batch: Batch) -> Callable[[], Any]:
    """Gradient of one encoder's parameters."""
    encoder = make_encoder(modality, config.encoders)
    frames, length = batch.features[modality.name], batch.length[modality.name]
    params = jax.jit(encoder.init)(jax.random.key(0), frames, length)

    def loss(params, frames, length, key):
        embedding = encoder.apply(params, frames, length, dropout=config.dropout, rngs={"dropout": key})
        return jnp.sum(jnp.square(embedding))

    gradient = jax.jit(jax.grad(loss))
    return lambda: gradient(params, frames, length, jax.random.key(1))


def projection_gradient(frames: Array, size: int) -> Callable[[], Any]:
    """One product over all frames and the gradient of its kernel."""
    layer = nn.Dense(size)
    params = layer.init(jax.random.key(0), frames[:1])
    gradient = jax.jit(jax.grad(lambda params, frames: jnp.sum(jnp.square(layer.apply(params, frames)))))
    return lambda: gradient(params, frames)


def our_step_without_encoders(config: RunConfig, batch: Batch) -> Callable[[], Any]:
    """The step of a network whose inputs are embeddings already: two small layers in the place of each encoder."""
    encoders = config.encoders
    vectors = tuple(ModalityConfig(m.name, encoders.embedding, "vector") for m in encoders.modalities)
    features = OrderedDict((name, frames[:, 0, : encoders.embedding]) for name, frames in batch.features.items())
    config = dataclasses.replace(config, encoders=dataclasses.replace(encoders, modalities=vectors))
    return our_step(config, batch._replace(features=features, length={}))


def optimizer_update(config: RunConfig) -> Callable[[], Any]:
    """Clipping, Adam and the new parameters."""
    optimizer, learning_rate = make_method(config).optimizer, config.learning_rate
    params = init_params(config)
    state = [params, optimizer.init(params)]

    def update(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, jax.tree.map(lambda u: -learning_rate * u, updates)), opt_state

    program = jax.jit(update, donate_argnums=(0, 1))
    grads = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)

    def call() -> Any:
        state[:] = program(*state, grads)
        return state

    return call
