"""A run: what it reads and when, which epoch it keeps, that it learns, and that it is the same each time."""

from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import CLASSES, HYPER, make_batch, random_params

from cmarr_jax.batching import PartPlan
from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.folds import Fold
from cmarr_jax.input import Data, fit_normalizer, normalize, take
from cmarr_jax.method import Method, Stage
from cmarr_jax.metrics import uar
from cmarr_jax.train import evaluate, make_train_run, make_train_step, make_tx


@pytest.fixture(scope="module")
def first(cm_arr_setup):
    """The run of fold 1 with seed 0."""
    return cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(1), jax.random.key(0), HYPER)


def poison(data: Data, rows, where) -> Data:
    """NaN features and another label in these rows."""
    hit = jnp.zeros(len(data.label), bool).at[rows[where]].set(True)
    spoil = lambda x: jnp.where(hit.reshape((-1,) + (1,) * (x.ndim - 1)), jnp.nan, x)
    label = jnp.where(hit, (data.label + 1) % len(CLASSES), data.label)
    return data._replace(features=jax.tree.map(spoil, data.features), label=label)


def test_shapes_and_history(cm_arr_setup, first):
    assert list(first.history) == ["alignment", "reconstruction_refinement"]
    for name, epochs in (("alignment", 1), ("reconstruction_refinement", 3)):
        chex.assert_shape(jax.tree.leaves(first.history[name]), (epochs,))
    assert set(first.history["reconstruction_refinement"]) == {
        "loss", "cross_entropy", "alignment", "entropy", "nll", "squared_error", "refinement",
        "val_uar", "log_std", "temperature", "round_trip_error",
    }  # fmt: skip
    chex.assert_shape([first.val_counts, first.test_counts], (7, 4, 4))
    chex.assert_tree_all_finite((first.params, first.history))
    assert first.test_counts[-1].sum() == 8  # every utterance of the test speaker, with all it has


def test_each_condition_counts_who_has_one_of_its_modalities(cm_arr_setup, first):
    fold = cm_arr_setup.fold(1)
    present = cm_arr_setup.corpus.present[np.asarray(fold.test)]
    for counts, pattern in zip(first.test_counts[:6], [[0], [1], [2], [0, 1], [0, 2], [1, 2]], strict=True):
        assert counts.sum() == present[:, pattern].any(axis=1).sum()
    assert first.test_counts[0].sum() < 8 or first.test_counts[1].sum() < 8 or first.test_counts[2].sum() < 8


def test_same_seed_same_numbers(cm_arr_setup, first):
    again = cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(1), jax.random.key(0), HYPER)
    chex.assert_trees_all_equal(again, first)


def test_other_seeds_folds_and_rates_give_other_numbers(cm_arr_setup, first):
    data = cm_arr_setup.data
    for fold, seed, hyper in ((1, 1, HYPER), (2, 0, HYPER), (1, 0, HYPER._replace(learning_rate=2e-2))):
        other = cm_arr_setup.run(data, cm_arr_setup.fold(fold), jax.random.key(seed), hyper)
        assert (
            other.history["reconstruction_refinement"]["loss"] != first.history["reconstruction_refinement"]["loss"]
        ).all()


def test_later_calls_do_not_trace_again(cm_arr_setup, first):
    for fold, seed in ((0, 0), (3, 1)):
        hyper = HYPER._replace(alignment=0.5 * seed)
        cm_arr_setup.run(cm_arr_setup.data, cm_arr_setup.fold(fold), jax.random.key(seed), hyper)
    assert len(cm_arr_setup.traces) == 1


def test_the_test_fold_reaches_nothing_but_its_counts(cm_arr_setup, first):
    fold = cm_arr_setup.fold(1)
    data = poison(cm_arr_setup.data, fold.test, fold.test_where)
    poisoned = cm_arr_setup.run(data, fold, jax.random.key(0), HYPER)
    chex.assert_trees_all_equal(poisoned._replace(test_counts=0), first._replace(test_counts=0))
    assert (poisoned.test_counts != first.test_counts).any()


def test_validation_chooses_the_epoch_and_nothing_else(cm_arr_setup, first):
    fold = cm_arr_setup.fold(1)
    data = poison(cm_arr_setup.data, fold.val, fold.val_where)
    poisoned = cm_arr_setup.run(data, fold, jax.random.key(0), HYPER)
    chex.assert_trees_all_equal(poisoned.normalizer, first.normalizer)
    diagnostics = ("val_uar", "log_std", "temperature", "round_trip_error")
    for stage, values in first.history.items():
        losses = {name: value for name, value in values.items() if name not in diagnostics}
        chex.assert_trees_all_equal({name: poisoned.history[stage][name] for name in losses}, losses)
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
                cm_arr_setup.method, params, normalizer, cm_arr_setup.data, rows, where, num_classes=4,
                plan=PartPlan(batch_size),
            )[0]
        )(params)  # fmt: skip

    return evaluated


