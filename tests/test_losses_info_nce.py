"""InfoNCE from logits, coupled and decoupled: values, unused entries, temperature."""

import math
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from jax.test_util import check_grads
from loss_inputs import TRANSFORMS, normal

from cmarr_jax import losses

FORMS = pytest.mark.parametrize("positive_in_denominator", [True, False], ids=["coupled", "decoupled"])


INFO_NCE = jax.jit(losses.info_nce, static_argnames="positive_in_denominator")  # compiled once for all tests


@TRANSFORMS
@FORMS
@pytest.mark.parametrize("per_anchor", [False, True])
def test_equals_twin(transform, positive_in_denominator, per_anchor):
    logits, positive = normal(5, 7), np.array([3, 0, 6, 2, 2])
    where = np.array([True, True, False, True, True])
    candidate = np.random.default_rng(1).random((5, 7) if per_anchor else 7) < 0.6
    kwargs = {"temperature": 0.3, "positive_in_denominator": positive_in_denominator}
    out = transform(partial(losses.info_nce, **kwargs))(*map(jnp.asarray, (logits, positive, where, candidate)))
    value, valid = reference.info_nce(logits, positive, where, candidate, **kwargs)
    np.testing.assert_allclose(out.value, value, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out.valid, valid)


def test_by_hand():
    # By hand: equal logits over c candidates give log c. Anchor 0 has three, anchor 1 only its positive, 2 is invalid.
    candidate = jnp.array([[True, True, True], [False, False, False], [True, True, True]])
    args = jnp.ones((3, 3)), jnp.array([0, 1, 2]), jnp.array([True, True, False]), candidate
    out = INFO_NCE(*args)
    np.testing.assert_allclose(out.value, [math.log(3), 0.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(out.valid, [True, True, False])
    # Decoupled, the positive is left out: log 2, and anchor 1 has nothing to be contrasted with.
    out = INFO_NCE(*args, positive_in_denominator=False)
    np.testing.assert_allclose(out.value, [math.log(2), 0.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(out.valid, [True, False, False])


def test_coupled_is_the_softplus_of_decoupled():
    # By hand: log(e^p + sum) - p = log(1 + e^(log sum - p)).
    args = jnp.asarray(normal(6, 9)), jnp.arange(6)
    coupled, decoupled = (INFO_NCE(*args, positive_in_denominator=form) for form in (True, False))
    np.testing.assert_allclose(coupled.value, jax.nn.softplus(decoupled.value), rtol=1e-5)
    assert (coupled.value >= 0).all()
    assert (decoupled.value < coupled.value).all()


@FORMS
def test_takes_a_constant_off_the_logits_and_large_ones(positive_in_denominator):
    loss_fn = partial(INFO_NCE, positive_in_denominator=positive_in_denominator)
    logits, positive = jnp.array([[300.0, 301.0], [-4.0, 2.0]]), jnp.array([1, 0])
    out = loss_fn(logits, positive)
    np.testing.assert_allclose(out.value, loss_fn(logits - 300, positive).value, rtol=1e-5)
    # By hand: log(1 + e^-1) and log(1 + e^6); decoupled -1 and 6.
    expected = [math.log1p(math.exp(-1)), math.log1p(math.exp(6))] if positive_in_denominator else [-1.0, 6.0]
    np.testing.assert_allclose(out.value, expected, rtol=1e-5)


@FORMS
def test_gradients(positive_in_denominator):
    where, candidate = jnp.array([True, False, True, True]), jnp.array([True, True, False, True, True])

    @jax.jit
    def loss(logits, temperature):
        out = INFO_NCE(
            logits,
            jnp.arange(4),
            where,
            candidate,
            temperature=temperature,
            positive_in_denominator=positive_in_denominator,
        )
        return losses.masked_mean(*out)

    check_grads(loss, (normal(4, 5), 0.7), order=1, modes=["fwd", "rev"], atol=1e-2, rtol=1e-2)


@FORMS
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_unused_entries_reach_neither_value_nor_gradients(positive_in_denominator, fill):
    logits = jnp.asarray(normal(4, 4))
    soiled = logits.at[:, 3].set(fill).at[2].set(fill)
    where, candidate = jnp.array([True, True, False, False]), jnp.array([True, True, True, False])

    def loss(logits, temperature):
        kwargs = {"temperature": temperature, "positive_in_denominator": positive_in_denominator}
        return losses.masked_mean(*INFO_NCE(logits, jnp.arange(4), where, candidate, **kwargs))

    value_and_grads = jax.jit(jax.value_and_grad(loss, (0, 1)))
    expected, found = (value_and_grads(x, 0.3) for x in (logits, soiled))
    chex.assert_trees_all_equal(expected, found)
    np.testing.assert_array_equal(found[1][0][2:], 0.0)
    np.testing.assert_allclose(jnp.sum(found[1][0], axis=-1), 0.0, atol=1e-6)
    assert float(found[1][1]) != 0


@FORMS
def test_minus_infinity_means_no_candidate(positive_in_denominator):
    hidden = jnp.array([[0, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 1]], bool)  # the last anchor has its positive only
    raw, positive = jnp.asarray(normal(3, 4)), jnp.array([0, 1, 2])

    def loss(raw, temperature, candidate):
        kwargs = {"temperature": temperature, "positive_in_denominator": positive_in_denominator}
        out = INFO_NCE(raw, positive, None, candidate, **kwargs)
        return losses.masked_mean(*out), out

    value_and_grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    found = value_and_grads(jnp.where(hidden, -jnp.inf, raw), 0.3, None)
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(found, value_and_grads(raw, 0.3, ~hidden))
    assert bool(found[0][1].valid[2]) == positive_in_denominator


def test_dividing_before_the_call_is_what_gives_nan():
    # The reason for the keyword: the caller's own division has a nan gradient, which no select afterwards can mend.
    raw, positive = jnp.array([[1.0, 0.0, -jnp.inf]]), jnp.array([0])
    before = jax.jit(lambda t: losses.info_nce(raw / t, positive).value[0])
    inside = jax.jit(lambda t: losses.info_nce(raw, positive, temperature=t).value[0])
    np.testing.assert_allclose(before(0.5), inside(0.5), rtol=1e-6)
    assert jnp.isnan(jax.grad(before)(0.5))
    check_grads(inside, (0.5,), order=1, atol=1e-2, rtol=1e-2)


@FORMS
def test_nothing_counts_and_a_single_logit(positive_in_denominator):
    loss_fn = partial(INFO_NCE, positive_in_denominator=positive_in_denominator)

    def loss(logits, where):
        out = loss_fn(logits, jnp.zeros(len(logits), int), where)
        return losses.masked_mean(*out), out.valid

    for logits, where in ((jnp.ones((3, 4)), jnp.zeros(3, bool)), (jnp.ones((1, 1)), None)):
        (value, valid), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits, where)
        np.testing.assert_allclose(value, 0.0, atol=1e-7)
        np.testing.assert_allclose(grad, 0.0, atol=1e-7)
        assert valid.any() == (where is None and positive_in_denominator)


@FORMS
def test_nan_in_a_used_entry_is_seen(positive_in_denominator):
    logits = jnp.ones((2, 3)).at[0, 2].set(jnp.nan)
    out = INFO_NCE(logits, jnp.array([0, 1]), positive_in_denominator=positive_in_denominator)
    np.testing.assert_array_equal(jnp.isnan(out.value), [True, False])


@FORMS
def test_bfloat16_gives_float32_and_vmap_equals_loop(positive_in_denominator):
    loss_fn = partial(INFO_NCE, positive_in_denominator=positive_in_denominator)
    logits, positive = jnp.asarray(normal(3, 4, 6)).astype(jnp.bfloat16), jnp.arange(4)
    out = jax.jit(jax.vmap(loss_fn, (0, None)))(logits, positive)
    chex.assert_type(out.value, jnp.float32)
    loop = [loss_fn(x.astype(jnp.float32), positive) for x in logits]
    chex.assert_trees_all_close(out, jax.tree.map(lambda *x: jnp.stack(x), *loop), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        {"logits": jnp.ones(3)},
        {"logits": jnp.ones((3, 4), int)},
        {"positive": jnp.zeros(4, int)},
        {"positive": jnp.zeros(3)},
        {"where": jnp.ones(3)},
        {"where": jnp.ones(4, bool)},
        {"candidate": jnp.ones(3, bool)},
        {"candidate": jnp.ones((1, 4), bool)},
        {"candidate": jnp.ones((1, 3, 4), bool)},
        {"candidate": jnp.array(True)},
        {"candidate": jnp.ones(4)},
        {"temperature": jnp.ones(3)},
    ],
)
def test_refuses_wrong_arguments(changed):
    args = {
        "logits": jnp.ones((3, 4)),
        "positive": jnp.zeros(3, int),
        "where": jnp.ones(3, bool),
        "candidate": jnp.ones(4, bool),
    }
    losses.info_nce(**args)
    with pytest.raises(AssertionError):
        losses.info_nce(**args | changed)
