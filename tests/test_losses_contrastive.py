"""InfoNCE between Gaussians and points of modalities, supervised contrastive: their values, by twins and by hand."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from loss_inputs import (
    LABELS,
    POINT_ALIGNMENT,
    POINTS,
    PRESENT,
    SUPERVISED,
    TRANSFORMS,
    WHERE,
    decoupled,
    decoupled_points,
    distribution,
    divergence,
    gaussians,
    mean_only,
    normal,
    points,
)

from cmarr_jax import losses

# Against the twins


def assert_equals_twin(out, twin):
    value, valid = twin
    np.testing.assert_allclose(out.value, value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out.valid, valid)


@pytest.mark.parametrize(
    ("transform", "positive_in_denominator"), [(lambda f: f, True), (jax.jit, True), (jax.jit, False)]
)
@pytest.mark.parametrize(
    "distance", ["pairwise_squared_w2", "pairwise_squared_mean_distance", "pairwise_symmetric_kl"], ids=lambda x: x[9:]
)
def test_distribution_equals_twin(transform, positive_in_denominator, distance):
    mean, std = gaussians()
    rows = mean[:, 0], std[:, 0], mean[:, 1], std[:, 1]
    ours, twin = (getattr(module, distance) for module in (losses, reference))
    kwargs = {"positive_in_denominator": positive_in_denominator}
    for scale in (None, 0.7):
        loss_fn = partial(losses.distribution_info_nce, temperature=0.1, scale=scale, distance=ours, **kwargs)
        out = transform(loss_fn)(*rows, jnp.asarray(WHERE))
        args = *map(np.asarray, rows), WHERE, 0.1, scale or 1 / 5
        assert_equals_twin(out, reference.distribution_info_nce(*args, distance=twin, **kwargs))
        np.testing.assert_array_equal(out.valid, WHERE)


@pytest.mark.parametrize(
    ("transform", "positive_in_denominator"), [(lambda f: f, True), (jax.jit, True), (jax.jit, False)]
)
def test_points_equal_twin(transform, positive_in_denominator):
    a, b = normal(8, 5), normal(8, 5, seed=1)
    loss_fn = partial(losses.point_info_nce, temperature=0.1, positive_in_denominator=positive_in_denominator)
    out = transform(loss_fn)(jnp.asarray(a), jnp.asarray(b), jnp.asarray(WHERE))
    assert_equals_twin(out, reference.point_info_nce(a, b, WHERE, 0.1, positive_in_denominator))


@pytest.mark.parametrize(
    ("transform", "num_modalities", "positive_in_denominator"),
    [(lambda f: f, 3, True), (jax.jit, 2, True), (jax.jit, 3, True), (jax.jit, 4, True), (jax.jit, 3, False)],
    ids=["eager-3", "jit-2", "jit-3", "jit-4", "jit-3-decoupled"],
)
def test_alignment_equals_twin(transform, num_modalities, positive_in_denominator):
    mean, std = gaussians(num_modalities)
    present = np.concatenate([PRESENT, PRESENT[::-1]], axis=1)[:, :num_modalities]
    kwargs = {"temperature": 0.5, "positive_in_denominator": positive_in_denominator}
    masks = jnp.asarray(present), jnp.asarray(WHERE)
    out = transform(partial(losses.alignment, **kwargs))(mean, std, *masks)
    twin = reference.alignment(np.asarray(mean), np.asarray(std), present, WHERE, scale=1 / 5, **kwargs)
    assert_equals_twin(out, twin)
    chex.assert_shape(out.valid, (8, num_modalities * (num_modalities - 1) // 2))
    assert_equals_twin(
        transform(partial(losses.point_alignment, **kwargs))(mean, *masks),
        reference.point_alignment(np.asarray(mean), present, WHERE, **kwargs),
    )
    if num_modalities == 3:  # columns are the pairs (0, 1), (0, 2), (1, 2)
        np.testing.assert_array_equal(out.valid[:, 1], WHERE & PRESENT[:, 0] & PRESENT[:, 2])


@TRANSFORMS
def test_supervised_equals_twin(transform):
    x = normal(8, 5)
    out = transform(losses.supervised_contrastive)(jnp.asarray(x), jnp.asarray(LABELS), jnp.asarray(WHERE))
    assert_equals_twin(out, reference.supervised_contrastive(x, LABELS, WHERE, 0.1))
    np.testing.assert_array_equal(out.valid, WHERE & (LABELS != 2))


@TRANSFORMS
def test_unlabelled_points_are_left_out(transform):
    x, labels = normal(8, 5), np.array([0, -1, 0, -1, 0, 1, 1, -7], np.int32)
    out = transform(losses.supervised_contrastive)(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(WHERE))
    assert_equals_twin(out, reference.supervised_contrastive(x, labels, WHERE, 0.1))
    labelled = jnp.asarray(WHERE & (labels >= 0))
    expected = SUPERVISED(jnp.asarray(x), jnp.asarray(np.abs(labels)), labelled)
    chex.assert_trees_all_close(out, expected, rtol=1e-6)


def test_unlabelled_points_reach_nothing():
    labels = jnp.array([0, -1, 0, -1, 0, 1, 1, -1])
    loss = lambda x: losses.masked_mean(*losses.supervised_contrastive(x, labels))
    x = jnp.asarray(normal(8, 5))
    value_and_grad = jax.jit(jax.value_and_grad(loss))
    clean, soiled = (value_and_grad(y) for y in (x, jnp.where((labels < 0)[:, None], jnp.nan, x)))
    chex.assert_trees_all_equal(clean, soiled)
    # No label at all: 0 with zero gradient.
    nothing = SUPERVISED(x, jnp.full(8, -1))
    np.testing.assert_array_equal(nothing.value, 0.0)
    assert not nothing.valid.any()


# Solvable by hand


def test_distribution_by_hand():
    # By hand: D = 1, means 0 and 2, equal stds, so the squared distances are 0 (positive) and 4; temperature 2, scale 1
    # makes the other logit -2, hence log(1 + e^-2) in both directions.
    mean = jnp.array([[[0.0], [0.0]], [[2.0], [2.0]]])
    out = distribution(mean, jnp.ones_like(mean), jnp.ones(2, bool), temperature=2.0)
    np.testing.assert_allclose(out.value, [math.log1p(math.exp(-2))] * 2, rtol=1e-5)


def test_points_by_hand():
    # By hand: orthogonal pairs, cosines 1 (positive) and 0; temperature 0.5 gives log(1 + e^-2) whatever the lengths.
    a, b = jnp.array([[3.0, 0.0], [0.0, 0.1]]), jnp.array([[1.0, 0.0], [0.0, 7.0]])
    out = POINTS(a, b, temperature=0.5)
    np.testing.assert_allclose(out.value, [math.log1p(math.exp(-2))] * 2, rtol=1e-5)


def test_decoupled_by_hand():
    # By hand: as above, but the positive (logit 0) is no term of the sum: log(e^-2) = -2 and log(e^0 + e^0) - 2.
    mean = jnp.array([[[0.0], [0.0]], [[2.0], [2.0]]])
    np.testing.assert_allclose(decoupled(mean, jnp.ones_like(mean), jnp.ones(2, bool), temperature=2.0).value, -2.0)
    a, b = jnp.array([[3.0, 0.0], [0.0, 0.1]]), jnp.array([[1.0, 0.0], [0.0, 7.0]])
    out = POINTS(a, b, temperature=0.5, positive_in_denominator=False)
    np.testing.assert_allclose(out.value, -2.0, rtol=1e-5)


@pytest.mark.parametrize(("loss_fn", "decoupled_fn"), [(distribution, decoupled), (points, decoupled_points)])
def test_coupled_is_the_softplus_of_decoupled(loss_fn, decoupled_fn):
    # By hand: log(e^p + sum) - p = log(1 + e^(log sum - p)) in each direction; equal modalities make them equal.
    rows = [jnp.concatenate([x, x], axis=1) for x in gaussians(1)]
    coupled, other = (f(*rows, jnp.asarray(WHERE)).value for f in (loss_fn, decoupled_fn))
    np.testing.assert_allclose(coupled, np.where(WHERE, jax.nn.softplus(other), 0), rtol=1e-4, atol=1e-6)


def test_point_alignment_by_hand():
    # By hand: two utterances, three modalities, orthogonal directions whatever the lengths: log(1 + e^-2) for the first
    # pair. The third modality is present once, so its pairs have no other candidate: 0, and valid in the first row.
    directions = jnp.array([[[3.0, 0.0]], [[0.0, 0.1]]])
    rows = directions * jnp.array([[[1.0], [2.0], [5.0]]])
    present = jnp.array([[True, True, True], [True, True, False]])
    out = POINT_ALIGNMENT(rows, present, temperature=0.5)
    expected = math.log1p(math.exp(-2))
    np.testing.assert_allclose(out.value, [[expected, 0, 0], [expected, 0, 0]], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(out.valid, [[True, True, True], [True, False, False]])
    # Decoupled, a pair without another candidate is invalid.
    out = POINT_ALIGNMENT(rows, present, temperature=0.5, positive_in_denominator=False)
    np.testing.assert_allclose(out.value, [[-2, 0, 0], [-2, 0, 0]], rtol=1e-5)
    np.testing.assert_array_equal(out.valid, [[True, False, False], [True, False, False]])


def test_supervised_by_hand():
    # By hand: points of a class coincide, classes are orthogonal. An anchor sees its positive (logit 1 / 0.5) and two
    # others (logit 0): log(e^2 + 2) - 2. The fifth point is alone in its class but would be a candidate; it is
    # masked out.
    x = jnp.array([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 3.0], [1.0, 1.0]])
    where = jnp.array([True, True, True, True, False])
    out = SUPERVISED(x, jnp.array([0, 0, 1, 1, 2]), where, temperature=0.5)
    np.testing.assert_allclose(out.value, [math.log(math.exp(2) + 2) - 2] * 4 + [0.0], rtol=1e-5)
    np.testing.assert_array_equal(out.valid, where)


def test_supervised_with_equal_points_by_hand():
    # By hand: all cosines equal, so each anchor has log 3 (three others), whatever the temperature and the labels.
    out = SUPERVISED(jnp.ones((4, 2)), jnp.array([0, 0, 1, 1]))
    np.testing.assert_allclose(out.value, [math.log(3)] * 4, rtol=1e-5)


def test_the_distance_makes_the_logits():
    mean, std = gaussians()
    where = jnp.asarray(WHERE)
    # Equal stds: the 2-Wasserstein distance is that of the means, and so is the symmetric KL, over the variance.
    equal = jnp.full_like(std, 2.0)
    expected = distribution(mean, equal, where)
    chex.assert_trees_all_close(mean_only(mean, std, where), expected, rtol=1e-4, atol=1e-5)
    scaled = divergence(mean, equal, where, scale=2 * 4 / 5)  # KL = ||difference||^2 / (2 * 4)
    chex.assert_trees_all_close(scaled, expected, rtol=1e-4, atol=1e-5)
