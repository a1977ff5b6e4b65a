"""Dedicated models: each network reads its own modalities, and trains as if it were alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from baselines import EVERY, TRAIN, VECTORS
from test_methods import fill_hidden
from tiny import make_batch, random_params, run_config

from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.methods.base import adam
from cmarr_jax.methods.dedicated import pick
from cmarr_jax.training.step import first_state, make_train_step

CONFIG = run_config(VECTORS, method="dedicated", train=TRAIN, dropout=0.0)
METHOD = make_method(CONFIG)
NAMES = [f"network_{number}" for number in range(7)]


@functools.cache
def start():
    return random_params(METHOD.init, make_batch(VECTORS)), make_batch(VECTORS, size=7)


@functools.cache
def gradient():
    loss = lambda params, batch: METHOD.loss(params, batch, EVERY, jax.random.key(0), hyperparameters_of(CONFIG))
    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def by_hand(params, batch, number):
    """Logits of one network in numpy, from the features of its modalities."""
    dense = lambda layer, x: x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    network, points = params[NAMES[number]], []
    for column in np.flatnonzero(EVERY[number]):
        name = VECTORS[column].name
        layers = network["encoders"][f"encoder_{name}"]
        hidden = np.maximum(dense(layers["hidden"], np.asarray(batch.features[name])), 0)
        points.append(np.maximum(dense(layers["output"], hidden), 0))
    x = np.concatenate(points, axis=-1)
    for layer in ("Dense_0", "Dense_1"):
        x = np.maximum(dense(network["classifier"][layer], x), 0)
    return dense(network["classifier"]["logits"], x)


def test_each_pattern_has_the_network_of_its_modalities():
    params, batch = start()
    assert sorted(params) == NAMES
    for number, pattern in enumerate(EVERY):
        available = jnp.tile(pattern[None], (7, 1))
        hidden_is_nan = fill_hidden(batch, available, lambda x: jnp.full_like(x, jnp.nan))
        logits = METHOD.predict(params, METHOD.encode(params, hidden_is_nan), available)
        np.testing.assert_allclose(logits, by_hand(params, batch, number), rtol=1e-4, atol=1e-5)


def test_pick():
    logits = jnp.arange(14.0).reshape(1, 7, 2).repeat(8, axis=0)
    available = jnp.concatenate([EVERY, jnp.zeros((1, 3), bool)])
    np.testing.assert_array_equal(pick(logits, available), [*np.arange(14.0).reshape(7, 2), [0, 0]])


def test_a_network_learns_from_the_utterances_that_have_all_of_its_modalities():
    params, batch = start()
    (_, _), grads = gradient()(params, batch._replace(present=EVERY))
    for number, pattern in enumerate(EVERY):
        has_all = np.array([not np.any(pattern & ~present) for present in EVERY])
        (_, _), alone = gradient()(params, batch._replace(where=jnp.asarray(has_all)))
        chex.assert_trees_all_close(grads[NAMES[number]], alone[NAMES[number]], atol=1e-6)
        assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(alone[NAMES[number]])) > 1e-3


def test_each_gradient_is_clipped_by_itself():
    params, batch = start()
    (_, _), grads = gradient()(params, batch)
    state = METHOD.optimizer.init(params)
    for scale in (1.0, 50.0):
        updates, _ = METHOD.optimizer.update(jax.tree.map(lambda g, scale=scale: scale * g, grads), state, params)
        for name in NAMES:
            alone = adam(TRAIN)
            expected, _ = alone.update(
                jax.tree.map(lambda g, scale=scale: scale * g, grads[name]), alone.init(params[name])
            )
            chex.assert_trees_all_close(updates[name], expected, atol=1e-6)
    assert optax.tree.norm(jax.tree.map(lambda g: 50.0 * g, grads)) > 1.0


def test_the_loss_falls():
    params, batch = start()
    step = jax.jit(make_train_step(METHOD, TRAIN))
    state, losses = first_state(METHOD, TRAIN, params), []
    for number in range(20):
        state, aux = step(state, batch, jax.random.key(number), True, hyperparameters_of(CONFIG))
        losses.append(float(aux["loss"]))
    assert losses[-1] < 0.7 * losses[0]
