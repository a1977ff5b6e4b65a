"""InfoNCE between Gaussians and points of modalities, supervised contrastive."""

import math
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads

from cmarr_jax import losses

TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
WHERE = np.array([True, True, False, True, True, True, False, True])
LABELS = np.array([0, 1, 0, 2, 0, 1, 1, 0], np.int32)  # row 3 is the only one of its class
PRESENT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gaussians(num_modalities=2, dim=5, num=8):
    """`mean, std`, `[B, M, D]`: modalities of an utterance resemble each other."""
    mean = normal(num, 1, dim, seed=1) + 0.5 * normal(num, num_modalities, dim, seed=2)
    return jnp.asarray(mean), jnp.asarray(np.exp(0.3 * normal(num, num_modalities, dim, seed=3)))


# Compiled once for all tests; the tests of each function itself call it with and without jit.
STATIC = ("distance", "positive_in_denominator", "axis_name")
DISTRIBUTION = jax.jit(losses.distribution_info_nce, static_argnames=STATIC)
POINTS = jax.jit(losses.point_info_nce, static_argnames=STATIC[1:])
ALIGNMENT = jax.jit(losses.alignment, static_argnames=STATIC)
POINT_ALIGNMENT = jax.jit(losses.point_alignment, static_argnames=STATIC[1:])
SUPERVISED = jax.jit(losses.supervised_contrastive, static_argnames="axis_name")


# The losses with one signature, `mean, std, where -> MaskedLoss`; points are `mean + std`.


def distribution(mean, std, where, **kwargs):
    kwargs = {"temperature": 0.5} | kwargs
    return DISTRIBUTION(mean[:, 0], std[:, 0], mean[:, 1], std[:, 1], where, **kwargs)


def points(mean, std, where, **kwargs):
    x = mean + std
    return POINTS(x[:, 0], x[:, 1], where, temperature=0.5, **kwargs)


def decoupled(mean, std, where, **kwargs):
    return distribution(mean, std, where, positive_in_denominator=False, **kwargs)


def decoupled_points(mean, std, where, **kwargs):
    return points(mean, std, where, positive_in_denominator=False, **kwargs)


def divergence(mean, std, where, **kwargs):
    return distribution(mean, std, where, distance=losses.pairwise_symmetric_kl, **kwargs)


def mean_only(mean, std, where, **kwargs):
    return distribution(mean, std, where, distance=losses.pairwise_squared_mean_distance, **kwargs)


def aligned(mean, std, where, present=PRESENT, **kwargs):
    return ALIGNMENT(mean, std, jnp.asarray(present), where, temperature=0.5, **kwargs)


def aligned_points(mean, std, where, present=PRESENT, **kwargs):
    return POINT_ALIGNMENT(mean + std, jnp.asarray(present), where, temperature=0.5, **kwargs)


def supervised(mean, std, where, labels=LABELS, **kwargs):
    return SUPERVISED((mean + std)[:, 0], jnp.asarray(labels), where, temperature=0.5, **kwargs)


def over(*loss_fns):
    return pytest.mark.parametrize("loss_fn", loss_fns, ids=lambda f: f.__name__)


PAIRED = over(distribution, points, decoupled)
LOSSES = over(distribution, points, decoupled, supervised)
WITH_STD = over(distribution, points, decoupled, divergence, supervised)  # std > 0
ALIGNED = over(aligned, aligned_points)


def reduced(loss_fn):
    """`mean, std, where, keyword arguments as a dict -> scalar`."""

    def loss(mean, std, where, kwargs):
        out = loss_fn(mean, std, where, **kwargs)
        return losses.masked_mean(*out)

    return loss


@cache
def compiled(loss_fn):
    return jax.jit(jax.value_and_grad(reduced(loss_fn), (0, 1)))


def value_and_grads(loss_fn, mean, std, where, **kwargs):
    return compiled(loss_fn)(mean, std, jnp.asarray(where), kwargs)


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


# Gradients, symmetry, invariance


