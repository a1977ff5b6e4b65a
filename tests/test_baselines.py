"""MMIN, CIF-MMIN, DiCMoR-like recovery, imputation, late fusion, contrastive pre-training, zero-fill's variants.

`baselines.py` has them.
"""

import dataclasses
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import (
    EVERY,
    IMAGINING,
    NEW,
    TRAIN,
    VARIANTS,
    VECTORS,
    config_of,
    drawn,
    first_params,
    gradients,
    gradients_of,
    hyper_of,
    jitted_gradients,
    jitted_step,
    last_params,
    method_of,
    predict,
    seven,
    trained,
    with_unlabelled,
)
from tiny import make_batch, random_params, run_config

from cmarr_jax.config import ModalityConfig
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.methods.cif_mmin import pair_weights
from cmarr_jax.methods.clipping import clip_each_network
from cmarr_jax.methods.dicmor import floored_nll
from cmarr_jax.methods.mmin import network_of
from cmarr_jax.nn.imagination import Imagination
from cmarr_jax.training.step import first_state

TARGETED = {  # terms whose target is hidden from the input; late fusion trains each modality, hidden or not
    "mmin": {"imagination"},
    "cif_mmin": {"imagination", "consistency"},
    "dicmor": {"squared_error"},
    "mean": {"mean_error"},
    "ridge": {"mean_error", "ridge_error"},
    "zero_fill": set(),
    "zero_fill_self": set(),  # all rows have labels here
    "contrastive": set(),
    "contrastive_self": set(),
    "cm_arr_self": {"squared_error"},
}


def fill(batch, keep, value_of):
    """Replaces the features of what is not kept, `[B, M]`, by `value_of(features)`."""
    columns = enumerate(batch.features.items())
    features = OrderedDict((name, jnp.where(keep[:, [m]], values, value_of(values))) for m, (name, values) in columns)
    return batch._replace(features=features)


@pytest.mark.parametrize("names", [("left", "right"), ("audio", "video", "text", "valence")], ids=["two", "four"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes_with_other_modalities(variant, names):
    kinds = ("vector", "conv", "lstm", "vector")
    modalities = tuple(ModalityConfig(name, 3 + i, kinds[i]) for i, name in enumerate(names))
    method, batch = make_method(config_of(variant, modalities)), make_batch(modalities, size=5)
    params = jax.eval_shape(method.init, jax.random.key(0), batch)
    encoded = jax.eval_shape(method.encode, params, batch)
    assert jax.eval_shape(method.predict, params, encoded, batch.present).shape == (5, 4)
    available = drawn(variant, batch.present)
    value, terms = jax.eval_shape(method.loss, params, batch, available, jax.random.key(0), hyper_of(variant))
    scalars = jax.eval_shape(method.diagnose, params, encoded, batch.where)
    chex.assert_shape([value, *jax.tree.leaves((terms, scalars))], ())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_stages(variant):
    method = method_of(variant)
    assert [(stage.epochs, stage.hide, stage.decay) for stage in method.stages] == [(3, False, False), (5, True, True)]
    assert (
        method.stages[-1].from_best
        == method.stages[-1].fresh_optimizer
        == variant.startswith((*IMAGINING, "contrastive"))
    )
    shapes = jax.eval_shape(method.init, jax.random.key(0), seven())
    for stage in method.stages:
        assert set(stage.weights) <= set(method.weights)
        if stage.begin:
            chex.assert_trees_all_equal_shapes_and_dtypes(jax.eval_shape(stage.begin, shapes), shapes)


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_fall_in_both_stages(variant):
    for terms in trained(variant).terms:
        loss = np.array([float(aux["loss"]) for aux in terms])
        assert np.isfinite(loss).all()
        assert loss[-5:].mean() < loss[:5].mean() - 0.05 * abs(loss[:5].mean())  # patterns differ from step to step


@pytest.mark.parametrize("variant", NEW)
def test_the_total_is_the_sum_with_the_stages_weights(variant):
    method = method_of(variant)
    for stage, steps in zip(method.stages, trained(variant).terms, strict=True):
        weights, last = {**method.weights, **stage.weights}, steps[-1]
        total = last["cross_entropy"] + sum(weights[name] * last[name] for name in weights)
        np.testing.assert_allclose(last["loss"], total, rtol=1e-5)
        assert set(last) == {"cross_entropy", "loss", "grad_norm", "skipped", *weights}


@pytest.mark.parametrize("variant", IMAGINING)
def test_the_teacher_is_the_student_of_stage_1_and_stays_frozen(variant):
    (_, first), (begin, last) = trained(variant).states
    student = first.params["student"]
    assert first.params["imagines"] == first.average["imagines"] == 0.0
    for state in (begin, last):
        assert state.params["imagines"] == 1.0
        assert state.average["imagines"] > 0.99
        for name, part in state.params["teacher"].items():
            chex.assert_trees_all_equal(part, student[name])
            chex.assert_trees_all_close(state.average["teacher"][name], part, rtol=1e-5)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), last.params["student"]["encoders"], student["encoders"])
    assert max(jax.tree.leaves(moved)) > 1e-3
    untouched = [("imagination", first, first_params(variant))]  # by stage 1
    if variant == "mmin":
        untouched.append(("complete_classifier", last, first.params))  # by stage 2
    for name, state, before in untouched:
        chex.assert_trees_all_equal(state.params["student"][name], before["student"][name])


