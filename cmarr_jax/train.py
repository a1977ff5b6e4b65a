"""One whole run as a pure function: `train_run(data, fold, key, hyper) -> RunResult`.

It can be jitted, and vmapped or mapped over folds, seeds and hyperparameters (`sweep.py`). Nothing of the test rows is
read before the last step; validation rows choose the epoch and nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cmarr_jax.batching import PartPlan, Plan, fold_fits, place, shuffle, unsorted_plan
from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.folds import Fold
from cmarr_jax.input import Data, Normalizer, fit_normalizer, normalize, take
from cmarr_jax.method import Embedding, LossFn, Method, Params, Stage
from cmarr_jax.metrics import confusion_counts, uar
from cmarr_jax.missing import availability_patterns, sample_available
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


class Epoch(NamedTuple):
    """What an epoch is told: its number in its stage of `num_epochs`, and what is particular to the stage."""

    number: Array
    num_epochs: Array
    hide: Array
    last_stage: Array
    hyper: Hyperparameters
    key: Array


TrainRun = Callable[[Data, Fold, Array, Hyperparameters], RunResult]


def make_tx(config: TrainConfig) -> optax.GradientTransformation:
    """Adam behind gradient clipping, without its learning rate, which each step is given (`hyper`)."""
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.scale_by_adam())


def make_train_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    config: TrainConfig,
    axis_name: str | None = None,
):
    """A training step of any stage, `(params, opt_state, batch, key, hide, hyper) -> (params, opt_state, aux)`.

    `hide` (bool) says whether each utterance draws which of its modalities are available (`Stage.hide`); `hyper` are
    the hyperparameters of this step, with its learning rate and what its stage leaves out (`Stage.weights`).

    Args:
      loss_fn: Of the method.
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
        hide: Array,
        hyper: Hyperparameters,
    ) -> tuple[Params, optax.OptState, dict[str, Array]]:
        if axis_name is not None:
            key = jax.random.fold_in(key, jax.lax.axis_index(axis_name))  # other noise on each device
        pattern_key, loss_key = jax.random.split(key)
        drawn = sample_available(pattern_key, batch.present, include_complete=config.include_complete)
        available = jnp.where(hide, drawn, batch.present)
        (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, batch, available, loss_key, hyper, axis_name
        )
        if axis_name is not None:
            loss, aux, grads = jax.lax.psum((loss, aux, grads), axis_name)
        updates, opt_state = tx.update(grads, opt_state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda update: -hyper.learning_rate * update, updates))
        return params, opt_state, dict(aux, loss=loss)

    return train_step


def with_decay(hyper: Hyperparameters, done: float | Array, last_stage: bool | Array) -> Hyperparameters:
    """The learning rate where this share of a stage is done: it falls to zero over the second half of the last one."""
    rate = hyper.learning_rate * jnp.where(last_stage, jnp.minimum(2 * (1 - done), 1.0), 1.0)
    return hyper._replace(learning_rate=rate)


def count_conditions(method: Method, params: Params, batch: Batch, patterns: Array, num_classes: int) -> Array:
    """Confusion counts of a batch in each condition, `[P, K, K]`; every utterance is encoded once."""
    return count_encoded(method, params, method.encode(params, batch), batch, patterns, num_classes)


