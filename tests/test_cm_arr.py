"""The parts of CM-ARR: combination, temperature, completion, targets, refinement and alignment."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import PATTERNS, gradients, mixed_available, network
from tiny import make_batch, random_params, run_config

from cmarr_jax import losses
from cmarr_jax.methods import hyperparameters_of, make_method, make_options
from cmarr_jax.methods.cm_arr import CmArr, Encoded
from cmarr_jax.types import GaussianEmbedding


def cm_arr(**changes):
    """The network of CM-ARR at the tests' sizes."""
    config = run_config(**changes)
    return CmArr(config.encoders, config.num_classes, make_options("cm_arr", config.options))


def combine(combination, latent, log_std, available, params=None):
    model = cm_arr(combination=combination, embedding=2)
    return model.apply(
        {"params": {"raw_temperature": jnp.zeros(()), **(params or {})}}, latent, log_std, available, method="combine"
    )


def test_combinations_by_hand():
    latent = jnp.array([[[1.0, 2.0], [3.0, 6.0], [jnp.nan, jnp.nan]]])
    # Mean log-variances 0 and 2 log 2: the second modality weighs 1/4.
    log_std = jnp.array([[[0.5, -0.5], [jnp.log(2.0), jnp.log(2.0)], [jnp.nan, 0.0]]])
    available = jnp.array([[True, True, False]])
    np.testing.assert_allclose(combine("mean", latent, log_std, available), [[2.0, 4.0]], rtol=1e-6)
    expected = [[(1 + 3 / 4) / (5 / 4), (2 + 6 / 4) / (5 / 4)]]
    for shift in (0.0, -60.0, 40.0):  # the weights are relative, and none overflows
        found = combine("precision", latent, log_std + shift, available)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(combine("precision", latent, log_std, available & False), [[0.0, 0.0]])
    for combination in ("mean", "precision"):  # what is not read gets no gradient, nan or other
        total = lambda *x, combination=combination: combine(combination, *x, available).sum()
        grads = jax.grad(total, argnums=(0, 1))(latent, log_std)
        chex.assert_tree_all_finite(grads)
        assert not any(grad[:, 2].any() for grad in grads)
    kernel = jnp.arange(12.0).reshape(6, 2)
    params = {"combiner": {"kernel": kernel, "bias": jnp.ones(2)}}
    expected = np.array([[1.0, 2.0, 3.0, 6.0, 0.0, 0.0]]) @ np.asarray(kernel) + 1
    np.testing.assert_allclose(combine("linear", latent, log_std, available, params), expected, rtol=1e-6)


@pytest.mark.parametrize("combination", ["mean", "precision"])
def test_nothing_available_combines_to_zeros_with_finite_gradients(combination):
    args = jnp.full((1, 3, 2), 2.0), jnp.zeros((1, 3, 2))
    nothing = jnp.zeros((1, 3), bool)
    value, grads = jax.value_and_grad(lambda *x: combine(combination, *x, nothing).sum(), argnums=(0, 1))(*args)
    chex.assert_tree_all_finite(grads)
    assert value == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, [0.01, 0.1, 1.0]), ({"min_temperature": 0.02, "max_temperature": 0.5}, [0.02, 0.1, 0.5])],
    ids=["default", "options"],
)
def test_the_temperature_starts_in_the_middle_and_keeps_its_range(changes, expected):
    # 0.1 is the geometric middle of both ranges.
    temperature = lambda raw: cm_arr(**changes).apply({"params": {"raw_temperature": raw}}, method="temperature")
    np.testing.assert_allclose([temperature(jnp.array(x)) for x in (-1e6, 0.0, 1e6)], expected, rtol=1e-5)


def test_completed_points_are_the_available_ones_and_reconstructions():
    model = cm_arr(dropout=0.0)
    params = {"params": network("mean").params}
    embedding = GaussianEmbedding(*jax.random.normal(jax.random.key(0), (2, 7, 3, 8)))
    available = mixed_available()
    latent, _ = model.apply(params, embedding.mean, method="to_latent")
    complete = jax.jit(lambda *args: model.apply(params, *args, method="complete"))
    completed = complete(Encoded(*embedding, latent), available)
    shared = np.stack([np.mean(row[seen], axis=0) for row, seen in zip(latent, PATTERNS, strict=True)])
    recovered = model.apply(params, jnp.tile(jnp.asarray(shared)[:, None], (1, 3, 1)), method="from_latent")
    np.testing.assert_array_equal(completed[PATTERNS], embedding.mean[PATTERNS])
    np.testing.assert_allclose(completed[~PATTERNS], recovered[~PATTERNS], atol=1e-4)


