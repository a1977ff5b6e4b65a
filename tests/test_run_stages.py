"""The stages of a run: learning rate, which epoch is kept, when a stage ends, and which patterns it draws."""

from collections import OrderedDict
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import make_batch

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.methods.base import Method, Stage, adam
from cmarr_jax.metrics import uar
from cmarr_jax.training.run import RunResult, history_by_stage, make_train_run
from cmarr_jax.training.schedule import BUDGET, CONVERGED, DIVERGED
from cmarr_jax.training.step import first_state, make_train_step

# What follows trains a counter instead of a network: `w` falls by the learning rate at each step (Adam's update for a
# constant gradient of 1 is 1), and a prediction is right where the test says so.


def counter(stage_epochs, right, *, loss_aux=lambda batch, available, w: {}, weights=None, **stage):
    """A method whose only parameter counts steps; `right(w, available [B, M]) -> [B]` says who is classified well."""

    def loss(params, batch, available, key, hyper, axis_name=None):
        return params["w"], loss_aux(batch, available, params["w"])

    def predict(params, label, available):
        correct = right(params["w"], available)
        return jax.nn.one_hot(jnp.where(correct, label, (label + 1) % 4), 4)

    return Method(
        init=lambda key, batch: {"w": jnp.zeros(())},
        loss=loss,
        stages=tuple(
            Stage(f"stage{i}", epochs, i > 0, **(stage if i == len(stage_epochs) - 1 else {}))
            for i, epochs in enumerate(stage_epochs)
        ),
        encode=lambda params, batch: batch.label,
        predict=predict,
        diagnose=lambda params, label, where: {"w": params["w"]},
        weights=weights or {},
        optimizer=adam(TrainConfig()),
    )


def counter_data(num=22):
    present = jnp.ones((num, 2), bool)
    features = OrderedDict(one=jnp.zeros((num, 1)), two=jnp.zeros((num, 1)))
    data = DeviceCorpus(features, {}, present, jnp.arange(num, dtype=jnp.int32) % 4)
    rows = lambda start, stop: (jnp.arange(start, stop), jnp.ones(stop - start, bool))
    filled_up = jnp.r_[jnp.arange(10), 0], jnp.arange(11) < 10  # as where another fold has one row more
    return data, Fold(*filled_up, *rows(10, 16), *rows(16, num))


class Counted(NamedTuple):
    """A run's result and its history by stage."""

    result: RunResult
    history: dict[str, dict[str, np.ndarray]]


def run_counter(method, *, learning_rate=1.0, batch_size=4, seed=0, data=None, **config) -> Counted:
    run = jax.jit(make_train_run(method, TrainConfig(batch_size=batch_size, **config)))
    hyper = Hyperparameters(learning_rate, 0.0, dict(method.weights))
    result = run(*(data or counter_data()), jax.random.key(seed), hyper)
    return Counted(result, history_by_stage(result, [stage.name for stage in method.stages if stage.epochs]))


always = lambda w, available: available.any(axis=1)


def test_the_learning_rate_decays_to_zero_in_the_second_half_of_the_last_stage():
    first, second = (-x["w"] for x in run_counter(counter((2, 8), always, decay=True)).history.values())
    # By hand: 11 rows in batches of 4 are 3 steps an epoch, each of size 1 before half of the 24 steps of stage 2.
    np.testing.assert_allclose(first, [3, 6], rtol=1e-5)
    rates = np.minimum(1, 2 * (1 - np.arange(24) / 24))
    np.testing.assert_allclose(second, 6 + np.cumsum(rates)[2::3], rtol=1e-5)
    np.testing.assert_allclose(np.diff(second)[:3], 3, rtol=1e-5)
    assert np.diff(second)[-1] < 0.6  # the last three steps: 3/12 + 2/12 + 1/12


def test_the_best_validation_epoch_is_kept_and_the_first_of_equals():
    # Right in epochs 2 and 3 of stage 2 (w after the epochs, three steps each: -3, -6, -9, -12, -15 ...).
    right = lambda w, available: jnp.broadcast_to((w < -7) & (w > -13), available.shape[:1])
    result, history = run_counter(counter((0, 8), right))
    np.testing.assert_array_equal(history["stage1"]["val_uar"], [0, 0, 1, 1, 0, 0, 0, 0])
    assert result.best_epoch == 2
    np.testing.assert_allclose(result.params["w"], -9, rtol=1e-5)
    np.testing.assert_array_equal(result.val_counts.sum((1, 2)), 6)
    assert uar(np.asarray(result.test_counts)).tolist() == [1.0, 1.0, 1.0]
    assert (result.status, result.num_epochs) == (BUDGET, 8)


