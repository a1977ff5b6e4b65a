"""Gaussian heads: bounds, a numpy twin, the sample's moments and gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import randomize

from cmarr_jax.nn.gaussian import LinearHead, ResidualHead, sample, soft_bound
from cmarr_jax.types import GaussianEmbedding

TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
LINEAR, RESIDUAL = (head(min_log_std=-6.0, max_log_std=3.0) for head in (LinearHead, ResidualHead))
HEADS = pytest.mark.parametrize("head", [LINEAR, RESIDUAL], ids=["linear", "residual"])


def params_and_input(head, scale=0.3):
    x = jax.random.normal(jax.random.key(0), (5, 8))
    return randomize(jax.jit(head.init)(jax.random.key(1), x)["params"], scale=scale), x


@TRANSFORMS
def test_soft_bound(transform):
    bound = transform(lambda x: soft_bound(x, -6.0, 3.0))
    out = bound(jnp.array([-1e6, 0.0, 1e6]))
    np.testing.assert_allclose(out, [-6.0, -1.5, 3.0], rtol=1e-6)  # 0 lands in the middle
    x = jnp.linspace(-12, 9, 50)
    assert (jnp.diff(bound(x)) > 0).all()
    slopes = jax.vmap(jax.grad(bound))(jnp.array([-1e6, 0.0, 1e6]))
    np.testing.assert_allclose(slopes, [0.0, 1.0, 0.0], atol=1e-6)


@TRANSFORMS
def test_the_residual_head_equals_numpy(transform):
    params, x = params_and_input(RESIDUAL)
    out = transform(RESIDUAL.apply)({"params": params}, x)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(x, np.float64)
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    mlp = lambda layers, x: x + dense(layers["Dense_1"], gelu(dense(layers["Dense_0"], x)))
    shared = gelu(dense(weights["shared"], x))
    centred = shared - shared.mean(-1, keepdims=True)
    norm = weights["LayerNorm_0"]
    hidden = centred / np.sqrt(shared.var(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    mean = mlp(weights["mean_mlp"], x + dense(weights["mean"], hidden))
    raw = mlp(weights["log_std_mlp"], dense(weights["log_std"], hidden))
    np.testing.assert_allclose(out.mean, mean, atol=1e-4)
    np.testing.assert_allclose(out.log_std, -1.5 + 4.5 * np.tanh(raw / 4.5), atol=1e-4)


@TRANSFORMS
def test_the_linear_head_equals_numpy(transform):
    params, x = params_and_input(LINEAR)
    mean, log_std = transform(LINEAR.apply)({"params": params}, x)
    np.testing.assert_array_equal(mean, x)
    layer = {name: np.asarray(leaf, np.float64) for name, leaf in params["log_std"].items()}
    raw = np.asarray(x, np.float64) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(log_std, -1.5 + 4.5 * np.tanh(raw / 4.5), atol=1e-5)


def test_the_spread_of_a_linear_head_does_not_train_the_encoder():
    params, x = params_and_input(LINEAR)
    spread = lambda params, x: LINEAR.apply({"params": params}, x).log_std.sum()
    of_params, of_x = jax.grad(spread, argnums=(0, 1))(params, x)
    np.testing.assert_array_equal(of_x, 0)
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(of_params))


@HEADS
def test_log_std_stays_within_its_bounds_at_large_weights(head):
    params, x = params_and_input(head, scale=30.0)
    log_std = head.apply({"params": params}, x).log_std
    assert ((log_std >= -6) & (log_std <= 3)).all()
    assert log_std.min() < -5.9
    assert log_std.max() > 2.9


@HEADS
@pytest.mark.parametrize("factor", [0.0, 1e4])
def test_extreme_inputs_are_finite_with_their_gradients(head, factor):
    params, x = params_and_input(head)
    loss = lambda params, x: sum(jnp.sum(part**2) for part in head.apply({"params": params}, x))
    chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, factor * x))


@TRANSFORMS
def test_sample_has_the_moments_of_its_embedding(transform):
    mean, log_std = jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.5, 3.0]))
    many = GaussianEmbedding(*(jnp.tile(part[None], (20_000, 1)) for part in (mean, log_std)))
    points = transform(sample)(jax.random.key(0), many)
    # Five standard errors of the mean, 3 / sqrt(20000), and of the std, 1 / sqrt(40000).
    np.testing.assert_allclose(points.mean(0), mean, atol=5 * 0.0212)
    np.testing.assert_allclose(points.std(0), jnp.exp(log_std), rtol=5 * 0.005)


def test_sample_is_reparameterised():
    embedding = GaussianEmbedding(jnp.array([[1.0, -2.0, 0.0]]), jnp.array([[0.1, -1.0, 2.0]]))
    points, backward = jax.vjp(lambda e: sample(jax.random.key(3), e), embedding)
    (grad,) = backward(jnp.ones_like(points))
    np.testing.assert_array_equal(grad.mean, 1.0)
    np.testing.assert_allclose(grad.log_std, points - embedding.mean, rtol=1e-5, atol=1e-6)  # d / d log_std = std * eps


def test_sample_depends_on_its_key_only():
    embedding = GaussianEmbedding(jnp.zeros((4, 3)), jnp.zeros((4, 3)))
    first, again, other = (sample(jax.random.key(seed), embedding) for seed in (0, 0, 1))
    chex.assert_trees_all_equal(first, again)
    assert (first != other).all()
    assert len(np.unique(first)) == 12  # no noise shared by rows or dimensions


def test_sample_keeps_bfloat16():
    embedding = GaussianEmbedding(jnp.zeros((4, 3), jnp.bfloat16), jnp.zeros((4, 3), jnp.bfloat16))
    chex.assert_type(sample(jax.random.key(0), embedding), jnp.bfloat16)
