"""One whole run as a pure function: `train_run(data, fold, key, hyper) -> RunResult`.

It can be jitted, and vmapped or mapped over folds, seeds and hyperparameters (`sweep.py`). Nothing of the test rows is
read before the last step; validation rows choose the epoch and nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.folds import Fold
from cmarr_jax.input import Data, Normalizer, fit_normalizer, normalize, take
from cmarr_jax.method import Method, Params, Stage
from cmarr_jax.metrics import confusion_counts, uar
from cmarr_jax.missing import availability_patterns, sample_available
from cmarr_jax.plan import PartPlan, Plan, fold_fits, place, shuffle, unsorted_plan
from cmarr_jax.types import Array, Batch


class RunResult(NamedTuple):
    """What a run leaves behind.

    Attributes:
      params: Parameters of the chosen epoch.
      normalizer: What features are standardised with before they reach the network.
      history: Per stage name, per epoch `[epochs]`: losses of training, pooled validation UAR, diagnostics.
      best_epoch: Chosen epoch of the last stage, counted from 0.
      val_counts: Validation confusion counts at that epoch, `[P, K, K]`, by condition.
      test_counts: Test confusion counts, `[P, K, K]`.
    """

    params: Params
    normalizer: Normalizer
    history: dict[str, dict[str, Array]]
    best_epoch: Array
    val_counts: Array
    test_counts: Array


class Best(NamedTuple):
    """The best epoch so far."""

    params: Params
    score: Array
    epoch: Array
    counts: Array


TrainRun = Callable[[Data, Fold, Array, Hyperparameters], RunResult]


def make_tx(config: TrainConfig) -> optax.GradientTransformation:
    """Adam behind gradient clipping, without its learning rate: that is an argument of each step."""
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam())


def make_train_step(stage: Stage, tx: optax.GradientTransformation, config: TrainConfig, axis_name: str | None = None):
    """A training step `(params, opt_state, batch, key, learning_rate, hyper) -> (params, opt_state, aux)`.

    Args:
      stage: The loss, and whether modalities are hidden.
      tx: Optimizer without learning rate (`make_tx`).
      config: The schedule.
      axis_name: With a device axis the batch is this device's part: losses are shares of global means, and gradients
        are their sum over devices.
    """

    def train_step(
        params: Params,
        opt_state: optax.OptState,
        batch: Batch,
        key: Array,
        learning_rate: Array,
        hyper: Hyperparameters,
    ) -> tuple[Params, optax.OptState, dict[str, Array]]:
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))  # other noise on each device
        pattern_key, loss_key = jax.random.split(key)
        available = batch.present
        if stage.hide:
            available = sample_available(pattern_key, batch.present, include_complete=config.include_complete)
        (loss, aux), grads = jax.value_and_grad(stage.loss, has_aux=True)(
            params, batch, available, loss_key, hyper, axis_name
        )
        if axis_name is not None:
            loss, aux, grads = jax.lax.psum((loss, aux, grads), axis_name)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda update: -learning_rate * update, updates))
        return params, opt_state, dict(aux, loss=loss)

    return train_step


def count_conditions(method: Method, params: Params, batch: Batch, patterns: Array, num_classes: int) -> Array:
    """Confusion counts of a batch in each condition, `[P, K, K]`; every utterance is encoded once.

    An utterance that has none of a condition's modalities is not counted in it.
    """
    embedding = method.encode(params, batch)

    def count(pattern: Array) -> Array:
        available = pattern[None] & batch.present
        predicted = jnp.argmax(method.predict(params, embedding, available), axis=-1)
        counted = batch.where & available.any(axis=-1)
        return confusion_counts(batch.label, predicted, counted, num_classes=num_classes)

    return jax.vmap(count)(patterns)


def evaluate(
    method: Method,
    params: Params,
    normalizer: Normalizer,
    data: Data,
    rows: Array,
    where: Array,
    *,
    num_classes: int,
    plan: PartPlan | None = None,
) -> Array:
    """Confusion counts of these rows in every condition, `[P, K, K]`, in the order of `availability_patterns`."""
    plan = plan or PartPlan(min(256, len(rows)))
    patterns = jnp.asarray(availability_patterns(data.present.shape[1]))
    batches, _ = place(data.length, rows, where, plan)

    def add(counts: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        batch = normalize(normalizer, take(data, *part, plan))
        return counts + count_conditions(method, params, batch, patterns, num_classes), None

    zeros = jnp.zeros((len(patterns), num_classes, num_classes), jnp.int32)
    return jax.lax.scan(add, zeros, batches)[0]


def make_train_run(method: Method, config: TrainConfig, num_classes: int, plan: Plan | None = None) -> TrainRun:
    """The run of a method as one pure function of arrays, to be jitted by the caller.

    Args:
      method: From `make_method`.
      config: The schedule.
      num_classes: K.
      plan: From `make_plan`, for the corpus and the folds that the run will see: batches without the padding to the
        longest utterance. A fold with longer utterances than planned gives nan parameters rather than cut utterances.
        Without a plan every sequence is padded, and who meets whom in a batch is not restricted.
    """
    tx = make_tx(config)

    def train_run(data: Data, fold: Fold, key: Array, hyper: Hyperparameters) -> RunResult:
        init_key, *stage_keys = jax.random.split(key, 1 + len(method.stages))
        plans = plan or unsorted_plan(fold, config)
        normalizer = fit_normalizer(data, fold.train, fold.train_where)
        params = method.init(init_key, normalize(normalizer, take(data, fold.train[:2], fold.train_where[:2])))
        params = jax.tree.map(lambda x: jnp.where(fold_fits(data.length, fold, plans), x, jnp.nan), params)
        opt_state = tx.init(params)
        history = {}
        for stage, stage_key in zip(method.stages, stage_keys, strict=True):
            last = stage is method.stages[-1]
            epoch = make_epoch(method, stage, tx, config, num_classes, normalizer, data, fold, hyper, plans, decay=last)
            num_patterns = 2 ** data.present.shape[1] - 1
            best = Best(
                params,
                -jnp.ones(()),
                jnp.zeros((), jnp.int32),
                jnp.zeros((num_patterns, num_classes, num_classes), jnp.int32),
            )
            steps = (jnp.arange(stage.epochs), jax.random.split(stage_key, stage.epochs))
            (params, opt_state, best), history[stage.name] = jax.lax.scan(epoch, (params, opt_state, best), steps)
        test_counts = evaluate(
            method, best.params, normalizer, data, fold.test, fold.test_where,
            num_classes=num_classes, plan=plans.test,
        )  # fmt: skip
        return RunResult(best.params, normalizer, history, best.epoch, best.counts, test_counts)

    return train_run


def make_epoch(
    method: Method,
    stage: Stage,
    tx: optax.GradientTransformation,
    config: TrainConfig,
    num_classes: int,
    normalizer: Normalizer,
    data: Data,
    fold: Fold,
    hyper: Hyperparameters,
    plans: Plan,
    *,
    decay: bool,
):
    """The body of a scan over epochs: shuffle, train, validate, keep the best parameters.

    With `decay` the learning rate falls linearly to zero over the second half of the stage.
    """
    train_step = make_train_step(stage, tx, config)
    batches, _ = place(data.length, fold.train, fold.train_where, plans.train)
    steps_per_epoch = len(batches[0])
    num_steps = max(stage.epochs * steps_per_epoch, 1)

    def learning_rate(step: Array) -> Array:
        remaining = 2 * (1 - step / num_steps) if decay else jnp.ones(())
        return hyper.learning_rate * jnp.minimum(remaining, 1.0)

    def epoch(carry, inputs):
        params, opt_state, best = carry
        index, key = inputs
        shuffle_key, step_key = jax.random.split(key)

        def step(state, inputs):
            params, opt_state = state
            number, rows, where = inputs
            batch = normalize(normalizer, take(data, rows, where, plans.train))
            rate = learning_rate(index * steps_per_epoch + number)
            key = jax.random.fold_in(step_key, number)
            params, opt_state, aux = train_step(params, opt_state, batch, key, rate, hyper)
            return (params, opt_state), aux

        numbered = (jnp.arange(steps_per_epoch), *shuffle(shuffle_key, batches, plans.train))
        (params, opt_state), aux = jax.lax.scan(step, (params, opt_state), numbered)
        counts = evaluate(
            method, params, normalizer, data, fold.val, fold.val_where,
            num_classes=num_classes, plan=plans.val,
        )  # fmt: skip
        score = uar(counts[:-1].sum(0))
        best = jax.tree.map(
            lambda new, old: jnp.where(score > best.score, new, old), Best(params, score, index, counts), best
        )
        return (params, opt_state, best), jax.tree.map(jnp.mean, aux) | {"val_uar": score} | diagnose(params)

    def diagnose(params: Params) -> dict[str, Array]:
        few = min(config.batch_size, len(fold.val))
        batch = normalize(normalizer, take(data, fold.val[:few], fold.val_where[:few]))
        return method.diagnose(params, method.encode(params, batch), batch.where)

    return epoch