def count_encoded(
    method: Method, params: Params, embedding: Embedding, batch: Batch, patterns: Array, num_classes: int
) -> Array:
    """Confusion counts of a batch whose embedding is known, `[P, K, K]`.

    An utterance that has none of a condition's modalities is not counted in it.
    """

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
) -> tuple[Array, dict[str, Array]]:
    """Scores these rows in every condition.

    Returns:
      Confusion counts, `[P, K, K]`, in the order of `availability_patterns`, and the method's diagnostics on the first
      batch.
    """
    plan = plan or PartPlan(min(256, len(rows)))
    patterns = jnp.asarray(availability_patterns(data.present.shape[1]))
    batches, _ = place(data.length, rows, where, plan)

    def add(counts: Array, part: tuple[Array, Array]) -> tuple[Array, dict[str, Array]]:
        batch = normalize(normalizer, take(data, *part, plan))
        embedding = method.encode(params, batch)
        counts += count_encoded(method, params, embedding, batch, patterns, num_classes)
        return counts, method.diagnose(params, embedding, batch.where)

    zeros = jnp.zeros((len(patterns), num_classes, num_classes), jnp.int32)
    counts, diagnostics = jax.lax.scan(add, zeros, batches)
    return counts, jax.tree.map(lambda values: values[0], diagnostics)


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
        fits = fold_fits(data.length, fold, plans)
        params = jax.tree.map(lambda x: jnp.where(fits, x, jnp.nan), params)
        batches, _ = place(data.length, fold.train, fold.train_where, plans.train)
        train_epoch = make_train_epoch(method, tx, config, normalizer, data, plans.train)

        def epoch(carry, now: Epoch):
            params, opt_state, best = carry
            shuffle_key, step_key = jax.random.split(now.key)
            drawn = shuffle(shuffle_key, batches, plans.train)
            params, opt_state, losses = train_epoch(params, opt_state, drawn, now._replace(key=step_key))
            counts, diagnostics = evaluate(
                method, params, normalizer, data, fold.val, fold.val_where, num_classes=num_classes, plan=plans.val
            )
            score = uar(counts[:-1].sum(0))
            new = Best(params, score, now.number, counts)
            better = now.last_stage & (score > best.score)
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), new, best)
            return (params, opt_state, best), losses | diagnostics | {"val_uar": score}

        num_patterns = 2 ** data.present.shape[1] - 1
        no_counts = jnp.zeros((num_patterns, num_classes, num_classes), jnp.int32)
        best = Best(params, -jnp.ones(()), jnp.zeros((), jnp.int32), no_counts)
        # One scan over the epochs of all stages: a step and an evaluation are compiled once.
        epochs = make_schedule(method.stages, stage_keys, hyper)
        (_, _, best), values = jax.lax.scan(epoch, (params, tx.init(params), best), epochs)
        history, start = {}, 0
        for stage in method.stages:
            rows = slice(start, start := start + stage.epochs)
            history[stage.name] = jax.tree.map(lambda x, rows=rows: x[rows], values)
        test_counts, _ = evaluate(
            method, best.params, normalizer, data, fold.test, fold.test_where, num_classes=num_classes, plan=plans.test
        )
        return RunResult(best.params, normalizer, history, best.epoch, best.counts, test_counts)

    return train_run


def make_schedule(stages: tuple[Stage, ...], keys: list[Array], hyper: Hyperparameters) -> Epoch:
    """All epochs one after another, each leaf `[epochs]`; one key per stage."""

    def of_stage(stage: Stage, key: Array) -> Epoch:
        repeat = lambda x: jnp.full((stage.epochs,), x)
        return Epoch(
            number=jnp.arange(stage.epochs),
            num_epochs=repeat(stage.epochs),
            hide=repeat(stage.hide),
            last_stage=repeat(stage is stages[-1]),
            hyper=jax.tree.map(repeat, stage.weights(hyper)),
            key=jax.random.split(key, stage.epochs),
        )

    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *map(of_stage, stages, keys))


def make_train_epoch(
    method: Method,
    tx: optax.GradientTransformation,
    config: TrainConfig,
    normalizer: Normalizer,
    data: Data,
    plan: PartPlan,
):
    """`(params, opt_state, batches, now: Epoch) -> (params, opt_state, mean losses)`: one reading of the batches."""
    train_step = make_train_step(method.loss, tx, config)

    def train_epoch(
        params: Params, opt_state: optax.OptState, batches: tuple[Array, Array], now: Epoch
    ) -> tuple[Params, optax.OptState, dict[str, Array]]:
        num_batches = len(batches[0])

        def step(state, inputs):
            index, key, rows, where = inputs
            batch = normalize(normalizer, take(data, rows, where, plan))
            done = (now.number * num_batches + index) / (now.num_epochs * num_batches)
            hyper = with_decay(now.hyper, done, now.last_stage)
            params, opt_state, losses = train_step(*state, batch, key, now.hide, hyper)
            return (params, opt_state), losses

        inputs = jnp.arange(num_batches), jax.random.split(now.key, num_batches), *batches
        state, losses = jax.lax.scan(step, (params, opt_state), inputs)
        return *state, jax.tree.map(jnp.mean, losses)

    return train_epoch
