"""Length-stratified batches: the same numbers as padded ones, every utterance once, none cut."""

from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cmarr_jax.data.batching import (
    MAX_BLOCKS,
    PartPlan,
    arrange,
    example_batch,
    fold_matches_plan,
    plain_plan,
    plan_batches,
    plan_part,
    shuffle,
    take,
)
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import Fold, make_folds, stack_folds
from cmarr_jax.data.normalizer import fit_normalizer, normalize
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.metrics import uar
from cmarr_jax.nn.blocks import time_first, unfold
from cmarr_jax.training.evaluation import evaluate
from cmarr_jax.training.run import history_by_stage, make_train_run
from cmarr_jax.training.schedule import MISMATCH

SEQUENCES = ("audio", "video", "text")
MODALITIES = modality_configs(tiny.make_corpus(sequences=SEQUENCES))
CONFIG = tiny.TrainConfig(complete_epochs=1, missing_epochs=2, batch_size=12, eval_batch_size=6)
ZERO_FILL = tiny.run_config(MODALITIES, method="zero_fill", train=CONFIG)


@pytest.fixture(scope="module")
def data():
    """Lengths of very different spread, and absent modalities."""
    corpus = tiny.make_corpus(sequences=SEQUENCES, absent=0.2)
    return to_device(corpus)


@pytest.fixture(scope="module")
def folds() -> Fold:
    return stack_folds(make_folds(tiny.make_corpus(sequences=SEQUENCES, absent=0.2)))


@pytest.fixture(scope="module")
def plan(data, folds):
    return plan_batches(data, folds, CONFIG)


def one(folds: Fold, number: int) -> Fold:
    return jax.tree.map(lambda part: part[number], folds)


def lengths(num=500, seed=0):
    """IEMOCAP-like: lognormal audio, the others in proportion."""
    rng = np.random.default_rng(seed)
    duration = 36 * np.exp(0.57 * rng.standard_normal(num))
    pieces = 0.3 * duration * np.exp(0.35 * rng.standard_normal(num))
    limits = {"audio": (duration, 300), "text": (pieces, 22)}
    return {name: np.clip(np.rint(x), 2, longest).astype(np.int32) for name, (x, longest) in limits.items()}


def fake_folds(num=500):
    """Two folds of which the second has rows that only fill up."""
    rows = np.stack([np.arange(num - 40), np.arange(num - 40)[::-1]]).astype(np.int32)
    where = np.stack([np.ones(num - 40, bool), np.arange(num - 40) < num - 77])
    part = (jnp.asarray(rows), jnp.asarray(where))
    small = (jnp.asarray(rows[:, :30] + 40), jnp.asarray(where[:, :30]))
    return Fold(*part, *small, *small)


class FakeData:
    def __init__(self, length):
        self.length = {name: jnp.asarray(values) for name, values in length.items()}
        self.features = {"audio": np.zeros((0, 0, 130)), "text": np.zeros((0, 0, 1024))}


def test_a_plan_computes_far_less_than_padding_does():
    length, folds = lengths(), fake_folds()
    plan = plan_batches(FakeData(length), folds, tiny.TrainConfig(batch_size=64, eval_batch_size=32)).train
    for name, most in (("audio", 1 / 3), ("text", 3 / 4)):
        area = sum(rows * (end - start) for rows, start, end in plan.shape[name].blocks)
        assert area < most * 64 * length[name].max()
        assert area > length[name].mean() * 64 * 0.9  # it holds the frames, so it is not much smaller than their number
    assert plan.order == ("audio", "text")


