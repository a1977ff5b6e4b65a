"""Encoders: padding and batch mates change nothing, a numpy twin of the convolution, short and empty utterances."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import randomize, run_config

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.packed import valid_frames
from cmarr_jax.nn.encoders import ConvEncoder, LstmEncoder, VectorEncoder, make_encoder, orthogonal

SEQUENCE = {
    "lstm": LstmEncoder(8),
    "lstm_attention": LstmEncoder(8, attention=True),
    "conv": ConvEncoder(8, channels=4, widths=(2, 3, 5)),
}
ENCODERS = pytest.mark.parametrize("name", SEQUENCE)
LENGTH = jnp.array([6, 1, 4, 2])  # the longest fills the frames, some are shorter than a kernel


@functools.cache
def setup(name):
    """Encoder as a jitted function, parameters away from their start, frames with random padding."""
    module = SEQUENCE[name]
    frames = jax.random.normal(jax.random.key(0), (len(LENGTH), 6, 3))
    params = randomize(jax.jit(module.init)(jax.random.key(1), frames, LENGTH)["params"])
    encode = jax.jit(lambda params, frames, length: module.apply({"params": params}, frames, length))
    return encode, params, frames


@ENCODERS
def test_longer_padding_changes_nothing(name):
    encode, params, frames = setup(name)
    longer = jnp.concatenate([frames, jnp.full((len(frames), 5, 3), 7.0)], axis=1)
    chex.assert_shape(encode(params, frames, LENGTH), (4, 8))
    chex.assert_trees_all_close(encode(params, longer, LENGTH), encode(params, frames, LENGTH), atol=1e-6)


@ENCODERS
def test_what_the_padding_holds_changes_nothing(name):
    encode, params, frames = setup(name)
    inside = valid_frames(LENGTH, 6)[..., None]
    zeros, garbage = (encode(params, jnp.where(inside, frames, fill), LENGTH) for fill in (0.0, 1e3))
    chex.assert_trees_all_equal(garbage, zeros)


@ENCODERS
def test_nan_in_the_padding_changes_nothing(name):
    encode, params, frames = setup(name)
    poisoned = jnp.where(valid_frames(LENGTH, 6)[..., None], frames, jnp.nan)
    chex.assert_trees_all_equal(encode(params, poisoned, LENGTH), encode(params, frames, LENGTH))


@ENCODERS
def test_padding_gets_no_gradient(name):
    encode, params, frames = setup(name)
    grad = jax.grad(lambda frames: jnp.sum(encode(params, frames, LENGTH) ** 2))(frames)
    assert not jnp.where(valid_frames(LENGTH, 6)[..., None], 0.0, grad).any()
    assert np.abs(grad).sum() > 0


@ENCODERS
def test_batch_mates_change_nothing(name):
    encode, params, frames = setup(name)
    out = encode(params, frames, LENGTH)
    for row in range(len(LENGTH)):
        alone = encode(params, frames[row : row + 1], LENGTH[row : row + 1])
        chex.assert_trees_all_close(alone[0], out[row], atol=1e-6)


@ENCODERS
def test_valid_frames_count(name):
    encode, params, frames = setup(name)
    out, changed = encode(params, frames, LENGTH), encode(params, frames.at[:, 0].add(3.0), LENGTH)
    assert (np.abs(out - changed).max(axis=1) > 1e-4).all()


@ENCODERS
def test_length_zero_is_finite_with_its_gradient(name):
    encode, params, frames = setup(name)
    length = jnp.array([0, 3, 0, 1])
    out = encode(params, frames, length)
    grads = jax.grad(lambda *x: jnp.sum(encode(*x, length) ** 2), argnums=(0, 1))(params, frames)
    chex.assert_tree_all_finite((out, grads))
    chex.assert_trees_all_equal(out[0], out[2])  # it depends on no frame
    if name.startswith("lstm"):
        assert not out[0].any()


@pytest.mark.parametrize("length", [1, 2, 4, 6])
def test_convolution_equals_numpy(length):
    encode, params, frames = setup("conv")
    out = encode(params, frames, jnp.full(4, length))
    weights = jax.tree.map(np.asarray, params)
    for row in range(4):
        pooled = []
        for width in (2, 3, 5):
            utterance = np.zeros((max(length, width), 3))  # one shorter than the window is filled up with zeros
            utterance[:length] = frames[row, :length]
            windows = [utterance[start : start + width] for start in range(len(utterance) - width + 1)]
            of_window = lambda window, kernel=weights[f"kernel_{width}"]: np.einsum("td,tcd->c", window, kernel)
            pooled.append(np.max([*map(of_window, windows)], axis=0))
        features = np.maximum(np.concatenate(pooled) + weights["bias"], 0)
        expected = np.maximum(features @ weights["output"]["kernel"] + weights["output"]["bias"], 0)
        np.testing.assert_allclose(out[row], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "vector"])
def test_dropout_only_in_training(kind):
    encoder = make_encoder(ModalityConfig("x", 3, kind), run_config().encoders)
    x = jnp.ones((4, 6, 3) if kind == "conv" else (4, 3))
    params = randomize(encoder.init(jax.random.key(0), x, LENGTH)["params"])
    apply = lambda key: encoder.apply({"params": params}, x, LENGTH, dropout=0.5, rngs={"dropout": key})
    still = [encoder.apply({"params": params}, x, LENGTH) for _ in range(2)]
    chex.assert_trees_all_equal(*still)
    first, second = apply(jax.random.key(0)), apply(jax.random.key(1))
    assert np.abs(first - second).max() > 0
    chex.assert_trees_all_equal(first, apply(jax.random.key(0)))


def test_make_encoder_by_kind():
    config = run_config(frame_attention=True, attention_heads=2).encoders
    kinds = {"lstm": LstmEncoder, "conv": ConvEncoder, "vector": VectorEncoder}
    made = {kind: make_encoder(ModalityConfig("x", 3, kind), config) for kind in kinds}
    assert all(isinstance(made[kind], kinds[kind]) for kind in kinds)
    assert made["lstm"].attention
    assert made["lstm"].heads == 2
    with pytest.raises(ValueError, match="encoder of modality 'x' must be one of"):
        ModalityConfig("x", 3, "gru")


def test_wrong_ranks_raise():
    for name in SEQUENCE:
        with pytest.raises(AssertionError):
            SEQUENCE[name].init(jax.random.key(0), jnp.ones((4, 3)), LENGTH)
    with pytest.raises(AssertionError):
        VectorEncoder(8).init(jax.random.key(0), jnp.ones((4, 6, 3)))


@pytest.mark.parametrize("size", [1, 2, 32, 128])
def test_orthogonal_is_orthogonal_and_has_no_preferred_direction(size):
    keys = jax.random.split(jax.random.key(0), 30)
    matrices = np.asarray(jax.jit(jax.vmap(lambda key: orthogonal(key, (size, size))))(keys))
    np.testing.assert_allclose(matrices @ matrices.swapaxes(1, 2), np.tile(np.eye(size), (30, 1, 1)), atol=1e-5)
    # Entries of a uniform one have mean 0 and variance 1 / size; standard errors of their means over 30 matrices.
    assert abs(matrices.mean()) < 4 / np.sqrt(30 * size**3)
    if size == 2:
        assert 0.1 < (np.linalg.det(matrices) > 0).mean() < 0.9


@pytest.mark.parametrize("kind", ["lstm", "conv"])
def test_bfloat16_encoders_are_near_float32_ones_and_leave_the_rest_float32(kind):
    frames = jax.random.normal(jax.random.key(0), (5, 6, 7))
    length = jnp.array([6, 1, 3, 0, 5])
    outs, grads = [], []
    for dtype in ("float32", "bfloat16"):
        encoder = make_encoder(ModalityConfig("x", 7, kind), run_config(dtype=dtype).encoders)
        params = encoder.init(jax.random.key(1), frames, length)
        chex.assert_type(jax.tree.leaves(params), jnp.float32)
        loss = lambda params, encoder=encoder: jnp.sum(encoder.apply(params, frames, length) ** 2)
        outs.append(encoder.apply(params, frames, length))
        grads.append(jax.grad(loss)(params))
    chex.assert_type(outs, jnp.float32)
    assert (outs[0] != outs[1]).any()
    np.testing.assert_allclose(outs[1], outs[0], atol=0.05)  # bfloat16 has 8 bits
    # Relative to each gradient, so that a zero one fails: largest entries are 0.12 to 7.8, errors were 0.16 to 0.39 %.
    norm = lambda x: float(jnp.sqrt(jnp.sum(x**2)))
    errors = jax.tree.map(lambda rough, exact: norm(rough - exact) / norm(exact), grads[1], grads[0])
    assert max(jax.tree.leaves(errors)) < 0.006, errors
