"""The methods: what is read at evaluation and in training, what each loss reaches, options, names."""

import functools
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODALITIES, make_batch, random_params, randomize, run_config

from cmarr_jax import losses
from cmarr_jax.config import ModalityConfig, TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods import REGISTRY, hyperparameters_of, make_method, make_options
from cmarr_jax.methods.cm_arr import CmArr, Encoded
from cmarr_jax.types import GaussianEmbedding

VARIANTS = {
    "mean": ("cm_arr", {}),
    "precision": ("cm_arr", {"combination": "precision"}),
    "linear": ("cm_arr", {"combination": "linear"}),
    "zeros": ("cm_arr", {"recovery": "zeros"}),
    "attention": ("cm_arr", {"fusion": "attention", "frame_attention": True}),
    "clean target": ("cm_arr", {"clean_target": True, "refine_absent": True, "alignment_scale": 0.5}),
    "zero_fill": ("zero_fill", {}),
    "zero_fill, attention": ("zero_fill", {"fusion": "attention"}),
}
NAMES = [modality.name for modality in MODALITIES]
PATTERNS = availability_patterns(3)
ENTROPY = {"entropy": 0.1, "entropy_floor": 1.0}


class Network(NamedTuple):
    params: dict
    logits: object
    loss: object
    stages: tuple
    weights: Mapping[str, float]


@functools.cache
def network(variant):
    """Random parameters, `logits(params, batch, available)`, loss, stages and weights, without dropout."""
    name, changes = VARIANTS[variant]
    config = run_config(method=name, dropout=0.0, weights=ENTROPY if name == "cm_arr" else {}, **changes)
    method = make_method(config)
    params = random_params(method.init, make_batch())
    logits = jax.jit(lambda params, batch, available: method.predict(params, method.encode(params, batch), available))
    return Network(params, logits, method.loss, method.stages, hyperparameters_of(config).weights)


@functools.cache
def jitted_gradients(variant):
    loss_fn = network(variant).loss

    def gradient(params, features, batch, available, weights):
        loss = lambda params, features: loss_fn(
            params, batch._replace(features=features), available, jax.random.key(1), weights
        )
        (loss, aux), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, features)
        return grads, loss, aux

    return jax.jit(gradient)


def gradients(variant, **weights):
    """`(params, features, batch, available) -> (grads of both, loss, aux)`; `weights` replace those of the variant."""
    weights = {**network(variant).weights, **weights}
    return lambda *args: jitted_gradients(variant)(*args, weights)


def cm_arr(**changes):
    """The network of CM-ARR at the tests' sizes."""
    config = run_config(**changes)
    return CmArr(config.encoders, config.num_classes, make_options("cm_arr", config.options))


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
    assert ("flows" in grads) == (VARIANTS[variant][0] == "cm_arr" and variant != "zeros")
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
def gradient_by_term():
    """Gradient of each term of CM-ARR's loss by the parameters."""
    net = network("mean")
    terms = lambda params: net.loss(params, make_batch(size=7), mixed_available(), jax.random.key(1), net.weights)[1]
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
    method, weights = make_method(config), hyperparameters_of(config).weights
    patterns = jnp.asarray(availability_patterns(len(names)))
    batch = make_batch(modalities, size=len(patterns))
    params = random_params(method.init, batch)
    predict = jax.jit(lambda params, batch: method.predict(params, method.encode(params, batch), patterns))
    logits = predict(params, batch)
    chex.assert_shape(logits, (len(patterns), 4))
    poisoned = fill_hidden(batch, patterns, lambda x: jnp.full_like(x, jnp.nan))
    chex.assert_trees_all_equal(predict(params, poisoned), logits)
    loss = jax.jit(lambda params: method.loss(params, batch, patterns, jax.random.key(0), weights))
    chex.assert_tree_all_finite((loss(params), logits))


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
    method, batch = make_method(run_config(dropout=0.5, **changes)), make_batch(size=7)
    params = random_params(method.init, batch)
    weights, nothing = method.weights, jnp.zeros((7, 3), bool)
    value = lambda params, key: method.loss(params, batch, nothing, key, weights)[1]["squared_error"]
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


@pytest.mark.parametrize(("variant", "refined"), [("mean", False), ("clean target", True)], ids=["default", "option"])
def test_refine_absent_refines_what_an_utterance_lacks_by_nature(variant, refined):
    # Nothing is hidden: the only recovered points are those of absent modalities, and they have no target.
    net, present = network(variant), mixed_available()
    batch = make_batch(size=7)._replace(present=present)
    results = [
        gradients(variant, refinement=weight)(net.params, batch.features, batch, present) for weight in (0.0, 1.0)
    ]
    assert all(aux["refinement"] > 0 and aux["squared_error"] == 0 for _, _, aux in results)
    of_flows = [jax.tree.leaves(grads["flows"]) for (grads, _), _, _ in results]
    reached = any((without != included).any() for without, included in zip(*of_flows, strict=True))
    assert reached == refined


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