@pytest.mark.parametrize("name", ["audio", "text"])
@pytest.mark.parametrize("batch_size", [2, 7, 64, 1000])
def test_blocks_hold_every_frame(name, batch_size):
    length, folds = lengths(), fake_folds()
    plan = plan_batches(FakeData(length), folds, tiny.TrainConfig(batch_size=batch_size, eval_batch_size=32)).train
    shape, num_rows = plan.shape[name], min(batch_size, 460)  # of the training part
    assert sorted(shape.row) == list(range(num_rows))
    assert len(shape.blocks) <= MAX_BLOCKS
    counts, starts, ends = zip(*shape.blocks, strict=True)
    assert counts[0] == num_rows
    assert list(counts) == sorted(set(counts), reverse=True)
    assert (starts[0], starts[1:]) == (0, ends[:-1])
    for rank, bound in enumerate(shape.bound):
        assert max(end for rows, _, end in shape.blocks if rank < rows) >= bound
    for number in range(2):
        _, counted = arrange(length, np.asarray(folds.train[number]), np.asarray(folds.train_where[number]), plan)
        assert (counted[name][:, shape.row] <= np.asarray(shape.bound)).all()


@pytest.mark.parametrize("plans", [plan_batches, lambda data, *rest: plain_plan(*rest)], ids=["planned", "unsorted"])
def test_no_batch_has_more_rows_than_its_part(plans):
    """With a few labels, a batch of 128 would be mostly rows that do not count."""
    data, folds = FakeData(lengths()), fake_folds()
    folds = folds._replace(unlabelled=folds.val[:, :20], unlabelled_where=folds.val_where[:, :20])
    large = plans(data, folds, tiny.TrainConfig(batch_size=1000, eval_batch_size=1000))
    parts = (large.train, large.val, large.test, large.unlabelled, large.both)
    assert [part.batch_size for part in parts] == [460, 30, 30, 20, 480]
    as_large_as_the_part = plans(data, folds, tiny.TrainConfig(batch_size=460, eval_batch_size=30))
    assert large == as_large_as_the_part


def test_numpy_and_jax_arrange_alike():
    length, folds = lengths(), fake_folds()
    plan = plan_batches(FakeData(length), folds, tiny.TrainConfig(batch_size=64, eval_batch_size=32)).train
    parts = folds.train[1], folds.train_where[1]
    on_host = arrange(length, *(np.asarray(part) for part in parts), plan)
    on_device = jax.jit(lambda *args: arrange(*args, plan))({k: jnp.asarray(v) for k, v in length.items()}, *parts)
    chex.assert_trees_all_equal(on_host, on_device)


@pytest.mark.parametrize("sort", [True, False], ids=["planned", "unsorted"])
def test_every_utterance_is_read_once_a_pass_in_changing_batches(sort):
    length, folds = lengths(), fake_folds()
    config = tiny.TrainConfig(batch_size=64, eval_batch_size=32)
    plan = (plan_batches(FakeData(length), folds, config) if sort else plain_plan(folds, config)).train
    batches, _ = arrange(length, folds.train[1], folds.train_where[1], plan)
    first, second, again = (shuffle(jax.random.key(seed), batches, plan) for seed in (0, 1, 0))
    chex.assert_trees_all_equal(first, again)
    for rows, where in (first, second):
        assert rows.shape == (8, 64)
        np.testing.assert_array_equal(np.sort(rows[where]), np.sort(folds.train[1][folds.train_where[1]]))
    moved = (first[0] != second[0]).mean()
    assert moved > 0.7  # one row of the eight of a stratum stays in its batch by chance, and padding is one row
    if sort:  # a stratum stays a stratum
        chex.assert_trees_all_equal(jnp.sort(first[0], axis=0), jnp.sort(second[0], axis=0))