def test_diagnostics_leave_fillers_out():
    method, batch = make_method(run_config(dropout=0.0)), make_batch(size=7)
    where = jnp.arange(7) < 5
    params, diagnose = network("mean").params, jax.jit(method.diagnose)
    encoded = jax.jit(method.encode)(params, batch)
    found = diagnose(params, encoded, where)
    np.testing.assert_allclose(found["log_std"], encoded.log_std[:5].mean(), rtol=1e-5)
    poisoned = jax.tree.map(lambda x: x.at[5:].set(jnp.nan), encoded)
    chex.assert_trees_all_equal(diagnose(params, poisoned, where), found)
    assert 0 < found["round_trip_error"] < 1e-4


def squared_errors(**changes):
    """CM-ARR's squared error under two dropout keys with nothing available, where only the target can depend on it."""
    config, batch = run_config(dropout=0.5, **changes), make_batch(size=7)
    method = make_method(config)
    params = random_params(method.init, batch)
    hyper, nothing = hyperparameters_of(config), jnp.zeros((7, 3), bool)
    value = lambda params, key: method.loss(params, batch, nothing, key, hyper)[1]["squared_error"]
    both = jax.jit(jax.value_and_grad(value))
    return method, params, batch, [both(params, jax.random.key(seed)) for seed in (0, 1)]


def test_a_clean_target_does_not_depend_on_dropout():
    method, params, batch, ((first, grad), (second, _)) = squared_errors(clean_target=True)
    assert first == second
    # By hand: what the flows make of the zero latent, against the means that evaluation sees.
    recovered = cm_arr().apply({"params": params}, jnp.zeros((7, 3, 8)), method="from_latent")
    np.testing.assert_allclose(first, np.mean((recovered - jax.jit(method.encode)(params, batch).mean) ** 2), rtol=1e-5)
    assert not any(leaf.any() for part in ("encoders", "heads") for leaf in jax.tree.leaves(grad[part]))
    assert any(leaf.any() for leaf in jax.tree.leaves(grad["flows"]))


def test_the_target_depends_on_dropout_by_default():
    _, _, _, ((first, _), (second, _)) = squared_errors()
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("hidden", [False, True], ids=["by nature", "hidden"])
def test_what_an_utterance_lacks_by_nature_is_recovered_and_not_refined(hidden):
    net, lacking = network("mean"), mixed_available()
    batch = make_batch(size=7)
    batch = batch._replace(present=jnp.ones_like(lacking) if hidden else lacking)
    results = [
        gradients("mean", refinement=weight)(net.params, batch.features, batch, lacking) for weight in (0.0, 1.0)
    ]
    assert all(aux["refinement"] > 0 and (aux["squared_error"] > 0) == hidden for _, _, aux in results)
    of_flows = [jax.tree.leaves(grads["flows"]) for (grads, _), _, _ in results]
    reached = any((without != included).any() for without, included in zip(*of_flows, strict=True))
    assert reached == hidden


def test_alignment_scale():
    batch, available, params = make_batch(size=7), mixed_available(), network("mean").params
    model = cm_arr(dropout=0.0)
    apply = lambda method, *args: jax.jit(lambda params: model.apply({"params": params}, *args, method=method))(params)
    embedding, temperature = apply("encode", batch), apply("temperature")
    found = {}
    for variant, scale in (("mean", 1 / 8), ("clean target", 0.5)):  # the default is 1 / embedding
        found[variant] = gradients(variant)(params, batch.features, batch, available)[2]["alignment"]
        std = jnp.exp(embedding.log_std)
        pairs = losses.alignment(embedding.mean, std, available, batch.where, temperature=temperature, scale=scale)
        np.testing.assert_allclose(found[variant], losses.masked_mean(*pairs), rtol=1e-5)
    assert abs(found["mean"] - found["clean target"]) > 0.01


