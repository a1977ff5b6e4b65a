"""Flow likelihood, squared error, and the masked mean that reduces every loss."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads
from loss_inputs import TRANSFORMS, normal

from cmarr_jax import losses

WHERE = np.array([True, False, True, True, False, True, False, False])


# masked_mean


@TRANSFORMS
def test_masked_mean_equals_twin(transform):
    values, where = normal(4, 3), np.random.default_rng(1).random((4, 3)) < 0.5
    out = transform(losses.masked_mean)(jnp.asarray(values), jnp.asarray(where))
    np.testing.assert_allclose(out, reference.masked_mean(values, where), rtol=1e-5)


@TRANSFORMS
def test_masked_mean_by_hand_with_nan_outside(transform):
    # By hand: (1 + 4) / 2; each counted value has the gradient 1/2.
    values, where = jnp.array([1.0, jnp.nan, 4.0, jnp.inf]), jnp.array([True, False, True, False])
    value, grad = transform(jax.value_and_grad(losses.masked_mean))(values, where)
    np.testing.assert_allclose(value, 2.5)
    np.testing.assert_allclose(grad, [0.5, 0.0, 0.5, 0.0])


def test_masked_mean_of_nothing_is_zero():
    value, grad = jax.value_and_grad(losses.masked_mean)(jnp.full((3,), jnp.nan), jnp.zeros(3, bool))
    assert value == 0.0
    np.testing.assert_array_equal(grad, 0.0)


def test_masked_mean_of_bfloat16_and_under_vmap():
    values, where = jnp.asarray(normal(3, 512)), jnp.asarray(normal(3, 512, seed=1) > 0)
    out = losses.masked_mean(values[0].astype(jnp.bfloat16) + 256, where[0])
    chex.assert_type(out, jnp.float32)
    np.testing.assert_allclose(out, 256, atol=1.0)  # a bfloat16 sum of these would stop growing
    expected = [reference.masked_mean(*row) for row in zip(values, where, strict=True)]
    np.testing.assert_allclose(jax.vmap(losses.masked_mean)(values, where), expected, rtol=1e-4)


def test_masked_mean_gradients():
    check_grads(lambda x: losses.masked_mean(x**2, jnp.asarray(WHERE)), (normal(8),), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("where", [WHERE, np.arange(8) == 0, np.zeros(8, bool)])
def test_masked_mean_shares_sum_to_the_mean(where):
    values = normal(8)
    share = partial(losses.masked_mean, axis_name="batch")
    shares = jax.pmap(share, "batch")(values.reshape(4, 2), where.reshape(4, 2))
    np.testing.assert_allclose(np.sum(shares), reference.masked_mean(values, where), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (jnp.ones(3), jnp.ones(2, bool)),
        (jnp.ones((3, 1)), jnp.ones(3, bool)),
        (jnp.ones(3), jnp.ones(3)),
        (jnp.ones(3, int), jnp.ones(3, bool)),
    ],
)
def test_masked_mean_refuses_wrong_arguments(values, where):
    with pytest.raises(AssertionError):
        losses.masked_mean(values, where)


# flow_nll_per_dim


@TRANSFORMS
def test_nll_equals_twin(transform):
    latent, log_det = normal(2, 4, 5), normal(2, 4, seed=1)
    out = transform(losses.flow_nll_per_dim)(jnp.asarray(latent), jnp.asarray(log_det))
    expected = [
        [reference.flow_nll_per_dim(*row) for row in zip(*rows, strict=True)]
        for rows in zip(latent, log_det, strict=True)
    ]
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_nll_by_hand():
    # By hand: x ~ N(1, 2^2) in one dimension at x = 3 through u = (x - 1) / 2: u = 1, log_det = -log 2, so
    # 1/2 + log(2 pi) / 2 + log 2 = 2.1120857.
    np.testing.assert_allclose(losses.flow_nll_per_dim(jnp.ones(1), jnp.array(-math.log(2.0))), 2.1120857, rtol=1e-6)


def test_nll_of_an_affine_flow_ignores_rotations():
    latent, log_det = normal(3, 4), jnp.zeros(3)
    rotation, _ = np.linalg.qr(normal(4, 4, seed=2))
    np.testing.assert_allclose(
        losses.flow_nll_per_dim(jnp.asarray(latent @ rotation), log_det),
        losses.flow_nll_per_dim(jnp.asarray(latent), log_det),
        rtol=1e-5,
    )


def test_nll_gradients():
    check_grads(losses.flow_nll_per_dim, (normal(3, 4), normal(3)), order=1, atol=1e-2, rtol=1e-2)
    grads = jax.grad(lambda u, d: jnp.sum(losses.flow_nll_per_dim(u, d)), (0, 1))(jnp.zeros((1, 4)), jnp.zeros(1))
    np.testing.assert_array_equal(grads[0], 0.0)
    np.testing.assert_allclose(grads[1], -0.25)


def test_nll_of_bfloat16_and_under_vmap():
    latent = jnp.asarray(normal(3, 2, 64), jnp.bfloat16)
    log_det = jnp.asarray(normal(3, 2), jnp.bfloat16)
    out = losses.flow_nll_per_dim(latent, log_det)
    chex.assert_type(out, jnp.float32)
    expected = losses.flow_nll_per_dim(latent.astype(jnp.float32), log_det.astype(jnp.float32))
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(losses.flow_nll_per_dim)(latent, log_det), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3, 5), ()])
def test_nll_refuses_wrong_shapes(shape):
    with pytest.raises(AssertionError):
        losses.flow_nll_per_dim(jnp.ones((4, 3, 5)), jnp.ones(shape))


# squared_error


@TRANSFORMS
def test_squared_error_equals_twin(transform):
    prediction, target = normal(8, 5), normal(8, 5, seed=1)
    out = transform(losses.squared_error)(*map(jnp.asarray, (prediction, target, WHERE)))
    expected = [reference.squared_error(p, t) if w else 0.0 for p, t, w in zip(prediction, target, WHERE, strict=True)]
    np.testing.assert_allclose(out.value, expected, rtol=1e-5)
    np.testing.assert_array_equal(out.valid, WHERE)


def test_squared_error_by_hand():
    # By hand: (1 + 9) / 2; the gradient of the mean over two dimensions is the difference, on both sides.
    loss = lambda p, t: jnp.sum(losses.squared_error(p, t, jnp.ones(1, bool)).value)
    value, grads = jax.value_and_grad(loss, (0, 1))(jnp.array([[1.0, 3.0]]), jnp.zeros((1, 2)))
    np.testing.assert_allclose(value, 5.0)
    np.testing.assert_allclose(grads[0], [[1.0, 3.0]])
    np.testing.assert_allclose(grads[1], [[-1.0, -3.0]])


def test_squared_error_is_symmetric_and_zero_for_equals():
    a, b = map(jnp.asarray, (normal(8, 5), normal(8, 5, seed=1)))
    where = jnp.asarray(WHERE)
    chex.assert_trees_all_equal(losses.squared_error(a, b, where), losses.squared_error(b, a, where))
    np.testing.assert_array_equal(losses.squared_error(a, a, where).value, 0.0)


def test_squared_error_gradients():
    loss = lambda p, t: losses.squared_error(p, t, jnp.asarray(WHERE)).value
    check_grads(loss, (normal(8, 3), normal(8, 3, seed=1)), order=1, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("where", [WHERE, np.zeros(8, bool)])
def test_squared_error_with_nan_in_masked_rows(where):
    hidden = ~where[:, None]
    args = [jnp.where(hidden, jnp.nan, normal(8, 5, seed=seed)) for seed in range(2)]

    def loss(prediction, target):
        out = losses.squared_error(prediction, target, jnp.asarray(where))
        return losses.masked_mean(out.value, out.valid)

    value, grads = jax.value_and_grad(loss, (0, 1))(*args)
    chex.assert_tree_all_finite((value, grads))
    np.testing.assert_array_equal(grads[0][~where], 0.0)


def test_squared_error_of_bfloat16_and_under_vmap():
    a, b = (jnp.asarray(normal(2, 4, 64, seed=seed), jnp.bfloat16) for seed in range(2))
    where = jnp.asarray(WHERE.reshape(2, 4))
    out = losses.squared_error(a, b, where)
    chex.assert_type(out.value, jnp.float32)
    expected = losses.squared_error(a.astype(jnp.float32), b.astype(jnp.float32), where)
    chex.assert_trees_all_close(out, expected, rtol=1e-6)
    chex.assert_trees_all_close(jax.vmap(losses.squared_error)(a, b, where), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "where"),
    [
        (jnp.ones((4, 2)), jnp.ones(4, bool)),
        (jnp.ones((1, 3)), jnp.ones(4, bool)),
        (jnp.ones((4, 3)), jnp.ones((4, 1), bool)),
        (jnp.ones((4, 3)), jnp.ones(4)),
    ],
)
def test_squared_error_refuses_wrong_arguments(target, where):
    with pytest.raises(AssertionError):
        losses.squared_error(jnp.ones((4, 3)), target, where)


@pytest.mark.parametrize("where", [WHERE, np.arange(8) < 3], ids=["mixed", "last_devices_padded"])
def test_four_devices_equal_one(where):
    x, target = normal(8, 5), normal(8, 5, seed=1)

    def loss(weight, x, target, where, axis_name=None):
        error = losses.squared_error(weight * x, target, where)
        nll = losses.flow_nll_per_dim(weight * x, jnp.full(len(x), 5.0) * jnp.log(weight))
        return losses.masked_mean(error.value, error.valid, axis_name=axis_name) + losses.masked_mean(
            nll, where, axis_name=axis_name
        )

    summed = lambda *x: jax.lax.psum(jax.value_and_grad(partial(loss, axis_name="batch"))(*x), "batch")
    mapped = jax.pmap(summed, "batch", in_axes=(None, 0, 0, 0), out_axes=None)
    four = mapped(0.7, *(a.reshape(4, 2, *a.shape[1:]) for a in (x, target, where)))
    one = jax.jit(jax.value_and_grad(loss))(0.7, x, target, where)
    chex.assert_trees_all_close(one, four, rtol=1e-5)
