"""Late fusion: one classifier per modality; the posteriors of the available ones are multiplied.

`log p(y | available) = sum_m log p(y | m) - (number available - 1) * log p(y) + constant`. If the modalities are
independent given the class, and each posterior is right, this is Bayes' rule. The encoders are those of every method,
each trained by its own cross-entropy, in one run with one chosen epoch. Trained networks are too sure of themselves,
which a product of posteriors repeats, so each modality's logits are divided by a temperature that is fitted to the
validation rows. In a regression, the numbers of the available modalities are averaged (D).

Marks C, L, D: docs/decisions.md.

Sources: Kittler et al., On Combining Classifiers, IEEE TPAMI 1998, the product rule. Guo et al., On Calibration of
Modern Neural Networks, ICML 2017, the temperature.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.methods.base import Method, Params, adam, bind, complete_then_missing, is_labelled
from cmarr_jax.nn.dropout import Dropout, Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.task import task_of
from cmarr_jax.types import Array, Batch

TEMPERATURES = np.geomspace(0.1, 10.0, 81)  # D: those that are tried
PRIOR_SPEED = 10.0  # D: a step of Adam moves the log-shares this many times as far as a parameter


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """Late fusion. Its training needs no hidden modalities; its stages have the budget of the other methods."""
    model = LateFusion(encoders, num_classes)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=complete_then_missing(train),
        encode=lambda params, batch: bind(model, params)(batch),
        predict=predict,
        diagnose=lambda params, logits, where: {},
        weights={},
        optimizer=adam(train),
        calibrate=calibrate if num_classes > 1 else None,
    )


class LateFusion(nn.Module):
    """Encoders and one classifier per modality, `Batch -> logits [B, M, K]`; class shares and temperatures."""

    config: EncoderConfig
    num_classes: int

    @nn.compact
    def __call__(self, batch: Batch, *, dropout: Rate = None) -> Array:
        if self.num_classes > 1:
            self.param("raw_log_prior", nn.initializers.zeros, (self.num_classes,))
            self.param("log_temperature", nn.initializers.zeros, (self.config.num_modalities,))  # not trained
        embedding = UnimodalEncoders(self.config, name="encoders")(batch, dropout=dropout)
        logits = []
        for column, modality in enumerate(self.config.modalities):
            x = nn.relu(nn.Dense(self.config.embedding, name=f"hidden_{modality.name}")(embedding[:, column]))
            x = Dropout()(x, dropout)
            logits.append(nn.Dense(self.num_classes, name=f"logits_{modality.name}")(x))
        return jnp.stack(logits, axis=1)


def predict(params: Params, logits: Array, available: Array) -> Array:
    """Outputs `[B, K]` from those of each modality, `[B, M, K]`, of which only available ones are read."""
    if logits.shape[-1] == 1:
        return average(logits, available)
    return fuse(tempered(params, logits), log_prior(params), available)


def average(numbers: Array, available: Array) -> Array:
    """Mean number of the available modalities, `[B, M, 1]` and `[B, M]` -> `[B, 1]`; zero where there is none."""
    seen = available[..., None]
    return jnp.sum(jnp.where(seen, numbers, 0.0), axis=1) / jnp.maximum(seen.sum(1), 1)


def log_prior(params: Params) -> Array:
    """Log-shares of the classes, up to a constant, `[K]`.

    As a plain parameter, it moves by less than 1 in the default budget at the rate of MSP-IMPROV, and in a simulation
    of that schedule was still 0.2 nats away from one of the shares at the end.
    """
    return PRIOR_SPEED * params["raw_log_prior"]


def tempered(params: Params, logits: Array) -> Array:
    """The logits `[B, M, K]` of each modality, divided by its temperature."""
    return logits / jnp.exp(params["log_temperature"])[None, :, None]


def calibrate(params: Params, logits: Array, label: Array, present: Array, where: Array) -> Params:
    """The parameters with the temperature of each modality at which its validation labels are likeliest.

    A modality that no row has keeps its temperature of 1.

    Args:
      params: Whose temperatures are 1.
      logits: `[P, n, K]` by condition; the first M conditions have one modality each.
      label: `[n]`, int.
      present: `[n, M]`, bool.
      where: Rows that count, `[n]`, bool.
    """

    counted = present.T & where[None]
    temperatures = jnp.asarray(TEMPERATURES, logits.dtype)

    def nll(temperature: Array) -> Array:
        single = logits[: present.shape[1]] / temperature
        label_of_each = jnp.broadcast_to(label[None], single.shape[:2])
        values = optax.softmax_cross_entropy_with_integer_labels(single, label_of_each)
        return jnp.sum(jnp.where(counted, values, 0.0), axis=1)

    best = jnp.log(temperatures)[jnp.argmin(jax.vmap(nll)(temperatures), axis=0)]
    return {**params, "log_temperature": jnp.where(counted.any(axis=1), best, 0.0)}


def fuse(logits: Array, log_prior: Array, available: Array) -> Array:
    """The product rule.

    Args:
      logits: Of each modality's posterior, `[B, M, K]`; rows that are not available are not read.
      log_prior: Log-shares of the classes in training, up to a constant, `[K]`.
      available: `[B, M]`, bool.

    Returns:
      Log-posteriors up to a constant, `[B, K]`; `log_prior` where nothing is available.
    """
    seen = available[..., None]
    log_posterior = jax.nn.log_softmax(jnp.where(seen, logits, 0.0), axis=-1)
    count = available.sum(-1, keepdims=True)
    return jnp.sum(jnp.where(seen, log_posterior, 0.0), axis=1) - (count - 1) * jax.nn.log_softmax(log_prior)[None]


def loss(
    model: LateFusion,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The task's loss of each modality that an utterance has, summed over the modalities; and that of the class shares.

    The second has no input: it is least where `log_prior` is the log-share of each class in training. No modality
    learns from another one, so hiding would only take training data away: `available` is not read.
    """
    logits = bind(model, params)(batch, dropout=hyper.dropout, rngs={"dropout": key})
    task = task_of(model.num_classes)
    values = task.loss(logits, batch)
    mean = lambda values, where: losses.masked_mean(values, where, axis_name=axis_name)
    labelled = is_labelled(batch)
    by_modality = [mean(values[:, m], batch.present[:, m] & labelled) for m in range(values.shape[1])]
    supervised = jnp.sum(jnp.stack(by_modality))
    if model.num_classes == 1:
        return supervised, {task.loss_name: supervised}
    prior = jnp.broadcast_to(log_prior(params)[None], (len(batch.label), model.num_classes))
    shares = mean(task.loss(prior, batch), labelled)
    return supervised + shares, {task.loss_name: supervised, "prior": shares}
