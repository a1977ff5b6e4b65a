"""Contrastive pre-training of the encoders, then fine-tuning: the common way to use unlabelled utterances.

Stage 1 draws the modalities of an utterance together and apart from those of other utterances, by cosine, as CLIP does
with images and captions. It needs no labels. The classifier is trained on labelled utterances at the same time, but its
gradient stops before the encoders: it only measures how good they are, so that validation can choose an epoch. Stage 2
trains encoders and classifier by cross-entropy, with modalities hidden. The network is that of zero-fill.

Marks C, L, D: docs/decisions.md.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.methods import self_training, zero_fill
from cmarr_jax.methods.base import (
    Method,
    Params,
    Stage,
    adam,
    bind,
    check_positive,
    contrast_group,
    each_pattern,
    supervised_loss,
)
from cmarr_jax.methods.zero_fill import ZeroFill, encode, predict
from cmarr_jax.nn.temperature import bounded_temperature, check_temperatures
from cmarr_jax.types import Array, Batch

WEIGHTS = {
    "alignment": 1.0,  # L: weight of the contrastive loss
    "late_alignment": 0.0,  # L: factor of that weight in stage 2; CM-ARR has the same one
    "fine_tuning": 1.0,  # D: share of the cross-entropy's gradient that reaches the encoders
}


@dataclasses.dataclass(frozen=True)
class Options(zero_fill.Options):
    """Variants of the network; sizes of what the contrastive loss compares."""

    projection: int = 64  # D: width of the points
    within_speaker: bool = False  # D: alignment tells an utterance apart from others of its speaker only
    min_temperature: float = 0.01  # L; the learned temperature starts at the geometric middle, 0.1 (L: 0.07)
    max_temperature: float = 1.0  # D

    def __post_init__(self):
        super().__post_init__()
        check_positive("projection", self.projection)
        check_temperatures(self.min_temperature, self.max_temperature)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """Pre-training on complete data, then fine-tuning with modalities hidden, in the budgets of the other methods."""
    model = Contrastive(encoders, num_classes, options)
    weights, off = self_training.weights_of(options.pseudo_labels, num_classes)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=(
            Stage(
                "pretraining",
                train.complete_epochs,
                hide=False,
                weights={"fine_tuning": 0.0, "late_alignment": 1.0, **off},
            ),
            Stage(
                "fine_tuning",
                train.missing_epochs,
                hide=True,
                decay=train.decay,
                from_best=True,
                fresh_optimizer=True,
            ),
        ),
        encode=partial(encode, model),
        predict=partial(predict, model),
        diagnose=lambda params, embedding, where: {"temperature": bind(model, params)(method="temperature")},
        weights={**WEIGHTS, **weights},
        optimizer=adam(train),
        patterns=options.patterns,
        unlabelled=True,
    )


class Contrastive(ZeroFill):
    """Zero-fill's network, with a linear projection for each modality and a learned temperature."""

    options: Options = Options()

    def setup(self) -> None:
        super().setup()
        self.projections = [
            nn.Dense(self.options.projection, use_bias=False) for _ in range(self.config.num_modalities)
        ]
        self.raw_temperature = self.param("raw_temperature", nn.initializers.zeros, ())

    def project(self, embedding: Array) -> Array:
        """Embeddings `[B, M, D]` -> the points that the contrastive loss compares, `[B, M, projection]`."""
        return jnp.stack([project(embedding[:, m]) for m, project in enumerate(self.projections)], axis=1)

    def temperature(self) -> Array:
        """The learned temperature, a scalar between the bounds of the options."""
        options = self.options
        return bounded_temperature(self.raw_temperature, options.min_temperature, options.max_temperature)

    def __call__(self, batch: Batch) -> Array:
        """Touches every parameter, for initialisation."""
        embedding = self.encode(batch)
        self.project(embedding)
        return self.predict(embedding, batch.present)


def loss(
    model: Contrastive,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy of labelled rows, and of all rows the contrastive loss between their modalities."""
    apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
    embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    shown = available if available.ndim == 2 else available.any(axis=0)  # in one of the patterns
    aligned = losses.point_alignment(
        apply(embedding, method="project"),
        shown,
        batch.where,
        group=contrast_group(batch, model.options.within_speaker),
        temperature=apply(method="temperature"),
        axis_name=axis_name,
    )
    guess = None
    if model.options.pseudo_labels:
        guess = self_training.guessed(partial(encode, model), partial(predict, model), params, batch, axis_name)
    share = hyper.weights["fine_tuning"]
    embedding = share * embedding + (1 - share) * jax.lax.stop_gradient(embedding)
    (embedding, guess), batch, available = each_pattern((embedding, guess), batch, available)
    logits = apply(embedding, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="predict")
    supervised, value = supervised_loss(logits, batch, axis_name)
    terms = {supervised: value, "alignment": losses.masked_mean(*aligned, axis_name=axis_name)}
    value += hyper.weights["alignment"] * hyper.weights["late_alignment"] * terms["alignment"]
    if guess is None:
        return value, terms
    pseudo, more = self_training.pseudo_terms(logits, guess, batch, hyper.weights, axis_name)
    return value + pseudo, {**terms, **more}