@pytest.mark.parametrize("variant", IMAGINING)
def test_the_inspected_error_is_that_of_the_loss(variant):
    batch, params, method = seven(), last_params(variant), method_of(variant)
    encoded, none = method.encode(params, batch), jnp.zeros_like(batch.present)
    found = method.inspect(params, batch, encoded, none)
    _, terms = method.loss(params, batch, none, jax.random.key(0), hyper_of(variant))
    np.testing.assert_allclose(found["error"][batch.present].mean(), terms["imagination"], rtol=1e-5)
    moved = method.inspect(
        {**params, "teacher": jax.tree.map(lambda x: 2 * x, params["teacher"])}, batch, encoded, EVERY
    )
    assert np.abs(moved["point"] - found["point"]).max() > 1e-3  # the teacher's embeddings
    assert not moved["error"][EVERY].any()
    first = method.inspect(first_params(variant), batch, encoded, none)["point"]  # there is no teacher yet
    np.testing.assert_array_equal(first, encoded if variant == "mmin" else encoded.embedding)


@pytest.mark.parametrize("variant", IMAGINING)
def test_the_stage_chooses_what_the_classifier_reads(variant):
    first, last, batch = first_params(variant), last_params(variant), seven()
    encoded = method_of(variant).encode(first, batch)
    logits = lambda params: predict(variant)(params, encoded, EVERY)
    assert np.abs(logits(last) - logits(first)).max() > 1e-2
    for params in (first, last):
        other = jax.tree.map(lambda x: 2 * x, params["student"]["imagination"])
        changed = logits({**params, "student": {**params["student"], "imagination": other}})
        assert np.array_equal(changed, logits(params)) == (params is first)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hidden_modality_is_never_read_by_predict(variant):
    for params in (first_params(variant), last_params(variant)):
        encoded = method_of(variant).encode(params, seven())
        expected = predict(variant)(params, encoded, EVERY)
        chex.assert_shape(expected, (7, 4))
        assert np.isfinite(expected).all()
        poisoned = jax.tree.map(lambda x: jnp.where(EVERY[..., None], x, jnp.nan), encoded)
        chex.assert_trees_all_equal(predict(variant)(params, poisoned, EVERY), expected)
        # What is available is read.
        other = jax.tree.map(
            lambda x: jnp.where(EVERY[..., None], x + jnp.arange(float(x.shape[-1]))[None, None], x), encoded
        )
        assert (np.abs(predict(variant)(params, other, EVERY) - expected).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("variant", TARGETED)
def test_hidden_features_reach_the_loss_as_a_target_only(variant):
    params, batch = last_params(variant), seven()
    (_, by_features), _, terms = gradients(variant, params, batch, EVERY)
    for column, grad in enumerate(by_features.values()):
        assert not grad[~EVERY[:, column]].any()
        assert grad[EVERY[:, column]].any()
    _, _, other = gradients(variant, params, fill(batch, EVERY, lambda x: x + 1.0), EVERY)
    assert {name for name in terms if not np.array_equal(terms[name], other[name])} == TARGETED[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_absent_modalities_and_fillers_do_not_count(variant):
    params = last_params(variant)
    present = EVERY.at[2].set(False)  # one row has nothing at all
    batch = seven()._replace(present=present, where=jnp.arange(7) < 6)
    available = present.at[6, 0].set(False).at[3, 1].set(False)
    (expected, _), *values = gradients(variant, params, batch, available)
    chex.assert_tree_all_finite((expected, values))
    changed = fill(batch, present, lambda x: jnp.full_like(x, jnp.nan))
    changed = fill(changed, jnp.broadcast_to(batch.where[:, None], (7, 3)), lambda x: x + 1.0)
    changed = changed._replace(label=batch.label.at[6].set(0))
    (found, _), *others = gradients(variant, params, changed, available)
    chex.assert_trees_all_close((found, others), (expected, values), atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "term", "reached"),
    [
        ("mmin", "imagination", {"encoders", "imagination"}),
        ("mmin", "cycle", {"encoders", "imagination", "imagination_back"}),
        ("cif_mmin", "contrast", {"invariant_encoders", "heads_0", "heads_1", "heads_2"}),
        ("cif_mmin", "imagination", {"encoders", "invariant_encoders", "missing", "imagination"}),
        ("cif_mmin", "consistency", {"invariant_encoders", "missing"}),
        ("dicmor", "nll", {"flows", "prior_mean"}),
        ("dicmor", "squared_error", {"repair"}),  # not the flows
        ("dicmor_random", "nll", {"flows"}),  # its priors stay as they were drawn
        (
            "contrastive",
            "alignment",
            {"encoders", "projections_0", "projections_1", "projections_2", "raw_temperature"},
        ),
        ("contrastive", "fine_tuning", {"encoders"}),  # without it, the cross-entropy reaches the classifier alone
    ],
)
def test_what_each_term_reaches(variant, term, reached):
    params, nothing = last_params(variant), dict.fromkeys(method_of(variant).weights, 0.0)
    nothing |= {"late_alignment": 1.0} if variant == "contrastive" else {}  # a factor of another weight
    without, alone = (
        gradients(variant, params, seven(), EVERY, **weights)[0][0] for weights in (nothing, {**nothing, term: 1.0})
    )
    if variant in IMAGINING:
        assert not any(leaf.any() for leaf in jax.tree.leaves([alone["teacher"], alone["imagines"]]))
        without, alone = without["student"], alone["student"]
    size = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), alone, without)
    assert {name for name, part in size.items() if max(jax.tree.leaves(part)) > 1e-6} == reached


