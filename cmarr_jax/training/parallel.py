"""The device axis: the only module that uses pmap. The same for one process or several (`processes.py`).

Two forms. Data parallel: one model, the batch split over the devices of all processes, contrastive candidates gathered
from all of them. Sweep parallel: the runs of a sweep split over processes and their devices; nothing is exchanged.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cmarr_jax.config import TrainConfig
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.training.evaluation import Evaluation, evaluate_embedding
from cmarr_jax.training.step import make_train_step
from cmarr_jax.types import Array, Batch, PackedFrames

AXIS = "batch"


def make_parallel_train_step(method: Method, config: TrainConfig, devices=None):
    """A data-parallel training step with the arguments and results of `make_train_step`.

    The state goes in and comes out without a device axis and is donated (`replicate` it first); the batch is `[devices,
    B / devices, ...]` (`split_batch`). Losses and gradients are those of the whole batch on one device, up to rounding
    and the noise drawn (each device draws its own).

    With several processes, each calls it with its part of the batch, `[local devices, ...]`, and the same state, and
    gets the result of the whole batch.

    Args:
      method: Its loss and optimizer are used.
      config: The schedule.
      devices: Of all processes; by default all there are.
    """
    return map_step(make_train_step(method, config, axis_name=AXIS), devices)


def map_step(step, devices=None):
    """The pmapped program of a training step, or of several one after another, with the arguments of a step."""
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0, None, None, None),
        out_axes=None,
        donate_argnums=(0,),
        devices=devices,
    )


def make_parallel_eval_step(method: Method, devices=None):
    """A data-parallel evaluation step, `(params, batch) -> (Evaluation, diagnostics)` of the whole batch.

    Diagnostics are means over the devices, weighted by the rows that count. So a mean over rows is that of the whole
    batch; a maximum is not, but the mean of the devices' maxima.
    """

    def step(params: Params, batch: Batch) -> tuple[Evaluation, dict[str, Array]]:
        embedding = method.encode(params, batch)
        counts, finite, _ = evaluate_embedding(method, params, embedding, batch)
        num_rows = batch.where.sum()
        weight = num_rows / jnp.maximum(jax.lax.psum(num_rows, AXIS), 1)
        diagnostics = jax.tree.map(
            lambda value: jax.lax.psum(weight * value, AXIS), method.diagnose(params, embedding, batch.where)
        )
        return Evaluation(jax.lax.psum(counts, AXIS), jax.lax.pmin(finite.astype(int), AXIS) > 0), diagnostics

    return jax.pmap(step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices)


def split_batch(batch: Batch, num_devices: int) -> Batch:
    """`[B, ...] -> [devices, ceil(B / devices), ...]`, filled up with rows that do not count; none is dropped.

    Raises:
      ValueError: for packed frames, whose blocks have other numbers of rows than the batch.
    """
    if any(isinstance(frames, PackedFrames) for frames in batch.features.values()):
        raise ValueError("packed frames cannot be split over devices; make the batch without a plan (padded frames)")
    missing = -len(batch.where) % num_devices
    xp = np if isinstance(batch.where, np.ndarray) else jnp  # numpy stays numpy: the step puts each part on its device

    def split(x):
        x = xp.concatenate([x, xp.broadcast_to(x[:1], (missing, *x.shape[1:]))])
        return x.reshape(num_devices, -1, *x.shape[1:])

    counted = xp.concatenate([batch.where, xp.zeros((missing,), bool)])
    return jax.tree.map(split, batch)._replace(where=counted.reshape(num_devices, -1))


def replicate(tree: Any, devices=None) -> Any:
    """Copies arrays to every device, as a step gives them back: otherwise its second call compiles once more.

    Args:
      tree: Arrays; with several processes each of them must give the same values.
      devices: By default those of all processes.
    """
    sharding = NamedSharding(Mesh(np.array(devices or jax.devices()), (AXIS,)), PartitionSpec())
    # Copies: leaves that share a buffer (parameters and their average before the first step) cannot be donated.
    tree = jax.tree.map(jnp.copy, tree) if sharding.is_fully_addressable else jax.device_get(tree)
    return jax.device_put(tree, sharding)


def share_read_only(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copies arrays to devices of this process; the devices of a CPU share one copy. Never donate the result."""
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    on_cpu = devices[0].platform == "cpu"
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x) if on_cpu else x, sharding, may_alias=on_cpu), tree)


def map_runs(function, num_arguments: int, devices, *, donate: tuple[int, ...] = ()):
    """`function(data, *arguments of one run)`, compiled for arguments `[devices, runs of a device, ...]`.

    The runs of a device are vmapped together. Several devices are pmapped; for one there is no device axis.

    Args:
      function: Of the corpus, which all runs share, and of one run.
      num_arguments: How many it has beside the corpus.
      devices: Of this process.
      donate: Numbers of the arguments that are donated, counted with the corpus.
    """

    def on_device(data, *arguments):
        if len(jax.tree.leaves(arguments)[0]) > 1:
            return jax.vmap(lambda *one: function(data, *one))(*arguments)
        return _add_axis(function(data, *_drop_axis(arguments)))  # the program of a run alone

    if len(devices) == 1:  # without the device axis, which takes longer to compile
        one = lambda data, *arguments: _add_axis(on_device(data, *_drop_axis(arguments)))
        return jax.jit(one, donate_argnums=donate)
    return jax.pmap(on_device, in_axes=(None,) + (0,) * num_arguments, devices=devices, donate_argnums=donate)


def _add_axis(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[None], tree)


def _drop_axis(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)
