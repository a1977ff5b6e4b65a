"""Intervals and tests: by hand, against scipy, and by simulation of tables without a difference."""

import itertools

import numpy as np
import pytest
from scipy import stats

from cmarr_jax.metrics import agreement_sums, ccc, mae, uar, war
from experiments.statistics import Bootstrap, bootstrap, estimate, exchanges_text, holm, interval, smallest_p, swap_test

N = 100  # utterances of each class and speaker


def make_table(rng, num_folds, per_fold, seeds, gain=0.0, training=0.0):
    """Two methods whose scores differ by speaker, by `gain` on average, and by run: counts `[S, G, 1, 2, 2]` per fold.

    Args:
      training: Standard deviation over the runs of a fold of the difference, the same for all its speakers.
    """
    methods = [], []
    for _ in range(num_folds):
        level, difference = rng.normal(0.7, 0.05, per_fold), rng.normal(gain, 0.03, per_fold)
        if training:
            difference = difference + rng.normal(0, training, (seeds, 1))
        for method, sign in zip(methods, (1, -1), strict=True):
            right = rng.binomial(N, np.clip(level + sign * difference / 2, 0, 1), (2, seeds, per_fold))
            one, other = np.stack([right[0], N - right[0]], -1), np.stack([N - right[1], right[1]], -1)
            method.append(np.stack([one, other], -2)[:, :, None])
    return methods


def difference(ours, theirs, metric, num_samples=500, seed=0):
    return interval(bootstrap(ours, theirs, metric, num_samples, seed))


def test_the_estimate_by_hand():
    # Fold 1: seeds with WAR 3/4 and 1/4 (both speakers together); fold 2: one speaker, 1/2.
    speaker = lambda right: [[[right, 2 - right], [0, 0]]]
    folds = [np.array([[speaker(2), speaker(1)], [speaker(1), speaker(0)]]), np.array([[speaker(1)], [speaker(1)]])]
    np.testing.assert_allclose(estimate(folds, war), [0.5])
    found = bootstrap(folds, None, war, 400)
    assert (found.mean, found.num_speakers, found.num_seeds) == (0.5, 3, 1)
    alone = bootstrap([np.repeat(fold[:, :1], 4, axis=2) for fold in folds], None, war, 10)  # four conditions
    assert alone.training.tolist() == [0, 0, 0, 0]
    # Speaker 1 of fold 1 has 3/4, speaker 2 has 1/4, that of fold 2 has 1/2: means of three draws are among these.
    assert set(np.round(12 * found.samples[:, 0]).astype(int)) <= set(range(3, 10))
    assert found.samples.min() == 0.25
    assert found.samples.max() == 0.75


@pytest.mark.parametrize(
    ("num_folds", "per_fold", "seeds", "training"),
    [(10, 1, 2, 0.0), (10, 1, 2, 0.02), (5, 2, 1, 0.0), (5, 2, 3, 0.0), (5, 2, 3, 0.02), (1, 10, 3, 0.01)],
)
def test_without_a_difference_intervals_exclude_zero_in_five_per_cent(num_folds, per_fold, seeds, training):
    """Also where training varies, if there is more than one seed or each speaker has models of its own."""
    rng = np.random.default_rng(0)
    found = [
        difference(*make_table(rng, num_folds, per_fold, seeds, training=training), war, seed=number).excludes_zero
        for number in range(1000)
    ]
    assert 0.03 <= np.mean(found) <= 0.07


def test_what_training_adds():
    """The variance of the runs of a fold, over the number of folds and seeds; nothing if a speaker has models alone."""
    added = lambda *shape, training: np.mean(
        [bootstrap(*make_table(rng, *shape, training=training), war, 300).training for _ in range(300)]
    )
    rng = np.random.default_rng(0)
    assert added(5, 8, 3, training=0.05) == pytest.approx(0.05**2 / 15 * (1 - 1 / 8), rel=0.1)
    assert added(5, 8, 3, training=0.0) < 0.05**2 / 15 / 10
    assert added(10, 1, 3, training=0.05) == 0
    assert added(5, 8, 1, training=0.05) == 0