@over(distribution, points, decoupled, divergence, aligned, aligned_points, supervised)
def test_gradients(loss_fn):
    loss = jax.jit(lambda mean, std: reduced(loss_fn)(mean, std, jnp.asarray(WHERE), {}))
    check_grads(loss, gaussians(3), order=1, modes=["fwd", "rev"], atol=1e-2, rtol=1e-2)


def test_gradient_reaches_a_learned_temperature():
    mean, std = gaussians()
    for kwargs in ({"temperature": 0.3}, {"temperature": jnp.float32(0.3)}, {"temperature": np.float32(0.3)}):
        np.testing.assert_allclose(
            distribution(mean, std, jnp.asarray(WHERE), **kwargs).value,
            distribution(mean, std, jnp.asarray(WHERE), temperature=0.3).value,
            rtol=1e-5,
        )

    @jax.jit
    def loss(temperature):
        return jnp.sum(distribution(mean, std, jnp.asarray(WHERE), temperature=temperature).value)

    check_grads(loss, (0.3,), order=1, atol=1e-2, rtol=1e-2)


@PAIRED
def test_modalities_can_be_swapped(loss_fn):
    mean, _ = gaussians()
    std = jnp.ones_like(mean)
    one, other = (loss_fn(x, std, jnp.asarray(WHERE)) for x in (mean, mean[:, ::-1]))
    chex.assert_trees_all_close(one, other, rtol=1e-5, atol=1e-6)


