"""Dedicated models: one network for each pattern of available modalities, trained on those modalities alone.

What a user would do who knew in advance what will be missing. The networks are those of zero-fill without the inputs
that are never there. They share nothing but the batches and the epoch, which is chosen for all of them together, by the
rule of every method.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.methods.base import Method, Params, adam, bind, complete_then_missing, is_labelled
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FusionClassifier
from cmarr_jax.task import task_of
from cmarr_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """Dedicated models. Nothing is drawn: each network always has its own modalities."""
    model = Dedicated(encoders, num_classes)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=complete_then_missing(train),
        encode=lambda params, batch: bind(model, params)(batch),
        predict=lambda params, logits, available: pick(logits, available),
        diagnose=lambda params, logits, where: {},
        weights={},
        optimizer=adam(train, network_of=lambda path: path[0]),  # clipped as if it were trained alone
    )


class Dedicated(nn.Module):
    """A network for each availability pattern, `Batch -> logits [B, P, K]`."""

    config: EncoderConfig
    num_classes: int

    @nn.compact
    def __call__(self, batch: Batch, *, dropout: Rate = None) -> Array:
        logits = []
        for number, pattern in enumerate(availability_patterns(self.config.num_modalities)):
            columns = tuple(pattern.nonzero()[0].tolist())
            network = Network(self.config, self.num_classes, columns, name=f"network_{number}")
            logits.append(network(batch, dropout=dropout))
        return jnp.stack(logits, axis=1)


class Network(nn.Module):
    """Encoders of some modalities and a classifier, `Batch -> logits [B, K]`."""

    config: EncoderConfig
    num_classes: int
    columns: tuple[int, ...]

    @nn.compact
    def __call__(self, batch: Batch, *, dropout: Rate = None) -> Array:
        points = UnimodalEncoders(self.config, self.columns, name="encoders")(batch, dropout=dropout)
        return FusionClassifier(self.config, self.num_classes, name="classifier")(points, dropout=dropout)


def loss(
    model: Dedicated,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The sum of the networks' losses, each over the utterances that have all of its modalities.

    `available` is not read: no network sees a hidden modality.
    """
    logits = bind(model, params)(batch, dropout=hyper.dropout, rngs={"dropout": key})
    task = task_of(model.num_classes)
    values = task.loss(logits, batch)
    patterns = jnp.asarray(availability_patterns(batch.present.shape[1]))
    has_all = (batch.present[:, None] | ~patterns[None]).all(-1) & is_labelled(batch)[:, None]
    by_network = [losses.masked_mean(values[:, p], has_all[:, p], axis_name=axis_name) for p in range(len(patterns))]
    total = jnp.sum(jnp.stack(by_network))
    return total, {task.loss_name: total}


def pick(logits: Array, available: Array) -> Array:
    """The logits of the network for what is available, `[B, P, K]` and `[B, M]` -> `[B, K]`; zeros for nothing."""
    patterns = jnp.asarray(availability_patterns(available.shape[1]))
    chosen = (available[:, None] == patterns[None]).all(-1)
    return jnp.sum(jnp.where(chosen[..., None], logits, 0.0), axis=1)
