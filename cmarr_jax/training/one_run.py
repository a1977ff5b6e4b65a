"""Trains one run in this process, epoch by epoch, and keeps its compiled program for the next one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cmarr_jax.config import RunConfig
from cmarr_jax.data.batching import plan_batches
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.device import to_device
from cmarr_jax.data.folds import FoldSplit, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.run import Run, RunResult, make_run
from cmarr_jax.training.schedule import RUNNING, RunState

Progress = Callable[[int, dict[str, float]], None]
STRETCH = 5  # epochs between two reports; a stretch is one call of the compiled program


def train_once(
    corpus: Corpus,
    fold: FoldSplit,
    config: RunConfig,
    seed: int,
    max_frames: int | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """A whole run of one fold and seed, with the numbers that a table of this fold alone has.

    Args:
      corpus: Checked.
      fold: Its parts.
      config: Of the run.
      seed: Of initialisation, batches and dropout.
      max_frames: Longer sequences are averaged down to this many frames.
      progress: Called every few epochs with their number and the latest values of the history.
    """
    data, folds = to_device(corpus, max_frames=max_frames), stack_folds([fold])
    run = _compiled(_ByText(config.without_numbers()), _ByText(plan_batches(data, folds, config.train)))
    one = jax.tree.map(lambda x: x[0], folds)
    key = jax.random.fold_in(jax.random.key(seed), 0)  # as of the first fold of a table (`sweep.stack_runs`)
    state = run.init(data, one, key, hyperparameters_of(config))
    done = 0
    while int(state.status) == RUNNING:
        done += STRETCH
        state = run.epochs(data, one, state, jnp.int32(done))
        if progress is not None:
            progress(int(state.done), _latest(state))
    return jax.device_get(run.finish(data, one, state))


class _ByText:
    """A configuration as a key: two are equal if their texts are (their dicts cannot be hashed)."""

    def __init__(self, value: Any) -> None:
        self.value, self.text = value, repr(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@functools.lru_cache(maxsize=8)
def _compiled(config: _ByText, plan: _ByText) -> Run:
    """The functions of a run; runs of one network, schedule and plan share their compiled programs."""
    return make_run(make_method(config.value), config.value.train, plan.value)


def _latest(state: RunState) -> dict[str, float]:
    row = int(state.done) - 1
    return {name: float(column[row]) for name, column in jax.device_get(state.history).items() if name != "stage"}
