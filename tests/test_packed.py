"""Packed frames: masks of the blocks, blocks joined to one array, and the maximum over the frames that count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax.data.packed import map_valid, valid_blocks, without_padding
from cmarr_jax.nn.blocks import masked_max_over_time, max_over_first_axis, unfold
from cmarr_jax.types import PackedFrames


def test_masks_of_blocks_by_hand():
    # Batch rows 0, 1, 2 have 1, 3 and 2 frames; the blocks hold them longest first: rows 1, 2, 0.
    packed = PackedFrames((jnp.ones((3, 1, 1)), jnp.ones((2, 2, 1))), jnp.array([1, 2, 0]))
    length = jnp.array([1, 3, 2])
    first, second = valid_blocks(packed, length)
    np.testing.assert_array_equal(first, [[True], [True], [True]])
    np.testing.assert_array_equal(second, [[True, True], [True, False]])
    shown = without_padding(packed._replace(blocks=(packed.blocks[0], packed.blocks[1].at[1, 1].set(jnp.nan))), length)
    np.testing.assert_array_equal(shown.blocks[1][..., 0], [[1, 1], [1, 0]])
    np.testing.assert_array_equal(shown.row, packed.row)


def test_padded_frames_stay_padded_frames():
    frames, length = jnp.full((2, 3, 1), 5.0), jnp.array([1, 3])
    doubled = map_valid(lambda block, valid: jnp.where(valid[..., None], 2 * block, -1.0), frames, length)
    np.testing.assert_array_equal(doubled[..., 0], [[10, -1, -1], [10, 10, 10]])


def test_unfold_fills_up_with_zeros():
    blocks = [jnp.ones((2, 3, 1)), 2 * jnp.ones((1, 1, 1))]
    np.testing.assert_array_equal(unfold(blocks)[..., 0], [[1, 1, 1], [1, 1, 1], [2, 0, 0]])


def test_masked_max_by_hand_with_gradient():
    frames = jnp.array([[[1.0, -5.0], [2.0, 2.0]], [[3.0, -4.0], [2.0, 2.0]], [[9.0, 9.0], [2.0, 2.0]]])
    count = jnp.array([[2], [0]])
    value, grad = jax.value_and_grad(lambda x: masked_max_over_time([x], count).sum())(frames)
    np.testing.assert_array_equal(masked_max_over_time([frames], count), [[3.0, -4.0], [0.0, 0.0]])
    assert value == -1.0
    np.testing.assert_array_equal(grad[:, 0], [[0, 0], [1, 1], [0, 0]])  # the largest frame that counts gets all of it
    assert not grad[:, 1].any()


def test_masked_max_counts_per_channel():
    frames = jnp.array([[[1.0, 1.0]], [[2.0, 2.0]], [[3.0, 3.0]]])
    np.testing.assert_array_equal(masked_max_over_time([frames], jnp.array([[1, 3]])), [[1.0, 3.0]])


def test_masked_max_of_the_lowest_values():
    np.testing.assert_array_equal(
        masked_max_over_time([jnp.full((2, 1, 1), -1e30)], jnp.array([[2]])), [[np.float32(-1e30)]]
    )


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_masked_max_of_blocks_equals_that_of_the_whole(cut):
    whole = jax.random.normal(jax.random.key(0), (4, 3, 5))
    count = jnp.array([[4], [1], [min(cut, 2)]])
    blocks = lambda x: [x[:cut], x[cut:, :1]]
    value, grad = jax.value_and_grad(lambda x: (masked_max_over_time(blocks(x), count) ** 2).sum())(whole)
    expected, expected_grad = jax.value_and_grad(lambda x: (masked_max_over_time([x], count) ** 2).sum())(whole)
    assert value == expected
    np.testing.assert_array_equal(grad, expected_grad)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.vmap], ids=["plain", "jit", "vmap"])
def test_max_over_first_axis_equals_max_in_value_and_gradient(transform):
    x = jax.random.normal(jax.random.key(0), (2, 7, 3, 5)).at[:, 3].set(2.0).at[:, 5].set(2.0)  # some are equal
    over_time = lambda f: transform(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(f(x)))))
    x = x if transform is jax.vmap else x[0]
    value, grad = over_time(max_over_first_axis)(x)
    expected, expected_grad = over_time(lambda x: jnp.max(x, axis=0))(x)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grad, expected_grad)


def test_max_over_first_axis_keeps_nan_and_infinity():
    x = jnp.array([[jnp.nan, 1.0, -jnp.inf, 1.0], [1.0, jnp.nan, -jnp.inf, jnp.inf], [2.0, 2.0, -jnp.inf, 3.0]])
    np.testing.assert_array_equal(max_over_first_axis(x), [jnp.nan, jnp.nan, -jnp.inf, jnp.inf])
