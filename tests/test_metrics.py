"""Scores against scikit-learn and scipy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, mean_absolute_error

from cmarr_jax.metrics import agreement_sums, ccc, confusion_counts, macro_f1, mae, uar, war

TRANSFORMS = pytest.mark.parametrize(
    "transform", [lambda f: f, lambda f: jax.jit(f, static_argnames="num_classes")], ids=["eager", "jit"]
)


def predictions(num=64, classes=(0, 1, 3), seed=0):
    """Labels of `classes`, predictions that are right half of the time; a quarter of the rows is padding."""
    rng = np.random.default_rng(seed)
    label = rng.choice(classes, num)
    predicted = np.where(rng.random(num) < 0.5, label, rng.choice(classes, num))
    where = rng.random(num) < 0.75
    label[~where], predicted[~where] = -1, 99  # what padding holds must not matter
    return tuple(jnp.asarray(x) for x in (label.astype(np.int32), predicted.astype(np.int32), where))


@TRANSFORMS
def test_counts_equal_sklearn(transform):
    label, predicted, where = predictions()
    out = transform(confusion_counts)(label, predicted, where, num_classes=4)
    expected = confusion_matrix(label[where], predicted[where], labels=range(4))
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == jnp.int32


@pytest.mark.parametrize("classes", [(0, 1, 2, 3), (0, 1, 3), (2,)], ids=["all", "one_absent", "only_one"])
def test_scores_equal_sklearn(classes):
    label, predicted, where = predictions(classes=classes)
    counts = confusion_counts(label, predicted, where, num_classes=4)
    truth, guess = label[where], predicted[where]
    np.testing.assert_allclose(war(counts), accuracy_score(truth, guess))
    np.testing.assert_allclose(macro_f1(counts), f1_score(truth, guess, average="macro"))
    if len(classes) > 1:  # scikit-learn warns about a single class
        np.testing.assert_allclose(uar(counts), balanced_accuracy_score(truth, guess))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # the case at hand
def test_predicted_class_without_labels():
    label, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 2, 0])
    counts = confusion_counts(*map(jnp.asarray, (label, predicted, np.ones(5, bool))), num_classes=4)
    # By hand: recalls 1/2 and 1/3; class 2 is never a label, so it has no recall, but it has an F1 (of 0).
    np.testing.assert_allclose(uar(counts), (1 / 2 + 1 / 3) / 2)
    np.testing.assert_allclose(uar(counts), balanced_accuracy_score(label, predicted))
    np.testing.assert_allclose(macro_f1(counts), f1_score(label, predicted, average="macro"))


def test_by_hand_and_pooled_is_not_the_mean_of_batches():
    # By hand: class 0 has 1 of 2 right, class 1 has 3 of 4: WAR 4/6, UAR 5/8, F1 (2/4 + 6/8) / 2.
    counts = np.array([[1, 1], [1, 3]])
    np.testing.assert_allclose([war(counts), uar(counts), macro_f1(counts)], [4 / 6, 5 / 8, 5 / 8])
    batches = np.array([[[1, 0], [0, 3]], [[0, 1], [1, 0]]])
    np.testing.assert_allclose(uar(batches), [1.0, 0.0])
    np.testing.assert_array_equal(batches.sum(0), counts)


def test_leading_axes_are_kept():
    counts = np.random.default_rng(0).integers(0, 9, (3, 2, 4, 4))
    counts[0, 0, 1] = 0  # an absent class
    counts[1, 1] = 0  # nothing counted
    for score in (war, uar, macro_f1):
        out = score(counts)
        assert out.shape == (3, 2)
        assert np.isnan(out[1, 1])
        np.testing.assert_array_equal(out, [[score(matrix) for matrix in row] for row in counts])


def test_nothing_counted_is_nan_without_a_warning():
    label, predicted, _ = predictions()
    counts = confusion_counts(label, predicted, jnp.zeros(64, bool), num_classes=4)
    np.testing.assert_array_equal(counts, 0)
    assert all(np.isnan(score(counts)) for score in (war, uar, macro_f1))


def test_classes_can_be_permuted():
    counts, order = np.random.default_rng(1).integers(0, 9, (4, 4)), [2, 0, 3, 1]
    for score in (war, uar, macro_f1):
        np.testing.assert_allclose(score(counts), score(counts[np.ix_(order, order)]))


def test_values_outside_the_classes_never_land_in_another_cell():
    # With a single index label * K + predicted, (0, 4) would count as (1, 0).
    counts = confusion_counts(jnp.array([0, 1]), jnp.array([4, 1]), jnp.ones(2, bool), num_classes=4)
    np.testing.assert_array_equal(counts, np.diag([0, 1, 0, 0]))


def test_sum_over_devices_and_vmap_equal_the_whole():
    batch = predictions()
    whole = confusion_counts(*batch, num_classes=4)
    split = [x.reshape(4, 16) for x in batch]
    summed = jax.pmap(lambda *x: jax.lax.psum(confusion_counts(*x, num_classes=4), "batch"), "batch", out_axes=None)
    np.testing.assert_array_equal(summed(*split), whole)
    np.testing.assert_array_equal(jax.vmap(lambda *x: confusion_counts(*x, num_classes=4))(*split).sum(0), whole)


@pytest.mark.parametrize(
    "wrong",
    [
        (jnp.zeros(3, int), jnp.zeros(2, int), jnp.ones(3, bool)),
        (jnp.zeros(3, int), jnp.zeros(3), jnp.ones(3, bool)),
        (jnp.zeros(3, int), jnp.zeros(3, int), jnp.ones(3)),
        (jnp.zeros((3, 1), int), jnp.zeros((3, 1), int), jnp.ones((3, 1), bool)),
    ],
)
def test_counts_refuse_wrong_arguments(wrong):
    with pytest.raises(AssertionError):
        confusion_counts(*wrong, num_classes=4)


@pytest.mark.parametrize("shape", [(3, 4), (4,), ()])
def test_scores_refuse_what_is_not_square(shape):
    for score in (war, uar, macro_f1):
        with pytest.raises(ValueError, match="found shape"):
            score(np.ones(shape))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_ccc_and_mae_equal_their_formulas(transform, xp):
    rng = np.random.default_rng(0)
    target = rng.normal(size=40) + 2
    predicted = 0.7 * target + rng.normal(size=40)
    where = rng.random(40) < 0.75
    y, p = target[where], predicted[where]
    deviations = stats.pearsonr(y, p).statistic * y.std() * p.std()  # Lin 1989, moments divided by n
    expected = 2 * deviations / (y.var() + p.var() + (y.mean() - p.mean()) ** 2)
    target[~where], predicted[~where] = np.nan, np.inf  # what padding holds must not matter
    if xp is np and transform is jax.jit:
        transform = lambda f: f
    sums = transform(agreement_sums)(xp.asarray(target), xp.asarray(predicted), xp.asarray(where))
    rtol = 1e-12 if xp is np else 1e-5
    np.testing.assert_allclose(ccc(sums), expected, rtol=rtol)
    np.testing.assert_allclose(mae(sums), mean_absolute_error(y, p), rtol=rtol)
    assert sums.dtype == (np.float64 if xp is np else np.float32)


def test_ccc_and_mae_by_hand_and_of_added_sums():
    everything = np.ones(3, bool)
    first = agreement_sums(np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 4.0]), everything)
    # By hand: covariance and both variances 2/3, means 1 apart: (4/3) / (4/3 + 1).
    np.testing.assert_allclose([ccc(first), mae(first)], [4 / 7, 1])
    second = agreement_sums(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), everything)
    np.testing.assert_allclose(ccc(second), 1)
    joined = agreement_sums(np.array([1.0, 2.0, 3.0] * 2), np.array([2.0, 3.0, 4.0, 1.0, 2.0, 3.0]), np.ones(6, bool))
    np.testing.assert_allclose(first + second, joined)
    np.testing.assert_allclose(mae(np.stack([first, second, first + second])), [1, 0, 0.5])


def test_ccc_does_not_depend_on_the_unit():
    rng = np.random.default_rng(1)
    y, p = rng.normal(size=20), rng.normal(size=20)
    where = np.ones(20, bool)
    expected = ccc(agreement_sums(y, p, where))
    np.testing.assert_allclose(ccc(agreement_sums(3 * y - 7, 3 * p - 7, where)), expected)
    np.testing.assert_allclose(ccc(agreement_sums(y, np.full(20, 0.3), where)), 0, atol=1e-12)


def test_ccc_of_nothing_and_of_one_constant_is_nan():
    nothing = agreement_sums(np.ones(2), np.ones(2), np.zeros(2, bool))
    assert np.isnan([ccc(nothing), mae(nothing)]).all()
    constant = agreement_sums(jnp.ones(2), jnp.ones(2), jnp.ones(2, bool))
    assert np.isnan(ccc(constant))
    assert mae(constant) == 0
    for xp, value in itertools.product((np, jnp), (0.1, 0.7, -2.3)):  # their moments are not exact
        rounded = agreement_sums(xp.full(7, value), xp.full(7, value), xp.ones(7, bool))
        assert np.isnan(ccc(rounded))


@pytest.mark.parametrize(("offset", "spread"), [(3, 1), (20, 1), (200, 1), (100, 0.1), (2000, 0.3)])
def test_ccc_in_float32_is_exact_or_nan(offset, spread):
    rng = np.random.default_rng(0)
    y = offset + spread * rng.normal(size=500)
    p = y + spread * rng.normal(size=500)
    where = np.ones(500, bool)
    found = ccc(agreement_sums(jnp.asarray(y), jnp.asarray(p), where))
    if offset > 300 * spread:
        assert np.isnan(found)
    else:
        np.testing.assert_allclose(found, ccc(agreement_sums(y, p, where)), rtol=1e-2)
