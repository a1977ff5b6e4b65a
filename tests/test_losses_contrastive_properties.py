"""What every contrastive loss must do: gradients, symmetries, masks and extreme inputs, types, devices, refusals."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_inputs import (
    LABELS,
    PRESENT,
    SUPERVISED,
    WHERE,
    aligned,
    aligned_points,
    decoupled,
    distribution,
    divergence,
    gaussians,
    normal,
    points,
    supervised,
)

from cmarr_jax import losses


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


@pytest.mark.parametrize("loss_fn", [distribution, divergence], ids=lambda f: f.__name__)
@pytest.mark.parametrize("offset", [100.0, 300.0])
def test_masked_rows_cost_no_precision(loss_fn, offset):
    """A common offset of all means changes no distance; half of the rows do not count."""
    mean, std = gaussians(num=64)
    where = np.arange(len(mean)) % 2 == 0
    expected = reduced(loss_fn)(mean[where], std[where], np.ones(where.sum(), bool), {})
    np.testing.assert_allclose(reduced(loss_fn)(mean + offset, std, where, {}), expected, rtol=2e-5)


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
