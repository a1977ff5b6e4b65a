"""The network and its losses: what is read at evaluation and in training, and what each loss reaches."""

import functools
from collections import OrderedDict
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODALITIES, make_batch, model_config, random_params, randomize

from cmarr_jax.config import Hyperparameters, ModalityConfig, ModelConfig, TrainConfig
from cmarr_jax.missing import availability_patterns
from cmarr_jax.model import CmArr, Encoded
from cmarr_jax.objectives import bind, for_two_uses, make_method
from cmarr_jax.types import GaussianEmbedding

VARIANTS = {
    "mean": ("cm_arr", {}),
    "precision": ("cm_arr", {"combination": "precision"}),
    "linear": ("cm_arr", {"combination": "linear"}),
    "zeros": ("cm_arr", {"recovery": "zeros"}),
    "attention": ("cm_arr", {"fusion": "attention", "frame_attention": True}),
    "zero_fill": ("zero_fill", {}),
}
NAMES = [modality.name for modality in MODALITIES]
PATTERNS = availability_patterns(3)
HYPER = Hyperparameters(entropy=0.1, entropy_floor=1.0)


class Network(NamedTuple):
    params: dict
    logits: object
    loss: object
    stages: tuple


@functools.cache
def network(variant):
    """Random parameters, `logits(params, batch, available)`, the loss and the stages, without dropout."""
    name, changes = VARIANTS[variant]
    method = make_method(name, model_config(dropout=0.0, **changes), TrainConfig())
    params = random_params(method.init, make_batch())
    logits = jax.jit(lambda params, batch, available: method.predict(params, method.encode(params, batch), available))
    return Network(params, logits, method.loss, method.stages)


@functools.cache
def gradients(variant, hyper=HYPER):
    """Jitted `(params, features, batch, available) -> (grads of both, loss, aux)`."""
    loss_fn = network(variant).loss

    def gradient(params, features, batch, available):
        loss = lambda params, features: loss_fn(
            params, batch._replace(features=features), available, jax.random.key(1), hyper
        )
        (loss, aux), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, features)
        return grads, loss, aux

    return jax.jit(gradient)


def mixed_available():
    """Every pattern once in a batch of seven."""
    return jnp.asarray(PATTERNS)


def fill_hidden(batch, available, value_of):
    """Replaces the features of what is not available by `value_of(features)`."""
    features = OrderedDict()
    for column, (name, values) in enumerate(batch.features.items()):
        keep = available[:, column].reshape((-1,) + (1,) * (values.ndim - 1))
        features[name] = jnp.where(keep, values, value_of(values))
    return batch._replace(features=features)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hidden_modality_is_never_read_at_evaluation(variant):
    net = network(variant)
    batch = make_batch(size=7)
    others = [
        lambda x: jax.random.normal(jax.random.key(5), x.shape),
        lambda x: jnp.full_like(x, jnp.nan),
        lambda x: jnp.full_like(x, jnp.inf),
    ]
    for available in [*(jnp.tile(pattern[None], (7, 1)) for pattern in PATTERNS), mixed_available()]:
        expected = net.logits(net.params, batch, available)
        assert np.isfinite(expected).all()
        for other in others:
            changed = net.logits(net.params, fill_hidden(batch, available, other), available)
            chex.assert_trees_all_equal(changed, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_available_modality_is_read(variant):
    net = network(variant)
    batch = make_batch(size=7)
    for column in range(3):
        for pattern in PATTERNS[PATTERNS[:, column]]:
            available = jnp.tile(pattern[None], (7, 1))
            others = available.at[:, column].set(False)
            changed = fill_hidden(batch, others, lambda x: -x)
            difference = net.logits(net.params, batch, available) - net.logits(net.params, changed, available)
            assert np.abs(difference).max() > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_absent_modality_is_never_read_whatever_it_holds(variant):
    net = network(variant)
    present = mixed_available()
    batch = make_batch(size=7)._replace(present=present)
    expected = net.logits(net.params, batch, present)
    assert np.isfinite(expected).all()
    poisoned = fill_hidden(batch, present, lambda x: jnp.full_like(x, jnp.nan))
    chex.assert_trees_all_equal(net.logits(net.params, poisoned, present), expected)


def test_batch_mates_and_fillers_change_no_logits():
    net = network("mean")
    batch, available = make_batch(size=7), mixed_available()
    expected = net.logits(net.params, batch, available)
    order = jnp.array([3, 0, 6, 5, 1, 2, 4])
    shuffled = jax.tree.map(lambda x: x[order], batch)
    chex.assert_trees_all_close(net.logits(net.params, shuffled, available[order]), expected[order], atol=1e-6)


def test_complete_data_pass_the_flows_by():
    net = network("mean")
    batch, everything = make_batch(size=7), jnp.ones((7, 3), bool)
    changed = {**net.params, "flows": randomize(net.params["flows"], seed=9)}
    chex.assert_trees_all_equal(net.logits(changed, batch, everything), net.logits(net.params, batch, everything))
    hidden = everything.at[:, 0].set(False)
    assert np.abs(net.logits(changed, batch, hidden) - net.logits(net.params, batch, hidden)).max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant):
    net = network(variant)
    batch = make_batch(size=7)
    (grads, _), _, _ = gradients(variant)(net.params, batch.features, batch, mixed_available())
    chex.assert_tree_all_finite(grads)
    if variant == "zeros":
        assert not any(leaf.any() for leaf in jax.tree.leaves(grads.pop("flows")))  # the ablation has no use for them
    unreached = [
        jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if not leaf.any()
    ]
    # A bias of the attention keys cancels in the softmax: its gradient is nothing but rounding.
    assert not [path for path in unreached if not path.endswith("['key']['bias']")]


