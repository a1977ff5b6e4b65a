"""Methods that use unlabelled rows: no label counts where there is none, and the rows count in the other terms."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import (
    EVERY,
    config_of,
    drawn,
    first_params,
    gradients,
    hyper_of,
    last_params,
    method_of,
    predict,
    seven,
)

from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import cross_entropy
from cmarr_jax.methods.self_training import align_shares

LABELLED = jnp.arange(7) < 4
SELF_TRAINED = ("zero_fill_self", "contrastive_self", "cm_arr_self")
UNLABELLED_TERMS = {
    "mmin": {"imagination", "cycle"},
    "contrastive": {"alignment"},
    "zero_fill_self": {"pseudo"},
    "contrastive_self": {"alignment", "pseudo"},
    "cm_arr_self": {"alignment", "nll", "squared_error", "pseudo"},
}


def half_labelled():
    batch = seven()
    return batch._replace(label=jnp.where(LABELLED, batch.label, -1))


def scaled(params, scale):
    return jax.tree.map(lambda x: scale * x, params)


@functools.cache
def guesses(variant="zero_fill_self", scale=1.0):
    """Probabilities that the network gives from all modalities, `[7, K]`; those of rows differ widely.

    With a smaller `scale` of the parameters they are less sure.
    """
    params, batch = scaled(last_params(variant), scale), seven()
    embedding = method_of(variant).encode(params, batch)
    return jax.nn.softmax(predict(variant)(params, embedding, batch.present))


def test_cross_entropy_leaves_unlabelled_rows_out():
    batch, logits = half_labelled(), jax.random.normal(jax.random.key(0), (7, 4))
    value, grad = jax.value_and_grad(cross_entropy)(logits, batch)
    log_share = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(value, -np.mean([log_share[row, batch.label[row]] for row in range(4)]), rtol=1e-6)
    assert grad[LABELLED].all()
    assert not grad[~LABELLED].any()
    nothing = batch._replace(label=jnp.full(7, -1))
    assert cross_entropy(logits, nothing) == 0.0


@pytest.mark.parametrize("variant", UNLABELLED_TERMS)
def test_unlabelled_rows_count_where_no_label_is_needed(variant):
    """Against the same rows left out altogether."""
    params, batch = last_params(variant), half_labelled()
    assert method_of(variant).unlabelled
    changed = {"threshold": 0.0} if variant in SELF_TRAINED else {}
    _, _, terms = gradients(variant, params, batch, EVERY, **changed)
    _, _, without = gradients(variant, params, batch._replace(where=LABELLED), EVERY, **changed)
    np.testing.assert_allclose(terms["cross_entropy"], without["cross_entropy"], rtol=1e-5)
    for name in UNLABELLED_TERMS[variant]:
        assert abs(terms[name] - without[name]) > 1e-3


@pytest.mark.parametrize("variant", UNLABELLED_TERMS)
def test_a_batch_without_any_label_teaches_the_classifier_nothing_by_itself(variant):
    """Only self-training's own guesses do, and only above the threshold."""
    params, batch = last_params(variant), half_labelled()._replace(label=jnp.full(7, -1))
    weights = {"threshold": 1.0} if variant in SELF_TRAINED else {}
    (grads, _), _, terms = gradients(variant, params, batch, EVERY, **weights)
    assert terms["cross_entropy"] == 0.0
    grads = grads.get("student", grads)
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["classifier"]))


@pytest.mark.parametrize("variant", SELF_TRAINED)
def test_pseudo_labels_are_the_networks_own_classes(variant):
    """All rows sure: their cross-entropy is that of the same rows with these classes as labels."""
    params, nothing = last_params(variant), seven()._replace(label=jnp.full(7, -1))
    told = nothing._replace(label=guesses(variant).argmax(-1))
    _, value, terms = gradients(variant, params, nothing, EVERY, threshold=0.0)
    _, _, expected = gradients(variant, params, told, EVERY)
    np.testing.assert_allclose(terms["pseudo"], expected["cross_entropy"], rtol=1e-5)
    assert terms["pseudo_share"] == 1.0
    _, twice, _ = gradients(variant, params, nothing, EVERY, threshold=0.0, pseudo=2.0)
    np.testing.assert_allclose(twice - value, terms["pseudo"], rtol=1e-4)


def test_zero_fill_learns_from_its_own_classes_as_from_labels():
    """All rows sure: the loss and gradient are those of plain zero-fill that is given these classes as labels."""
    params, nothing = last_params("zero_fill_self"), seven()._replace(label=jnp.full(7, -1))
    told = nothing._replace(label=guesses().argmax(-1))
    found = gradients("zero_fill_self", params, nothing, EVERY, threshold=0.0)
    expected = gradients("zero_fill", params, told, EVERY)
    chex.assert_trees_all_close(found[:2], expected[:2], atol=1e-6)
    assert found[2]["pseudo_share"] == 1.0