@pytest.mark.parametrize("variant", ["cif_mmin", "dicmor", "ridge", "zero_fill_self", "contrastive"])
def test_shares_of_two_devices_add_up(variant):
    params, hyper, batch = last_params(variant), hyper_of(variant), make_batch(VECTORS, size=14)
    available = drawn(variant, jnp.tile(EVERY, (2, 1)))
    present = jnp.tile(EVERY, (2, 1)) | (jnp.arange(14) % 3 > 0)[:, None]
    batch = with_unlabelled(variant, batch._replace(present=present, where=jnp.arange(14) != 12))
    (expected, _), *values = jitted_gradients(variant)(params, batch, available, hyper)
    axis = available.ndim - 2
    halves = jax.tree.map(lambda x: x.reshape(2, 7, *x.shape[1:]), batch)
    share = lambda batch, available: gradients_of(variant)(params, batch, available, hyper, "batch")
    mapped = jax.vmap(share, in_axes=(0, axis), axis_name="batch")
    split = available.reshape(*available.shape[:axis], 2, 7, 3)
    (found, _), *others = jax.tree.map(lambda x: x.sum(0), jax.jit(mapped)(halves, split))
    chex.assert_trees_all_close((found, others), (expected, values), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("variant", "change", "text"),
    [
        ("mmin", {"num_blocks": 0}, "num_blocks must be 1 to 100, found 0"),
        ("mmin", {"num_blocks": 10**9}, "num_blocks must be 1 to 100, found 1000000000"),
        ("cif_mmin", {"widths": ()}, r"widths must be positive and at least one, found \(\)"),
        ("cif_mmin", {"temperature": 0.0}, "temperature must be above 0 and finite, found 0.0"),
        ("dicmor", {"flow_layers": 3}, "flow_layers must be even"),
        ("dicmor", {"repair_ratio": 0}, "repair_ratio must be an integer of at least 1, found 0"),
        ("dicmor", {"flow_hidden": 0}, "flow_hidden and flow_total_log_scale must be positive, found 0 and 2.0"),
        ("dicmor", {"prior": "fixed"}, "prior must be one of learned, random; found 'fixed'"),
        ("mean", {"guess": "median"}, "guess must be one of mean, ridge; found 'median'"),
        ("zero_fill", {"patterns": 0}, "patterns must be an integer of at least 1, found 0"),
        ("contrastive", {"projection": 0}, "projection must be an integer of at least 1, found 0"),
        ("contrastive", {"min_temperature": 1.0}, "0 < min_temperature < max_temperature is needed, found 1.0, 1.0"),
        ("late_fusion", {"weights": {"prior": 1.0}}, "no loss weight 'prior'"),
    ],
)
def test_options_out_of_range_raise(variant, change, text):
    with pytest.raises(ValueError, match=text):
        make_method(config_of(variant, **change))


