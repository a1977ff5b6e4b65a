"""The LSTM's own backward pass against automatic differentiation of a plain scan."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cmarr_jax.nn import recurrence

TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])


def lstm(frames, *weights):
    """All frames as one block."""
    return recurrence.lstm((frames,), *weights)[0]


def plain_lstm(frames, input_kernel, bias, recurrent_kernel):
    """The same cell, differentiated by JAX."""

    def step(carry, frame):
        hidden, cell = carry
        i, f, g, o = jnp.split(frame @ input_kernel + bias[None] + hidden @ recurrent_kernel, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zeros = jnp.zeros((frames.shape[1], recurrent_kernel.shape[0]), frames.dtype)
    return jax.lax.scan(step, (zeros, zeros), frames)[1]


def inputs(num_frames=6, batch=3, size=4, width=5, seed=0, dtype=jnp.float32):
    shapes = [(num_frames, batch, width), (width, 4 * size), (4 * size,), (size, 4 * size)]
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return tuple(jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))


@TRANSFORMS
@pytest.mark.parametrize("num_frames", [1, 6])
def test_values_and_gradients_equal_a_plain_scan(transform, num_frames):
    args = inputs(num_frames)
    out, backward = jax.vjp(transform(lstm), *args)
    expected, plain_backward = jax.vjp(plain_lstm, *args)
    chex.assert_shape(out, (num_frames, 3, 4))
    chex.assert_trees_all_close(out, expected, atol=1e-6)
    cotangent = jax.random.normal(jax.random.key(1), out.shape)
    chex.assert_trees_all_close(backward(cotangent), plain_backward(cotangent), atol=1e-5, rtol=1e-5)


@TRANSFORMS
@pytest.mark.parametrize("shape", [[(6, 3)], [(2, 3), (3, 2), (1, 1)], [(1, 3), (4, 3), (1, 1)]], ids=str)
def test_blocks_equal_the_whole_inside_them(transform, shape):
    # Outside the blocks the whole has frames too; nothing of them may reach what is inside, and they get no gradient.
    whole, *weights = inputs()
    starts = [sum(frames for frames, _ in shape[:k]) for k in range(len(shape))]
    cut = lambda x: tuple(x[start : start + frames, :rows] for start, (frames, rows) in zip(starts, shape, strict=True))
    out, backward = jax.vjp(lambda whole, *weights: transform(recurrence.lstm)(cut(whole), *weights), whole, *weights)
    expected, plain_backward = jax.vjp(lambda *args: cut(plain_lstm(*args)), whole, *weights)
    chex.assert_trees_all_close(out, expected, atol=1e-6)
    cotangent = cut(jax.random.normal(jax.random.key(1), (6, 3, 4)))
    chex.assert_trees_all_close(backward(cotangent), plain_backward(cotangent), atol=1e-5, rtol=1e-5)


def test_one_step_by_hand():
    # Zero kernels and one unit: cell = sigmoid(i) tanh(g), hidden = sigmoid(o) tanh(cell), the order i, f, g, o.
    bias = np.array([0.3, -2.0, 0.7, 1.1])
    i, _, g, o = bias  # the cell starts at zero: there is nothing to forget
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    expected = sigmoid(o) * np.tanh(sigmoid(i) * np.tanh(g))
    out = lstm(jnp.ones((1, 1, 2)), jnp.zeros((2, 4)), jnp.asarray(bias, jnp.float32), jnp.zeros((1, 4)))
    np.testing.assert_allclose(out, [[[expected]]], rtol=1e-6)


def test_check_grads():
    check_grads(lstm, inputs(4, 2, 3), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_vmap_over_all_arguments():
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(inputs(seed=seed) for seed in range(3)))
    out = jax.vmap(lstm)(*stacked)
    gradient = jax.grad(lambda *args: jnp.sum(lstm(*args) ** 2), argnums=(0, 1, 2, 3))
    grads = jax.vmap(gradient)(*stacked)
    for index in range(3):
        one = inputs(seed=index)
        chex.assert_trees_all_close(out[index], lstm(*one), atol=1e-6)
        expected = gradient(*one)
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=index: x[i], grads), expected, atol=1e-5)


def test_bfloat16_products_float32_states():
    args = inputs(dtype=jnp.bfloat16)
    out, backward = jax.vjp(lstm, *args)
    chex.assert_type([out, *backward(out)], [jnp.float32] + 4 * [jnp.bfloat16])
    wide = plain_lstm(*(x.astype(jnp.float32) for x in args))
    np.testing.assert_allclose(out, wide, atol=0.05)  # bfloat16 has 8 bits: 0.004 a step


@pytest.mark.parametrize("garbage", [1e3, jnp.nan])
def test_later_frames_change_nothing_before(garbage):
    frames, *weights = inputs()
    changed = frames.at[4:].set(garbage)
    chex.assert_trees_all_equal(lstm(changed, *weights)[:4], lstm(frames, *weights)[:4])


def test_later_frames_get_no_gradient_from_earlier_outputs():
    frames, *weights = inputs()
    early = lambda *args: jnp.sum(lstm(*args)[:4] ** 2)
    grad_frames, *grads = jax.grad(early, argnums=(0, 1, 2, 3))(frames, *weights)
    assert not grad_frames[4:].any()
    short = lambda *weights: jnp.sum(plain_lstm(frames[:4], *weights) ** 2)
    chex.assert_trees_all_close(tuple(grads), jax.grad(short, argnums=(0, 1, 2))(*weights), atol=1e-5)


def test_saturated_gates_are_finite():
    frames, *weights = inputs()
    value, grads = jax.value_and_grad(lambda *x: lstm(*x).sum(), argnums=(0, 1, 2, 3))(1e4 * frames, *weights)
    chex.assert_tree_all_finite((value, grads))


def test_wrong_shapes_raise():
    frames, input_kernel, bias, recurrent_kernel = inputs()
    for args in [
        (frames[0], input_kernel, bias, recurrent_kernel),
        (frames[..., :-1], input_kernel, bias, recurrent_kernel),
        (frames, input_kernel[:, :-1], bias, recurrent_kernel),
        (frames, input_kernel, bias[:-1], recurrent_kernel),
        (frames, input_kernel, bias, recurrent_kernel[:-1]),
        (frames, input_kernel, bias, recurrent_kernel.T),
    ]:
        with pytest.raises(AssertionError):
            lstm(*args)
