"""The state of a run between epochs: which epoch is kept, when a stage ends, what the next one starts from.

Used by runs in memory (`run.py`) and by streamed ones (`streamed_loop.py`).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.normalizer import Normalizer
from cmarr_jax.methods.base import Method, Params, Stage
from cmarr_jax.training.evaluation import Evaluation
from cmarr_jax.training.step import ModelState, first_state
from cmarr_jax.types import Array

RUNNING, CONVERGED, BUDGET, DIVERGED, MISMATCH = range(5)
STATUS = ("running", "converged", "stopped by the budget", "diverged", "has longer utterances than planned")


class Best(NamedTuple):
    """The best epoch of a stage so far: parameters, score (-1: none yet), epoch (-1: none) and validation."""

    params: Params
    score: Array
    epoch: Array
    evaluation: Evaluation


class Skipped(NamedTuple):
    """The steps of a run whose loss or gradient was not finite, and the last batch that was so.

    Attributes:
      total: How many, int32. A run that has skipped `max_skipped` updates in a row makes no further one: those are
        not counted here, but in its history. 0 in a streamed run.
      rows: Rows of the corpus in that batch, `[B]` int32; -1 for rows that only fill the batch, and where there is
        none. A streamed run finds them by the number of the step and leaves -1.
      epoch: Epochs that were done before it, int32; -1: none.
      step: Its step in that epoch, int32; -1: none.
    """

    total: Array
    rows: Array
    epoch: Array
    step: Array


class RunState(NamedTuple):
    """A run between two epochs, all arrays.

    Attributes:
      model: Parameters, optimizer state and moving average.
      best: Best epoch of this stage.
      normalizer: Fitted to the training rows.
      key: Root PRNG key; epoch e uses `fold_in(key, e)`.
      hyper: Hyperparameters.
      stage: Number of the stage, int32.
      epoch: Epochs done in this stage, int32.
      done: Epochs done in all, int32.
      recent: Validation score of the last epochs of this stage (UAR; CCC in a regression), `[score_epochs]`, nan where
        there is none yet.
      history: Per epoch, `[budget of all stages]`: losses of training, validation score, diagnostics, stage.
      skipped: Updates that were not made.
      status: One of `STATUS`, int32.
    """

    model: ModelState
    best: Best
    normalizer: Normalizer
    key: Array
    hyper: Hyperparameters
    stage: Array
    epoch: Array
    done: Array
    recent: Array
    history: dict[str, Array]
    skipped: Skipped
    status: Array


class EpochInputs(NamedTuple):
    """What the steps of an epoch need to know of their stage."""

    hide: Array
    decay: Array
    budget: Array
    hyper: Hyperparameters


def used_stages(method: Method) -> tuple[Stage, ...]:
    """The stages that have epochs."""
    return tuple(stage for stage in method.stages if stage.epochs > 0)


def total_epochs(method: Method) -> int:
    """Budget of all stages."""
    return sum(stage.epochs for stage in method.stages)


def epoch_inputs(method: Method, state: RunState) -> EpochInputs:
    """Hiding, decay, budget and weights of the stage that the run is in."""
    stages = used_stages(method)
    at = jnp.minimum(state.stage, len(stages) - 1)
    pick = lambda values: jnp.asarray(values)[at]
    weights = dict(state.hyper.weights)
    for name, value in weights.items():
        replaced = [name in stage.weights for stage in stages]
        if any(replaced):
            weights[name] = jnp.where(pick(replaced), pick([float(s.weights.get(name, 0.0)) for s in stages]), value)
    return EpochInputs(
        pick([stage.hide for stage in stages]),
        pick([stage.decay for stage in stages]),
        pick([stage.epochs for stage in stages]),
        state.hyper._replace(weights=weights),
    )


def step_hyper(now: EpochInputs, epochs_done: Array | float) -> Hyperparameters:
    """The hyperparameters of a step, where `epochs_done` (a fraction included) of its stage are done.

    With decay, the rate falls linearly to zero over the second half of the stage's budget.
    """
    share = jnp.minimum(2 * (1 - epochs_done / now.budget), 1.0)
    return now.hyper._replace(learning_rate=now.hyper.learning_rate * jnp.where(now.decay, share, 1.0))


def epoch_keys(state: RunState) -> tuple[Array, Array]:
    """Keys of the epoch that follows: for the order of the rows, and for its steps (`fold_in` the step's index)."""
    shuffle_key, steps_key = jax.random.split(jax.random.fold_in(state.key, state.done))
    return shuffle_key, steps_key


def first_run_state(
    method: Method,
    config: TrainConfig,
    params: Params,
    normalizer: Normalizer,
    key: Array,
    hyper: Hyperparameters,
    evaluation: Evaluation,
    values: dict[str, Array],
    batch_size: int,
) -> RunState:
    """The state before the first epoch.

    Args:
      method: Its stages are used.
      config: Schedule and stopping rule.
      params: Initial parameters.
      normalizer: Fitted to the training rows.
      key: Root key of the epochs.
      hyper: Hyperparameters.
      evaluation: Anything of the shapes and dtypes of what the validation gives.
      values: Anything of the names of what an epoch logs.
      batch_size: Rows of a training batch.
    """
    first = used_stages(method)[0]
    params = first.begin(params) if first.begin else params
    zero = jnp.zeros((), jnp.int32)
    names = ("stage", f"val_{method.task.score_name}", "score", *values)
    return RunState(
        model=first_state(method, config, params),
        best=_no_best(params, evaluation),
        normalizer=normalizer,
        key=key,
        hyper=jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper),
        stage=zero,
        epoch=zero,
        done=zero,
        recent=jnp.full(config.score_epochs, jnp.nan),
        history={name: jnp.full(total_epochs(method), jnp.nan) for name in names},
        skipped=Skipped(zero, jnp.full(batch_size, -1), zero - 1, zero - 1),
        status=zero + RUNNING,
    )