def test_the_chosen_params_give_the_counts_again(cm_arr_setup, first, count):
    fold = cm_arr_setup.fold(1)
    for rows, where, counts in (
        (fold.val, fold.val_where, first.val_counts),
        (fold.test, fold.test_where, first.test_counts),
    ):
        np.testing.assert_array_equal(count(6, first.params, first.normalizer, rows, where), counts)
    scores = first.history["reconstruction_refinement"]["val_uar"]
    assert first.best_epoch == jnp.argmax(scores)
    np.testing.assert_allclose(scores[first.best_epoch], uar(np.asarray(first.val_counts)[:-1].sum(0)), rtol=1e-6)


def test_evaluation_does_not_depend_on_the_batch_size(cm_arr_setup, first, count):
    rows, where = jnp.arange(48), jnp.arange(48) != 5
    whole = count(256, first.params, first.normalizer, rows, where)
    np.testing.assert_array_equal(count(7, first.params, first.normalizer, rows, where), whole)
    assert whole[-1].sum() == 47


@pytest.mark.parametrize("stage", [0, 1])
def test_steps_lower_the_loss_on_a_fixed_batch(cm_arr_setup, stage):
    tx = make_tx(cm_arr_setup.train)
    chex.clear_trace_counter()
    step = chex.assert_max_traces(make_train_step(cm_arr_setup.method.loss, tx, cm_arr_setup.train), n=1)
    step, stage = jax.jit(step), cm_arr_setup.method.stages[stage]
    hyper = stage.weights(HYPER)._replace(learning_rate=3e-3)
    everything = jnp.ones(16, bool)
    batch = take(cm_arr_setup.data, jnp.arange(16), everything)
    batch = normalize(fit_normalizer(cm_arr_setup.data, jnp.arange(16), everything), batch)
    params = random_params(cm_arr_setup.method.init, batch, scale=0.1)
    opt_state = tx.init(params)
    losses = []
    for _ in range(8):  # with one key: the same patterns and noise each time
        params, opt_state, aux = step(params, opt_state, batch, jax.random.key(0), stage.hide, hyper)
        losses.append(float(aux["loss"]))
    assert losses[2] < losses[1] < losses[0]
    assert losses[-1] < losses[2]


# What follows trains a counter instead of a network: `w` falls by the learning rate at each step (Adam's update for a
# constant gradient of 1 is 1), and a prediction is right where the test says so.


def counter(stage_epochs, right, *, loss_aux=lambda batch, available, w: {}):
    """A method whose only parameter counts steps; `right(w, available [B, M]) -> [B]` says who is classified well."""

    def loss(params, batch, available, key, hyper, axis_name=None):
        return params["w"], loss_aux(batch, available, params["w"])

    def predict(params, label, available):
        correct = right(params["w"], available)
        return jax.nn.one_hot(jnp.where(correct, label, (label + 1) % 4), 4)

    return Method(
        init=lambda key, batch: {"w": jnp.zeros(())},
        loss=loss,
        stages=tuple(Stage(f"stage{i}", epochs, i > 0) for i, epochs in enumerate(stage_epochs)),
        encode=lambda params, batch: batch.label,
        predict=predict,
        diagnose=lambda params, label, where: {"w": params["w"]},
    )


def counter_data(num=22):
    present = jnp.ones((num, 2), bool)
    features = OrderedDict(one=jnp.zeros((num, 1)), two=jnp.zeros((num, 1)))
    data = Data(features, {}, present, jnp.arange(num, dtype=jnp.int32) % 4)
    rows = lambda start, stop: (jnp.arange(start, stop), jnp.ones(stop - start, bool))
    filled_up = jnp.r_[jnp.arange(10), 0], jnp.arange(11) < 10  # as where another fold has one row more
    return data, Fold(*filled_up, *rows(10, 16), *rows(16, num))


def run_counter(method, *, learning_rate=1.0, batch_size=4, seed=0, **epochs):
    config = TrainConfig(batch_size=batch_size, **epochs)
    run = jax.jit(make_train_run(method, config, 4))
    return run(*counter_data(), jax.random.key(seed), Hyperparameters(learning_rate=learning_rate))


def test_the_learning_rate_decays_to_zero_in_the_second_half_of_the_last_stage():
    method = counter((2, 8), lambda w, available: available.any(axis=1))
    result = run_counter(method, complete_epochs=2, missing_epochs=8)
    # By hand: 11 rows in batches of 4 are 3 steps an epoch, each of size 1 before half of the 24 steps of stage 2.
    first, second = (-np.asarray(result.history[f"stage{i}"]["w"]) for i in (0, 1))
    np.testing.assert_allclose(first, [3, 6], rtol=1e-5)
    rates = np.minimum(1, 2 * (1 - np.arange(24) / 24))
    np.testing.assert_allclose(second, 6 + np.cumsum(rates)[2::3], rtol=1e-5)
    np.testing.assert_allclose(np.diff(second)[:3], 3, rtol=1e-5)
    assert np.diff(second)[-1] < 0.6  # the last three steps: 3/12 + 2/12 + 1/12


