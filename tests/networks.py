"""Small networks of the methods and their gradients, each compiled once."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from tiny import make_batch, random_params, run_config

from cmarr_jax.config import Hyperparameters
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods import hyperparameters_of, make_method

VARIANTS = {
    "mean": ("cm_arr", {}),
    "precision": ("cm_arr", {"combination": "precision"}),
    "linear": ("cm_arr", {"combination": "linear"}),
    "zeros": ("cm_arr", {"recovery": "zeros"}),
    "attention": ("cm_arr", {"fusion": "attention", "frame_attention": True}),
    "residual head": ("cm_arr", {"head": "residual"}),
    "clean target": ("cm_arr", {"clean_target": True, "alignment_scale": 0.5}),
    "ablations": (
        "cm_arr",
        {
            "recovery": "autoencoder",
            "alignment": "cosine",
            "refinement": "unsupervised",
            "availability_bits": True,
            "late_logits": True,
        },
    ),
    "zero_fill": ("zero_fill", {}),
    "zero_fill, attention": ("zero_fill", {"fusion": "attention"}),
}
PATTERNS = availability_patterns(3)
ENTROPY = {"entropy": 0.1, "entropy_floor": 1.0}


class Network(NamedTuple):
    params: dict
    logits: object
    loss: object
    stages: tuple
    hyper: Hyperparameters


@functools.cache
def network(variant):
    """Random parameters, `logits(params, batch, available)`, loss, stages and hyperparameters, without dropout."""
    name, changes = VARIANTS[variant]
    config = run_config(method=name, dropout=0.0, weights=ENTROPY if name == "cm_arr" else {}, **changes)
    method = make_method(config)
    params = random_params(method.init, make_batch())
    logits = jax.jit(lambda params, batch, available: method.predict(params, method.encode(params, batch), available))
    return Network(params, logits, method.loss, method.stages, hyperparameters_of(config))


@functools.cache
def jitted_gradients(variant):
    loss_fn = network(variant).loss

    def gradient(params, features, batch, available, hyper):
        loss = lambda params, features: loss_fn(
            params, batch._replace(features=features), available, jax.random.key(1), hyper
        )
        (loss, aux), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, features)
        return grads, loss, aux

    return jax.jit(gradient)


def gradients(variant, **weights):
    """`(params, features, batch, available) -> (grads of both, loss, aux)`; `weights` replace those of the variant."""
    hyper = network(variant).hyper
    hyper = hyper._replace(weights={**hyper.weights, **weights})
    return lambda *args: jitted_gradients(variant)(*args, hyper)


def mixed_available():
    """Every pattern once in a batch of seven."""
    return jnp.asarray(PATTERNS)