def epoch_means(sums: Mapping[str, Any], num_steps: int) -> dict[str, Array]:
    """Means over the steps whose update was made, nan if there was none; `skipped` stays the number of the others.

    Args:
      sums: Sums of `aux` of these steps (see `make_train_step`), and of `skipped` over all steps.
      num_steps: Of the epoch.
    """
    made = num_steps - sums["skipped"]
    mean = lambda total: jnp.where(made == num_steps, total / num_steps, jnp.divide(total, made))
    return {name: mean(total) for name, total in sums.items()} | {"skipped": sums["skipped"]}


def end_epoch(
    method: Method, config: TrainConfig, state: RunState, values: dict[str, Array], evaluation: Evaluation
) -> RunState:
    """What follows from an epoch's validation: its place in the history, the best epoch, the end of the stage.

    Args:
      method: Its stages are used.
      config: Stopping rule.
      state: The state in which the epoch began, with the `model` that its steps left.
      values: Mean losses of the epoch (`epoch_means`) and diagnostics.
      evaluation: Of the validation rows.
    """
    stages = used_stages(method)
    now = epoch_inputs(method, state)
    counts = evaluation.counts
    val_score = method.task.score(jnp.where(now.hide, counts[:-1].sum(0), counts[-1]))
    recent = jnp.roll(state.recent, 1).at[0].set(val_score)
    score = jnp.nanmean(recent)
    finite = evaluation.finite & (state.model.skipped < config.max_skipped)
    new = Best(state.model.chosen, score, state.epoch, evaluation)
    is_better = finite & (score > state.best.score)
    best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), new, state.best)
    logged = {**values, "stage": state.stage, f"val_{method.task.score_name}": val_score, "score": score}
    history = {name: column.at[state.done].set(logged[name]) for name, column in state.history.items()}
    epoch = state.epoch + 1
    stale = (config.patience > 0) & (state.epoch - best.epoch >= config.patience)
    ends = stale | (epoch >= now.budget)
    is_last = state.stage == len(stages) - 1
    status = jnp.where(ends & is_last, jnp.where(stale, CONVERGED, BUDGET), RUNNING)
    status = jnp.where(finite, status, DIVERGED).astype(jnp.int32)
    state = state._replace(best=best, epoch=epoch, done=state.done + 1, recent=recent, history=history, status=status)
    following = [partial(_begin_stage, method, config, number) for number in range(1, len(stages))]
    following_stage = jnp.where(finite & ends & ~is_last, state.stage + 1, 0)  # a run that diverged goes no further
    return jax.lax.switch(following_stage, [lambda state: state, *following], state)


def _begin_stage(method: Method, config: TrainConfig, number: int, state: RunState) -> RunState:
    """The state before the first epoch of a later stage."""
    stage = used_stages(method)[number]
    params = state.best.params if stage.from_best else state.model.params
    params = stage.begin(params) if stage.begin else params
    opt_state = None if stage.fresh_optimizer else state.model.opt_state
    return state._replace(
        model=first_state(method, config, params, opt_state),
        best=_no_best(params, state.best.evaluation),
        stage=jnp.asarray(number, jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        recent=jnp.full_like(state.recent, jnp.nan),
    )


def _no_best(params: Params, evaluation: Evaluation) -> Best:
    params = jax.tree.map(jnp.copy, params)  # the model, which has the same ones, may be donated
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), evaluation)
    return Best(params, -jnp.ones(()), -jnp.ones((), jnp.int32), nothing)