def test_rows_below_the_threshold_add_nothing_and_count_in_the_mean():
    params, nothing = last_params("zero_fill_self"), seven()._replace(label=jnp.full(7, -1))
    highest = np.sort(guesses().max(-1))
    threshold = (highest[3] + highest[4]) / 2
    sure = guesses().max(-1) > threshold
    assert sure.sum() == 3
    told = nothing._replace(label=guesses().argmax(-1), where=sure)
    _, _, terms = gradients("zero_fill_self", params, nothing, EVERY, threshold=threshold)
    _, _, expected = gradients("zero_fill", params, told, EVERY)
    np.testing.assert_allclose(terms["pseudo"], 3 / 7 * expected["cross_entropy"], rtol=1e-5)
    np.testing.assert_allclose(terms["pseudo_share"], 3 / 7, rtol=1e-6)


def test_a_guess_reads_hidden_modalities_and_gives_them_no_gradient():
    params, nothing = last_params("zero_fill_self"), seven()._replace(label=jnp.full(7, -1))
    (_, by_features), _, terms = gradients("zero_fill_self", params, nothing, EVERY, threshold=0.0)
    for column, grad in enumerate(by_features.values()):
        assert not grad[~EVERY[:, column]].any()
    hidden = {name: jnp.where(EVERY[:, [m]], x, -3.0 * x) for m, (name, x) in enumerate(nothing.features.items())}
    changed = nothing._replace(features=type(nothing.features)(hidden))
    _, _, other = gradients("zero_fill_self", params, changed, EVERY, threshold=0.0)
    assert other["pseudo"] != terms["pseudo"]


@pytest.mark.parametrize("variant", ["contrastive_self", "cm_arr_self"])
def test_a_guess_is_a_fixed_label(variant):
    """No gradient passes through it: with every row unlabelled, only the two modalities that are shown get one."""
    params, nothing = last_params(variant), seven()._replace(label=jnp.full(7, -1))
    shown = jnp.broadcast_to(jnp.asarray([True, True, False]), (7, 3))
    (_, by_features), _, terms = gradients(variant, params, nothing, shown, threshold=0.0)
    assert terms["pseudo_share"] == 1.0
    assert all(grad.any() for grad in list(by_features.values())[:2])
    assert not by_features["text"].any()


@pytest.mark.parametrize(
    "weights", [{"threshold": 1.0}, {"pseudo": 0.0, "threshold": 0.0}], ids=["nothing sure", "stage 1"]
)
def test_without_pseudo_labels_the_loss_has_the_bits_of_plain_zero_fill(weights):
    """Not compiled, as two programs may round differently."""
    params, batch, available = first_params("zero_fill"), half_labelled(), drawn("zero_fill", EVERY)
    arguments = params, batch, available, jax.random.key(1)
    expected, terms = method_of("zero_fill").loss(*arguments, hyper_of("zero_fill")._replace(dropout=0.3))
    hyper = hyper_of("zero_fill_self", **weights)._replace(dropout=0.3)
    found, others = method_of("zero_fill_self").loss(*arguments, hyper)
    assert found == expected == terms["cross_entropy"]
    assert (others["pseudo"] == 0.0) == (weights["threshold"] == 1.0)


@pytest.mark.parametrize("variant", SELF_TRAINED)
def test_stage_1_has_no_self_training(variant):
    method = method_of(variant)
    first, last = method.stages
    assert first.weights["pseudo"] == 0.0
    assert "pseudo" not in last.weights
    assert method.unlabelled
    assert {"pseudo": 1.0, "threshold": 0.95}.items() <= method.weights.items()


@pytest.mark.parametrize("name", ["zero_fill", "contrastive", "cm_arr"])
def test_a_regression_has_no_pseudo_labels(name):
    config = dataclasses.replace(config_of("zero_fill"), method=name, options={"pseudo_labels": True})
    with pytest.raises(ValueError, match="pseudo_labels needs classes"):
        make_method(dataclasses.replace(config, task="regression"))


def test_pseudo_labels_need_the_unlabelled_rows():
    with pytest.raises(ValueError, match="needs unlabelled=True"):
        make_method(config_of("cm_arr_self", unlabelled=False))


def test_the_option_alone_changes_zero_fill():
    plain, trained_by_itself = method_of("zero_fill"), method_of("zero_fill_self")
    assert not plain.weights
    assert not plain.unlabelled
    assert [dict(stage.weights) for stage in plain.stages] == [{}, {}]
    assert trained_by_itself.weights == {"pseudo": 1.0, "threshold": 0.95}
    assert [dict(stage.weights) for stage in trained_by_itself.stages] == [{"pseudo": 0.0}, {}]
    assert not make_method(config_of("mmin", unlabelled=False)).unlabelled
    shapes = [jax.eval_shape(method.init, jax.random.key(0), seven()) for method in (plain, trained_by_itself)]
    chex.assert_trees_all_equal_shapes_and_dtypes(*shapes)


