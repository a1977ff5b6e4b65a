"""Eight devices give the numbers of one: training steps, evaluation, sweeps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import assert_same_runs, in_order, loop, make_batch, random_params, run_config

from cmarr_jax.config import TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.batching import plan_batches, take
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.evaluation import evaluate_batch
from cmarr_jax.training.parallel import make_parallel_eval_step, make_parallel_train_step, split_batch
from cmarr_jax.training.step import first_state, make_train_step
from cmarr_jax.training.sweep import stack_runs
from cmarr_jax.training.sweep_memory import compile_sweep

DEVICES = 8
WEIGHTS = dict.fromkeys(("alignment", "nll", "squared_error", "refinement", "entropy", "entropy_floor"), 1.0)
# Each device draws its own noise, so one device and eight can only agree where noise does not matter: no dropout, and
# embeddings with a standard deviation of exp(-20).
QUIET = {
    "cm_arr": run_config(dropout=0.0, min_log_std=-20.1, max_log_std=-20.0, weights=WEIGHTS),
    "zero_fill": run_config(method="zero_fill", dropout=0.0),
    # Some of its guesses are surer than the threshold.
    "zero_fill_self": run_config(method="zero_fill", dropout=0.0, pseudo_labels=True, weights={"threshold": 0.33}),
}


def uneven_batch(size=14):
    """Does not divide by eight; absent modalities and rows that do not count, unevenly over the devices."""
    batch = make_batch(size=size)
    present = batch.present.at[0, 1].set(False).at[1, 0].set(False).at[2, 2].set(False).at[9, 1:].set(False)
    return batch._replace(present=present, where=batch.where.at[3].set(False).at[13].set(False))


def with_fixed_patterns(method):
    """The method with patterns that depend on the utterance instead of the key."""
    patterns = jnp.asarray(availability_patterns(3))

    def loss(params, batch, available, key, hyper, axis_name=None):
        pattern = patterns[(3 * batch.label + batch.length["audio"] + batch.length["text"]) % 7]
        available = jnp.where(
            (pattern & batch.present).any(axis=1, keepdims=True), pattern & batch.present, batch.present
        )
        return method.loss(params, batch, available, key, hyper, axis_name)

    return method._replace(loss=loss)


def recording_norm() -> optax.GradientTransformation:
    """Keeps the norm of the gradient as its state; clipping behind it would hide a wrong one."""
    return optax.GradientTransformation(lambda params: jnp.zeros(()), lambda grads, *_: (grads, optax.tree.norm(grads)))


@pytest.mark.parametrize(("name", "stage"), [("cm_arr", 0), ("cm_arr", 1), ("zero_fill", 1), ("zero_fill_self", 1)])
def test_a_training_step_on_eight_devices_equals_one(name, stage):
    method, config = make_method(QUIET[name]), TrainConfig(average=0.5)
    stage = method.stages[stage]
    # Without Adam, whose first step is a sign, which hides or blows up differences: the update is the clipped gradient.
    method = method._replace(optimizer=optax.chain(recording_norm(), optax.clip_by_global_norm(0.1)))
    method = with_fixed_patterns(method) if stage.hide else method
    batch = uneven_batch()
    if name == "zero_fill_self":  # all rows of some devices, none of others
        batch = batch._replace(label=batch.label.at[4:11].set(-1))
    state = first_state(method, config, random_params(method.init, batch))
    hyper = hyperparameters_of(QUIET[name])._replace(learning_rate=10.0)
    args = jax.random.key(0), False, hyper._replace(weights={**hyper.weights, **stage.weights})
    expected, expected_aux = jax.jit(make_train_step(method, config))(state, batch, *args)
    assert expected.opt_state[0] > 0.1  # it was clipped
    parallel = make_parallel_train_step(method, config)
    found, aux = parallel(jax.tree.map(jnp.copy, state), split_batch(batch, DEVICES), *args)
    np.testing.assert_allclose(found.opt_state[0], expected.opt_state[0], rtol=1e-5)
    np.testing.assert_allclose(aux["grad_norm"], expected.opt_state[0], rtol=1e-5)
    chex.assert_trees_all_close(aux, expected_aux, atol=1e-5, rtol=1e-5)
    chex.assert_trees_all_close((found.params, found.average), (expected.params, expected.average), atol=1e-5)
    if name == "cm_arr" and stage.hide:
        assert aux.pop("skipped") == 0
        assert all(value != 0 for value in aux.values())
    if name == "zero_fill_self":
        assert 0 < aux["pseudo_share"] < 1


def test_a_step_may_follow_a_step():
    # What comes out goes in again, with the optimizer of a real run.
    config = run_config(method="zero_fill", learning_rate=3e-3)
    method, hyper = make_method(config), hyperparameters_of(config)
    batch = split_batch(uneven_batch(), DEVICES)
    state = first_state(method, config.train, random_params(method.init, uneven_batch()))
    step = make_parallel_train_step(method, config.train)
    losses = []
    for _ in range(4):
        state, aux = step(state, batch, jax.random.key(0), True, hyper)
        losses.append(float(aux["loss"]))
    assert losses[3] < losses[1] < losses[0]
    assert state.step == 4


def test_each_device_draws_its_own_noise():
    def loss(params, batch, available, key, hyper, axis_name=None):
        noise = jax.random.normal(key)
        return params["w"] * 0.0, {"sum": noise, "squares": noise**2, "available": jnp.sum(available)}

    config = run_config(method="zero_fill")
    method = make_method(config)._replace(loss=loss, optimizer=optax.identity())
    step = make_parallel_train_step(method, config.train)
    batch = split_batch(make_batch(size=8), DEVICES)
    same = jax.tree.map(lambda x: jnp.tile(x[:1], (DEVICES,) + (1,) * (x.ndim - 1)), batch)
    state = first_state(method, config.train, {"w": jnp.zeros(())})
    _, aux = step(state, same, jax.random.key(0), True, hyperparameters_of(config))
    assert abs(aux["sum"] ** 2 - DEVICES * aux["squares"]) > 0.1  # equal for eight times the same number


def test_evaluation_on_eight_devices_equals_one():
    method = make_method(QUIET["cm_arr"])
    batch = uneven_batch()
    params = random_params(method.init, batch)
    step = make_parallel_eval_step(method)
    found, diagnostics = step(params, split_batch(batch, DEVICES))
    expected = jax.jit(lambda *x: evaluate_batch(method, *x))(params, batch)
    of_one = jax.jit(lambda params: method.diagnose(params, method.encode(params, batch), batch.where))(params)
    np.testing.assert_array_equal(found.counts, expected.counts)
    for name in ("log_std", "temperature"):  # means over all rows; row 13 alone on its device counts nowhere
        np.testing.assert_allclose(diagnostics[name], of_one[name], rtol=1e-5)
    assert found.finite
    assert set(diagnostics) == {"log_std", "temperature", "round_trip_error", "log_scale"}
    assert found.counts[-1].sum() == 12
    assert (found.counts[0].sum(), found.counts[1].sum()) == (11, 10)  # by hand: row 1 lacks audio; 0 and 9 video
    spoilt, _ = step(jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params), split_batch(batch, DEVICES))
    assert not spoilt.finite


@pytest.mark.parametrize("size", [1, 8, 14])
def test_splitting_a_batch_drops_nothing(size):
    batch = make_batch(size=size)
    parts = split_batch(batch, DEVICES)
    share = -(-size // DEVICES)
    chex.assert_tree_shape_prefix(parts, (DEVICES, share))
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[:size], rows), batch)
    assert not rows.where[size:].any()
    assert tuple(parts.features) == tuple(batch.features)


def test_packed_frames_are_refused(zero_fill_setup):
    # Their blocks have other numbers of rows than the batch: splitting them mixed up utterances without a word.
    setup = zero_fill_setup
    plan = plan_batches(setup.data, setup.folds, setup.config.train).train
    rows = jnp.arange(plan.batch_size)
    with pytest.raises(ValueError, match="packed frames cannot be split over devices"):
        split_batch(take(setup.data, rows, rows >= 0, plan), 2)


def test_a_sweep_over_devices_equals_a_loop(zero_fill_setup):
    # Eleven runs over eight devices, two of each vmapped together: the last one is repeated, and left out again.
    setup, num = zero_fill_setup, 11
    hypers = [setup.hyper._replace(learning_rate=1e-3 * (1 + number)) for number in range(num)]
    runs = stack_runs(
        setup.folds, [number % 6 for number in range(num)], [number // 6 for number in range(num)], hypers
    )
    sweep = compile_sweep(setup.parts, setup.data, runs, per_device=2)
    assert len(sweep.layout.devices) == DEVICES
    assert_same_runs(in_order(sweep.run(setup.data, runs)), loop(setup, runs))
