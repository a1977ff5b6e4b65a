"""The epochs of a run whose batches are read while the step computes.

The step, the state and the choice of the epoch are those of `run.py`. Beside the state there is a position: the steps
that the epoch has done, their losses, and where the input stands.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import RunConfig, TrainConfig
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.normalizer import Normalizer, normalize
from cmarr_jax.methods.base import Method, make_hyperparameters
from cmarr_jax.training.evaluation import Evaluation, evaluate_batch
from cmarr_jax.training.parallel import replicate
from cmarr_jax.training.schedule import (
    RunState,
    end_epoch,
    epoch_inputs,
    epoch_keys,
    epoch_means,
    first_run_state,
    step_hyper,
)
from cmarr_jax.training.step import first_state, make_train_step
from cmarr_jax.types import Array, Batch


class BatchIterator(Protocol):
    """Batches with a position: what `cmarr_jax.data.streamed.read_ahead` gives."""

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, int]: ...


class Progress(NamedTuple):
    """All that a streamed run needs to go on.

    Attributes:
      run: The state in which this epoch began, with the `model` of the last step.
      step: Steps done in this epoch.
      sums: Sums of the losses of these steps, those aside whose update was skipped.
      position: Of the input: what `BatchIterator.get_state` gave.
    """

    run: RunState
    step: int
    sums: dict[str, np.ndarray]
    position: dict[str, int]


class Timing(NamedTuple):
    """Seconds that some steps took, and of these the seconds in which the loop waited for input."""

    seconds: float
    waited: float


def first_progress(config: RunConfig, method: Method, normalizer: Normalizer, seed: int) -> Progress:
    """Before the first step, on the host."""
    init_key, epochs_key = jax.random.split(jax.random.key(seed))
    batch = example_batch(config.encoders.modalities)
    params = jax.jit(method.init)(init_key, batch)
    hyper = make_hyperparameters(method, config.learning_rate, config.dropout, config.weights)
    model = first_state(method, config.train, params)
    step = make_train_step(method, config.train)
    losses = jax.eval_shape(step, model, batch, epochs_key, jnp.array(True), hyper)[1]
    evaluation = jax.eval_shape(lambda: evaluate_batch(method, params, batch))
    diagnostics = jax.eval_shape(lambda: method.diagnose(params, method.encode(params, batch), batch.where))
    values, size = losses | diagnostics, config.train.batch_size
    run = first_run_state(method, config.train, params, normalizer, epochs_key, hyper, evaluation, values, size)
    return Progress(
        on_host(run), 0, {name: np.zeros(x.shape, x.dtype) for name, x in losses.items()}, {"next_index": 0}
    )


def on_raw_features(method: Method, normalizer: Normalizer) -> Method:
    """The method on features that are not standardised yet: it does so on the device, at the start of each step."""
    return method._replace(
        init=lambda key, batch: method.init(key, normalize(normalizer, batch)),
        loss=lambda params, batch, *args: method.loss(params, normalize(normalizer, batch), *args),
        encode=lambda params, batch: method.encode(params, normalize(normalizer, batch)),
    )


def train_steps(
    train_step,
    method: Method,
    progress: Progress,
    batches: BatchIterator,
    *,
    num_steps: int,
    steps_per_epoch: int,
) -> tuple[Progress, dict[str, np.ndarray], Timing]:
    """Some steps of one epoch; the model of `progress` may be donated.

    One step is in flight while the next batch is fetched. `Timing.waited` is therefore an upper bound of the time in
    which the device had nothing to do.

    Args:
      train_step: From `make_train_step` or `make_parallel_train_step`, compiled.
      method: Its stages are used.
      progress: Where to go on; the iterator must stand at its position.
      batches: From `read_ahead`.
      num_steps: How many steps, at least one, no more than the epoch has left.
      steps_per_epoch: Steps of an epoch.

    Returns:
      The new progress, `aux` of each step (leaves `[num_steps]`), and the time taken.
    """
    run, first, sums, _ = progress
    now, (_, steps_key) = jax.device_get(epoch_inputs(method, run)), epoch_keys(run)
    model, epochs_done = run.model, float(run.epoch)
    start, waited = time.perf_counter(), 0.0
    history: list[dict[str, Array]] = []
    for index in range(first, first + num_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        hyper = step_hyper(now, epochs_done + index / steps_per_epoch)
        model, aux = train_step(model, batch, jax.random.fold_in(steps_key, index), now.hide, hyper)
        if history:
            jax.block_until_ready(history[-1])
        history.append(aux)
    host = jax.device_get(history)
    for aux in host:  # one by one: the sum does not depend on where the epoch was interrupted
        sums = add_step(sums, aux)
    progress = Progress(run._replace(model=model), first + num_steps, sums, batches.get_state())
    stacked = jax.tree.map(lambda *values: np.stack(values), *host)
    return progress, stacked, Timing(time.perf_counter() - start, waited)


def add_step(sums: dict[str, np.ndarray], aux: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The sums after one more step; a step whose update was skipped is counted, and its losses are left out."""
    if aux["skipped"]:
        return sums | {"skipped": sums["skipped"] + 1}
    return {name: sums[name] + aux[name] for name in sums}


def make_end_epoch(method: Method, config: TrainConfig) -> Callable[..., RunState]:
    """`end_epoch` of this method, compiled."""
    return jax.jit(lambda run, values, evaluation: end_epoch(method, config, run, values, evaluation))


def validate(eval_step, progress: Progress, batches: Iterable[Batch]) -> tuple[Evaluation, dict[str, Any]]:
    """Confusion counts of all validation batches, and the diagnostics of the first.

    Args:
      eval_step: From `make_parallel_eval_step`.
      progress: After the last step of an epoch.
      batches: All validation batches, on the device.
    """
    results = [jax.device_get(eval_step(progress.run.model.chosen, batch)) for batch in batches]
    counts = np.sum([evaluation.counts for evaluation, _ in results], axis=0, dtype=np.int32)
    finite = np.all([evaluation.finite for evaluation, _ in results])
    return Evaluation(jnp.asarray(counts), jnp.asarray(finite)), results[0][1]


def next_epoch(finish_epoch, progress: Progress, evaluation: Evaluation, diagnostics: dict[str, Any]) -> Progress:
    """The progress after the validation of an epoch, on the host; every process computes the same.

    Args:
      finish_epoch: From `make_end_epoch`.
      progress: After the last step of an epoch.
      evaluation: From `validate`.
      diagnostics: From `validate`.
    """
    means = jax.device_get(epoch_means(progress.sums, progress.step))
    run = on_host(finish_epoch(on_host(progress.run), means | diagnostics, evaluation))
    return Progress(run, 0, jax.tree.map(np.zeros_like, progress.sums), progress.position)


def on_host(run: RunState) -> RunState:
    """The state as numpy arrays (its key stays a typed key of this process)."""
    return jax.device_get(run._replace(key=None))._replace(key=run.key)  # type: ignore[arg-type]


def on_devices(progress: Progress) -> Progress:
    """The model copied to the devices of all processes, as the steps take and donate it."""
    return progress._replace(run=progress.run._replace(model=replicate(progress.run.model)))