def lacking(folds, number):
    """A second condition, which the first folds have not."""
    return [np.concatenate([fold, fold * (place >= number)], 2) for place, fold in enumerate(folds)]


def fewer_seeds(folds, number):
    """The first folds with one seed only."""
    return [fold[:1] if place < number else fold for place, fold in enumerate(folds)]


def test_what_training_adds_where_a_fold_has_no_score_or_one_seed():
    rng, added = np.random.default_rng(0), {"no score": [], "one seed": []}
    for _ in range(300):
        ours, theirs = make_table(rng, 5, 8, 3, training=0.05)
        found = bootstrap(lacking(ours, 3), lacking(theirs, 3), war, 300)
        assert (found.num_speakers.tolist(), found.num_seeds.tolist()) == ([40, 16], [10, 4])
        added["no score"].append(found.training)
        found = bootstrap(fewer_seeds(ours, 3), fewer_seeds(theirs, 3), war, 300)
        assert (found.num_speakers.tolist(), found.num_seeds.tolist()) == ([40], [4])
        added["one seed"].append(found.training)
    one, other = np.mean(added["no score"], axis=0) / (0.05**2 * (1 - 1 / 8))
    assert (one, other) == pytest.approx((1 / 15, 1 / 6), rel=0.1)  # 5 and 2 folds of 3 seeds
    by_hand = (3 / 1 + 2 / 3) / 5**2  # a mean of 5 folds, three of one run, two of three
    assert np.mean(added["one seed"]) / (0.05**2 * (1 - 1 / 8)) == pytest.approx(by_hand, rel=0.1)


@pytest.mark.parametrize("change", [lacking, fewer_seeds])
def test_intervals_keep_their_level_where_a_fold_has_no_score_or_one_seed(change):
    rng, found = np.random.default_rng(1), []
    for number in range(1000):
        ours, theirs = make_table(rng, 5, 10, 3, training=0.02)
        samples = bootstrap(change(ours, 2), change(theirs, 2), war, 200, seed=number)
        found.append(interval(samples, len(samples.mean) - 1).excludes_zero)
    assert 0.03 <= np.mean(found) <= 0.07


def test_a_difference_is_found():
    rng = np.random.default_rng(0)
    ours, theirs = make_table(rng, 10, 1, 2, gain=0.1)
    found = difference(ours, theirs, uar)
    assert 0.05 < found.low < found.mean < found.high < 0.15
    assert swap_test(ours, theirs, uar)[0] < 0.01
    assert swap_test(ours, ours, uar)[0] == 1
    same = difference(ours, ours, uar)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert not same.excludes_zero


def test_one_utterance_a_speaker_is_students_interval():
    # Folds of one speaker with the same number of utterances: a mean of scores, whose interval is nearly Student's.
    rng = np.random.default_rng(1)
    ours, theirs = make_table(rng, 30, 1, 1)
    values = np.array([war(a.sum((0, 1)))[0] - war(b.sum((0, 1)))[0] for a, b in zip(ours, theirs, strict=True)])
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = difference(ours, theirs, war, num_samples=20_000)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_the_swap_test_is_the_sign_test_of_scipy_where_each_fold_is_a_speaker():
    rng = np.random.default_rng(2)
    ours, theirs = make_table(rng, 8, 1, 1, gain=0.02)
    one, other = ([war(counts.sum((0, 1)))[0] for counts in folds] for folds in (ours, theirs))
    exact = stats.permutation_test(
        (one, other), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", n_resamples=np.inf
    )
    assert swap_test(ours, theirs, war)[0] == pytest.approx(exact.pvalue)  # 256 exchanges: all are looked at
    drawn = np.mean([swap_test(ours, theirs, war, 255, seed)[0] for seed in range(16)])
    assert drawn == pytest.approx(exact.pvalue, abs=0.03)  # three standard errors of 4,080 exchanges are below 0.024


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    nan = float("nan")
    np.testing.assert_allclose(holm([nan, 0.01, nan, 0.04]), [nan, 0.02, nan, 0.04])  # of two tests
    np.testing.assert_array_equal(holm([nan]), [nan])


