"""Many runs as one program: the numbers of a loop, and keys that depend on seed and fold only."""

import chex
import jax
import numpy as np
import pytest
import tiny
from tiny import assert_same_runs, make_corpus, make_setup

from cmarr_jax.config import Hyperparameters
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
    result = jax.jit(make_sweep(zero_fill_setup.train_run, at_once=at_once))(zero_fill_setup.data, runs)
    assert_same_runs(result, expected)


def test_a_sweep_of_cm_arr_equals_a_loop():
    setup = make_setup("cm_arr", make_corpus(sequences=(), absent=0.2))  # vectors compile fastest
    runs, expected = loop(setup)
    result = jax.jit(make_sweep(setup.train_run, at_once=3))(setup.data, runs)
    assert_same_runs(result, expected)
    losses = expected.history["loss"]
    assert len(np.unique(losses)) == losses.size  # the three runs differ


def test_the_key_of_a_run_depends_on_its_seed_and_fold_only(zero_fill_setup):
    folds, hyper = zero_fill_setup.folds, zero_fill_setup.hyper
    key_data = lambda *args: jax.random.key_data(stack_runs(folds, *args).key)
    alone = key_data([4], [7], [hyper])
    among = key_data([0, 4, 4, 5], [7, 7, 8, 7], [hyper._replace(learning_rate=1.0)] * 4)
    np.testing.assert_array_equal(among[1], alone[0])
    assert len(np.unique(among, axis=0)) == 4


def test_stacked_runs_hold_their_folds_and_hyperparameters(zero_fill_setup):
    weights = {"a": 0.5, "b": 2.0}
    hypers = [Hyperparameters(rate, weights) for rate in RATES]
    runs = stack_runs(zero_fill_setup.folds, FOLDS, SEEDS, hypers)
    for index, number in enumerate(FOLDS):
        one = jax.tree.map(lambda x, i=index: x[i], runs)
        chex.assert_trees_all_equal(one.fold, zero_fill_setup.fold(number))
        chex.assert_trees_all_close(one.hyper, hypers[index], rtol=1e-6)
