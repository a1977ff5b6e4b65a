"""Many runs as one program: the numbers of a loop, and keys that depend on seed and fold only."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import assert_same_runs

from cmarr_jax.config import Hyperparameters
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.evaluation import evaluate_batch
from cmarr_jax.training.step import first_state, make_train_step
from cmarr_jax.training.sweep import make_sweep, stack_runs

FOLDS, SEEDS = [1, 4, 1], [0, 0, 7]
RATES = (1e-3, 3e-4, 1e-3)


def loop(setup):
    """Three runs, and what one call after the other gives."""
    hypers = [setup.hyper._replace(learning_rate=rate) for rate in RATES]
    runs = stack_runs(setup.folds, FOLDS, SEEDS, hypers)
    return runs, tiny.loop(setup, runs)


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_sweep_equals_a_loop(zero_fill_setup, at_once):
    # Three runs; two at once leave one over.
    runs, expected = loop(zero_fill_setup)
    result = jax.jit(make_sweep(zero_fill_setup.parts.whole, at_once=at_once))(zero_fill_setup.data, runs)
    assert_same_runs(result, expected)


def test_vmapped_steps_and_evaluations_of_cm_arr_equal_a_loop():
    # What a sweep maps, without the whole run, whose program takes long to compile.
    modalities = tuple(dataclasses.replace(modality, encoder="vector") for modality in tiny.MODALITIES)
    config = tiny.run_config(modalities)
    method, hyper = make_method(config), hyperparameters_of(config)
    batch = tiny.make_batch(modalities, size=12)

    def step_and_score(params, key, hyper):
        state = first_state(method, config.train, params)
        state, aux = make_train_step(method, config.train)(state, batch, key, True, hyper)
        return state.params, aux, evaluate_batch(method, state.params, batch)

    params = [tiny.random_params(method.init, batch, seed=seed) for seed in range(3)]
    args = [(params[n], jax.random.key(n), hyper._replace(learning_rate=jnp.float32(RATES[n]))) for n in range(3)]
    one, together = jax.jit(step_and_score), jax.jit(jax.vmap(step_and_score))
    expected = jax.tree.map(lambda *x: jnp.stack(x), *(one(*arg) for arg in args))
    found = together(*jax.tree.map(lambda *x: jnp.stack(x), *args))
    chex.assert_trees_all_close(found, expected, atol=1e-5, rtol=1e-5)
    assert len(np.unique(expected[1]["loss"])) == 3


def test_the_key_of_a_run_depends_on_its_seed_and_fold_only(zero_fill_setup):
    folds, hyper = zero_fill_setup.folds, zero_fill_setup.hyper
    key_data = lambda *args: jax.random.key_data(stack_runs(folds, *args).key)
    alone = key_data([4], [7], [hyper])
    among = key_data([0, 4, 4, 5], [7, 7, 8, 7], [hyper._replace(learning_rate=1.0)] * 4)
    np.testing.assert_array_equal(among[1], alone[0])
    assert len(np.unique(among, axis=0)) == 4


def test_stacked_runs_hold_their_folds_and_hyperparameters(zero_fill_setup):
    weights = {"a": 0.5, "b": 2.0}
    hypers = [Hyperparameters(rate, 0.1, weights) for rate in RATES]
    runs = stack_runs(zero_fill_setup.folds, FOLDS, SEEDS, hypers)
    for index, number in enumerate(FOLDS):
        one = jax.tree.map(lambda x, i=index: x[i], runs)
        chex.assert_trees_all_equal(one.fold, zero_fill_setup.fold(number))
        chex.assert_trees_all_close(one.hyper, hypers[index], rtol=1e-6)
