"""The methods: what is read at evaluation and in training, and what each loss reaches."""

import functools
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import PATTERNS, VARIANTS, gradients, mixed_available, network
from tiny import make_batch, random_params, randomize, run_config

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods import hyperparameters_of, make_method


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


def test_batch_mates_change_no_logits():
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
    assert ("flows" in grads) == (VARIANTS[variant][0] == "cm_arr" and variant not in ("zeros", "ablations"))
    unreached = [
        jax.tree_util.keystr(path) for path, leaf in jax.tree_util.tree_leaves_with_path(grads) if not leaf.any()
    ]
    # A bias of the attention keys cancels in the softmax: its gradient is nothing but rounding.
    assert not [path for path in unreached if not path.endswith("['key']['bias']")]


def test_the_first_stage_trains_all_but_the_recovery():
    net = network("mean")
    batch = make_batch(size=7)
    first, last = net.stages
    assert not last.weights
    (grads, _), _, aux = gradients("mean", **first.weights)(net.params, batch.features, batch, batch.present)
    assert aux["squared_error"] == 0  # nothing is hidden
    assert {name for name, part in grads.items() if any(leaf.any() for leaf in jax.tree.leaves(part))} == {
        "encoders",
        "heads",
        "flows",
        "classifier",
        "raw_temperature",
    }


@functools.cache
def gradient_by_term(variant="mean"):
    """Gradient of each term of CM-ARR's loss by the parameters."""
    net = network(variant)
    terms = lambda params: net.loss(params, make_batch(size=7), mixed_available(), jax.random.key(1), net.hyper)[1]
    return jax.jit(jax.jacrev(terms))(net.params)


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("squared_error", {"flows", "heads", "encoders"}),
        ("nll", {"flows"}),  # or an encoder could lower it by shrinking its embeddings
        ("alignment", {"heads", "encoders", "raw_temperature"}),
        ("refinement", {"flows", "heads", "encoders", "projection"}),
        ("cross_entropy", {"flows", "heads", "encoders", "classifier"}),
        ("entropy", {"heads"}),
    ],
)
def test_what_each_loss_reaches(term, reached):
    grads = gradient_by_term()[term]
    assert {name for name, part in grads.items() if any(leaf.any() for leaf in jax.tree.leaves(part))} == reached


def test_the_spread_of_a_residual_head_trains_the_encoders():
    assert any(leaf.any() for leaf in jax.tree.leaves(gradient_by_term("residual head")["entropy"]["encoders"]))


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


@pytest.mark.parametrize("variant", ["mean", "clean target"])
@pytest.mark.parametrize("available", [mixed_available(), jnp.ones((7, 3), bool)], ids=["hidden", "complete"])
def test_fillers_do_not_count(available, variant):
    net, batch = network(variant), make_batch(size=7)
    batch = batch._replace(where=jnp.arange(7) < 5)
    first = gradients(variant)(net.params, batch.features, batch, available)
    features = jax.tree.map(lambda x: x.at[5:].add(3.0), batch.features)
    label = batch.label.at[5:].set(0)
    second = gradients(variant)(net.params, features, batch._replace(label=label), available)
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
    config = run_config(modalities, method=method_name, dropout=0.0)
    method, hyper = make_method(config), hyperparameters_of(config)
    patterns = jnp.asarray(availability_patterns(len(names)))
    batch = make_batch(modalities, size=len(patterns))
    params = random_params(method.init, batch)
    predict = jax.jit(lambda params, batch: method.predict(params, method.encode(params, batch), patterns))
    logits = predict(params, batch)
    chex.assert_shape(logits, (len(patterns), 4))
    poisoned = fill_hidden(batch, patterns, lambda x: jnp.full_like(x, jnp.nan))
    chex.assert_trees_all_equal(predict(params, poisoned), logits)
    loss = jax.jit(lambda params: method.loss(params, batch, patterns, jax.random.key(0), hyper))
    chex.assert_tree_all_finite((loss(params), logits))
