"""A run: what it reads and when, that it learns, that it is reproducible, and that it can be made in stretches."""

import os
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny import CLASSES, random_params

from cmarr_jax.config import Hyperparameters
from cmarr_jax.data.batching import PartPlan, plan_batches, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.normalizer import fit_normalizer, normalize
from cmarr_jax.metrics import uar
from cmarr_jax.training.evaluation import evaluate
from cmarr_jax.training.run import history_by_stage, make_run
from cmarr_jax.training.schedule import BUDGET, DIVERGED, MISMATCH, RUNNING
from cmarr_jax.training.step import first_state, make_train_step

STAGES = ("alignment", "reconstruction_refinement")
DIAGNOSTICS = ("log_std", "temperature", "round_trip_error", "log_scale")


@pytest.fixture(scope="module")
def first(cm_arr_setup):
    """The run of fold 1 with seed 0."""
    return cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(1), jax.random.key(0), cm_arr_setup.hyper)


def poison(data: DeviceCorpus, rows, where) -> DeviceCorpus:
    """NaN features and another label in these rows."""
    hit = jnp.zeros(len(data.label), bool).at[rows[where]].set(True)
    spoil = lambda x: jnp.where(hit.reshape((-1,) + (1,) * (x.ndim - 1)), jnp.nan, x)
    label = jnp.where(hit, (data.label + 1) % len(CLASSES), data.label)
    return data._replace(features=jax.tree.map(spoil, data.features), label=label)


def test_shapes_and_history(first):
    history = history_by_stage(first, STAGES)
    assert list(history) == list(STAGES)
    for name, epochs in (("alignment", 1), ("reconstruction_refinement", 3)):
        chex.assert_shape(jax.tree.leaves(history[name]), (epochs,))
    assert set(history["reconstruction_refinement"]) == {
        "loss", "cross_entropy", "alignment", "entropy", "nll", "squared_error", "refinement",
        "grad_norm", "skipped", "val_uar", "score", *DIAGNOSTICS,
    }  # fmt: skip
    chex.assert_shape([first.val_counts, first.test_counts], (7, 4, 4))
    chex.assert_tree_all_finite((first.params, history))
    chex.assert_shape([first.val_logits, first.test_logits], (7, 8, 4))
    assert first.test_counts[-1].sum() == 8  # every utterance of the test speaker, with all it has
    assert (first.status, first.num_epochs) == (BUDGET, 4)


def test_each_condition_counts_who_has_one_of_its_modalities(cm_arr_setup, first):
    fold = cm_arr_setup.fold(1)
    present = cm_arr_setup.corpus.present[np.asarray(fold.test)]
    for counts, pattern in zip(first.test_counts[:6], [[0], [1], [2], [0, 1], [0, 2], [1, 2]], strict=True):
        assert counts.sum() == present[:, pattern].any(axis=1).sum()
    assert (present.sum(axis=0) < 8).any()  # so that the counts above differ


def test_same_seed_same_numbers(cm_arr_setup, first):
    again = cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(1), jax.random.key(0), cm_arr_setup.hyper)
    chex.assert_trees_all_equal(again, first)


def test_other_seeds_folds_and_rates_give_other_numbers(cm_arr_setup, first):
    data, usual = cm_arr_setup.data, cm_arr_setup.hyper
    for fold, seed, hyper in ((1, 1, usual), (2, 0, usual), (1, 0, usual._replace(learning_rate=2e-2))):
        other = cm_arr_setup.run(data, cm_arr_setup.fold(fold), jax.random.key(seed), hyper)
        assert (other.history["loss"] != first.history["loss"])[1:].all()


def test_later_calls_do_not_trace_again(cm_arr_setup, first):
    for fold, seed in ((0, 0), (3, 1)):
        weights = {**cm_arr_setup.hyper.weights, "alignment": 0.5 * seed}
        hyper = cm_arr_setup.hyper._replace(weights=weights)
        cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(fold), jax.random.key(seed), hyper)
    assert len(cm_arr_setup.traces) == 1


def test_the_test_fold_reaches_nothing_but_its_counts(cm_arr_setup, first):
    fold = cm_arr_setup.fold(1)
    data = poison(cm_arr_setup.data, fold.test, fold.test_where)
    poisoned = cm_arr_setup.run(data, fold, jax.random.key(0), cm_arr_setup.hyper)
    without_test = lambda result: result._replace(test_counts=0, test_logits=0, val_counts=0, status=0)
    chex.assert_trees_all_equal(without_test(poisoned), without_test(first))
    # Logits of nan features are no predictions: no count of class 0 for each of them, and the run is no result.
    assert poisoned.status == DIVERGED
    assert not poisoned.test_counts.any()
    assert np.isnan(uar(np.asarray(poisoned.test_counts))).all()


def test_validation_chooses_the_epoch_and_nothing_else(cm_arr_setup, first):
    fold, data = cm_arr_setup.fold(1), cm_arr_setup.data
    rows = fold.val[fold.val_where]
    data = data._replace(label=data.label.at[rows].set((data.label[rows] + 1) % len(CLASSES)))
    poisoned = cm_arr_setup.run(data, fold, jax.random.key(0), cm_arr_setup.hyper)
    chex.assert_trees_all_equal(poisoned.normalizer, first.normalizer)
    losses = lambda result: {
        name: value for name, value in result.history.items() if name not in ("val_uar", "score", *DIAGNOSTICS)
    }
    chex.assert_trees_all_equal(losses(poisoned), losses(first))
    assert (poisoned.val_counts != first.val_counts).any()


