"""Many runs as one program: the numbers of a loop, and keys that depend on seed and fold only."""

import chex
import jax
import numpy as np
import pytest
from tiny import HYPER, make_corpus, make_setup

from cmarr_jax.sweep import make_sweep, stack_runs

FOLDS, SEEDS = [1, 4, 1], [0, 0, 7]
HYPERS = [HYPER._replace(learning_rate=rate) for rate in (1e-3, 3e-4, 1e-3)]


def loop(setup):
    """The same three runs, one call after the other."""
    runs = stack_runs(setup.folds, FOLDS, SEEDS, HYPERS)
    results = [setup.run(setup.data, *jax.tree.map(lambda x, i=i: x[i], runs)) for i in range(3)]
    return runs, jax.tree.map(lambda *x: np.stack(x), *results)


def assert_same_runs(result, expected):
    """Losses, scores and normalisers to 1e-5, the same predictions and epochs; parameters to 1e-4.

    Where a gradient is nearly zero, Adam makes a step of the learning rate's size out of its rounding: of thousands of
    parameters a few then differ by 2e-5 after 16 steps of 1e-3.
    """
    chex.assert_trees_all_close(result.params, expected.params, atol=1e-4)
    chex.assert_trees_all_close(result._replace(params=()), expected._replace(params=()), atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(result.best_epoch, expected.best_epoch)
    np.testing.assert_array_equal(result.test_counts, expected.test_counts)


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
    losses = expected.history["reconstruction_refinement"]["loss"]
    assert len(np.unique(losses)) == losses.size  # the three runs differ


def test_the_key_of_a_run_depends_on_its_seed_and_fold_only(zero_fill_setup):
    folds = zero_fill_setup.folds
    key_data = lambda *args: jax.random.key_data(stack_runs(folds, *args).key)
    alone = key_data([4], [7], [HYPER])
    among = key_data([0, 4, 4, 5], [7, 7, 8, 7], [HYPER._replace(learning_rate=1.0)] * 4)
    np.testing.assert_array_equal(among[1], alone[0])
    assert len(np.unique(among, axis=0)) == 4


def test_stacked_runs_hold_their_folds_and_hyperparameters(zero_fill_setup):
    runs = stack_runs(zero_fill_setup.folds, FOLDS, SEEDS, HYPERS)
    for index, number in enumerate(FOLDS):
        one = jax.tree.map(lambda x, i=index: x[i], runs)
        chex.assert_trees_all_equal(one.fold, zero_fill_setup.fold(number))
        np.testing.assert_allclose(one.hyper, HYPERS[index], rtol=1e-6)
