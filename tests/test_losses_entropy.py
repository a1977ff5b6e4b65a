"""Entropies of diagonal Gaussians, and their floor."""

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


@TRANSFORMS
def test_entropy_equals_twin(transform):
    log_std = jnp.asarray(normal(2, 3, 5, seed=0))
    expected = [[reference.gaussian_entropy(row) for row in rows] for rows in log_std]
    np.testing.assert_allclose(transform(losses.gaussian_entropy)(log_std), expected, rtol=1e-5)


def test_entropy_by_hand():
    # By hand: one dimension with std 1 has log(2 pi e) / 2 = 1.4189385 nats; std 2 adds log 2.
    np.testing.assert_allclose(losses.gaussian_entropy(jnp.zeros((1,))), 1.4189385, rtol=1e-6)
    log_std = jnp.array([0.0, math.log(2.0)])
    np.testing.assert_allclose(losses.gaussian_entropy(log_std), 2 * 1.4189385 + 0.6931472, rtol=1e-6)


@TRANSFORMS
def test_entropy_floor_by_hand(transform):
    # By hand: std e^-1 in all dimensions has 1.4189385 - 1 nats per dimension, 0.5810615 below a floor of 1.
    log_std = jnp.stack([jnp.full((7,), -1.0), jnp.zeros((7,))])
    floor = transform(partial(losses.entropy_floor, floor_per_dim=1.0))
    np.testing.assert_allclose(floor(log_std), [0.5810615, 0.0], rtol=1e-5)
    grad = jax.grad(lambda x: jnp.sum(floor(x)))(log_std)
    np.testing.assert_allclose(grad, [[-1 / 7] * 7, [0.0] * 7], rtol=1e-5)


def test_entropy_floor_equals_twin_and_takes_a_traced_floor():
    log_std = jnp.asarray(normal(6, 4, seed=1))
    out = jax.jit(lambda x, floor: losses.entropy_floor(x, floor_per_dim=floor))(log_std, 1.5)
    np.testing.assert_allclose(out, [max(0, 1.5 - reference.gaussian_entropy(row) / 4) for row in log_std], rtol=1e-4)


def test_the_floor_is_one_number():
    with pytest.raises(AssertionError, match="floor_per_dim"):
        losses.entropy_floor(jnp.zeros((4, 3)), floor_per_dim=jnp.ones((5, 1)))


def test_entropy_ignores_the_order_of_dimensions():
    log_std = jnp.asarray(normal(6, 4, seed=1))
    np.testing.assert_allclose(
        losses.gaussian_entropy(log_std), losses.gaussian_entropy(log_std[:, ::-1]), rtol=1e-5, atol=1e-5
    )


def test_entropy_gradients():
    log_std = jnp.asarray(normal(3, 4, seed=2))
    check_grads(losses.gaussian_entropy, (log_std,), order=1, atol=1e-2, rtol=1e-2)
    check_grads(partial(losses.entropy_floor, floor_per_dim=9.0), (log_std,), order=1, atol=1e-2, rtol=1e-2)


def test_entropy_floor_with_nan_in_masked_rows():
    def loss(log_std):
        return losses.masked_mean(losses.entropy_floor(log_std, floor_per_dim=1.0), jnp.array([True, False]))

    value, grad = jax.value_and_grad(loss)(jnp.array([[-1.0, -1.0], [jnp.nan, jnp.nan]]))
    np.testing.assert_allclose(value, 0.5810615, rtol=1e-5)
    np.testing.assert_allclose(grad, [[-0.5, -0.5], [0.0, 0.0]])


def test_entropy_of_bfloat16_and_under_vmap():
    log_std = jnp.asarray(normal(2, 5, 64, seed=3)).astype(jnp.bfloat16)
    for entropy in (losses.gaussian_entropy, partial(losses.entropy_floor, floor_per_dim=2.0)):
        out = entropy(log_std)
        chex.assert_type(out, jnp.float32)
        np.testing.assert_allclose(out, entropy(log_std.astype(jnp.float32)), rtol=1e-6)
        np.testing.assert_allclose(out, jax.vmap(entropy)(log_std), rtol=1e-6)


def test_entropy_floor_on_four_devices_equals_one():
    log_std = jnp.asarray(normal(8, 3, seed=4))
    where = jnp.array([True, True, True, False, True, False, False, False])

    def loss(w, log_std, where, axis_name=None):
        return losses.masked_mean(losses.entropy_floor(w * log_std, floor_per_dim=1.5), where, axis_name=axis_name)

    summed = lambda *x: jax.lax.psum(jax.value_and_grad(partial(loss, axis_name="batch"))(*x), "batch")
    four = jax.pmap(summed, "batch", in_axes=(None, 0, 0), out_axes=None)
    chex.assert_trees_all_close(
        jax.value_and_grad(loss)(0.7, log_std, where),
        four(0.7, log_std.reshape(4, 2, 3), where.reshape(4, 2)),
        rtol=1e-5,
    )


def test_entropy_refuses_scalars_and_integers():
    for bad in (jnp.zeros(()), jnp.zeros((3,), int)):
        with pytest.raises(AssertionError):
            losses.gaussian_entropy(bad)
        with pytest.raises(AssertionError):
            losses.entropy_floor(bad, floor_per_dim=0.0)
