"""Zero-fill, the strong simple baseline (L: MMIN's "data augmentation" row): absent modalities are zeros.

The same encoders, classifier, schedule and availability patterns as CM-ARR, trained by the loss of the task alone.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig, check_choice
from cmarr_jax.methods import self_training
from cmarr_jax.methods.base import (
    Method,
    Params,
    adam,
    bind,
    check_positive,
    complete_then_missing,
    each_pattern,
    supervised_loss,
)
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Options:
    """Variants of the network, how many patterns it is trained with in a step, and self-training."""

    fusion: str = "concat"  # L; or "attention"
    availability_bits: bool = False  # D: the classifier is told what is available
    late_logits: bool = False  # D: each available modality adds logits of its own
    patterns: int = 1  # D: availability patterns of an utterance in one step; it is encoded once
    pseudo_labels: bool = False  # D: self-training on unlabelled utterances

    def __post_init__(self):
        check_choice("fusion", self.fusion, FUSIONS)
        check_positive("patterns", self.patterns)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """The baseline: complete data first, then a new availability pattern per utterance and reading."""
    model = ZeroFill(encoders, num_classes, options)
    weights, off = self_training.weights_of(options.pseudo_labels, num_classes)

    def loss(
        params: Params, batch: Batch, available: Array, key: Array, hyper: Hyperparameters, axis_name: str | None = None
    ) -> tuple[Array, dict[str, Array]]:
        apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
        embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
        guess = (
            self_training.guessed(partial(encode, model), partial(predict, model), params, batch, axis_name)
            if options.pseudo_labels
            else None
        )
        (embedding, guess), batch, available = each_pattern((embedding, guess), batch, available)
        logits = apply(embedding, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="predict")
        name, value = supervised_loss(logits, batch, axis_name)
        if guess is None:
            return value, {name: value}
        pseudo, terms = self_training.pseudo_terms(logits, guess, batch, hyper.weights, axis_name)
        return value + pseudo, {name: value, **terms}

    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=loss,
        stages=complete_then_missing(train, weights=off),
        encode=partial(encode, model),
        predict=partial(predict, model),
        diagnose=lambda params, embedding, where: {},
        weights=weights,
        optimizer=adam(train),
        patterns=options.patterns,
        unlabelled=options.pseudo_labels,
    )


def encode(model: "ZeroFill", params: Params, batch: Batch) -> Array:
    """As `Method.encode`, `[B, M, D]`."""
    return bind(model, params)(batch, method="encode")


def predict(model: "ZeroFill", params: Params, embedding: Array, available: Array) -> Array:
    """As `Method.predict`, logits `[B, K]`."""
    return bind(model, params)(embedding, available, method="predict")


class ZeroFill(nn.Module):
    """Encoders and classifier; unavailable modalities reach the classifier as zeros."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        options = self.options
        self.encoders = UnimodalEncoders(self.config)
        self.classifier = FusionClassifier(
            self.config, self.num_classes, options.fusion, options.availability_bits, options.late_logits
        )

    def encode(self, batch: Batch, *, dropout: Rate = None) -> Array:
        """Embedding of every modality, `[B, M, D]`."""
        return self.encoders(batch, dropout=dropout)

    def predict(self, embedding: Array, available: Array, *, dropout: Rate = None) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classifier(jnp.where(available[..., None], embedding, 0.0), available, dropout=dropout)

    def __call__(self, batch: Batch) -> Array:
        return self.predict(self.encode(batch), batch.present)
