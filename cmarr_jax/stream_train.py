"""Training on streamed batches: state goes in, state comes out, and a position of the input goes along with it."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from cmarr_jax.config import Hyperparameters
from cmarr_jax.input import Normalizer, normalize
from cmarr_jax.method import Method, Params, Stage
from cmarr_jax.types import Array, Batch


class BatchIterator(Protocol):
    """Batches with a position: what `cmarr_jax.stream.read_ahead` gives."""

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, int]: ...


class Progress(NamedTuple):
    """All that a streamed training needs to go on: arrays, the root key, steps done, and the position of the input."""

    params: Params
    opt_state: Any
    key: Array
    step: int
    position: dict[str, int]


class Timing(NamedTuple):
    """Seconds that some steps took, and of these the seconds in which the loop waited for input."""

    seconds: float
    waited: float


def on_raw_features(method: Method, normalizer: Normalizer) -> Method:
    """The method on features that are not standardised yet: it does so on the device, at the start of each step."""

    return method._replace(
        init=lambda key, batch: method.init(key, normalize(normalizer, batch)),
        loss=lambda params, batch, *args: method.loss(params, normalize(normalizer, batch), *args),
        encode=lambda params, batch: method.encode(params, normalize(normalizer, batch)),
    )


def stage_of(stages: Sequence[Stage], step: int, steps_per_epoch: int) -> tuple[int, int]:
    """Which stage a step belongs to, and the step at which that stage ends."""
    ends = np.cumsum([stage.epochs * steps_per_epoch for stage in stages])
    number = int(np.searchsorted(ends, step, side="right"))
    return number, int(ends[number])


def train_steps(
    train_step,
    progress: Progress,
    batches: BatchIterator,
    *,
    num_steps: int,
    hide: bool,
    hyper: Callable[[int], Hyperparameters],
) -> tuple[Progress, dict[str, Array], Timing]:
    """Some steps of one stage: `progress` goes in, the next one comes out; `params` and `opt_state` may be donated.

    One step is in flight while the next batch is fetched, so `Timing.waited` is all the time in which the device may
    have idled for want of input, and more than that where it was still busy.

    Args:
      train_step: From `make_train_step` or `make_parallel_train_step`, compiled.
      progress: Where to go on; the iterator must stand at its position.
      batches: From `read_ahead`.
      num_steps: How many steps, at least one.
      hide: Whether modalities are hidden in these steps.
      hyper: The hyperparameters of each step, by its number.

    Returns:
      The new progress, `aux` of each step (leaves `[num_steps]`), and the time taken.
    """
    params, opt_state, key, first, _ = progress
    start, waited = time.perf_counter(), 0.0
    history: list[dict[str, Array]] = []
    for step in range(first, first + num_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        step_key = jax.random.fold_in(key, step)
        params, opt_state, aux = train_step(params, opt_state, batch, step_key, hide, hyper(step))
        if history:
            jax.block_until_ready(history[-1])
        history.append(aux)
    stacked = jax.tree.map(lambda *values: np.stack(values), *jax.device_get(history))
    progress = Progress(params, opt_state, key, first + num_steps, batches.get_state())
    return progress, stacked, Timing(time.perf_counter() - start, waited)