def test_complete_data_have_no_say_in_the_choice():
    # Early: right on complete data only. Later: right on single modalities only, which is what counts.
    right = lambda w, available: available.all(axis=1) == (w > -7)
    result, history = run_counter(counter((0, 8), right))
    np.testing.assert_array_equal(history["stage1"]["val_uar"], [0, 0, 1, 1, 1, 1, 1, 1])
    assert result.best_epoch == 2
    assert uar(np.asarray(result.val_counts)).tolist() == [1.0, 1.0, 0.0]


def test_a_stage_without_hiding_is_scored_on_complete_data():
    right = lambda w, available: available.all(axis=1) == (w > -7)
    _, history = run_counter(counter((4, 1), right))
    np.testing.assert_array_equal(history["stage0"]["val_uar"], [1, 1, 0, 0])


def test_a_stage_ends_after_a_stretch_without_improvement():
    # Stage 0 improves in its epoch 2 only and ends two epochs later; stage 1 never improves on its first epoch.
    right = lambda w, available: jnp.broadcast_to(w < -7, available.shape[:1])
    result, history = run_counter(counter((50, 40), right), patience=2)
    np.testing.assert_array_equal(history["stage0"]["val_uar"], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(history["stage1"]["val_uar"], [1, 1, 1])
    assert (result.status, result.num_epochs, result.best_epoch) == (CONVERGED, 8, 0)
    assert np.isnan(result.history["loss"][8:]).all()


def test_a_stage_that_still_improves_is_stopped_by_its_budget():
    step_up = lambda w, available: jnp.arange(available.shape[0]) * 3 < -w  # more rows are right in each epoch
    result, _ = run_counter(counter((0, 4), step_up), patience=2)
    assert (result.status, result.num_epochs) == (BUDGET, 4)


def test_the_score_is_the_mean_over_the_last_epochs():
    # One lucky epoch (2), then three good ones (5, 6, 7): with one epoch a score, the lucky one is kept.
    right = lambda w, available: jnp.broadcast_to(((w < -7) & (w > -10)) | ((w < -16) & (w > -25)), available.shape[:1])
    lucky, _ = run_counter(counter((0, 9), right))
    assert lucky.best_epoch == 2
    steady, history = run_counter(counter((0, 9), right), score_epochs=3)
    np.testing.assert_allclose(
        history["stage1"]["score"], [0, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 1, 2 / 3], rtol=1e-6
    )
    assert steady.best_epoch == 7


def test_averaged_weights_by_hand():
    result, history = run_counter(counter((0, 2), always), average=0.5)
    average, steps = 0.0, range(1, 7)
    for number, w in enumerate(-np.arange(1.0, 7.0)):
        keep = min(0.5, (1 + number) / (10 + number))
        average = keep * average + (1 - keep) * w
    assert len(steps) == 6
    np.testing.assert_allclose(history["stage1"]["w"][-1], average, rtol=1e-5)  # what is validated, and kept
    assert result.params["w"] > -6


def test_a_small_corpus_is_read_several_times_an_epoch():
    aux = lambda batch, available, w: {"rows": jnp.sum(batch.where)}
    _, history = run_counter(counter((0, 2), always, loss_aux=aux), min_epoch_steps=8)
    np.testing.assert_allclose(-history["stage1"]["w"], [9, 18], rtol=1e-5)  # three passes of three steps
    np.testing.assert_allclose(9 * history["stage1"]["rows"], 30, rtol=1e-6)
    assert TrainConfig(min_epoch_steps=8).passes(3) == 3
    assert TrainConfig(min_epoch_steps=9).passes(3) == 3
    assert TrainConfig().passes(3) == 1


def test_every_row_is_read_once_per_epoch():
    aux = lambda batch, available, w: {
        "rows": jnp.sum(batch.where),
        "squares": jnp.sum(jnp.where(batch.where, batch.label**2, 0)),
    }
    history = run_counter(counter((1, 6), always, loss_aux=aux)).history["stage1"]  # means over three steps
    np.testing.assert_allclose(3 * history["rows"], 10, rtol=1e-6)
    data, _ = counter_data()
    np.testing.assert_allclose(3 * history["squares"], np.sum(np.asarray(data.label)[:10] ** 2), rtol=1e-6)


def test_a_part_smaller_than_a_batch():
    aux = lambda batch, available, w: {"n": batch.where.sum()}
    result, history = run_counter(counter((1, 2), always, loss_aux=aux), batch_size=64)
    np.testing.assert_array_equal(history["stage1"]["n"], 10)
    assert result.test_counts[0].sum() == 6


@pytest.mark.parametrize("where", ["loss", "logits"])
def test_a_diverged_run_is_no_result(where):
    # Nan from the third epoch on. The argmax of nan logits is class 0, which scored a plausible 1 / K.
    def spoil(method):
        lost = lambda w: w < -7
        if where == "logits":
            predict = lambda params, *args: jnp.where(lost(params["w"]), jnp.nan, method.predict(params, *args))
            return method._replace(predict=predict)
        loss = lambda params, *args: (jnp.where(lost(params["w"]), jnp.nan, params["w"]), {})
        return method._replace(loss=lambda params, *args: loss(params, *args))

    result, _ = run_counter(spoil(counter((0, 20), always)))
    assert result.status == DIVERGED
    # By hand: the first nan loss is in the last step of the third epoch, and ten in a row are three epochs more.
    assert result.num_epochs == (3 if where == "logits" else 6)
    assert not result.test_counts.any()
    assert not result.val_counts.any()
    assert np.isnan(uar(np.asarray(result.test_counts))).all()
    assert np.isfinite(result.params["w"])


def test_a_run_whose_test_outputs_are_not_finite_is_no_result_but_keeps_the_chosen_epoch():
    """The test part decides nothing about the parameters."""
    data, fold = counter_data()
    is_test = jnp.zeros(22, bool).at[fold.test].set(True)
    plain = counter((0, 3), always)
    spoilt = data.features | {"one": jnp.where(is_test[:, None], jnp.nan, data.features["one"])}
    method = plain._replace(
        encode=lambda params, batch: (batch.label, batch.features["one"]),
        predict=lambda params, encoded, available: plain.predict(params, encoded[0], available) + encoded[1],
    )
    result, _ = run_counter(method, data=(data._replace(features=spoilt), fold))
    # By hand: every epoch is right, so the first one (w = -3) is chosen.
    assert (result.status, result.best_epoch) == (DIVERGED, 0)
    np.testing.assert_allclose(result.params["w"], -3, rtol=1e-5)
    assert not result.val_counts.any()
    assert not result.test_counts.any()


def available_in_a_step(hide, *, include_complete=True, seed=0, num=400):
    loss = lambda params, batch, available, key, hyper, axis_name=None: (params["w"], {"available": available})
    method = counter((1,), always)._replace(loss=loss, optimizer=optax.identity())
    config = TrainConfig(include_complete=include_complete)
    step = jax.jit(make_train_step(method, config))
    batch = make_batch(size=num)
    batch = batch._replace(present=batch.present.at[:100, 1].set(False))
    state = first_state(method, config, {"w": jnp.zeros(())})
    _, aux = step(state, batch, jax.random.key(seed), hide, Hyperparameters(1.0, 0.0, {}))
    return batch.present, aux["available"]


def test_patterns_are_drawn_per_utterance_and_reading():
    present, available = available_in_a_step(hide=True)
    assert not (available & ~present).any()
    assert available.any(axis=1).all()
    _, counts = np.unique(np.asarray(available)[100:], axis=0, return_counts=True)
    assert len(counts) == 7
    # 300 utterances over 7 patterns: 43 each, standard deviation 6.
    assert counts.min() > 43 - 4 * 6
    assert counts.max() < 43 + 4 * 6
    _, other = available_in_a_step(hide=True, seed=1)
    assert (other != available).any(axis=1).mean() > 0.5


def test_the_complete_pattern_can_be_left_out():
    present, available = available_in_a_step(hide=True, include_complete=False)
    assert not (available == present).all(axis=1).any()


def test_nothing_is_hidden_in_the_first_stage():
    present, available = available_in_a_step(hide=False)
    np.testing.assert_array_equal(available, present)


def test_a_run_gives_each_stage_its_weights_and_patterns():
    def loss(params, batch, available, key, hyper, axis_name=None):
        return params["w"], {**hyper.weights, "hidden": jnp.sum(batch.present & ~available)}

    method = counter((1, 2), always, weights={"one": 0.5, "two": 0.25})
    stages = method.stages[0]._replace(weights={"one": 0.0}), method.stages[1]
    history = run_counter(method._replace(loss=loss, stages=stages)).history
    for number, one in enumerate((0.0, 0.5)):
        values = history[f"stage{number}"]
        np.testing.assert_allclose(values["one"], one, rtol=1e-6)
        np.testing.assert_allclose(values["two"], 0.25, rtol=1e-6)
        assert (values["hidden"] > 0).all() == (number == 1)


def test_clipping():
    tx = adam(TrainConfig(clip_norm=1.0))
    grads = {"a": jnp.array([30.0, 40.0])}
    _, state = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(state[1].mu["a"], [0.06, 0.08], rtol=1e-5)  # 0.1 * (0.6, 0.8): Adam's first moment


@pytest.mark.parametrize(
    "fields",
    [
        {"missing_epochs": 0}, {"complete_epochs": -1}, {"batch_size": 1}, {"eval_batch_size": 0}, {"patience": -1},
        {"score_epochs": 0}, {"average": 1.0}, {"clip_norm": 0.0}, {"min_epoch_steps": -1},
    ],
    ids=lambda fields: next(iter(fields)),
)  # fmt: skip
def test_impossible_schedules_raise(fields):
    with pytest.raises(ValueError, match=r"must be .*found"):
        TrainConfig(**fields)