def test_the_first_stage_trains_all_but_the_recovery():
    net = network("mean")
    batch = make_batch(size=7)
    first, last = net.stages
    assert last.weights(HYPER) == HYPER
    (grads, _), _, aux = gradients("mean", first.weights(HYPER))(net.params, batch.features, batch, batch.present)
    assert aux["squared_error"] == 0  # nothing is hidden
    assert {name for name, part in grads.items() if any(leaf.any() for leaf in jax.tree.leaves(part))} == {
        "encoders",
        "heads",
        "flows",
        "classifier",
        "raw_temperature",
    }


@functools.cache
def gradient_by_term():
    """Gradient of each term of CM-ARR's loss by the parameters."""
    net = network("mean")
    terms = lambda params: net.loss(params, make_batch(size=7), mixed_available(), jax.random.key(1), HYPER)[1]
    return jax.jit(jax.jacrev(terms))(net.params)


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("squared_error", {"flows", "heads", "encoders"}),
        ("nll", {"flows"}),  # or an encoder could lower it by shrinking its embeddings
        ("alignment", {"heads", "encoders", "raw_temperature"}),
        ("refinement", {"flows", "heads", "encoders", "projection"}),
        ("cross_entropy", {"flows", "heads", "encoders", "classifier"}),
        ("entropy", {"heads", "encoders"}),
    ],
)
def test_what_each_loss_reaches(term, reached):
    grads = gradient_by_term()[term]
    assert {name for name, part in grads.items() if any(leaf.any() for leaf in jax.tree.leaves(part))} == reached


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_for_two_uses_equals_two_calls(transform):
    net, points = network("mean"), jax.random.normal(jax.random.key(0), (7, 3, model_config().embedding))
    to_latent = lambda params, x: bind(CmArr(model_config()), params)(x, method="to_latent")
    two_calls = lambda f, params, x: (f(params, x), f(params, jax.lax.stop_gradient(x)))

    def loss(both):
        def value(params, x):
            (latent, log_det), (fitted, fitted_log_det) = both(to_latent, params, x)
            return jnp.sum(jnp.sin(latent)) + jnp.sum(log_det) + jnp.sum(fitted**2) - jnp.sum(fitted_log_det**2)

        return transform(jax.value_and_grad(value, argnums=(0, 1)))(net.params, points)

    chex.assert_trees_all_close(loss(for_two_uses), loss(two_calls), rtol=1e-5, atol=1e-5)