def test_sizes_of_options_reach_the_network():
    config = run_config(head_ratio=3, flow_layers=6, flow_hidden=7, projection=5)
    params = jax.eval_shape(make_method(config).init, jax.random.key(0), make_batch())
    assert params["heads"]["mean_mlp"]["Dense_0"]["kernel"].shape == (3, 8, 24)
    assert params["flows"]["first_kernel_1"].shape == (3, 3, 7, 7)
    assert params["projection"]["kernel"].shape == (8, 5)


def initialise(**changes):
    """Makes a method and its parameters, whatever checks the configuration on the way."""
    jax.eval_shape(make_method(run_config(**changes)).init, jax.random.key(0), make_batch())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"recovery": "magic"}, "recovery must be one of flow, zeros; found 'magic'"),
        ({"combination": "sum"}, "combination must be one of"),
        ({"fusion": "sum"}, "fusion must be one of"),
        ({"embedding": 1}, "embedding must be at least 2"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16; found 'float16'"),
        ({"modalities": MODALITIES[:1]}, "at least two modalities"),
        ({"modalities": MODALITIES[:1] * 2}, "different names"),
        ({"flow_layers": 3}, "flow_layers must be even"),
        ({"max_temperature": 0.01}, "0 < min_temperature < max_temperature is needed, found 0.01, 0.01"),
        ({"max_log_std": 7.0}, "max_log_std <= 6 is needed, found -6.0 and 7.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_impossible_configurations_raise(change, text):
    with pytest.raises(ValueError, match=text):
        initialise(**change)


@pytest.mark.parametrize("method", ["cm_arr", "zero_fill"])
def test_attention_needs_a_number_of_heads_that_divides_the_embedding(method):
    sentence = "embedding must be a multiple of attention_heads, found 6 and 4"
    for change in ({"fusion": "attention"}, {"frame_attention": True}):
        with pytest.raises(ValueError, match=sentence):
            initialise(method=method, embedding=6, **change)
        initialise(method=method, embedding=6, attention_heads=3, **change)


def test_unknown_options_and_weights_raise_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"method cm_arr has no option 'flow_layer'; it has: min_log_std, .*flow_layers"
    ):
        make_method(run_config(flow_layer=4))
    with pytest.raises(ValueError, match="method zero_fill has no option 'flow_layers'; it has: fusion"):
        make_method(run_config(method="zero_fill", flow_layers=4))
    for name, known in (("cm_arr", "alignment, nll, squared_error, refinement, "), ("zero_fill", "none")):
        for call in (make_method, hyperparameters_of):
            with pytest.raises(ValueError, match=f"no loss weight 'align'; this method has: {known}"):
                call(run_config(method=name, weights={"align": 1.0}))


def test_weights_of_a_run_replace_the_defaults():
    config = run_config(weights={"alignment": 0.7}, learning_rate=0.3)
    learning_rate, weights = hyperparameters_of(config)
    assert learning_rate == 0.3
    assert weights == {**make_method(config).weights, "alignment": 0.7}
    assert weights["alignment"] != make_method(config).weights["alignment"]


def test_unknown_method_raises_with_the_known_ones():
    with pytest.raises(ValueError, match=rf"method must be one of {', '.join(REGISTRY)}.*found 'magic'"):
        make_method(run_config(method="magic"))


OWN_METHOD = """
import dataclasses
from cmarr_jax.methods import zero_fill
from cmarr_jax.methods.base import Stage

@dataclasses.dataclass(frozen=True)
class Options:
    epochs: int = 3

def make(encoders, num_classes, train, options):
    method = zero_fill.make(encoders, num_classes, train, zero_fill.Options())
    stage = Stage("only", options.epochs, hide=True, weights={STAGE})
    return method._replace(stages=(stage,), weights={"own": 2.0})
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """`write(name, text)` makes a module `own_methods.NAME`."""
    (tmp_path / "own_methods").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name, text: (tmp_path / "own_methods" / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("own_methods")]:
        del sys.modules[name]


def test_a_dotted_module_name_is_a_method(own_module):
    own_module("good", OWN_METHOD.replace("{STAGE}", "{'own': 1.0}"))
    config = run_config(method="zero_fill", weights={"own": 5.0}, epochs=7, train=TrainConfig())
    config = type(config).from_dict(config.to_dict() | {"method": "own_methods.good"})
    method = make_method(config)
    assert [(stage.name, stage.epochs) for stage in method.stages] == [("only", 7)]
    assert hyperparameters_of(config).weights == {"own": 5.0}
    batch = make_batch()
    params = jax.eval_shape(method.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(method.loss, params, batch, batch.present, jax.random.key(1), method.weights)
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("Options = dict", ValueError, "method must be one of cm_arr, .* a module with Options and make; found"),
        ("import not_there_at_all", ModuleNotFoundError, "not_there_at_all"),
        (OWN_METHOD.replace("{STAGE}", "{'other': 1.0}"), ValueError, "no loss weight 'other'; this method has: own"),
    ],
    ids=["no make", "an import that fails", "unknown weight of a stage"],
)
def test_a_module_that_is_no_method_raises(own_module, text, error, message):
    own_module("bad", text)
    with pytest.raises(error, match=message):
        make_method(run_config(method="own_methods.bad"))
