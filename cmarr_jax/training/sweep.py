"""Many runs (folds x seeds x hyperparameters) as one program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cmarr_jax.config import Hyperparameters
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.training.run import RunResult, TrainRun
from cmarr_jax.types import Array


class Runs(NamedTuple):
    """The arguments of several runs, each leaf with a leading axis `[R, ...]`."""

    fold: Fold
    key: Array
    hyper: Hyperparameters


def make_sweep(train_run: TrainRun, *, at_once: int = 1):
    """`sweep(data, runs) -> RunResult` with a leading axis, as one program; the numbers of a loop over `train_run`.

    Args:
      train_run: From `make_train_run`.
      at_once: How many runs are vmapped together; the others follow one after the other inside the program. An
        accelerator is idle with one small model; on a CPU one at a time costs the same per run and less memory.
    """

    def sweep(data: DeviceCorpus, runs: Runs) -> RunResult:
        return jax.lax.map(lambda run: train_run(data, *run), runs, batch_size=at_once if at_once > 1 else None)

    return sweep


def stack_runs(fold: Fold, fold_index: list[int], seeds: list[int], hypers: list[Hyperparameters]) -> Runs:
    """The arguments of `len(seeds)` runs; the key of a run depends on its seed and fold only.

    Args:
      fold: Stacked folds, `[F, n]` arrays.
      fold_index: Fold of each run.
      seeds: Seed of each run.
      hypers: Hyperparameters of each run.
    """
    index = jnp.asarray(fold_index)
    make_key = lambda seed, number: jax.random.fold_in(jax.random.key(seed), number)
    return Runs(
        fold=jax.tree.map(lambda part: part[index], fold),
        key=jax.vmap(make_key)(jnp.asarray(seeds), index),
        hyper=jax.tree.map(lambda *values: jnp.asarray(values, jnp.float32), *hypers),
    )