@pytest.mark.parametrize("variant", ["mmin", "cif_mmin"])
def test_an_untrained_teacher_is_refused(variant):
    config = config_of(variant)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, complete_epochs=0))
    with pytest.raises(ValueError, match="a trained teacher, so complete_epochs must be at least 1, found 0"):
        make_method(config)


@pytest.mark.parametrize("name", ["late_fusion", "dicmor", "dedicated"])
def test_rows_without_a_label_count_in_no_loss_that_reads_labels(name):
    """Their label, -1, would be read as a class."""
    config = run_config(VECTORS, method=name, dropout=0.0)
    method, hyper, batch = make_method(config), hyperparameters_of(config), seven()
    params = random_params(method.init, batch)
    unlabelled = batch._replace(label=batch.label.at[4:].set(-1))
    fewer = batch._replace(where=jnp.arange(7) < 4)
    loss = lambda batch: method.loss(params, batch, EVERY, jax.random.key(0), hyper)[1]
    found, expected = loss(unlabelled), loss(fewer)
    for name in expected.keys() - {"squared_error"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


def test_the_ridge_map_at_the_solution_of_ridge_regression_does_not_move():
    """Closed form in numpy, one ridge regression for each output, on inputs divided by their root mean square."""
    batch = make_batch(VECTORS, size=64)
    batch = batch._replace(present=jnp.ones_like(batch.present))
    available, method = jnp.tile(EVERY, (10, 1))[:64], method_of("ridge")
    params = random_params(method.init, batch)
    embedding = np.asarray(method.encode(params, batch))
    centred, hidden = embedding - 10 * np.asarray(params["raw_mean"]), ~np.asarray(available)
    inputs = np.concatenate([np.where(hidden[..., None], 0, centred).reshape(64, -1), ~hidden], axis=1)
    scale = np.sqrt(np.mean(inputs**2, axis=0))
    used, columns = scale > 0, []  # an input that is always 0 has no coefficient
    for modality in range(embedding.shape[1]):
        rows = hidden[:, modality]
        x, y = (inputs / np.where(used, scale, 1))[rows], centred[rows, modality]
        strength = 3.0 * hidden.sum() / hidden.shape[1]  # the error is a mean over what is hidden in all modalities
        solution = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
        columns.append(solution / np.where(used, scale, 1)[:, None])
    params = {**params, "raw_coefficients": jnp.asarray(np.concatenate(columns, axis=1) / 10, jnp.float32)}
    size = lambda params: jnp.abs(
        gradients("ridge", params, batch, available, ridge=3.0)[0][0]["raw_coefficients"]
    ).max()
    assert size({**params, "raw_coefficients": 0.9 * params["raw_coefficients"]}) > 1e-3
    assert size(params) < 1e-5


def test_the_likelihood_of_dicmor_has_a_floor_for_each_modality():
    nll, where = (
        jnp.array([[1.0, -4.0, 2.0], [3.0, 2.0, jnp.nan]]),
        jnp.array([[True, True, True], [True, True, False]]),
    )
    value, slope = jax.value_and_grad(floored_nll)(nll, where)
    np.testing.assert_allclose(value, (2 + 0 + 2) / 3, rtol=1e-6)
    np.testing.assert_allclose(slope, [[1 / 6, 0, 1 / 3], [1 / 6, 0, 0]], rtol=1e-6)
    assert floored_nll(nll, jnp.zeros_like(where)) == 0


def test_each_network_is_clipped_by_itself():
    grads = {
        "a": {"x": jnp.array([3.0, 0.0]), "y": jnp.array([4.0])},
        "b": {"x": jnp.array([0.3])},
        "c": {"x": jnp.zeros(2)},
    }
    clip = clip_each_network(1.0, lambda path: path[0])
    clipped, _ = clip.update(grads, clip.init(grads))
    expected = {"a": {"x": jnp.array([0.6, 0.0]), "y": jnp.array([0.8])}, "b": grads["b"], "c": grads["c"]}
    chex.assert_trees_all_close(clipped, expected, rtol=1e-6)


@pytest.mark.parametrize("variant", ["mmin", "cif_mmin"])
def test_an_imagination_that_explodes_leaves_the_step_of_the_others(variant):
    method, params = method_of(variant), last_params(variant)
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    networks = {network_of(path) for path in paths}
    assert {("student", "encoders", f"encoder_{modality.name}") for modality in VECTORS} <= networks
    assert {("student", "imagination"), ("student", "classifier")} <= networks
    grads = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), params)
    exploded = {
        **grads,
        "student": {
            **grads["student"],
            "imagination": jax.tree.map(lambda x: 1e9 * x, grads["student"]["imagination"]),
        },
    }
    state = method.optimizer.init(params)
    calm, wild = (method.optimizer.update(given, state, params)[0]["student"] for given in (grads, exploded))
    for name in calm.keys() - {"imagination"}:
        chex.assert_trees_all_equal(calm[name], wild[name])


