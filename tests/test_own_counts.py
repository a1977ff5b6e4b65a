"""Adam that counts for each parameter by itself."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import make_corpus, run_config

from cmarr_jax.config import TrainConfig
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import make_folds, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.methods.own_counts import scale_by_adam
from cmarr_jax.training.run import make_run

PARAMS = {"early": jnp.zeros((3, 2)), "late": jnp.zeros(4)}


def updates_of(transformation, gradients):
    """Of each step."""
    state, found = transformation.init(gradients[0]), []
    for gradient in gradients:
        updates, state = jax.jit(transformation.update)(gradient, state)
        found.append(updates)
    return found, state


def gradients(num_steps, seed=0):
    rng = np.random.default_rng(seed)
    return [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), PARAMS) for _ in range(num_steps)]


def test_with_gradients_from_the_start_it_is_optax_adam():
    given = gradients(20)
    for b1 in (0.9, 0.5):
        ours, theirs = (updates_of(make(b1), given)[0] for make in (scale_by_adam, optax.scale_by_adam))
        chex.assert_trees_all_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_part_that_begins_late_takes_the_steps_of_a_fresh_adam():
    given = gradients(20)
    nothing = [gradient | {"late": jnp.zeros(4)} for gradient in gradients(300, seed=1)]
    found, state = updates_of(scale_by_adam(), nothing + given)
    fresh, _ = updates_of(scale_by_adam(), given)
    chex.assert_trees_all_close([one["late"] for one in found[300:]], [one["late"] for one in fresh], rtol=1e-6)
    chex.assert_trees_all_equal([one["late"] for one in found[:300]], [jnp.zeros(4)] * 300)
    assert (state["early"].count, state["late"].count) == (320, 20)
    common, _ = updates_of(optax.scale_by_adam(), nothing + given)
    assert max(jnp.abs(one["late"]).max() for one in common) > 1.5 * max(jnp.abs(one["late"]).max() for one in fresh)


def test_a_gradient_of_zero_later_counts():
    given = gradients(1) + [jax.tree.map(jnp.zeros_like, PARAMS)] * 3
    ours, theirs = (updates_of(make(), given)[0] for make in (scale_by_adam, optax.scale_by_adam))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "options", "late"),
    [("cm_arr", {}, "projection"), ("imputation", {"guess": "ridge"}, "raw_coefficients")],
)
def test_what_the_first_stage_does_not_train_begins_with_the_second(method, options, late):
    train = TrainConfig(complete_epochs=2, missing_epochs=2, batch_size=12, eval_batch_size=12)
    corpus = make_corpus(sequences=())
    config = run_config(modality_configs(corpus), method=method, train=train, **options)
    fold = jax.tree.map(lambda part: part[0], stack_folds(make_folds(corpus)))
    init, epochs, _ = map(jax.jit, make_run(make_method(config), train))
    state, after = init(to_device(corpus), fold, jax.random.key(0), hyperparameters_of(config)), {}
    for until in (2, 4):
        state = epochs(to_device(corpus), fold, state, until)
        after[until] = {part: counts_of(state.model.opt_state[1][part]) for part in (late, "classifier")}
    [steps] = after[2]["classifier"]
    assert after[2] == {late: {0}, "classifier": {steps}}
    assert after[4] == {late: {steps}, "classifier": {2 * steps}}


def counts_of(part):
    states = jax.tree.leaves(part, is_leaf=lambda one: isinstance(one, optax.ScaleByAdamState))
    return {int(one.count) for one in states}
