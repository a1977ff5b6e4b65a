"""Updates that are skipped because the loss or a gradient is not finite: counted, named, and the end of a run."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_run_stages import always, counter, counter_data, run_counter
from tiny import make_batch

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.training.schedule import BUDGET, DIVERGED, epoch_means
from cmarr_jax.training.step import first_state, make_train_step
from cmarr_jax.training.streamed_loop import add_step

ROW = 6  # the utterance whose features are nan


def spoilt(value="loss"):
    """The counter, whose loss (or gradient alone) is nan in the batch that has a nan feature."""

    def loss(params, batch, available, key, hyper, axis_name=None):
        bad = jnp.where(jnp.isnan(batch.features["one"]).any(), jnp.nan, 1.0)
        if value == "loss":
            return bad * params["w"], {}
        return params["w"] + jnp.sqrt(jnp.where(jnp.isnan(bad), 0.0 * params["w"], 1.0)) - 1, {}  # d sqrt(0): nan

    return counter((0, 4), always)._replace(loss=loss)


def data_with_nan(value=jnp.nan):
    data, fold = counter_data()
    return data._replace(features=data.features | {"one": data.features["one"].at[ROW].set(value)}), fold


@pytest.fixture(scope="module")
def no_scaling():
    """The normaliser would carry the nan of one row to all."""
    import cmarr_jax.training.run as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "normalize", lambda normalizer, batch: batch)
        yield


@pytest.mark.parametrize("value", ["loss", "gradient"])
def test_a_step_that_is_not_finite_is_skipped_counted_and_named(no_scaling, value):
    result, history = run_counter(spoilt(value), data=data_with_nan())
    assert result.status == BUDGET
    # By hand: 3 steps an epoch, one of them has the row; the others are of size 1.
    np.testing.assert_array_equal(history["stage1"]["skipped"], [1, 1, 1, 1])
    np.testing.assert_allclose(history["stage1"]["w"], [-2, -4, -6, -8], rtol=1e-5)
    losses = [-0.5, -2.5, -4.5, -6.5]  # means of the two steps that were made
    np.testing.assert_allclose(history["stage1"]["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(history["stage1"]["grad_norm"], 1, rtol=1e-6)
    skipped = result.skipped
    assert (skipped.total, skipped.epoch) == (4, 3)
    assert 0 <= skipped.step < 3
    rows = [row for row in skipped.rows.tolist() if row >= 0]
    assert ROW in rows
    assert len(rows) == len(set(rows)) <= 4


def test_so_many_in_a_row_end_the_run_with_the_state_before_them(no_scaling):
    data, fold = data_with_nan()
    everywhere = data._replace(features=data.features | {"one": jnp.full_like(data.features["one"], jnp.nan)})
    result, _ = run_counter(spoilt(), data=(everywhere, fold), max_skipped=5)
    # By hand: steps 0 to 4 are counted, of which the last is the second one of epoch 1; that epoch is the last.
    assert (result.status, result.num_epochs) == (DIVERGED, 2)
    assert (result.skipped.total, result.skipped.epoch, result.skipped.step) == (5, 1, 1)
    np.testing.assert_array_equal(result.history["skipped"][:2], [3, 3])
    assert np.isnan(result.history["loss"][:2]).all()
    assert result.params["w"] == 0
    once, _ = run_counter(spoilt(), data=data_with_nan(), max_skipped=1)
    assert (once.status, once.num_epochs, once.skipped.total) == (DIVERGED, 1, 1)


def test_a_run_that_diverges_in_the_last_epoch_of_a_stage_begins_no_other():
    """Its parameters are those after its last update, not those of the best epoch, from which stage 2 would begin."""

    def loss(params, batch, available, key, hyper, axis_name=None):
        return jnp.where(params["w"] < -4.5, jnp.nan, params["w"]), {}

    begin = lambda params: {"w": params["w"] + 100}
    method = counter((2, 3), always, begin=begin, from_best=True)._replace(loss=loss)
    result, _ = run_counter(method, max_skipped=1)
    # By hand: three steps of size 1 an epoch; the third one of epoch 2 is the first with a nan loss.
    assert (result.status, result.num_epochs) == (DIVERGED, 2)
    np.testing.assert_allclose(result.params["w"], -5, rtol=1e-5)


def test_a_skipped_step_changes_nothing_but_the_count():
    method, config = spoilt(), TrainConfig(average=0.9, max_skipped=2)
    step = jax.jit(make_train_step(method, config))
    hyper = Hyperparameters(0.5, 0.0, {})
    batch = make_batch(size=4)
    good = batch._replace(features={"one": jnp.zeros((4, 1))})
    bad = batch._replace(features={"one": jnp.full((4, 1), jnp.nan)})
    call = lambda state, batch: step(state, batch, jax.random.key(0), jnp.array(False), hyper)
    state, aux = call(first_state(method, config, {"w": jnp.ones(())}), good)
    assert (aux["skipped"], state.skipped) == (0, 0)
    after, aux = call(state, bad)
    assert (aux["skipped"], after.skipped) == (1, 1)
    chex.assert_trees_all_equal(after._replace(skipped=0), state._replace(skipped=0))
    again, aux = call(after, good)
    assert (aux["skipped"], again.skipped, again.step) == (0, 0, 2)
    for batch in (bad, bad, good):  # two in a row: nothing changes any more
        again, aux = call(again, batch)
    assert (aux["skipped"], again.skipped, again.step) == (1, 2, 2)


def test_parameters_that_would_not_be_finite_are_not_taken():
    method, config = counter((1,), always), TrainConfig()
    step = jax.jit(make_train_step(method, config))
    state = first_state(method, config, {"w": jnp.asarray(-3e38)})
    state, aux = step(state, make_batch(size=4), jax.random.key(0), jnp.array(False), Hyperparameters(3e38, 0.0, {}))
    assert aux["skipped"] == 1
    assert np.isfinite(aux["grad_norm"])
    assert state.params["w"] == np.float32(-3e38)


def test_the_means_of_a_streamed_epoch_leave_skipped_steps_out():
    sums = {"loss": np.float32(0), "skipped": np.float32(0)}
    for loss, skipped in ((1.0, 0.0), (np.nan, 1.0), (4.0, 0.0)):
        sums = add_step(sums, {"loss": np.float32(loss), "skipped": np.float32(skipped)})
    assert epoch_means(sums, 3) == {"loss": 2.5, "skipped": 1}
    assert np.isnan(epoch_means({"loss": np.float32(0), "skipped": np.float32(3)}, 3)["loss"])


def test_at_least_one_may_be_skipped():
    with pytest.raises(ValueError, match=r"max_skipped must be at least 1 .* found 0"):
        dataclasses.replace(TrainConfig(), max_skipped=0)
