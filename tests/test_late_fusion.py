"""Late fusion: the product rule, the shares of the classes, temperatures."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.special
from baselines import EVERY, TRAIN, VECTORS, first_params, hyper_of, jitted_step, method_of
from tiny import make_batch, make_corpus, make_setup

from cmarr_jax.methods.late_fusion import calibrate, fuse, log_prior
from cmarr_jax.training.evaluation import evaluate
from cmarr_jax.training.step import first_state


def test_late_fusion_is_bayes_rule_for_modalities_independent_given_the_class():
    """Gaussians of unit variance around means of the classes; the exact posterior by hand, from the joint density."""
    rng = np.random.default_rng(0)
    share, centre = np.array([0.1, 0.2, 0.3, 0.4]), rng.normal(size=(3, 4, 2))
    x = rng.normal(size=(7, 3, 2))
    log_density = -0.5 * ((x[:, :, None] - centre[None]) ** 2).sum(-1)  # [B, M, K], up to a constant
    joint = np.log(share) + (log_density * np.asarray(EVERY)[..., None]).sum(1)
    expected = np.exp(joint) / np.exp(joint).sum(1, keepdims=True)
    logits = np.log(share) + log_density + rng.normal(size=(7, 3, 1))  # posteriors of one modality, not normalised
    found = fuse(jnp.where(EVERY[..., None], logits, jnp.nan), jnp.log(share) + 5.0, EVERY)
    np.testing.assert_allclose(jax.nn.softmax(found), expected, rtol=1e-4, atol=1e-6)
    nothing = fuse(jnp.asarray(logits), jnp.log(share), jnp.zeros((7, 3), bool))
    np.testing.assert_allclose(jax.nn.softmax(nothing), np.tile(share, (7, 1)), rtol=1e-5)


def test_late_fusion_learns_the_shares_of_the_classes():
    batch = make_batch(VECTORS, size=12)._replace(label=jnp.array([0] * 6 + [1] * 3 + [2] * 2 + [3], jnp.int32))
    state = first_state(method_of("late_fusion"), TRAIN, first_params("late_fusion"))
    for step in range(60):
        hyper = hyper_of("late_fusion")._replace(learning_rate=0.02 if step < 30 else 0.004)
        state, _ = jitted_step("late_fusion")(state, batch, jax.random.key(step), True, hyper)
    share = jax.nn.softmax(log_prior(state.params))
    np.testing.assert_allclose(np.log(share), np.log(np.array([6, 3, 2, 1]) / 12), atol=0.1)


def test_temperatures_are_the_likeliest_on_validation():
    """Against scipy's minimum, over the rows that have the modality and count."""
    rng = np.random.default_rng(0)
    label, scale = rng.integers(4, size=400), np.array([0.25, 1.0, 4.0])
    centre = 1.5 * np.eye(4)[label]
    logits = jnp.asarray(
        np.stack([s * (centre + rng.normal(size=(400, 4))) for s in scale] * 2 + [centre]), jnp.float32
    )
    present, where = rng.random((400, 3)) < 0.8, np.arange(400) < 350
    untouched = {"raw_log_prior": jnp.ones(4), "log_temperature": jnp.zeros(3)}
    found = calibrate(untouched, logits, jnp.asarray(label), jnp.asarray(present), jnp.asarray(where))
    for m in range(3):
        rows = present[:, m] & where
        nll = lambda t, m=m, rows=rows: (
            -np.mean(
                scipy.special.log_softmax(np.asarray(logits[m])[rows] / np.exp(t), axis=-1)[
                    np.arange(rows.sum()), label[rows]
                ]
            )
        )
        best = scipy.optimize.minimize_scalar(nll, bounds=(-2.3, 2.3), method="bounded").x
        np.testing.assert_allclose(found["log_temperature"][m], best, atol=np.log(100) / 80)  # a step of the grid
    np.testing.assert_array_equal(found["raw_log_prior"], untouched["raw_log_prior"])
    assert np.ptp(found["log_temperature"]) > 2


def test_a_modality_without_validation_rows_keeps_its_temperature():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(7, 20, 4)), jnp.float32)
    present = jnp.broadcast_to(jnp.asarray([True, True, False]), (20, 3))
    params = {"log_temperature": jnp.zeros(3)}
    found = calibrate(params, logits, jnp.arange(20) % 4, present, jnp.arange(20) < 15)["log_temperature"]
    assert found[:2].all()
    assert found[2] == 0.0


def test_a_run_calibrates_on_validation_rows_only():
    setup = make_setup("late_fusion", make_corpus(sequences=()))
    fold, number = setup.fold(0), jax.random.key(0)
    result = setup.run(setup.data, fold, number, setup.hyper)
    assert result.params["log_temperature"].any()
    for rows, where in ((fold.test, fold.test_where), (fold.val, fold.val_where)):
        changed = setup.data._replace(label=setup.data.label.at[rows].add(jnp.where(where, 1, 0)) % 4)
        other = setup.run(changed, fold, number, setup.hyper).params["log_temperature"]
        assert np.array_equal(other, result.params["log_temperature"]) == (rows is fold.test)
    evaluated, _ = evaluate(setup.method, result.params, result.normalizer, setup.data, fold.val, fold.val_where)
    np.testing.assert_allclose(result.val_logits, evaluated.logits, atol=1e-5)
    np.testing.assert_array_equal(result.val_counts, evaluated.counts)