def test_the_squared_error_reaches_the_flow_of_each_modality():
    for leaf in jax.tree.leaves(gradient_by_term()["squared_error"]["flows"]):
        assert all(leaf[modality].any() for modality in range(3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_features_enter_training_as_a_constant_target_only(variant):
    net = network(variant)
    batch, available = make_batch(size=7), mixed_available()
    (_, by_features), _, aux = gradients(variant)(net.params, batch.features, batch, available)
    for column, (name, grad) in enumerate(by_features.items()):
        size = np.abs(grad).reshape(7, -1).max(axis=1)
        assert not size[~PATTERNS[:, column]].any(), f"hidden {name} gets a gradient"
        assert (size[PATTERNS[:, column]] > 0).any()
    changed = fill_hidden(batch, available, lambda x: x + 1.0)
    _, _, other = gradients(variant)(net.params, changed.features, changed, available)
    differing = {term for term in aux if not np.array_equal(aux[term], other[term])}
    assert differing == ({"squared_error"} if "squared_error" in aux else set())


@pytest.mark.parametrize("variant", VARIANTS)
def test_absent_modalities_give_finite_gradients_and_are_no_target(variant):
    net = network(variant)
    present = mixed_available().at[2].set(False)  # one row has nothing at all
    batch = make_batch(size=7)._replace(present=present)
    batch = fill_hidden(batch, present, lambda x: jnp.full_like(x, jnp.nan))
    batch = batch._replace(where=jnp.arange(7) < 6)
    available = present.at[6, 0].set(False).at[3, 1].set(False)
    (grads, _), loss, aux = gradients(variant)(net.params, batch.features, batch, available)
    chex.assert_tree_all_finite((grads, loss, aux))
    if "squared_error" in aux:
        nothing_hidden = gradients(variant)(net.params, batch.features, batch, present)[2]
        assert nothing_hidden["squared_error"] == 0.0
        assert aux["squared_error"] > 0


@pytest.mark.parametrize("available", [mixed_available(), jnp.ones((7, 3), bool)], ids=["hidden", "complete"])
def test_fillers_do_not_count(available):
    net, batch = network("mean"), make_batch(size=7)
    batch = batch._replace(where=jnp.arange(7) < 5)
    first = gradients("mean")(net.params, batch.features, batch, available)
    features = jax.tree.map(lambda x: x.at[5:].add(3.0), batch.features)
    label = batch.label.at[5:].set(0)
    second = gradients("mean")(net.params, features, batch._replace(label=label), available)
    chex.assert_trees_all_close((first[0][0], *first[1:]), (second[0][0], *second[1:]), atol=1e-6)


def test_the_total_is_the_weighted_sum():
    net = network("mean")
    batch, available = make_batch(size=7), mixed_available()
    _, loss, aux = gradients("mean")(net.params, batch.features, batch, available)
    weights = {
        "cross_entropy": 1.0,
        "alignment": 0.1,
        "nll": 0.5,
        "squared_error": 0.5,
        "refinement": 0.1,
        "entropy": 0.1,
    }
    assert set(aux) == set(weights)
    np.testing.assert_allclose(loss, sum(weight * aux[name] for name, weight in weights.items()), rtol=1e-5)


@pytest.mark.parametrize(
    "names", [("left", "right"), ("audio", "video", "valence", "text")], ids=["two modalities", "four modalities"]
)
@pytest.mark.parametrize("method_name", ["cm_arr", "zero_fill"])
def test_other_modalities(names, method_name):
    kinds = ("vector", "conv", "vector", "vector")
    modalities = tuple(ModalityConfig(name, 3 + i, kinds[i]) for i, name in enumerate(names))
    method = make_method(method_name, model_config(modalities, dropout=0.0), TrainConfig())
    patterns = jnp.asarray(availability_patterns(len(names)))
    batch = make_batch(modalities, size=len(patterns))
    params = random_params(method.init, batch)
    predict = jax.jit(lambda params, batch: method.predict(params, method.encode(params, batch), patterns))
    logits = predict(params, batch)
    chex.assert_shape(logits, (len(patterns), 4))
    poisoned = fill_hidden(batch, patterns, lambda x: jnp.full_like(x, jnp.nan))
    chex.assert_trees_all_equal(predict(params, poisoned), logits)
    loss = jax.jit(lambda params: method.loss(params, batch, patterns, jax.random.key(0), Hyperparameters()))
    chex.assert_tree_all_finite((loss(params), logits))


def combine(combination, latent, log_std, available, params=None):
    model = CmArr(model_config(combination=combination, embedding=2))
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
    np.testing.assert_allclose(combine("precision", latent, log_std, available), expected, rtol=1e-5)
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


def test_the_temperature_starts_at_a_tenth_and_keeps_its_range():
    temperature = lambda raw: CmArr(model_config()).apply({"params": {"raw_temperature": raw}}, method="temperature")
    np.testing.assert_allclose([temperature(jnp.array(x)) for x in (-1e6, 0.0, 1e6)], [0.01, 0.1, 1.0], rtol=1e-5)


def test_completed_points_are_the_available_ones_and_reconstructions():
    model = CmArr(model_config(dropout=0.0))
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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"recovery": "magic"}, "recovery must be one of flow, zeros; found 'magic'"),
        ({"combination": "sum"}, "combination must be one of"),
        ({"fusion": "sum"}, "fusion must be one of"),
        ({"embedding": 1}, "embedding must be at least 2"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"modalities": MODALITIES[:1]}, "at least two modalities"),
        ({"modalities": MODALITIES[:1] * 2}, "different names"),
    ],
)
def test_impossible_configurations_raise(change, text):
    with pytest.raises(ValueError, match=text):
        ModelConfig(**({"modalities": MODALITIES, "num_classes": 4} | change))


def test_unknown_method_raises_with_the_known_ones():
    with pytest.raises(ValueError, match=r"method must be one of cm_arr, zero_fill.*found 'mmin'"):
        make_method("mmin", model_config(), TrainConfig())
