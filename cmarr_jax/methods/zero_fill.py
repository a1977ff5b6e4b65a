"""Zero-fill, the strong simple baseline (L: MMIN's "data augmentation" row): absent modalities are zeros.

The same encoders, classifier, schedule and availability patterns as CM-ARR, trained by cross-entropy alone.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig, check_choice
from cmarr_jax.methods.base import (
    Method,
    Params,
    Stage,
    adam,
    bind,
    check_patterns,
    cross_entropy,
    each_pattern,
)
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.types import Array, Batch


@dataclasses.dataclass(frozen=True)
class Options:
    """Variants of the network and of its training."""

    fusion: str = "concat"  # L; or "attention"
    availability_bits: bool = False  # D: the classifier is told what is available
    late_logits: bool = False  # D: each available modality adds logits of its own
    patterns: int = 1  # D: availability patterns of an utterance in one step; it is encoded once
    hide: bool = True  # False: no modality is ever hidden, for a model of one condition

    def __post_init__(self):
        check_choice("fusion", self.fusion, FUSIONS)
        check_patterns(self.patterns)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """The baseline: complete data first, then a new availability pattern per utterance and reading."""
    model = ZeroFill(encoders, num_classes, options)

    def loss(
        params: Params, batch: Batch, available: Array, key: Array, hyper: Hyperparameters, axis_name: str | None = None
    ) -> tuple[Array, dict[str, Array]]:
        apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
        embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
        embedding, batch, available = each_pattern(embedding, batch, available)
        logits = apply(embedding, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="predict")
        value = cross_entropy(logits, batch, axis_name)
        return value, {"cross_entropy": value}

    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=loss,
        stages=(
            Stage("complete", train.complete_epochs, hide=False),
            Stage("missing", train.missing_epochs, hide=options.hide, decay=train.decay),
        ),
        encode=lambda params, batch: bind(model, params)(batch, method="encode"),
        predict=lambda params, embedding, available: bind(model, params)(embedding, available, method="predict"),
        diagnose=lambda params, embedding, where: {},
        weights={},
        optimizer=adam(train),
        patterns=options.patterns,
    )


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