def test_pair_weights():
    assert pair_weights(["audio", "video", "text"]) == [0.5, 0.25, 0.25]
    assert pair_weights(["text", "audio", "video"]) == [0.25, 0.25, 0.5]
    assert pair_weights(["audio", "video", "valence"]) == [1 / 3] * 3
    assert pair_weights(["left", "right"]) == [1.0]


@pytest.mark.parametrize("with_invariant", [False, True], ids=["mmin", "cif_mmin"])
def test_the_imagination_step_by_step(with_invariant):
    """In numpy, block by block, as described for either method."""
    imagination = Imagination((6, 4), 3)
    x, invariant = np.random.default_rng(0).normal(size=(2, 5, 2, 4)).astype(np.float32)
    arguments = (x, invariant) if with_invariant else (x,)
    params = random_params(lambda key, _: imagination.init(key, *arguments)["params"], None)
    dense = lambda weights, x: x @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])
    x, shared, latents = x.reshape(5, 8), invariant.reshape(5, 8), []
    output, point = (x, None) if with_invariant else (np.zeros_like(x), x)
    for number in range(3):
        block = params[f"block_{number}"]
        point = output + shared if with_invariant else point + output
        hidden = dense(block["Dense_0"], point)
        latents.append(dense(block["latent"], np.where(hidden > 0, hidden, 0.01 * hidden)))
        output = dense(block["output"], np.maximum(dense(block["Dense_1"], latents[-1]), 0))
    expected = dense(params["imagined"], np.maximum(dense(params["hidden"], point + output), 0))
    found, found_latents = imagination.apply({"params": params}, *arguments)
    np.testing.assert_allclose(found.reshape(5, 8), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_latents, np.stack(latents, axis=1), rtol=1e-4, atol=1e-5)


def test_guesses_come_near_to_least_squares():
    """Without a speed of their own they were at a tenth of the mean when a stage of the default budget ended."""
    batch = make_batch(VECTORS, size=64)
    batch = batch._replace(present=jnp.ones_like(batch.present))
    batch.features["video"] = batch.features["audio"][:, :3]  # so that one can be guessed from the other
    hidden = jnp.tile(EVERY, (10, 1))[: len(batch.label)]
    method, params = method_of("ridge"), random_params(method_of("ridge").init, batch)
    params |= {name: jnp.zeros_like(params[name]) for name in ("raw_mean", "raw_coefficients")}
    step, state = jitted_step("ridge"), first_state(method, TRAIN, params)
    for number in range(300):
        state, _ = step(
            state, batch, jax.random.key(number), jnp.array(True), hyper_of("ridge")._replace(learning_rate=1e-3)
        )
    embedding = method.encode(state.params, batch)
    mean = embedding.mean(0, keepdims=True)
    assert jnp.abs(10 * state.params["raw_mean"] - mean[0]).max() < 0.05 * jnp.abs(mean).max()
    error = method.inspect(state.params, batch, embedding, hidden)["error"]
    of_mean = jnp.where(hidden, 0.0, jnp.square(embedding - mean).mean(-1))
    assert error.sum() < 0.9 * of_mean.sum()
