"""Distances of diagonal Gaussians."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads
from loss_inputs import TRANSFORMS, normal

from cmarr_jax import losses

PAIRWISE = (losses.pairwise_squared_w2, losses.pairwise_squared_mean_distance, losses.pairwise_symmetric_kl)
DISTANCES = pytest.mark.parametrize("distance", [losses.squared_w2, *PAIRWISE], ids=lambda f: f.__name__)
PAIRWISE_DISTANCES = pytest.mark.parametrize("distance", PAIRWISE, ids=lambda f: f.__name__)


def gaussians(num_a=5, num_b=4, dim=3, seed=0, dtype=jnp.float32):
    rows = (num_a, num_a, num_b, num_b)
    mean_a, log_a, mean_b, log_b = (normal(rows[i], dim, seed=(seed, i)) for i in range(4))
    return tuple(jnp.asarray(x, dtype) for x in (mean_a, np.exp(0.3 * log_a), mean_b, np.exp(0.3 * log_b)))


@TRANSFORMS
def test_squared_w2_equals_twin(transform):
    args = gaussians(4, 4)
    expected = [reference.squared_w2(*row) for row in zip(*args, strict=True)]
    np.testing.assert_allclose(transform(losses.squared_w2)(*args), expected, rtol=1e-5)


@PAIRWISE_DISTANCES
@TRANSFORMS
def test_pairwise_equals_twin(distance, transform):
    args = gaussians()
    out = transform(distance)(*args)
    chex.assert_shape(out, (5, 4))
    np.testing.assert_allclose(out, getattr(reference, distance.__name__)(*args), rtol=1e-5)


def test_by_hand():
    # By hand: means differ by (3, 4), so 25; standard deviations by (1, 2), so 5.
    args = [jnp.array([row], jnp.float32) for row in ([0, 0], [1, 1], [3, 4], [2, 3])]
    np.testing.assert_allclose(losses.squared_w2(*args), [30.0], rtol=1e-6)
    np.testing.assert_allclose(losses.pairwise_squared_w2(*args), [[30.0]], rtol=1e-6)
    np.testing.assert_allclose(losses.pairwise_squared_mean_distance(*args), [[25.0]], rtol=1e-6)


def test_symmetric_kl_by_hand():
    # By hand, one dimension. Equal stds s: ||difference||^2 / (2 s^2), 9 / 8. Equal means, variances 1 and 4: the logs
    # cancel and (4 + 1/4) / 4 - 1/2 = 0.5625 remains.
    args = [jnp.array(rows) for rows in ([[0.0], [0.0]], [[2.0], [1.0]], [[3.0], [0.0]], [[2.0], [2.0]])]
    out = losses.pairwise_symmetric_kl(*args)
    np.testing.assert_allclose([out[0, 0], out[1, 1]], [9 / 8, 0.5625], rtol=1e-5)
    # Wide and narrow, means apart: variances 1 and 4, 9 (1 + 1/4) / 4 more.
    np.testing.assert_allclose(out[1, 0], 0.5625 + 9 * 1.25 / 4, rtol=1e-5)


@PAIRWISE_DISTANCES
def test_pairwise_is_symmetric_and_shift_invariant(distance):
    mean_a, std_a, mean_b, std_b = gaussians()
    out = distance(mean_a, std_a, mean_b, std_b)
    np.testing.assert_allclose(out, distance(mean_b, std_b, mean_a, std_a).T, rtol=1e-5)
    np.testing.assert_allclose(out, distance(mean_a + 8, std_a, mean_b + 8, std_b), rtol=1e-4)


def test_symmetric_kl_ignores_the_scale_of_a_dimension():
    args, scale = gaussians(), jnp.array([[0.01, 1.0, 300.0]])
    out, scaled = losses.pairwise_symmetric_kl(*args), losses.pairwise_symmetric_kl(*(x * scale for x in args))
    np.testing.assert_allclose(out, scaled, rtol=1e-5)


def test_the_mean_distance_does_not_read_the_std():
    mean_a, std_a, mean_b, std_b = gaussians()
    distance = jax.jit(jax.value_and_grad(lambda *x: jnp.sum(losses.pairwise_squared_mean_distance(*x)), (0, 1, 2, 3)))
    value, grads = distance(mean_a, jnp.full_like(std_a, jnp.nan), mean_b, jnp.full_like(std_b, jnp.inf))
    expected, expected_grads = distance(mean_a, std_a, mean_b, std_b)
    chex.assert_trees_all_equal((value, *grads), (expected, *expected_grads))
    np.testing.assert_array_equal(grads[1], 0.0)
    np.testing.assert_array_equal(grads[3], 0.0)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_pairwise_stays_accurate_at_training_size(offset):
    # The bound of the docstring: 1e-6 of the squared norms, which are about 2 * 256 here, whatever the offset.
    mean_a, std_a, mean_b, std_b = gaussians(64, 64, 128)
    args = mean_a + offset, std_a, mean_b + offset, std_b
    twin = jax.vmap(jax.vmap(losses.squared_w2, (None, None, 0, 0)), (0, 0, None, None))
    np.testing.assert_allclose(losses.pairwise_squared_w2(*args), twin(*args), atol=1e-3, rtol=0)


@pytest.mark.parametrize("spread", [1.0, 0.3, 0.05])
def test_symmetric_kl_stays_accurate_at_training_size(spread):
    # The bound of the docstring: 1e-6 of the largest values. Rows of `b` are near those of `a`: small values as well.
    mean, log_a, near, log_b = (normal(64, 128, seed=(7, i)) for i in range(4))
    args = mean, spread * np.exp(0.3 * log_a), mean + 0.3 * spread * near, spread * np.exp(0.3 * log_b)
    expected = reference.pairwise_symmetric_kl(*(x[:4] for x in args))
    out = losses.pairwise_symmetric_kl(*args)
    np.testing.assert_allclose(out[:4, :4], expected, rtol=0, atol=1e-6 * float(out.max()))


@pytest.mark.parametrize("std", [1e-9, 1e-4, 1e4, 1e9])
def test_symmetric_kl_of_extreme_stds_is_finite(std):
    mean_a, std_a, mean_b, std_b = gaussians()
    distance = jax.jit(jax.value_and_grad(lambda *x: jnp.sum(losses.pairwise_symmetric_kl(*x)), (0, 1, 2, 3)))
    chex.assert_tree_all_finite(distance(mean_a, std_a * std, mean_b, std_b * std))
    chex.assert_tree_all_finite(distance(mean_a, std_a * std, mean_b, std_b))


@PAIRWISE_DISTANCES
def test_pairwise_shows_nan(distance):
    mean_a, std_a, mean_b, std_b = gaussians()
    out = distance(mean_a.at[1].set(jnp.nan), std_a, mean_b, std_b)
    np.testing.assert_array_equal(jnp.isnan(out), np.arange(5)[:, None] == [[1, 1, 1, 1]])


@DISTANCES
def test_gradients(distance):
    check_grads(jax.jit(distance), gaussians(4, 4), order=1, modes=["fwd", "rev"], atol=2e-2, rtol=2e-2)


@PAIRWISE_DISTANCES
def test_pairwise_gradient_equals_that_of_differences(distance):
    args = gaussians(6, 6, 16)
    weight = jnp.asarray(normal(6, 6, seed=9))

    def differences(*args):
        mean_a, std_a, mean_b, std_b = (x[:, None] if i < 2 else x[None] for i, x in enumerate(args))
        terms = {
            losses.pairwise_squared_w2: (mean_a - mean_b) ** 2 + (std_a - std_b) ** 2,
            losses.pairwise_squared_mean_distance: (mean_a - mean_b) ** 2,
            losses.pairwise_symmetric_kl: (std_a / std_b - std_b / std_a) ** 2 / 4
            + (mean_a - mean_b) ** 2 * (std_a**-2 + std_b**-2) / 4,
        }
        return jnp.sum(terms[distance], axis=-1)

    grad = lambda f: jax.jit(jax.grad(lambda *x: jnp.sum(weight * f(*x)), (0, 1, 2, 3)))
    chex.assert_trees_all_close(grad(distance)(*args), grad(differences)(*args), atol=1e-4, rtol=1e-4)


@DISTANCES
@TRANSFORMS
def test_equal_gaussians_have_distance_and_gradient_zero(distance, transform):
    mean, std, _, _ = gaussians(1, 1, 128)
    value, grads = transform(jax.value_and_grad(lambda *x: jnp.sum(distance(*x)), (0, 1, 2, 3)))(mean, std, mean, std)
    np.testing.assert_allclose(value, 0.0, atol=1e-4)
    for grad in grads:
        np.testing.assert_allclose(grad, 0.0, atol=1e-4)


@PAIRWISE_DISTANCES
def test_pairwise_is_never_negative(distance):
    mean, std, _, _ = gaussians(32, 1, 128)
    args = mean * 1e-3 + 5, std, mean * 1e-3 + 5, std
    value_and_grad = jax.value_and_grad(lambda *x: jnp.min(distance(*x)), (0, 1, 2, 3))
    value, grads = jax.jit(value_and_grad)(*args)
    assert value >= 0
    chex.assert_tree_all_finite(grads)


@DISTANCES
def test_distances_of_bfloat16_are_float32(distance):
    args, distance = gaussians(4, 4, 16, dtype=jnp.bfloat16), jax.jit(distance)
    out = distance(*args)
    chex.assert_type(out, jnp.float32)
    np.testing.assert_allclose(out, distance(*(x.astype(jnp.float32) for x in args)), rtol=1e-6)
    grads = jax.grad(lambda *x: jnp.sum(distance(*x)), (0, 1, 2, 3))(*args)
    chex.assert_type(grads, jnp.bfloat16)
    chex.assert_tree_all_finite(grads)


@DISTANCES
def test_distances_under_vmap(distance):
    args = gaussians(6, 6, 4)
    stacked, distance = tuple(x.reshape(2, 3, 4) for x in args), jax.jit(distance)
    expected = jnp.stack([distance(*(x[i] for x in stacked)) for i in range(2)])
    np.testing.assert_allclose(jax.vmap(distance)(*stacked), expected, rtol=1e-5, atol=1e-6)


@PAIRWISE_DISTANCES
def test_distances_on_four_devices_equal_one(distance):
    # A distance needs no other device: the rows of `a` are split, `b` is whole.
    mean_a, std_a, mean_b, std_b = gaussians(8, 8)

    def loss(w, mean_a, std_a):
        return jnp.sum(distance(mean_a * w, std_a, mean_b, std_b)) / 64

    summed = lambda *x: jax.lax.psum(jax.value_and_grad(loss)(*x), "batch")
    mapped = jax.pmap(summed, "batch", in_axes=(None, 0, 0), out_axes=None)
    one = jax.jit(jax.value_and_grad(loss))(1.5, mean_a, std_a)
    four = mapped(1.5, mean_a.reshape(4, 2, 3), std_a.reshape(4, 2, 3))
    chex.assert_trees_all_close(one, four, rtol=1e-5)


@pytest.mark.parametrize(
    ("distance", "shapes"),
    [
        (losses.squared_w2, [(4, 3), (4, 3), (4, 3), (4, 2)]),
        (losses.squared_w2, [(4, 3), (4, 3), (1, 3), (1, 3)]),
        *((distance, [(4, 3), (4, 3), (5, 2), (5, 2)]) for distance in PAIRWISE),
        *((distance, [(4, 3), (1, 3), (5, 3), (5, 3)]) for distance in PAIRWISE),
        *((distance, [(3,), (3,), (3,), (3,)]) for distance in PAIRWISE),
    ],
)
def test_distances_refuse_wrong_shapes(distance, shapes):
    with pytest.raises(AssertionError):
        distance(*(jnp.ones(shape) for shape in shapes))


@DISTANCES
def test_distances_refuse_integers(distance):
    with pytest.raises(AssertionError):
        distance(*[jnp.ones((2, 3), int)] * 4)