def test_the_best_validation_epoch_is_kept_and_the_first_of_equals():
    # Right in epochs 2 and 3 of stage 2 (w after the epochs, three steps each: -3, -6, -9, -12, then it slows down).
    right = lambda w, available: jnp.broadcast_to((w < -7) & (w > -13), available.shape[:1])
    result = run_counter(counter((0, 8), right), complete_epochs=0, missing_epochs=8)
    scores = np.asarray(result.history["stage1"]["val_uar"])
    np.testing.assert_array_equal(scores, [0, 0, 1, 1, 0, 0, 0, 0])
    assert result.best_epoch == 2
    np.testing.assert_allclose(result.params["w"], -9, rtol=1e-5)
    np.testing.assert_array_equal(result.val_counts.sum((1, 2)), 6)
    assert uar(np.asarray(result.test_counts)).tolist() == [1.0, 1.0, 1.0]


def test_complete_data_have_no_say_in_the_choice():
    # Early: right on complete data only. Later: right on single modalities only, which is what counts.
    right = lambda w, available: available.all(axis=1) == (w > -7)
    result = run_counter(counter((0, 8), right), complete_epochs=0, missing_epochs=8)
    np.testing.assert_array_equal(result.history["stage1"]["val_uar"], [0, 0, 1, 1, 1, 1, 1, 1])
    assert result.best_epoch == 2
    assert uar(np.asarray(result.val_counts)).tolist() == [1.0, 1.0, 0.0]


def test_every_row_is_read_once_per_epoch():
    aux = lambda batch, available, w: {
        "rows": jnp.sum(batch.where),
        "squares": jnp.sum(jnp.where(batch.where, batch.label**2, 0)),
        "first": jnp.max(jnp.where(batch.where, batch.label, 0)) * w,  # differs with the order of rows
    }
    method = counter((1, 6), lambda w, available: available.any(axis=1), loss_aux=aux)
    result = run_counter(method, complete_epochs=1, missing_epochs=6)
    history = result.history["stage1"]  # means over the three steps of an epoch
    np.testing.assert_allclose(3 * np.asarray(history["rows"]), 10, rtol=1e-6)
    data, _ = counter_data()
    np.testing.assert_allclose(3 * np.asarray(history["squares"]), np.sum(np.asarray(data.label)[:10] ** 2), rtol=1e-6)


def test_a_part_smaller_than_a_batch():
    method = counter((1, 2), lambda w, available: available.any(axis=1), loss_aux=lambda b, a, w: {"n": b.where.sum()})
    result = run_counter(method, batch_size=64, complete_epochs=1, missing_epochs=2)
    np.testing.assert_array_equal(result.history["stage1"]["n"], 10)
    assert result.test_counts[0].sum() == 6


def available_in_a_step(hide, *, include_complete=True, seed=0, num=400):
    loss = lambda params, batch, available, key, hyper, axis_name=None: (params["w"], {"available": available})
    config = TrainConfig(include_complete=include_complete)
    tx = optax.identity()
    step = jax.jit(make_train_step(loss, tx, config))
    batch = make_batch(size=num)
    batch = batch._replace(present=batch.present.at[:100, 1].set(False))
    params = {"w": jnp.zeros(())}
    return batch.present, step(params, tx.init(params), batch, jax.random.key(seed), hide, HYPER)[2]["available"]


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
        hidden = jnp.sum(batch.present & ~available)
        return params["w"], {"refinement": hyper.refinement, "alignment": hyper.alignment, "hidden": hidden}

    method = counter((1, 2), lambda w, available: available.any(axis=1))
    stages = method.stages[0]._replace(without=("refinement",)), method.stages[1]
    history = run_counter(method._replace(loss=loss, stages=stages), complete_epochs=1, missing_epochs=2).history
    default = Hyperparameters()
    for number, refinement in enumerate((0.0, default.refinement)):
        values = history[f"stage{number}"]
        np.testing.assert_allclose(values["refinement"], refinement, rtol=1e-6)
        np.testing.assert_allclose(values["alignment"], default.alignment, rtol=1e-6)
        assert (np.asarray(values["hidden"]) > 0).all() == (number == 1)


def test_clipping():
    tx = make_tx(TrainConfig(clip_norm=1.0))
    grads = {"a": jnp.array([30.0, 40.0])}
    _, state = tx.update(grads, tx.init(grads))
    np.testing.assert_allclose(state[1].mu["a"], [0.06, 0.08], rtol=1e-5)  # 0.1 * (0.6, 0.8): Adam's first moment


@pytest.mark.parametrize(
    "fields", [{"missing_epochs": 0}, {"complete_epochs": -1}, {"batch_size": 1}], ids=lambda fields: next(iter(fields))
)
def test_impossible_schedules_raise(fields):
    with pytest.raises(ValueError, match=r"must be .*found"):
        TrainConfig(**fields)
