"""The methods to compare with as small networks, on modalities with one vector per utterance, which compile fast."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from tiny import make_batch, random_params, randomize, run_config

from cmarr_jax.config import ModalityConfig, TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.step import ModelState, first_state, make_train_step

TOLD = {"availability_bits": True, "late_logits": True, "patterns": 2}
CASCADE = {"num_blocks": 2, "widths": (4,)}
SMALL_CM_ARR = {"flow_layers": 2, "flow_hidden": 8, "projection": 4}
VARIANTS = {
    "mmin": ("mmin", CASCADE | {"unlabelled": True}),
    "cif_mmin": ("cif_mmin", CASCADE),
    "dicmor": ("dicmor", {"flow_layers": 2, "flow_hidden": 8, "repair_ratio": 1}),
    "dicmor_random": ("dicmor", {"flow_layers": 2, "flow_hidden": 8, "repair_ratio": 1, "prior": "random"}),
    "late_fusion": ("cmarr_jax.methods.late_fusion", {}),
    "mean": ("cmarr_jax.methods.imputation", {"guess": "mean"}),
    "ridge": ("cmarr_jax.methods.imputation", {"guess": "ridge"}),
    "zero_fill": ("zero_fill", TOLD),
    "zero_fill_self": ("zero_fill", TOLD | {"pseudo_labels": True}),
    "contrastive": ("contrastive", TOLD | {"projection": 4}),
    "contrastive_self": ("contrastive", TOLD | {"projection": 4, "pseudo_labels": True}),
    "cm_arr_self": ("cm_arr", TOLD | SMALL_CM_ARR | {"pseudo_labels": True}),
}
IMAGINING = ("mmin", "cif_mmin")
NEW = (*IMAGINING, "dicmor")
TRAIN = TrainConfig(complete_epochs=3, missing_epochs=5, average=0.5)
VECTORS = tuple(ModalityConfig(name, width, "vector") for name, width in (("audio", 5), ("video", 3), ("text", 6)))
EVERY = jnp.asarray(availability_patterns(3))  # each pattern once: a batch of seven
STEPS = 30


def config_of(variant, modalities=VECTORS, **changes):
    name, options = VARIANTS[variant]
    return run_config(modalities, method=name, train=TRAIN, dropout=0.0, **(options | changes))


@functools.cache
def method_of(variant):
    return make_method(config_of(variant))


def hyper_of(variant, **weights):
    """Without dropout; `weights` replace the defaults."""
    hyper = hyperparameters_of(config_of(variant))
    return hyper._replace(weights={**hyper.weights, **weights})


def first_params(variant):
    """Random parameters of the first stage."""
    params = random_params(method_of(variant).init, make_batch(VECTORS))
    return {**params, "imagines": jnp.zeros(())} if variant in IMAGINING else params


def last_params(variant):
    """Random parameters of the last stage; a student is not its teacher any more."""
    begin, params = method_of(variant).stages[-1].begin, first_params(variant)
    return {**begin(params), "student": randomize(params["student"], scale=0.1, seed=1)} if begin else params


@functools.cache
def predict(variant):
    return jax.jit(method_of(variant).predict)


def drawn(variant, available):
    """What the loss gets: the same patterns, as often as the method draws some."""
    return jnp.stack([available] * 2) if method_of(variant).patterns == 2 else available


@functools.cache
def gradients_of(variant):
    """`gradients(...)` as a function of all its numbers, plain."""

    def gradients(params, batch, available, hyper, axis_name=None):
        loss = lambda params, features: method_of(variant).loss(
            params, batch._replace(features=features), available, jax.random.key(1), hyper, axis_name
        )
        (value, terms), grads = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, batch.features)
        return grads, value, terms

    return gradients


@functools.cache
def jitted_gradients(variant):
    return jax.jit(gradients_of(variant))


def gradients(variant, params, batch, available, **weights):
    """`(grads by parameters and features, loss, terms)`; `weights` replace the defaults."""
    return jitted_gradients(variant)(params, batch, drawn(variant, available), hyper_of(variant, **weights))


def seven():
    return make_batch(VECTORS, size=7)


def with_unlabelled(variant, batch):
    """Every third row loses its label, if the method can use such rows."""
    unlabelled = (jnp.arange(len(batch.label)) % 3 == 2) & method_of(variant).unlabelled
    return batch._replace(label=jnp.where(unlabelled, -1, batch.label))


class Trained(NamedTuple):
    """States at the start and the end of each stage, and the terms of its steps."""

    states: list[tuple[ModelState, ModelState]]
    terms: list[list[dict]]


@functools.cache
def jitted_step(variant):
    return jax.jit(make_train_step(method_of(variant), TRAIN))


@functools.cache
def trained(variant):
    """Both stages on one fixed batch."""
    method, hyper = method_of(variant), hyper_of(variant)
    batch, params = with_unlabelled(variant, make_batch(VECTORS, size=12)), first_params(variant)
    states, terms = [], []
    for number, stage in enumerate(method.stages):
        params = stage.begin(params) if stage.begin else params
        state = begin = first_state(method, TRAIN, params)
        now = hyper._replace(weights={**hyper.weights, **stage.weights})
        terms.append([])
        for key in jax.random.split(jax.random.key(number), STEPS):
            state, aux = jitted_step(variant)(state, batch, key, stage.hide, now)
            terms[-1].append(aux)
        states.append((begin, state))
        params = state.params
    return Trained(states, terms)