def test_without_a_score_there_is_no_p():
    """Nothing was counted in the second condition of any fold, and in one fold only in the first."""
    ours, theirs = (
        [np.concatenate([fold, np.zeros_like(fold)], axis=2) for fold in folds]
        for folds in make_table(np.random.default_rng(4), 3, 4, 1, gain=0.1)
    )
    whole = swap_test(ours[:2], theirs[:2], uar)
    assert whole[0] < 0.05
    assert np.isnan(whole[1])
    ours[2][:], theirs[2][:] = 0, 0
    assert swap_test(ours, theirs, uar)[0] == pytest.approx(whole[0], abs=0.01)  # 2,000 of 4,096 exchanges
    np.testing.assert_array_equal(estimate(ours, uar), [*estimate(ours[:2], uar)[:1], np.nan])


@pytest.mark.parametrize(
    ("num_speakers", "expected"), [(3, 0.25), (5, 0.0625), (6, 0.03125), (10, 2 / 1024), (11, 1 / 2001)]
)
def test_the_smallest_p_by_hand(num_speakers, expected):
    assert smallest_p(num_speakers) == expected
    exact = f"all {2**num_speakers:,} exchanges"
    assert exchanges_text(num_speakers) == (exact if num_speakers < 11 else "2,000 random exchanges")


@pytest.mark.parametrize("num_speakers", [3, 10])
def test_the_smallest_p_is_reached_where_all_speakers_differ_alike(num_speakers):
    ours = [np.tile([[[9, 1], [1, 9]]], (1, num_speakers, 1, 1, 1))]
    theirs = [np.tile([[[8, 2], [2, 8]]], (1, num_speakers, 1, 1, 1))]
    assert swap_test(ours, theirs, war)[0] == smallest_p(num_speakers)


def test_the_exact_p_is_that_of_a_loop_over_all_exchanges_of_all_folds():
    rng = np.random.default_rng(5)
    ours, theirs = (
        [*two, *three] for two, three in zip(make_table(rng, 1, 2, 2), make_table(rng, 1, 3, 2), strict=True)
    )
    found = []
    for swaps in itertools.product((False, True), repeat=5):
        one, other = [fold.copy() for fold in ours], [fold.copy() for fold in theirs]
        for swap, (fold, speaker) in zip(swaps, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], strict=True):
            if swap:
                one[fold][:, speaker], other[fold][:, speaker] = theirs[fold][:, speaker], ours[fold][:, speaker]
        found.append(abs(estimate(one, uar) - estimate(other, uar))[0])
    hits = sum(value >= found[0] - 1e-12 for value in found)
    assert 2 < hits < 32
    assert swap_test(ours, theirs, uar)[0] == hits / 32
    drawn = np.mean([swap_test(ours, theirs, uar, 31, seed)[0] for seed in range(64)])
    assert drawn == pytest.approx(hits / 32, abs=0.05)  # three standard errors of 1,984 exchanges, and 1 / 32 at most


def test_too_little_has_no_interval():
    found = interval(Bootstrap(np.full(1, 0.5), np.full((10, 1), 0.5), np.zeros(1), np.ones(1), np.zeros(1)))
    assert found.mean == 0.5
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(("metric", "center", "spread"), [(ccc, 1000, 1), (ccc, 36.8, 0.5), (mae, 30000, 10000)])
def test_p_is_never_below_the_smallest_one_whatever_the_unit_of_a_regression(metric, center, spread):
    rng, smallest, found = np.random.default_rng(0), smallest_p(5), []
    for _ in range(40):
        target = center + spread * rng.normal(size=(5, 20))
        near, far = (target + scale * spread * rng.normal(size=(5, 20)) for scale in (0.2, 2.0))
        sums = lambda guess, target=target: np.stack(list(map(agreement_sums, target, guess, [np.ones(20, bool)] * 5)))
        ours, theirs = ([sums(guess)[None, :, None]] for guess in (near, far))
        found.append(swap_test(ours, theirs, metric)[0])
    assert min(found) == smallest  # all exchanged is as large as nobody, also after rounding
    assert np.mean(np.array(found) == smallest) > 0.5
