"""The laws of each flow of a registry: inverse, log-determinant, identity at the start, every dimension moves."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import randomize

from cmarr_jax.nn.flow import RealNVP, call_and_detached_copy, per_modality

FLOWS = {
    "even": RealNVP(size=6, num_layers=4, hidden=8),
    "odd": RealNVP(size=7, num_layers=2, hidden=8),
    "smallest": RealNVP(size=2, num_layers=2, hidden=8),
    "tight": RealNVP(size=5, num_layers=2, hidden=8, log_scale_bound=0.1),
    "default_depth": RealNVP(size=8, hidden=8),
}
EACH = pytest.mark.parametrize("name", FLOWS)
SMALL, LARGE = 0.1, 0.8  # standard deviation of random weights
SCALES = pytest.mark.parametrize("scale", [SMALL, LARGE])


@functools.cache
def setup(name):
    """Points `[9, D]`, initial parameters, and both directions, jitted."""
    flow = FLOWS[name]
    x = jax.random.normal(jax.random.key(0), (9, flow.size))
    params = jax.jit(flow.init)(jax.random.key(1), x)["params"]
    to_latent = jax.jit(lambda params, x: flow.apply({"params": params}, x, method="to_latent"))
    from_latent = jax.jit(lambda params, u: flow.apply({"params": params}, u, method="from_latent"))
    return x, params, to_latent, from_latent


@functools.cache
def jacobian_of(name):
    """Autodiff Jacobian of `to_latent` at each point, `(x, params) -> [9, D, D]`, jitted."""
    to_latent = setup(name)[2]
    return jax.jit(jax.vmap(jax.jacfwd(lambda row, params: to_latent(params, row)[0]), in_axes=(0, None)))


def random_params(name, scale):
    """Random weights; eight layers of large ones would send the points to 1e10, so there they are smaller."""
    return randomize(setup(name)[1], scale=min(scale, 0.3) if name == "default_depth" else scale)


def in_float64(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), tree)


@EACH
@SCALES
def test_round_trip_in_float32(name, scale):
    x, _, to_latent, from_latent = setup(name)
    params = random_params(name, scale)
    latent, points = to_latent(params, x)[0], from_latent(params, x)
    assert np.abs(latent - x).max() > 0.05  # it is not the identity that is inverted
    # Large weights send points to 1e2 ... 1e4: digits are lost in proportion (measured: up to 3e-5 of the largest).
    for back, away in ((from_latent(params, latent), latent), (to_latent(params, points)[0], points)):
        np.testing.assert_allclose(back, x, atol=1e-4 * max(1.0, float(np.abs(away).max())))


@EACH
@SCALES
def test_log_det_in_float32(name, scale):
    x, _, to_latent, _ = setup(name)
    params = random_params(name, scale)
    latent, log_det = to_latent(params, x)
    chex.assert_shape(log_det, (9,))
    jacobian = jacobian_of(name)(x, params)
    sign, expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))
    np.testing.assert_array_equal(sign, 1.0)
    np.testing.assert_allclose(log_det, expected, atol=5e-5 * max(1.0, float(np.abs(latent).max())))


@EACH
def test_the_laws_hold_exactly_in_float64(name):
    single = setup(name)[0], random_params(name, LARGE)  # made before: what is cached has to be float32
    with jax.enable_x64(True):
        x, params = in_float64(single)
        _, _, to_latent, from_latent = setup(name)
        latent, log_det = to_latent(params, x)
        np.testing.assert_allclose(from_latent(params, latent), x, atol=1e-8)
        np.testing.assert_allclose(to_latent(params, from_latent(params, x))[0], x, atol=1e-8)
        jacobian = jacobian_of(name)(x, params)
        np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-8)


@EACH
def test_identity_at_the_start(name):
    x, start, to_latent, from_latent = setup(name)
    latent, log_det = to_latent(start, x)
    chex.assert_trees_all_equal(latent, x, from_latent(start, x))
    assert not log_det.any()


@EACH
def test_every_dimension_changes(name):
    x, _, to_latent, from_latent = setup(name)
    params = random_params(name, LARGE)
    for out in (to_latent(params, x)[0], from_latent(params, x)):
        assert (np.abs(out - x).max(axis=0) > 1e-3).all()


def test_two_layers_tie_the_halves_together():
    # Every latent dimension reads some dimension of the other half; always the same half would leave one unread.
    x, start, to_latent, _ = setup("even")
    params = randomize(start, scale=LARGE)
    jacobian = np.abs(jax.jacfwd(lambda row: to_latent(params, row)[0])(x[0]))
    assert jacobian[:3, 3:].max() > 1e-3
    assert jacobian[3:, :3].max() > 1e-3


@EACH
def test_log_scale_is_bounded(name):
    flow = FLOWS[name]
    x, start, to_latent, _ = setup(name)
    latent, log_det = to_latent(randomize(start, scale=3.0), x)
    chex.assert_tree_all_finite((latent, log_det))
    assert (np.abs(log_det) <= flow.log_scale_bound * flow.size * 1.0001).all()  # however many couplings there are


@EACH
def test_each_coupling_has_an_equal_share_of_the_bound(name):
    flow = FLOWS[name]
    x, start, _, _ = setup(name)
    params = start | {name: jnp.full_like(start[name], 50.0) for name in ("first_bias_2", "second_bias_2")}
    largest = flow.apply({"params": params}, x, method="largest_log_scale")
    np.testing.assert_allclose(largest, 2 * flow.log_scale_bound / flow.num_layers, rtol=1e-4)
    _, log_det = setup(name)[2](params, x)
    np.testing.assert_allclose(log_det, -flow.log_scale_bound * flow.size, rtol=1e-4)  # all of them at the bound


def test_the_largest_log_scale_by_hand():
    flow = FLOWS["tight"]  # two layers, bound 0.1; the first changes three dimensions, the second two
    x, params = setup("tight")[:2]
    largest = lambda params: flow.apply({"params": params}, x, method="largest_log_scale")
    np.testing.assert_array_equal(largest(params), np.zeros(9))  # the identity
    # The last layer's kernel is zero, so its bias is what the conditioner gives: shifts, then raw log-scales.
    first = params["first_bias_2"].at[0, 4].set(-0.2)
    second = params["second_bias_2"].at[0, 3].set(0.05)
    expected = 0.1 * np.tanh([0.2 / 0.1, 0.05 / 0.1])
    np.testing.assert_allclose(
        largest(params | {"first_bias_2": first, "second_bias_2": second}), expected[0], rtol=1e-5
    )
    np.testing.assert_allclose(largest(params | {"second_bias_2": second}), expected[1], rtol=1e-5)
    # A log-determinant is the sum of the log-scales, one for each dimension.
    random = random_params("tight", LARGE)
    log_det = setup("tight")[2](random, x)[1]
    assert (largest(random) >= np.abs(log_det) / flow.size).all()
    assert (largest(random) <= np.float32(0.1)).all()


@EACH
def test_gradients_are_finite_far_out(name):
    x, _, to_latent, from_latent = setup(name)
    params = random_params(name, LARGE)

    def loss(params, x):
        latent, log_det = to_latent(params, x)
        return jnp.sum(latent**2) + jnp.sum(log_det) + jnp.sum(from_latent(params, x) ** 2)

    chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, 100 * x))


def test_eager_jit_and_vmap_agree():
    x, start, to_latent, from_latent = setup("odd")
    params = randomize(start)
    apply = lambda method, x: FLOWS["odd"].apply({"params": params}, x, method=method)
    chex.assert_trees_all_close(apply("to_latent", x), to_latent(params, x), atol=1e-5)
    chex.assert_trees_all_close(jax.vmap(lambda row: to_latent(params, row))(x), to_latent(params, x), atol=1e-5)
    chex.assert_trees_all_close(jax.vmap(lambda row: from_latent(params, row))(x), from_latent(params, x), atol=1e-5)


def test_other_leading_axes():
    x, start, to_latent, _ = setup("even")
    params = randomize(start)
    latent, log_det = to_latent(params, x.reshape(3, 3, 6))
    expected = to_latent(params, x)
    chex.assert_trees_all_close((latent.reshape(9, 6), log_det.reshape(9)), expected, atol=1e-6)


def test_each_modality_has_a_flow_of_its_own():
    single = FLOWS["even"]
    stacked = per_modality(RealNVP, ["to_latent", "from_latent"])(6, 4, 8)
    points = jax.random.normal(jax.random.key(0), (5, 3, 6))
    start = jax.jit(lambda key: stacked.init(key, points, method="to_latent"))(jax.random.key(1))["params"]
    kernels = start["first_kernel_0"]
    chex.assert_axis_dimension(kernels, 0, 3)
    assert (kernels[0] != kernels[1]).all()
    assert (kernels[1] != kernels[2]).all()
    params = randomize(start)
    latent, log_det = stacked.apply({"params": params}, points, method="to_latent")
    back = stacked.apply({"params": params}, latent, method="from_latent")
    chex.assert_shape([latent, log_det], [(5, 3, 6), (5, 3)])
    np.testing.assert_allclose(back, points, atol=1e-4)
    for modality in range(3):
        own = {"params": jax.tree.map(lambda leaf, m=modality: leaf[m], params)}
        expected = single.apply(own, points[:, modality], method="to_latent")
        chex.assert_trees_all_close((latent[:, modality], log_det[:, modality]), expected, atol=1e-5)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_call_and_detached_copy_equals_two_calls(transform):
    points = jax.random.normal(jax.random.key(0), (7, 3, 8))
    stacked = per_modality(RealNVP, ["to_latent", "from_latent"])(8, 2, 8)
    shapes = jax.eval_shape(lambda: stacked.init(jax.random.key(1), points, method="to_latent"))["params"]
    params = randomize(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
    to_latent = lambda params, x: stacked.apply({"params": params}, x, method="to_latent")
    two_calls = lambda f, params, x: (f(params, x), f(params, jax.lax.stop_gradient(x)))

    def loss(both):
        def value(params, x):
            (latent, log_det), (fitted, fitted_log_det) = both(to_latent, params, x)
            return jnp.sum(jnp.sin(latent)) + jnp.sum(log_det) + jnp.sum(fitted**2) - jnp.sum(fitted_log_det**2)

        return transform(jax.value_and_grad(value, argnums=(0, 1)))(params, points)

    chex.assert_trees_all_close(loss(call_and_detached_copy), loss(two_calls), rtol=1e-5, atol=1e-5)


def test_a_wrong_width_raises():
    x, params, to_latent, from_latent = setup("even")
    for direction in (to_latent, from_latent):
        with pytest.raises(AssertionError):
            direction(params, x[:, :-1])