def test_the_probe_changes_no_logits():
    params, batch = last_params("contrastive"), half_labelled()
    found = [gradients("contrastive", params, batch, EVERY, fine_tuning=share) for share in (0.0, 1.0)]
    chex.assert_trees_all_equal(found[0][2], found[1][2])


def test_guesses_are_aligned_by_hand():
    """Two labelled rows, two unlabelled ones and one that does not count.

    Two rows more have the shares of all, (1 + 1.7, 1 + 0.3) / 4 = (0.675, 0.325). Labels: (1 + 1.35, 1 + 0.65) / 4 =
    (0.5875, 0.4125). Guesses: (1.7 + 1.35, 0.3 + 0.65) / 4 = (0.7625, 0.2375). Ratio: (0.770492, 1.736842). Row 2:
    (0.9, 0.1) * ratio = (0.693443, 0.173684); row 3: (0.8, 0.2) * ratio = (0.616393, 0.347368).
    """
    guess = jnp.asarray([[0.3, 0.7], [0.6, 0.4], [0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
    label, where = jnp.asarray([0, 1, -1, -1, -1]), jnp.arange(5) < 4
    found = align_shares(guess, label, where)
    np.testing.assert_allclose(found[2], [0.799701, 0.200299], atol=1e-6)
    np.testing.assert_allclose(found[3], [0.639571, 0.360429], atol=1e-6)
    np.testing.assert_array_equal(found[:2], guess[:2])
    np.testing.assert_array_equal(found[4], guess[4])


def test_a_preferred_class_loses_its_preference():
    """Every guess names class 0, half of the labels do: only those that are the surest of class 0 still name it."""
    guess = jnp.stack([jnp.linspace(0.6, 0.99, 200), 1 - jnp.linspace(0.6, 0.99, 200)], axis=1)
    label = jnp.concatenate([jnp.tile(jnp.arange(2), 50), jnp.full(200, -1)])
    found = align_shares(jnp.concatenate([guess[:100], guess]), label, jnp.ones(300, bool))[100:]
    assert (guess.argmax(-1) == 0).all()
    assert 90 < (found.argmax(-1) == 0).sum() < 140
    np.testing.assert_array_equal(jnp.argsort(found[:, 0]), jnp.arange(200))
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 2], ids=["no label", "no unlabelled row"])
def test_without_labels_or_guesses_nothing_is_aligned(label):
    guess = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (9, 4)))
    np.testing.assert_allclose(align_shares(guess, jnp.full(9, label), jnp.ones(9, bool)), guess, rtol=1e-6)


def test_a_class_that_nothing_names_stays_finite():
    guess = jnp.asarray([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.7, 0.1]])
    found = align_shares(guess, jnp.asarray([-1, -1, 0]), jnp.ones(3, bool))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:2, 2], 0.0)
    np.testing.assert_array_equal(found[0], guess[0])


def test_guesses_are_aligned_over_all_devices():
    guess = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (8, 4)))
    batch = guess, jnp.asarray([0, 1, -1, -1, -1, 2, -1, -1]), jnp.arange(8) != 4
    expected = align_shares(*batch)
    found = jax.pmap(lambda *part: align_shares(*part, "batch"), "batch")(
        *(x.reshape(4, 2, *x.shape[1:]) for x in batch)
    )
    np.testing.assert_allclose(found.reshape(8, 4), expected, rtol=1e-6)
    assert (abs(expected - guess).max(-1) > 1e-3).tolist() == [False, False, True, True, False, False, True, True]


@pytest.mark.parametrize("variant", SELF_TRAINED)
def test_guesses_are_aligned_in_training(variant):
    """All rows sure: their cross-entropy is that of the rows with the classes of the aligned guesses."""
    plain, params = guesses(variant, 0.5), scaled(last_params(variant), 0.5)
    batch = half_labelled()._replace(label=jnp.where(LABELLED, plain.mean(0).argmin(), -1))
    aligned = align_shares(plain, batch.label, batch.where).argmax(-1)
    assert (aligned != plain.argmax(-1))[~LABELLED].any()
    _, _, terms = gradients(variant, params, batch, EVERY, threshold=0.0)
    told = batch._replace(label=jnp.where(LABELLED, -1, aligned), where=~LABELLED)
    _, _, expected = gradients(variant, params, told, EVERY)
    np.testing.assert_allclose(terms["pseudo"], expected["cross_entropy"], rtol=1e-5)
