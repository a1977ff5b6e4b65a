"""Blocks of frames: unfolding, and the maximum over the frames that count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax.staircase import highest, unfold


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
