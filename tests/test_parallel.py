"""Eight devices give the numbers of one: training steps, evaluation, sweeps."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import CLASSES, HYPER, assert_same_runs, loop, make_batch, model_config, random_params

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.missing import availability_patterns
from cmarr_jax.objectives import make_method
from cmarr_jax.parallel import make_parallel_eval_step, make_parallel_sweep, make_parallel_train_step, split_batch
from cmarr_jax.sweep import stack_runs
from cmarr_jax.train import count_conditions, make_train_step, make_tx

DEVICES = 8
WEIGHTS = Hyperparameters(alignment=1.0, nll=1.0, squared_error=1.0, refinement=1.0, entropy=1.0, entropy_floor=1.0)
# Each device draws its own noise, so one device and eight can only agree where noise does not matter: no dropout, and
# embeddings with a standard deviation of exp(-20).
QUIET = model_config(dropout=0.0, min_log_std=-20.1, max_log_std=-20.0)


def uneven_batch(size=14):
    """Does not divide by eight; absent modalities and rows that do not count, unevenly over the devices."""
    batch = make_batch(size=size)
    present = batch.present.at[0, 1].set(False).at[1, 0].set(False).at[2, 2].set(False).at[9, 1:].set(False)
    return batch._replace(present=present, where=batch.where.at[3].set(False).at[13].set(False))


def with_fixed_patterns(method):
    """The method's loss with patterns that depend on the utterance instead of the key."""
    patterns = jnp.asarray(availability_patterns(3))

    def loss(params, batch, available, key, hyper, axis_name=None):
        pattern = patterns[(3 * batch.label + batch.length["audio"] + batch.length["text"]) % 7]
        available = jnp.where(
            (pattern & batch.present).any(axis=1, keepdims=True), pattern & batch.present, batch.present
        )
        return method.loss(params, batch, available, key, hyper, axis_name)

    return loss


def recording_norm() -> optax.GradientTransformation:
    """Keeps the norm of the gradient as its state; clipping behind it would hide a wrong one."""
    return optax.GradientTransformation(lambda params: jnp.zeros(()), lambda grads, *_: (grads, optax.tree.norm(grads)))


@pytest.mark.parametrize(("name", "stage"), [("cm_arr", 0), ("cm_arr", 1), ("zero_fill", 1)])
def test_a_training_step_on_eight_devices_equals_one(name, stage):
    method, config = make_method(name, QUIET, TrainConfig()), TrainConfig()
    stage = method.stages[stage]
    loss = with_fixed_patterns(method) if stage.hide else method.loss
    batch = uneven_batch()
    params = random_params(method.init, batch)
    # Without Adam, whose first step is a sign, which hides or blows up differences: the update is the clipped gradient.
    tx = optax.chain(recording_norm(), optax.clip_by_global_norm(0.1))
    args = jax.random.key(0), False, stage.weights(WEIGHTS)._replace(learning_rate=10.0)
    step = jax.jit(make_train_step(loss, tx, config))
    expected_params, (expected_norm, _), expected = step(params, tx.init(params), batch, *args)
    assert expected_norm > 0.1  # it was clipped
    parallel = make_parallel_train_step(loss, tx, config)
    new_params, (norm, _), aux = parallel(
        jax.tree.map(jnp.copy, params), tx.init(params), split_batch(batch, DEVICES), *args
    )
    np.testing.assert_allclose(norm, expected_norm, rtol=1e-5)
    chex.assert_trees_all_close(aux, expected, atol=1e-5, rtol=1e-5)
    chex.assert_trees_all_close(new_params, expected_params, atol=1e-5)
    if name == "cm_arr" and stage.hide:
        assert all(value != 0 for value in aux.values())


def test_a_step_may_follow_a_step():
    # What comes out goes in again, with the optimizer of a real run.
    method, config = make_method("zero_fill", model_config(), TrainConfig()), TrainConfig()
    tx = make_tx(config)
    batch = split_batch(uneven_batch(), DEVICES)
    hyper = HYPER._replace(learning_rate=3e-3)
    params = random_params(method.init, uneven_batch())
    opt_state = tx.init(params)
    step = make_parallel_train_step(method.loss, tx, config)
    losses = []
    for _ in range(4):
        params, opt_state, aux = step(params, opt_state, batch, jax.random.key(0), True, hyper)
        losses.append(float(aux["loss"]))
    assert losses[3] < losses[1] < losses[0]


def test_each_device_draws_its_own_noise():
    def loss(params, batch, available, key, hyper, axis_name=None):
        noise = jax.random.normal(key)
        return params["w"] * 0.0, {"sum": noise, "squares": noise**2, "available": jnp.sum(available)}

    tx = optax.identity()
    step = make_parallel_train_step(loss, tx, TrainConfig())
    batch = split_batch(make_batch(size=8), DEVICES)
    same = jax.tree.map(lambda x: jnp.tile(x[:1], (DEVICES,) + (1,) * (x.ndim - 1)), batch)
    _, _, aux = step({"w": jnp.zeros(())}, tx.init({}), same, jax.random.key(0), True, HYPER)
    assert abs(aux["sum"] ** 2 - DEVICES * aux["squares"]) > 0.1  # equal for eight times the same number


def test_evaluation_on_eight_devices_equals_one():
    method = make_method("cm_arr", QUIET, TrainConfig())
    batch = uneven_batch()
    params = random_params(method.init, batch)
    counts = make_parallel_eval_step(method, len(CLASSES), 3)(params, split_batch(batch, DEVICES))
    patterns = jnp.asarray(availability_patterns(3))
    expected = jax.jit(lambda *x: count_conditions(method, *x, patterns, len(CLASSES)))(params, batch)
    np.testing.assert_array_equal(counts, expected)
    assert counts[-1].sum() == 12
    assert (counts[0].sum(), counts[1].sum()) == (11, 10)  # by hand: row 1 lacks audio; rows 0 and 9 video


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


def test_a_sweep_over_devices_equals_a_loop(zero_fill_setup):
    # Eleven runs over eight devices, two of each vmapped together: the last one is repeated, and left out again.
    setup, num = zero_fill_setup, 11
    hypers = [HYPER._replace(learning_rate=1e-3 * (1 + number)) for number in range(num)]
    runs = stack_runs(
        setup.folds, [number % 6 for number in range(num)], [number // 6 for number in range(num)], hypers
    )
    result = make_parallel_sweep(setup.train_run, at_once=2)(setup.data, runs)
    assert len(jax.local_devices()) == DEVICES
    assert len(result.test_counts) == num
    assert_same_runs(result, loop(setup, runs))