def terms_of(available, **changes):
    """The terms of the loss without dropout and noise, and what it was computed from."""
    config = run_config(dropout=0.0, min_log_std=-20.1, max_log_std=-20.0, **changes)
    method, batch = make_method(config), make_batch(size=7)
    params, hyper = random_params(method.init, batch), hyperparameters_of(config)
    loss = lambda available: method.loss(params, batch, available, jax.random.key(0), hyper)
    return jax.jit(loss)(available), method.encode(params, batch), params, batch


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("symmetric_kl", losses.pairwise_symmetric_kl),
        ("squared_mean", losses.pairwise_squared_mean_distance),
        ("cosine", None),
    ],
)
def test_other_alignments(name, distance):
    everything = jnp.ones((7, 3), bool)
    (_, terms), encoded, params, _ = terms_of(everything, alignment=name)
    temperature = cm_arr().apply({"params": params}, method="temperature")
    if distance is None:
        expected = losses.point_alignment(encoded.mean, everything, temperature=temperature)
    else:
        std = jnp.exp(encoded.log_std)
        expected = losses.alignment(encoded.mean, std, everything, temperature=temperature, distance=distance)
    np.testing.assert_allclose(terms["alignment"], losses.masked_mean(*expected), rtol=1e-4)


def test_an_autoencoder_recovers_without_a_likelihood():
    (total, terms), encoded, params, _ = terms_of(mixed_available(), recovery="autoencoder")
    assert "nll" not in terms
    dense = lambda layer, x: x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])

    def mlp(half, modality, x):
        layers = [jax.tree.map(lambda w: w[modality], params["autoencoders"][f"{half}_{n}"]) for n in range(3)]
        return dense(layers[2], np.maximum(dense(layers[1], np.maximum(dense(layers[0], x), 0)), 0))

    mean = np.asarray(encoded.mean)
    latent = np.stack([mlp("encoder", m, mean[:, m]) for m in range(3)], axis=1)
    np.testing.assert_allclose(encoded.latent, latent, rtol=1e-4, atol=1e-5)
    errors = [
        np.mean((mlp("decoder", m, latent[row, seen].mean(0)) - mean[row, m]) ** 2)
        for row, seen in enumerate(PATTERNS)
        for m in np.flatnonzero(~seen)
    ]
    np.testing.assert_allclose(terms["squared_error"], np.mean(errors), rtol=1e-3)
    assert np.isfinite(total)


def test_unsupervised_refinement_gathers_the_points_of_an_utterance():
    everything = jnp.ones((7, 3), bool)
    (_, terms), encoded, params, _ = terms_of(everything, refinement="unsupervised")
    points = cm_arr().apply({"params": params}, encoded.mean, method="project").reshape(21, -1)
    expected = losses.supervised_contrastive(points, jnp.repeat(jnp.arange(7), 3), temperature=0.1)
    np.testing.assert_allclose(terms["refinement"], losses.masked_mean(*expected), rtol=1e-4)


def test_unsupervised_refinement_over_two_devices_is_that_of_the_whole_batch():
    config = run_config(dropout=0.0, min_log_std=-20.1, max_log_std=-20.0, refinement="unsupervised")
    method, batch, available = make_method(config), make_batch(size=14), jnp.tile(mixed_available(), (2, 1))
    params, hyper = random_params(method.init, batch), hyperparameters_of(config)
    loss = lambda batch, available, axis=None: method.loss(params, batch, available, jax.random.key(0), hyper, axis)[1]
    halves = jax.tree.map(lambda x: x.reshape(2, 7, *x.shape[1:]), (batch, available))
    shares = jax.jit(jax.vmap(lambda *half: loss(*half, "batch"), axis_name="batch"))(*halves)
    np.testing.assert_allclose(shares["refinement"].sum(), jax.jit(loss)(batch, available)["refinement"], rtol=1e-4)


def test_several_patterns_are_the_mean_of_each():
    """Noise is off, so that the terms of a step with three patterns are the means of three steps with one."""
    patterns = jnp.stack([jnp.roll(mixed_available(), shift, axis=0) for shift in range(3)])
    terms = lambda available: terms_of(available, patterns=3, availability_bits=True, late_logits=True)[0][1]
    together, alone = terms(patterns), [terms(each) for each in patterns]
    for name in ("cross_entropy", "squared_error", "refinement"):
        np.testing.assert_allclose(together[name], np.mean([each[name] for each in alone]), rtol=1e-3)
    # What a pattern hides and another one shows is aligned.
    np.testing.assert_allclose(together["alignment"], terms(patterns.any(axis=0))["alignment"], rtol=1e-4)