def test_normalisation_comes_from_the_training_rows(cm_arr_setup, first):
    fold, data = cm_arr_setup.fold(1), cm_arr_setup.data
    chex.assert_trees_all_close(first.normalizer, fit_normalizer(data, fold.train, fold.train_where), rtol=1e-5)
    train = np.asarray(fold.train)
    seen = train[cm_arr_setup.corpus.present[train, 1]]
    vectors = cm_arr_setup.corpus.features["video"][seen]
    np.testing.assert_allclose(first.normalizer.mean["video"], vectors.mean(0), atol=1e-5)


@pytest.fixture(scope="module")
def count(cm_arr_setup):
    """`evaluate` of CM-ARR, jitted, by batch size."""

    def evaluated(batch_size, params, normalizer, rows, where):
        return jax.jit(
            lambda params: evaluate(
                cm_arr_setup.method, params, normalizer, cm_arr_setup.data, rows, where, PartPlan(batch_size)
            )[0].counts
        )(params)  # fmt: skip

    return evaluated


def test_the_chosen_params_give_the_counts_again(cm_arr_setup, first, count):
    fold = cm_arr_setup.fold(1)
    for rows, where, counts in (
        (fold.val, fold.val_where, first.val_counts),
        (fold.test, fold.test_where, first.test_counts),
    ):
        np.testing.assert_array_equal(count(6, first.params, first.normalizer, rows, where), counts)
    scores = history_by_stage(first, STAGES)["reconstruction_refinement"]["val_uar"]
    assert first.best_epoch == np.argmax(scores)
    np.testing.assert_allclose(scores[first.best_epoch], uar(np.asarray(first.val_counts)[:-1].sum(0)), rtol=1e-6)


def test_evaluation_does_not_depend_on_the_batch_size(cm_arr_setup, first, count):
    rows, where = jnp.arange(48), jnp.arange(48) != 5
    whole = count(256, first.params, first.normalizer, rows, where)
    np.testing.assert_array_equal(count(7, first.params, first.normalizer, rows, where), whole)
    assert whole[-1].sum() == 47


@pytest.mark.parametrize("stage", [0, 1])
def test_steps_lower_the_loss_on_a_fixed_batch(cm_arr_setup, stage):
    method, config = cm_arr_setup.method, cm_arr_setup.config.train
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(make_train_step(method, config), n=1))
    stage = method.stages[stage]
    hyper = Hyperparameters(3e-3, 0.0, {**method.weights, **stage.weights})
    everything = jnp.ones(16, bool)
    batch = take(cm_arr_setup.data, jnp.arange(16), everything)
    batch = normalize(fit_normalizer(cm_arr_setup.data, jnp.arange(16), everything), batch)
    state = first_state(method, config, random_params(method.init, batch, scale=0.1))
    losses = []
    for _ in range(8):  # with one key: the same patterns and noise each time
        state, aux = step(state, batch, jax.random.key(0), stage.hide, hyper)
        losses.append(float(aux["loss"]))
    assert losses[2] < losses[1] < losses[0]
    assert losses[-1] < losses[2]


def test_a_fold_that_does_not_fit_its_plan_is_no_result(zero_fill_setup):
    setup = zero_fill_setup
    plan = plan_batches(setup.data, setup.folds, setup.config.train)
    longer = setup.data._replace(length={name: x + 1 for name, x in setup.data.length.items()})
    run = make_run(setup.method, setup.config.train, plan)
    init = jax.jit(run.init)
    assert init(setup.data, setup.fold(0), jax.random.key(0), setup.hyper).status == RUNNING
    state = init(longer, setup.fold(0), jax.random.key(0), setup.hyper)
    assert state.status == MISMATCH


@pytest.fixture(scope="module")
def stretched():
    """A setup, the functions of its run, compiled as outside of tests, and the result of the run as one program."""
    setup = tiny.make_setup("zero_fill", tiny.make_corpus(sequences=(), absent=0.2))
    usual = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
        usual["xla_cpu_use_fusion_emitters"] = True
    compiled = partial(jax.jit, compiler_options=usual)
    whole = compiled(setup.parts.whole)(setup.data, setup.fold(1), jax.random.key(0), setup.hyper)
    return setup, *map(compiled, make_run(setup.method, setup.config.train)), whole


@pytest.mark.parametrize("stretches", [(4,), (1, 2, 3, 4), (2, 2, 9)], ids=str)
def test_any_stretches_of_epochs_give_the_same_bits(stretched, stretches):
    setup, init, epochs, finish, whole = stretched
    fold = setup.fold(1)
    state = init(setup.data, fold, jax.random.key(0), setup.hyper)
    for until in stretches:
        state = epochs(setup.data, fold, state, until)
    chex.assert_trees_all_equal(finish(setup.data, fold, state), whole)


def test_a_run_can_be_finished_early(stretched):
    setup, init, epochs, finish, _ = stretched
    fold = setup.fold(1)
    state = epochs(setup.data, fold, init(setup.data, fold, jax.random.key(0), setup.hyper), 2)
    result = finish(setup.data, fold, state)
    assert (result.status, result.num_epochs) == (RUNNING, 2)
    assert result.test_counts[-1].sum() == 8
