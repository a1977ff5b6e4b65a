"""One run in three pure functions: `init`, `epochs` (any stretch of the schedule) and `finish`.

`train_run(data, fold, key, hyper) -> RunResult` is their composition, one program that can be jitted, and vmapped or
mapped over folds, seeds and hyperparameters (`sweep.py`). Features and labels of test rows are read by `finish` only;
validation rows choose the epoch, end the stages and fit late fusion's temperatures, nothing else.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.batching import BatchPlan, fold_matches_plan, plain_plan, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer, normalize, with_target
from cmarr_jax.data.train_batches import Streams, arrange_streams, draw_batches, take_batch, training_rows
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.task import CLASSIFICATION
from cmarr_jax.training.debug import StepChecks
from cmarr_jax.training.evaluation import Evaluation, evaluate
from cmarr_jax.training.schedule import (
    DIVERGED,
    MISMATCH,
    RUNNING,
    RunState,
    Skipped,
    end_epoch,
    epoch_inputs,
    epoch_keys,
    epoch_means,
    first_run_state,
    step_hyper,
)
from cmarr_jax.training.step import ModelState, first_state, make_train_step
from cmarr_jax.types import Array, Batch


class RunResult(NamedTuple):
    """What a run leaves behind.

    Attributes:
      params: Parameters of the chosen epoch; of a run that diverged in training, those after its last update.
      normalizer: What features are standardised with before they reach the network.
      history: Per epoch, `[budget]`, nan after the last one: losses, validation score, diagnostics, number of the stage
        (`history_by_stage` cuts them), number of updates that were skipped.
      num_epochs: Epochs done.
      best_epoch: Chosen epoch of the last stage, counted from 0; -1 if there is none.
      val_counts: Validation confusion counts at that epoch, `[P, K, K]`, by condition; of a regression sums, as in
        `cmarr_jax.training.evaluation.Evaluation`. Zeros, whose scores are nan, if the run is no result.
      test_counts: Test confusion counts, `[P, K, K]`, or sums; zeros as well.
      val_logits: Logits behind the validation counts, `[P, n, K]`, in the order of `Fold.val`; of a regression numbers
        in the unit of the target, K = 1.
      test_logits: Logits behind the test counts, `[P, n, K]`, in the order of `Fold.test`.
      skipped: Steps whose loss or gradient was not finite.
      status: How the run ended, one of `cmarr_jax.training.schedule.STATUS`.
    """

    params: Params
    normalizer: Normalizer
    history: dict[str, Array]
    num_epochs: Array
    best_epoch: Array
    val_counts: Array
    test_counts: Array
    val_logits: Array
    test_logits: Array
    skipped: Skipped
    status: Array


class Run(NamedTuple):
    """A run as three pure functions; any stretches of `epochs` give the same bits.

    So does `make_train_run`, which is another program, with XLA's usual options (tested on CPUs); with others, such as
    its older code for fused loops, the last bits may differ.

    Attributes:
      init: `(data, fold, key, hyper) -> state` before the first epoch.
      epochs: `(data, fold, state, until) -> state` where `until` epochs are done in all, or the run has ended.
      finish: `(data, fold, state) -> RunResult`: scores the test rows with the chosen parameters.
    """

    init: Callable[[DeviceCorpus, Fold, Array, Hyperparameters], RunState]
    epochs: Callable[[DeviceCorpus, Fold, RunState, Array], RunState]
    finish: Callable[[DeviceCorpus, Fold, RunState], RunResult]

    def whole(self, data: DeviceCorpus, fold: Fold, key: Array, hyper: Hyperparameters) -> RunResult:
        """All three: a whole run."""
        state = self.init(data, fold, key, hyper)
        state = self.epochs(data, fold, state, jnp.asarray(np.iinfo(np.int32).max))
        return self.finish(data, fold, state)


TrainRun = Callable[[DeviceCorpus, Fold, Array, Hyperparameters], RunResult]


def make_run(
    method: Method, config: TrainConfig, plan: BatchPlan | None = None, checks: StepChecks | None = None
) -> Run:
    """The three functions of a run, jitted.

    Args:
      method: From `make_method`.
      config: Schedule, stopping rule and batches.
      plan: From `plan_batches`, for the corpus and the folds that the run will see: batches without the padding to the
        longest utterance. A fold with longer utterances than planned ends at once with the status MISMATCH. Without a
        plan every sequence is padded, and batches are drawn from all rows.
      checks: Told of the first nan in a step, and where it came from.
    """
    parts = _Parts(
        method,
        config,
        plan,
        jax.jit(make_train_step(method, config)),
        jax.jit(partial(_validate, method, config, plan)),
        checks,
    )
    return Run(*(jax.jit(partial(function, parts)) for function in (_init, _epochs, _finish)))


class _Parts(NamedTuple):
    """What the three functions of a run share. Step and validation are jitted, so that they are traced once."""

    method: Method
    config: TrainConfig
    plan: BatchPlan | None
    step: Any
    validate: Any
    checks: StepChecks | None


def _init(parts: _Parts, data: DeviceCorpus, fold: Fold, key: Array, hyper: Hyperparameters) -> RunState:
    method, config, plan, step, validate, _ = parts
    plans = plan or plain_plan(fold, config)
    init_key, epochs_key = jax.random.split(key)
    normalizer = _fit_normalizer(method, data, fold)
    params = method.init(init_key, normalize(normalizer, take(data, fold.train[:2], fold.train_where[:2])))
    hyper = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), hyper)
    # What a step and a validation give: their shapes only, nothing of this is computed.
    streams = arrange_streams(data.length, fold, plans, unlabelled=method.unlabelled)
    rows, where = draw_batches(key, streams, plans, 1)
    batch = _batch(data, normalizer, (rows[0], where[0]), plans)
    losses = jax.eval_shape(step, first_state(method, config, params), batch, key, jnp.array(True), hyper)[1]
    evaluation, diagnostics = jax.eval_shape(validate, data, fold, params, normalizer)
    values, size = losses | diagnostics, len(rows[0])
    state = first_run_state(method, config, params, normalizer, epochs_key, hyper, evaluation, values, size)
    fits = fold_matches_plan(data.length, fold, plans)
    return state._replace(status=jnp.where(fits, RUNNING, MISMATCH).astype(jnp.int32))


def _fit_normalizer(method: Method, data: DeviceCorpus, fold: Fold) -> Normalizer:
    """Fitted to features of all training rows, and in a regression to the targets of the labelled ones."""
    normalizer = fit_normalizer(data, *training_rows(fold))
    if method.task is CLASSIFICATION:
        return normalizer
    if data.target is None:
        raise ValueError("a regression needs a number for each utterance; give a corpus with targets")
    return with_target(normalizer, data.target, fold.train, fold.train_where)


def _epochs(parts: _Parts, data: DeviceCorpus, fold: Fold, state: RunState, until: Array) -> RunState:
    method, config, plan, _, validate, _ = parts
    plans = plan or plain_plan(fold, config)
    streams = arrange_streams(data.length, fold, plans, unlabelled=method.unlabelled)

    def epoch(state: RunState) -> RunState:
        state, losses = _steps(parts, plans, data, streams, state)
        evaluation, diagnostics = validate(data, fold, state.model.chosen, state.normalizer)
        return end_epoch(method, config, state, losses | diagnostics, evaluation)

    goes_on = lambda state: (state.status == RUNNING) & (state.done < until)
    return jax.lax.while_loop(goes_on, epoch, state)


def _steps(
    parts: _Parts, plan: BatchPlan, data: DeviceCorpus, streams: Streams, state: RunState
) -> tuple[RunState, dict[str, Array]]:
    """The state after the steps of one epoch, and its mean losses."""
    config, now = parts.config, epoch_inputs(parts.method, state)
    num_batches = len(streams[0][0])  # of labelled rows
    num_steps = num_batches * config.passes(num_batches)
    shuffle_key, steps_key = epoch_keys(state)
    drawn = draw_batches(shuffle_key, streams, plan, num_steps)

    train_step, checked = parts.step, None if parts.checks is None else parts.checks.checked(parts.step)

    def step(model: ModelState, inputs: tuple[Array, tuple[Array, Array]]):
        index, rows = inputs
        batch = _batch(data, state.normalizer, rows, plan)
        hyper = step_hyper(now, state.epoch + index / num_steps)
        arguments = model, batch, jax.random.fold_in(steps_key, index), now.hide, hyper
        new, aux = train_step(*arguments) if checked is None else checked(*arguments, about=(*rows, state.done, index))
        return new, (aux, new.skipped > model.skipped)

    model, (losses, not_finite) = jax.lax.scan(step, state.model, (jnp.arange(num_steps), drawn))
    made = losses["skipped"] == 0
    sums = {name: jnp.sum(jnp.where(made, x, 0.0)) for name, x in losses.items()}
    means = epoch_means(sums | {"skipped": jnp.sum(losses["skipped"])}, num_steps)
    return state._replace(model=model, skipped=_skipped(state, not_finite, drawn)), means


def _skipped(state: RunState, not_finite: Array, drawn: tuple[Array, Array]) -> Skipped:
    """The skipped updates after an epoch.

    Args:
      state: In which the epoch began.
      not_finite: Which steps had a loss or gradient that is not finite, `[S]`.
      drawn: Rows of each step and which of them count, `[S, B]`.
    """
    at = len(not_finite) - 1 - jnp.argmax(not_finite[::-1])  # the last one
    rows, where = (x[at] for x in drawn)
    found = Skipped(state.skipped.total + not_finite.sum(), jnp.where(where, rows, -1), state.done, at)
    any_found = not_finite.any()
    return jax.tree.map(lambda new, old: jnp.where(any_found, new, old).astype(jnp.int32), found, state.skipped)


def _batch(data: DeviceCorpus, normalizer: Normalizer, rows: tuple[Array, Array], plan: BatchPlan) -> Batch:
    return normalize(normalizer, take_batch(data, *rows, plan))


def _validate(
    method: Method,
    config: TrainConfig,
    plan: BatchPlan | None,
    data: DeviceCorpus,
    fold: Fold,
    params: Params,
    normalizer: Normalizer,
) -> tuple[Evaluation, dict[str, Array]]:
    plans = plan or plain_plan(fold, config)
    return evaluate(method, params, normalizer, data, fold.val, fold.val_where, plans.val)


def _finish(parts: _Parts, data: DeviceCorpus, fold: Fold, state: RunState) -> RunResult:
    method, config, plan, _, validate, _ = parts
    plans = plan or plain_plan(fold, config)
    best = state.best
    if method.calibrate is not None:
        label, present, logits = data.label[fold.val], data.present[fold.val], best.evaluation.logits
        params = method.calibrate(best.params, logits, label, present, fold.val_where)  # type: ignore[arg-type]
        evaluation, _ = validate(data, fold, params, state.normalizer)
        best = best._replace(params=params, evaluation=evaluation)
    evaluation, _ = evaluate(method, best.params, state.normalizer, data, fold.test, fold.test_where, plans.test)
    has_result = (state.status != DIVERGED) & (state.status != MISMATCH)
    status = jnp.where(has_result & ~evaluation.finite, DIVERGED, state.status)
    counted = lambda counts: jnp.where(has_result & evaluation.finite, counts, 0)
    diverged = state.status == DIVERGED  # in training: the test part decides nothing about the parameters
    return RunResult(
        params=jax.tree.map(lambda last, best: jnp.where(diverged, last, best), state.model.params, best.params),
        normalizer=state.normalizer,
        history=state.history,
        num_epochs=state.done,
        best_epoch=best.epoch,
        val_counts=counted(best.evaluation.counts),
        test_counts=counted(evaluation.counts),
        val_logits=best.evaluation.logits,  # type: ignore[arg-type]  # `evaluate` keeps them
        test_logits=evaluation.logits,  # type: ignore[arg-type]
        skipped=state.skipped,
        status=status,
    )


def make_train_run(method: Method, config: TrainConfig, plan: BatchPlan | None = None) -> TrainRun:
    """A whole run as one pure function: `init`, all `epochs`, `finish` (see `make_run`)."""
    return make_run(method, config, plan).whole


def history_by_stage(result: RunResult, names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The history of one run as numpy arrays, cut to the epochs that each stage had.

    Args:
      result: Of one run.
      names: Names of the stages that have epochs (`used_stages`).
    """
    history = jax.device_get(result.history)
    rows = {name: np.flatnonzero(history["stage"] == number) for number, name in enumerate(names)}
    return {name: {key: column[at] for key, column in history.items() if key != "stage"} for name, at in rows.items()}
