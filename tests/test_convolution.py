"""Convolutions: each form against numpy, the two against each other in values and gradients, on blocks and wholes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax.nn.convolution import WIDEST, conv_direct, conv_winograd

FORMS = pytest.mark.parametrize("form", [conv_direct, conv_winograd], ids=["direct", "winograd"])
WIDTHS = pytest.mark.parametrize("widths", [(3, 4, 5), (2,), (1, 5), (WIDEST,)], ids=str)


def inputs(num_frames, widths, rows=3, size=6, channels=2):
    keys = jax.random.split(jax.random.key(0), 1 + len(widths))
    frames = jax.random.normal(keys[0], (num_frames, rows, size))
    return frames, [jax.random.normal(key, (w, channels, size)) for key, w in zip(keys[1:], widths, strict=True)]


def by_numpy(frames, kernels):
    """Window by window, in float64."""
    frames, windows = np.asarray(frames, np.float64), []
    longer = np.pad(frames, ((0, 9), (0, 0), (0, 0)))
    for kernel in kernels:
        kernel = np.asarray(kernel, np.float64)
        cut = [longer[start : start + len(kernel)] for start in range(len(frames))]
        windows.append(np.stack([np.einsum("tnd,tcd->nc", window, kernel) for window in cut]))
    return np.concatenate(windows, axis=-1)


@FORMS
@WIDTHS
@pytest.mark.parametrize("num_frames", [1, 4, 7, 22])
def test_windows_equal_numpy(form, widths, num_frames):
    frames, kernels = inputs(num_frames, widths)
    (windows,) = form([frames], kernels)
    expected = by_numpy(frames, kernels)
    # Windows narrower than the rest of the frames are all there; one that begins too late may be missing.
    shown = min(len(windows), num_frames)
    assert shown >= max(num_frames - min(widths) + 1, 1)
    np.testing.assert_allclose(windows[:shown], expected[:shown], atol=2e-5)


@WIDTHS
def test_gradients_of_both_forms_are_equal(widths):
    frames, kernels = inputs(10, widths)
    whole = 10 - min(widths) + 1

    def loss(form):
        def value(frames, kernels):
            (windows,) = form([frames], kernels)
            return jnp.sum(jnp.sin(windows[:whole]))

        return jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(frames, kernels)

    chex.assert_trees_all_close(loss(conv_winograd), loss(conv_direct), rtol=2e-5, atol=5e-5)


@FORMS
@pytest.mark.parametrize("shape", [[(5, 3), (4, 1)], [(2, 3), (9, 2)], [(3, 3), (1, 2), (14, 1)]], ids=str)
def test_blocks_equal_the_whole_inside_them(form, shape):
    """`shape`: frames and rows of each block."""
    length = np.array([sum(t for t, n in shape if row < n) for row in range(3)])
    frames, kernels = inputs(int(length.max()), (3, 4))
    frames = jnp.where(np.arange(len(frames))[:, None, None] < length[None, :, None], frames, 0)
    starts = np.cumsum([0] + [t for t, _ in shape])
    windows = form([frames[a : a + t, :n] for a, (t, n) in zip(starts, shape, strict=False)], kernels)
    expected = by_numpy(frames, kernels)
    start = 0
    for block in windows:
        for row in range(block.shape[1]):
            inside = min(len(block), length[row] - 3 + 1 - start)  # windows of width 3 that begin here and are whole
            if inside > 0:
                cut = slice(start, start + inside)
                np.testing.assert_allclose(block[:inside, row], expected[cut, row], atol=2e-5)
        start += len(block)
    for row in range(3):  # none of them is missing
        there = sum(len(block) for block in windows if row < block.shape[1])
        assert there >= max(length[row] - 3 + 1, 1)


def test_winograd_rounds_to_a_digit_less_than_direct():
    # At the size of BERT-large features; the error is that of the sum over 5 x 1,024 terms of size one.
    frames, kernels = inputs(22, (3, 4, 5), size=1024)
    expected, scale = by_numpy(frames, kernels), np.sqrt(5 * 1024)
    errors = [
        np.abs(form([frames], kernels)[0][:18] - expected[:18]).max() / scale for form in (conv_direct, conv_winograd)
    ]
    assert errors[0] < 5e-6
    assert errors[1] < 5e-5