def test_batches_within_a_stratum_are_drawn_evenly():
    plan = PartPlan(2, ("audio",))
    batches = (jnp.arange(6).reshape(3, 2), jnp.ones((3, 2), bool))
    drawn = jax.vmap(lambda key: shuffle(key, batches, plan)[0])(jax.random.split(jax.random.key(0), 6000))
    together = np.zeros((3, 3))
    np.add.at(together, (drawn[..., 0].ravel() // 2, drawn[..., 1].ravel() // 2), 1)
    np.testing.assert_allclose(together / 6000, 1 / 3, atol=0.03)  # standard error 0.006


def test_a_planned_batch_holds_the_frames_of_the_padded_one(data, folds, plan):
    fold = one(folds, 1)
    (rows, where), _ = arrange(data.length, fold.train, fold.train_where, plan.train)
    rows, where = shuffle(jax.random.key(0), (rows, where), plan.train)
    normalizer = fit_normalizer(data, fold.train, fold.train_where)
    for number in range(len(rows)):
        padded = normalize(normalizer, take(data, rows[number], where[number]))
        planned = normalize(normalizer, take(data, rows[number], where[number], plan.train))
        assert tuple(planned.features) == tuple(padded.features)
        for name, packed in planned.features.items():
            whole = unfold(time_first(packed)).swapaxes(0, 1)
            expected = padded.features[name][packed.row]
            chex.assert_trees_all_equal(whole, expected[:, : whole.shape[1]])
            assert not expected[:, whole.shape[1] :].any()
            assert whole.any()
        chex.assert_trees_all_equal(planned._replace(features={}), padded._replace(features={}))
        np.testing.assert_array_equal(planned.label, data.label[rows[number]])
        np.testing.assert_array_equal(planned.present, data.present[rows[number]])
        np.testing.assert_array_equal(planned.where, where[number])
        for name, length in planned.length.items():
            np.testing.assert_array_equal(length, data.length[name][rows[number]])
    packed = sum(block.shape[0] * block.shape[1] for x in planned.features.values() for block in x.blocks)
    assert packed < sum(values.shape[0] * values.shape[1] for values in padded.features.values())


@pytest.mark.parametrize("name", ["cm_arr", "zero_fill"])
@pytest.mark.parametrize("attention", [False, True])
def test_loss_and_gradient_equal_those_of_the_padded_batch(data, folds, plan, name, attention):
    config = tiny.run_config(MODALITIES, method=name, train=CONFIG, frame_attention=attention)
    method, hyper = make_method(config), hyperparameters_of(config)
    fold = one(folds, 2)
    (rows, where), _ = arrange(data.length, fold.train, fold.train_where, plan.train)
    normalizer = fit_normalizer(data, fold.train, fold.train_where)
    padded = normalize(normalizer, take(data, rows[0], where[0]))
    planned = normalize(normalizer, take(data, rows[0], where[0], plan.train))
    params = tiny.random_params(method.init, padded)
    step = jax.jit(jax.value_and_grad(lambda params, batch: method.loss(
        params, batch, batch.present, jax.random.key(3), hyper), has_aux=True))  # fmt: skip
    (expected, expected_aux), expected_grads = step(params, padded)
    (value, aux), grads = step(params, planned)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    chex.assert_trees_all_close(aux, expected_aux, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(grads, expected_grads, rtol=1e-4, atol=1e-5)
    encoders = jax.tree.leaves(expected_grads["encoders"])
    assert max(jnp.abs(leaf).max() for leaf in encoders) > 1e-2  # far above the tolerance


def test_planned_evaluation_counts_what_the_padded_one_counts(data, folds, plan):
    method = make_method(ZERO_FILL)
    fold = one(folds, 0)
    normalizer = fit_normalizer(data, fold.train, fold.train_where)
    params = tiny.random_params(method.init, take(data, fold.train[:2], fold.train_where[:2]))
    count = lambda part: jax.jit(lambda params: evaluate(
        method, params, normalizer, data, fold.test, fold.test_where, plan=part)[0])(params)  # fmt: skip
    planned, padded = count(plan.test), count(PartPlan(5))
    np.testing.assert_array_equal(planned.counts, padded.counts)
    assert planned.finite
    assert padded.finite
    assert planned.counts[-1].sum() == fold.test_where.sum()
    assert (planned.counts[-1].sum(0) > 0).sum() > 1  # the random network does not always give the same class


@pytest.fixture(scope="module")
def shorter(data):
    """The corpus with no more than three frames an utterance."""
    return data._replace(length={name: jnp.minimum(frames, 3) for name, frames in data.length.items()})


@pytest.fixture(scope="module")
def planned_run(shorter, folds):
    """A run whose batches are planned for `shorter`, traced once at most, and this plan."""
    plan = plan_batches(shorter, folds, CONFIG)
    return jax.jit(chex.assert_max_traces(make_train_run(make_method(ZERO_FILL), CONFIG, plan), n=1)), plan


def test_a_planned_run_learns_and_compiles_once(shorter, folds, planned_run):
    run, plan = planned_run
    for number in (0, 3):  # other folds, other batches, other lengths in them: one trace
        assert fold_matches_plan(shorter.length, one(folds, number), plan)
        result = run(shorter, one(folds, number), jax.random.key(number), hyperparameters_of(ZERO_FILL))
        history = history_by_stage(result, ["complete", "missing"])
        losses = history["missing"]["loss"]
        assert result.num_epochs == 3
        assert losses.shape == (2,)
        assert np.isfinite(losses).all()
        assert losses[-1] < history["complete"]["loss"][0]


def test_a_fold_the_plan_was_not_made_for_is_no_result_instead_of_cut_utterances(data, folds, planned_run):
    run, plan = planned_run
    fold = one(folds, 0)
    assert not fold_matches_plan(data.length, fold, plan)
    result = run(data, fold, jax.random.key(0), hyperparameters_of(ZERO_FILL))
    assert (result.status, result.num_epochs, result.best_epoch) == (MISMATCH, 0, -1)
    assert not result.test_counts.any()  # no utterance is scored
    assert not result.val_counts.any()
    assert np.isnan(uar(result.test_counts)).all()


@pytest.mark.parametrize("kinds", [("lstm", "vector", "conv"), ("vector", "vector", "vector")])
def test_an_example_batch_has_the_structure_of_a_batch_of_the_corpus(kinds):
    sequences = tuple(name for name, kind in zip(SEQUENCES, kinds, strict=True) if kind != "vector")
    corpus = tiny.make_corpus(sequences=sequences)
    batch = take(to_device(corpus), jnp.arange(2), jnp.ones(2, bool))
    example = example_batch(modality_configs(corpus), num_frames=7)
    assert isinstance(example.features, OrderedDict)
    assert tuple(example.features) == SEQUENCES  # not sorted: `text` stays last
    chex.assert_trees_all_equal_shapes_and_dtypes(example, batch._replace(speaker=None))  # which no parameter reads
    assert not any(values.any() for values in example.features.values())


def test_folds_that_are_added_change_no_batch():
    """The order that is cheapest for two folds need not be that for six."""
    changed = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        length = {name: random.integers(1, most, 200) for name, most in (("a", 60), ("v", 30), ("t", 10))}
        widths = {"a": 13, "v": 30, "t": 100}
        rows = np.stack([random.permutation(200)[:40] for _ in range(6)])
        where = np.ones(rows.shape, bool)
        first = plan_part(length, rows[:2], where[:2], 8, widths)
        more = plan_part(length, rows, where, 8, widths, deciding=2)
        assert more.order == first.order
        placed = lambda plan, length=length, rows=rows, where=where: arrange(length, rows[0], where[0], plan)[0][0]
        np.testing.assert_array_equal(placed(more), placed(first))
        for fold in rows:  # and all fit
            _, longest = arrange(length, fold, np.ones(40, bool), more)
            ends = {name: max(end for _, _, end in more.shape[name].blocks) for name in length}
            assert all(ends[name] >= longest[name].max() for name in length)
        changed += plan_part(length, rows, where, 8, widths).order != first.order
    assert changed  # without it, some would
