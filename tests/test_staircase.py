"""Blocks of frames: unfolding, and the maximum over the frames that count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax.staircase import highest, largest, unfold


def test_unfold_fills_up_with_zeros():
    blocks = [jnp.ones((2, 3, 1)), 2 * jnp.ones((1, 1, 1))]
    np.testing.assert_array_equal(unfold(blocks)[..., 0], [[1, 1, 1], [1, 1, 1], [2, 0, 0]])


def test_highest_by_hand_with_gradient():
    frames = jnp.array([[[1.0, -5.0], [2.0, 2.0]], [[3.0, -4.0], [2.0, 2.0]], [[9.0, 9.0], [2.0, 2.0]]])
    count = jnp.array([[2], [0]])
    value, grad = jax.value_and_grad(lambda x: highest([x], count).sum())(frames)
    np.testing.assert_array_equal(highest([frames], count), [[3.0, -4.0], [0.0, 0.0]])
    assert value == -1.0
    np.testing.assert_array_equal(grad[:, 0], [[0, 0], [1, 1], [0, 0]])  # the largest frame that counts gets all of it
    assert not grad[:, 1].any()


def test_highest_counts_per_channel():
    frames = jnp.array([[[1.0, 1.0]], [[2.0, 2.0]], [[3.0, 3.0]]])
    np.testing.assert_array_equal(highest([frames], jnp.array([[1, 3]])), [[1.0, 3.0]])


def test_highest_of_the_lowest_values():
    np.testing.assert_array_equal(highest([jnp.full((2, 1, 1), -1e30)], jnp.array([[2]])), [[np.float32(-1e30)]])


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_highest_of_blocks_equals_that_of_the_whole(cut):
    whole = jax.random.normal(jax.random.key(0), (4, 3, 5))
    count = jnp.array([[4], [1], [min(cut, 2)]])
    blocks = lambda x: [x[:cut], x[cut:, :1]]
    value, grad = jax.value_and_grad(lambda x: (highest(blocks(x), count) ** 2).sum())(whole)
    expected, expected_grad = jax.value_and_grad(lambda x: (highest([x], count) ** 2).sum())(whole)
    assert value == expected
    np.testing.assert_array_equal(grad, expected_grad)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"])
def test_largest_equals_max_in_value_and_gradient(transform):
    x = jax.random.normal(jax.random.key(0), (2, 7, 3, 5)).at[:, 3].set(2.0).at[:, 5].set(2.0)  # some are equal
    over_time = lambda f: transform(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(f(x)))))
    x = x if transform is jax.vmap else x[0]
    value, grad = over_time(largest)(x)
    expected, expected_grad = over_time(lambda x: jnp.max(x, axis=0))(x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grad, expected_grad)


def test_largest_keeps_nan_and_infinity():
    x = jnp.array([[jnp.nan, 1.0, -jnp.inf, 1.0], [1.0, jnp.nan, -jnp.inf, jnp.inf], [2.0, 2.0, -jnp.inf, 3.0]])
    np.testing.assert_array_equal(largest(x), [jnp.nan, jnp.nan, -jnp.inf, jnp.inf])
