"""Zero-fill, the strong simple baseline (L: MMIN's "data augmentation" row): absent modalities are zeros.

The same encoders, classifier, schedule and availability patterns as CM-ARR, trained by the loss of the task alone.

With `pseudo_labels`, unlabelled utterances count in stage 2: their label is the class that the network gives them from
all their modalities, if it is sure enough. The network learns to give it from some of them, too.

Marks C, L, D: docs/decisions.md.

Sources of the pseudo-labels: Lee, Pseudo-Label, ICML workshop on challenges in representation learning 2013. Sohn et
al., FixMatch, NeurIPS 2020.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig, check_choice
from cmarr_jax.methods.base import (
    Method,
    Params,
    Stage,
    adam,
    bind,
    check_patterns,
    each_pattern,
    supervised_loss,
)
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.types import Array, Batch

WEIGHTS = {  # with pseudo-labels; otherwise there are none
    "pseudo": 1.0,  # L: FixMatch; weight of the cross-entropy of the pseudo-labels
    "threshold": 0.95,  # L: FixMatch; probability above which a class becomes a pseudo-label
}


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Variants of the network, and how many patterns it is trained with in a step."""

    fusion: str = "concat"  # L; or "attention"
    availability_bits: bool = False  # D: the classifier is told what is available
    late_logits: bool = False  # D: each available modality adds logits of its own
    patterns: int = 1  # D: availability patterns of an utterance in one step; it is encoded once

    def __post_init__(self):
        check_choice("fusion", self.fusion, FUSIONS)
        check_patterns(self.patterns)


@dataclasses.dataclass(frozen=True)
class Options(NetworkOptions):
    """Variants of the network and of its training."""

    hide: bool = True  # False: no modality is ever hidden, for a model of one condition
    pseudo_labels: bool = False  # D: self-training on unlabelled utterances


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """The baseline: complete data first, then a new availability pattern per utterance and reading."""
    model = ZeroFill(encoders, num_classes, options)
    if options.pseudo_labels and num_classes == 1:
        raise ValueError("pseudo_labels needs classes; a regression has none, so leave the option out")

    def loss(
        params: Params, batch: Batch, available: Array, key: Array, hyper: Hyperparameters, axis_name: str | None = None
    ) -> tuple[Array, dict[str, Array]]:
        apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
        embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
        guess = guessed(model, params, batch) if options.pseudo_labels else None
        (embedding, guess), batch, available = each_pattern((embedding, guess), batch, available)
        logits = apply(embedding, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="predict")
        name, value = supervised_loss(logits, batch, axis_name)
        if guess is None:
            return value, {name: value}
        pseudo, share = pseudo_cross_entropy(logits, guess, batch, hyper.weights["threshold"], axis_name)
        terms = {name: value, "pseudo": pseudo, "pseudo_share": share}
        return value + hyper.weights["pseudo"] * pseudo, terms

    unsure = {"pseudo": 0.0} if options.pseudo_labels else {}  # an untrained network's guesses teach nothing
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=loss,
        stages=(
            Stage("complete", train.complete_epochs, hide=False, weights=unsure),
            Stage("missing", train.missing_epochs, hide=options.hide, decay=train.decay),
        ),
        encode=lambda params, batch: bind(model, params)(batch, method="encode"),
        predict=lambda params, embedding, available: bind(model, params)(embedding, available, method="predict"),
        diagnose=lambda params, embedding, where: {},
        weights=WEIGHTS if options.pseudo_labels else {},
        optimizer=adam(train),
        patterns=options.patterns,
        unlabelled=options.pseudo_labels,
    )


def guessed(model: "ZeroFill", params: Params, batch: Batch) -> Array:
    """Class probabilities from all modalities that an utterance has, without dropout or gradient, `[B, K]`."""
    apply = bind(model, jax.lax.stop_gradient(params))
    return jax.nn.softmax(apply(apply(batch, method="encode"), batch.present, method="predict"))


def pseudo_cross_entropy(
    logits: Array, guess: Array, batch: Batch, threshold: float | Array, axis_name: str | None = None
) -> tuple[Array, Array]:
    """Cross-entropy of the pseudo-labels, a mean over all unlabelled rows; rows without a pseudo-label add 0.

    Args:
      logits: `[B, K]`, with modalities hidden.
      guess: Probabilities of the classes, `[B, K]`. The likeliest class is the pseudo-label.
      batch: Its rows with the label -1 are the unlabelled ones.
      threshold: Probability above which a row has a pseudo-label.
      axis_name: Device axis of an enclosing `pmap`, or None.

    Returns:
      The cross-entropy, nats, and how many of the unlabelled rows have a pseudo-label, a fraction. Both are shares of
      global means.
    """
    unlabelled = batch.where & (batch.label < 0)
    sure = guess.max(-1) > threshold
    values = optax.softmax_cross_entropy_with_integer_labels(logits, guess.argmax(-1))
    mean = lambda values: losses.masked_mean(values, unlabelled, axis_name=axis_name)
    return mean(jnp.where(sure, values, 0.0)), mean(sure.astype(values.dtype))


class ZeroFill(nn.Module):
    """Encoders and classifier; unavailable modalities reach the classifier as zeros."""

    config: EncoderConfig
    num_classes: int
    options: NetworkOptions = NetworkOptions()

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
