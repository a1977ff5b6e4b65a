"""The device axis: the only module that uses pmap. The same for one process or several (`processes.py`).

Two forms. Data parallel: one model, the batch split over the devices of all processes, contrastive candidates gathered
from all of them. Sweep parallel: the runs of a sweep split over processes and their devices; nothing is exchanged.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmarr_jax.config import TrainConfig
from cmarr_jax.input import Data
from cmarr_jax.method import LossFn, Method
from cmarr_jax.missing import availability_patterns
from cmarr_jax.sweep import Runs, make_sweep
from cmarr_jax.train import RunResult, TrainRun, count_conditions, make_train_step
from cmarr_jax.types import Batch

AXIS = "batch"


def make_parallel_train_step(loss_fn: LossFn, tx: optax.GradientTransformation, config: TrainConfig, devices=None):
    """A data-parallel training step with the arguments and results of `make_train_step`.

    Parameters and optimizer state go in and come out without a device axis and are donated (`replicate` them first);
    the batch is `[devices, B / devices, ...]` (`split_batch`). Losses and gradients are those of the whole batch on one
    device, up to rounding and the noise drawn (each device draws its own).

    With several processes, each calls it with its part of the batch, `[local devices, ...]`, and the same parameters,
    and gets the result of the whole batch. `devices`, if given, are those of all processes.
    """
    return map_step(make_train_step(loss_fn, tx, config, axis_name=AXIS), devices)


def map_step(step, devices=None):
    """The pmapped program of a training step, or of several one after another, with the arguments of a step."""
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, None, 0, None, None, None),
        out_axes=None,
        donate_argnums=(0, 1),
        devices=devices,
    )


def make_parallel_eval_step(method: Method, num_classes: int, num_modalities: int, devices=None):
    """A data-parallel evaluation step, `(params, batch) -> [P, K, K]` confusion counts of the whole batch."""
    patterns = jnp.asarray(availability_patterns(num_modalities))

    def step(params: Any, batch: Batch):
        return jax.lax.psum(count_conditions(method, params, batch, patterns, num_classes), AXIS)

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)


def split_batch(batch: Batch, num_devices: int) -> Batch:
    """`[B, ...] -> [devices, ceil(B / devices), ...]`, filled up with rows that do not count; none is dropped."""
    missing = -len(batch.where) % num_devices

    def split(x):
        x = jnp.concatenate([x, jnp.broadcast_to(x[:1], (missing, *x.shape[1:]))])
        return x.reshape(num_devices, -1, *x.shape[1:])

    counted = jnp.concatenate([batch.where, jnp.zeros((missing,), bool)])
    return jax.tree.map(split, batch)._replace(where=counted.reshape(num_devices, -1))


def replicate(tree: Any, devices=None) -> Any:
    """Copies arrays to every device, as a step gives them back: otherwise its second call compiles once more.

    Args:
      tree: Arrays; with several processes each of them must give the same values.
      devices: By default those of all processes.
    """
    sharding = NamedSharding(Mesh(np.array(devices or jax.devices()), (AXIS,)), PartitionSpec())
    return jax.device_put(tree if sharding.is_fully_addressable else jax.device_get(tree), sharding)


def make_parallel_sweep(train_run: TrainRun, *, at_once: int = 1, devices=None):
    """A sweep whose runs are split over the devices of this process, `(data, runs) -> RunResult`, each leaf `[R, ...]`.

    Any number of runs: the last ones are repeated to fill up the devices, and left out of the result. `plan_sweep`
    chooses sizes and splits the runs over processes too.
    """
    devices = devices or jax.local_devices()
    mapped = map_sweep(train_run, at_once, devices)

    def sweep(data: Data, runs: Runs) -> RunResult:
        num_runs = len(runs.key)
        split = split_runs(runs, 0, len(devices), -(-num_runs // len(devices)))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_runs], mapped(data, split))

    return sweep


def map_sweep(train_run: TrainRun, at_once: int, devices):
    """The pmapped program of a sweep, `(data, runs [devices, R / devices, ...]) -> RunResult` of the same axes."""
    return jax.pmap(make_sweep(train_run, at_once=at_once), in_axes=(None, 0), devices=devices)


def split_runs(runs: Runs, start: int, num_devices: int, per_device: int) -> Runs:
    """The runs from `start` on as `[devices, per_device, ...]`, filled up with the last one where there are no more."""
    index = np.minimum(start + np.arange(num_devices * per_device), len(runs.key) - 1)
    return jax.tree.map(lambda x: x[index].reshape(num_devices, per_device, *x.shape[1:]), runs)