@LOSSES
def test_rows_can_be_permuted(loss_fn):
    mean, std = gaussians()
    order = np.array([3, 1, 7, 0, 2, 6, 5, 4])
    kwargs = {"labels": LABELS[order]} if loss_fn is supervised else {}
    permuted = loss_fn(mean[order], std[order], jnp.asarray(WHERE[order]), **kwargs)
    whole = loss_fn(mean, std, jnp.asarray(WHERE))
    chex.assert_trees_all_close(permuted, jax.tree.map(lambda x: x[order], whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss_fn", [points, supervised], ids=lambda f: f.__name__)
def test_points_can_be_rescaled(loss_fn):
    mean, std = gaussians()
    length = 0.1 + np.abs(normal(8, 1, 1, seed=4))
    one, other = (loss_fn(*x, jnp.asarray(WHERE)) for x in ((mean, std), (mean * length, std * length)))
    chex.assert_trees_all_close(one, other, rtol=1e-4, atol=1e-4)


def test_labels_can_be_renamed():
    mean, std = gaussians()
    renamed = np.array([7, 1, 4])[LABELS]
    one, other = (supervised(mean, std, jnp.asarray(WHERE), labels=labels) for labels in (LABELS, renamed))
    chex.assert_trees_all_equal(one, other)


def test_the_distance_makes_the_logits():
    mean, std = gaussians()
    where = jnp.asarray(WHERE)
    # Equal stds: the 2-Wasserstein distance is that of the means, and so is the symmetric KL, over the variance.
    equal = jnp.full_like(std, 2.0)
    expected = distribution(mean, equal, where)
    chex.assert_trees_all_close(mean_only(mean, std, where), expected, rtol=1e-4, atol=1e-5)
    scaled = divergence(mean, equal, where, scale=2 * 4 / 5)  # KL = ||difference||^2 / (2 * 4)
    chex.assert_trees_all_close(scaled, expected, rtol=1e-4, atol=1e-5)


# Extremes


@WITH_STD
def test_all_masked_is_zero_with_zero_gradient(loss_fn):
    value, grads = value_and_grads(loss_fn, *gaussians(), np.zeros(8, bool))
    chex.assert_trees_all_equal((value, *grads), jax.tree.map(jnp.zeros_like, (value, *grads)))


@WITH_STD
def test_batch_of_one_is_zero_with_zero_gradient(loss_fn):
    mean, std = gaussians(num=1)
    kwargs = {"labels": LABELS[:1]} if loss_fn is supervised else {}
    value, grads = value_and_grads(loss_fn, mean, std, np.ones(1, bool), **kwargs)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    for grad in grads:
        np.testing.assert_allclose(grad, 0.0, atol=1e-6)
    # A pair without another candidate is valid (log 1 = 0), but not decoupled; nor is a point without a positive.
    invalid = loss_fn in (supervised, decoupled)
    assert bool(loss_fn(mean, std, jnp.ones(1, bool), **kwargs).valid[0]) != invalid


@WITH_STD
def test_nan_in_masked_rows_reaches_nothing(loss_fn):
    mean, std = gaussians()
    clean = value_and_grads(loss_fn, mean, std, WHERE)
    hidden = ~WHERE[:, None, None]
    soiled = value_and_grads(loss_fn, jnp.where(hidden, jnp.nan, mean), jnp.where(hidden, jnp.inf, std), WHERE)
    # Other fill values of masked rows may shift the last bits, for the distance is centred on all rows.
    chex.assert_trees_all_close(clean[0], soiled[0], rtol=1e-5)
    for grad, expected in zip(soiled[1], clean[1], strict=True):
        chex.assert_tree_all_finite(grad)
        np.testing.assert_allclose(grad[WHERE], expected[WHERE], atol=1e-5, rtol=1e-4)
        np.testing.assert_array_equal(grad[~WHERE], 0.0)


@ALIGNED
def test_nan_in_absent_modalities_reaches_nothing(loss_fn):
    mean, std = gaussians(3)
    absent = ~PRESENT[:, :, None]
    clean = value_and_grads(loss_fn, mean, std, WHERE)
    soiled = value_and_grads(loss_fn, jnp.where(absent, jnp.nan, mean), jnp.where(absent, jnp.nan, std), WHERE)
    chex.assert_trees_all_close(clean, soiled, atol=1e-5, rtol=1e-4)
    np.testing.assert_array_equal(soiled[1][0][~(PRESENT & WHERE[:, None])], 0.0)


@WITH_STD
def test_nan_in_counted_rows_is_seen(loss_fn):
    mean, std = gaussians()
    assert jnp.isnan(value_and_grads(loss_fn, mean.at[0].set(jnp.nan), std, WHERE)[0])


def test_no_positives_at_all():
    mean, std = gaussians()
    value, grads = value_and_grads(supervised, mean, std, WHERE, labels=np.arange(8))
    chex.assert_trees_all_equal((value, *grads), jax.tree.map(jnp.zeros_like, (value, *grads)))


def test_only_positives_is_finite():
    # By hand: with two equal-label points there is one candidate, the positive, hence log 1.
    out = SUPERVISED(jnp.asarray(normal(2, 3)), jnp.zeros(2, int))
    np.testing.assert_allclose(out.value, 0.0, atol=1e-6)
    np.testing.assert_array_equal(out.valid, True)


@pytest.mark.parametrize("fill", [0.0, 1.0, 1e-20, 1e4])
@LOSSES
def test_zero_and_equal_rows_are_finite(loss_fn, fill):
    mean, std = gaussians()
    chex.assert_tree_all_finite(value_and_grads(loss_fn, jnp.full_like(mean, fill), jnp.zeros_like(std), WHERE))
    chex.assert_tree_all_finite(value_and_grads(loss_fn, mean.at[1].set(fill), std.at[1].set(0.0), WHERE))


# Dtypes, vmap, devices


@LOSSES
def test_bfloat16_gives_float32(loss_fn):
    mean, std = (x.astype(jnp.bfloat16) for x in gaussians())
    out = loss_fn(mean, jnp.zeros_like(std), jnp.asarray(WHERE))
    chex.assert_type(out.value, jnp.float32)
    expected = loss_fn(mean.astype(jnp.float32), jnp.zeros_like(std, jnp.float32), jnp.asarray(WHERE))
    chex.assert_trees_all_close(out, expected, rtol=1e-5, atol=1e-6)
    _, grads = value_and_grads(loss_fn, mean, std, WHERE)
    chex.assert_type(grads, jnp.bfloat16)
    chex.assert_tree_all_finite(grads)


@LOSSES
def test_vmap_equals_loop(loss_fn):
    mean, std = gaussians()
    stacked = jnp.stack([mean, 2 * mean, mean[::-1]])
    mapped = jax.jit(jax.vmap(loss_fn, (0, None, None)))(stacked, std, jnp.asarray(WHERE))
    loop = [jax.jit(loss_fn)(x, std, jnp.asarray(WHERE)) for x in stacked]
    chex.assert_trees_all_close(mapped, jax.tree.map(lambda *x: jnp.stack(x), *loop), rtol=1e-4, atol=1e-5)


def weighted_loss(weight, loss_fn, mean, std, where, labels, present, axis_name=None):
    """A loss with a parameter, as in a training step: share of the global mean, over the rows of this device."""
    mean = jnp.einsum("bmd,de->bme", mean, weight)
    by_loss = {supervised: {"labels": labels}, aligned: {"present": present}, aligned_points: {"present": present}}
    kwargs = by_loss.get(loss_fn, {})
    out = loss_fn(mean, std, where, axis_name=axis_name, **kwargs)
    return losses.masked_mean(*out, axis_name=axis_name)


@over(distribution, points, decoupled, divergence, aligned, aligned_points, supervised)
def test_four_devices_equal_one(loss_fn):
    weight = jnp.asarray(np.eye(5, dtype=np.float32) + 0.3 * normal(5, 5))
    one_device = jax.jit(jax.value_and_grad(lambda w, *batch: weighted_loss(w, loss_fn, *batch)))

    def step(weight, *batch):
        share = lambda w: weighted_loss(w, loss_fn, *batch, axis_name="batch")
        return jax.lax.psum(jax.value_and_grad(share)(weight), "batch")

    four_devices = jax.pmap(step, "batch", in_axes=(None, *[0] * 5), out_axes=None)
    for where in (WHERE, np.arange(8) < 3):  # mixed; two devices with padding only
        batch = (*gaussians(3), jnp.asarray(where), jnp.asarray(LABELS), jnp.asarray(PRESENT))
        one = one_device(weight, *batch)
        assert abs(float(one[0])) > 0.1
        split = [x.reshape(4, 2, *x.shape[1:]) for x in batch]
        chex.assert_trees_all_close(one, four_devices(weight, *split), rtol=1e-5, atol=1e-5)


# Refusals


@LOSSES
def test_wrong_masks_are_refused(loss_fn):
    mean, std = gaussians()
    for where in (jnp.ones(8), jnp.ones(7, bool), jnp.ones((8, 1), bool)):
        with pytest.raises(AssertionError):
            loss_fn(mean, std, where)


def test_wrong_shapes_are_refused():
    x, where = jnp.ones((8, 3)), jnp.ones(8, bool)
    with pytest.raises(AssertionError):
        losses.distribution_info_nce(x, x, x[:, :2], x[:, :2], where, temperature=0.1)
    with pytest.raises(AssertionError):
        losses.point_info_nce(x, x[:4], where, temperature=0.1)
    with pytest.raises(AssertionError):
        losses.supervised_contrastive(x, jnp.zeros(8), where)
    with pytest.raises(AssertionError):
        losses.supervised_contrastive(x, jnp.zeros(7, int), where)
    with pytest.raises(AssertionError):
        losses.point_info_nce(x, x, where, temperature=jnp.ones(8))


def test_alignment_refuses_wrong_shapes():
    mean, std = gaussians(3)
    where = jnp.ones(8, bool)
    for wrong in (
        (mean[:, :1], std[:, :1], PRESENT[:, :1], where),
        (mean, std[:, :2], PRESENT, where),
        (mean, std, PRESENT[:, :2], where),
        (mean, std, PRESENT.astype(np.float32), where),
        (mean[:, 0], std[:, 0], PRESENT, where),
        (mean, std, PRESENT, where[:7]),
        (mean.astype(int), std.astype(int), PRESENT, where),
    ):
        with pytest.raises(AssertionError):
            losses.alignment(*map(jnp.asarray, wrong), temperature=0.1)
        if wrong[1].shape == wrong[0].shape:
            points, _, present, mask = map(jnp.asarray, wrong)
            with pytest.raises(AssertionError):
                losses.point_alignment(points, present, mask, temperature=0.1)
