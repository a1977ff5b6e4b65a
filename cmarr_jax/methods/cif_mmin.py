"""CIF-MMIN, imagination with modality-invariant features, after its published description.

As MMIN, with a second encoder per modality for features that the modalities share. Stage 1 trains them by contrastive
learning between pairs of modalities, beside the classifier. In stage 2 they enter every block of the imagination, and
a consistency loss keeps those of all modalities, for a hidden one a learned vector, near those of the frozen teacher,
which reads all of them.
The classifier reads the sum of the available and the imagined embeddings.

Differences from the published code (D): the schedule is that of the other methods; the invariant encoder of text is a
convolution like its other encoder; the classifier goes on from stage 1; the invariant features of a missing modality
are a learned vector (there, the features of an input of zeros, which is a learned constant, too). The temperature is
what the published code has: a parameter that its optimizer does not get.

Marks C, L, D: docs/decisions.md.

Source: Liu et al., Contrastive Learning Based Modality-Invariant Feature Acquisition for Robust Multimodal Emotion
Recognition With Missing Modalities, IEEE TAFFC 2024.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.methods.base import Method, Params, Stage, adam, bind, supervised_loss
from cmarr_jax.methods.mmin import (
    imagination_stage,
    imagined_error,
    imagines,
    network_of,
    teacher_of,
    with_teacher,
)
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FusionClassifier
from cmarr_jax.nn.imagination import Imagination, check_blocks
from cmarr_jax.types import Array, Batch

WEIGHTS = {
    "contrast": 1.0,  # L: weight of the contrastive loss of stage 1
    "imagination": 8.0,  # L: weight of the squared error of the imagined embeddings
    "consistency": 100.0,  # L: weight of the squared error of the invariant features
}
PAIR_WEIGHTS = {  # L
    frozenset({"video", "text"}): 0.25,
    frozenset({"text", "audio"}): 0.25,
    frozenset({"video", "audio"}): 0.5,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sizes of the cascade, and the temperature of the contrastive loss."""

    widths: tuple[int, ...] = (256, 128, 64)  # L: hidden widths of a block, the latent's last
    num_blocks: int = 5  # L
    temperature: float = 0.3679  # L: 1 / e, a constant

    def __post_init__(self):
        object.__setattr__(self, "widths", check_blocks(self.widths, self.num_blocks))  # JSON gives a list
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be above 0 and finite, found {self.temperature}")


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """CIF-MMIN: invariant features and a teacher on complete data, then imagination with modalities hidden."""
    model = CifMmin(encoders, num_classes, options)
    stage = imagination_stage(train)._replace(weights={"contrast": 0.0})
    student = lambda params: bind(model, params["student"])
    return Method(
        init=lambda key, batch: with_teacher(model.init(key, batch)["params"], ["encoders", "invariant_encoders"]),
        loss=partial(loss, model),
        stages=(
            Stage("complete", train.complete_epochs, hide=False, weights={"imagination": 0.0, "consistency": 0.0}),
            stage,
        ),
        encode=lambda params, batch: student(params)(batch, method="encode"),
        predict=lambda params, encoded, available: (
            student(params)(encoded, available, imagines(params), method="imagine").logits
        ),
        diagnose=lambda params, encoded, where: {},
        inspect=partial(inspect, model),
        weights=WEIGHTS,
        optimizer=adam(train, b1=0.5, network_of=network_of),  # L
    )


class Encoded(NamedTuple):
    """Embeddings and modality-invariant features of a batch, `[B, M, D]` each."""

    embedding: Array
    invariant: Array


class Imagined(NamedTuple):
    """What the network makes of the available modalities.

    Attributes:
      logits: `[B, K]`.
      imagined: Embeddings of the missing modalities, `[B, M, D]`, near zero for the available ones.
      invariant: Invariant features of the available modalities, a learned vector for each other one, `[B, M, D]`.
    """

    logits: Array
    imagined: Array
    invariant: Array


class InvariantHead(nn.Module):
    """The point that the contrastive loss compares, `[..., D] -> [..., D]` (L)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        hidden = nn.LayerNorm()(nn.leaky_relu(nn.Dense(x.shape[-1], name="hidden")(x)))
        return nn.leaky_relu(nn.Dense(x.shape[-1], name="output")(hidden))


class CifMmin(nn.Module):
    """Two encoders per modality, contrastive heads, one cascade, classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        config, options = self.config, self.options
        self.encoders, self.invariant_encoders = UnimodalEncoders(config), UnimodalEncoders(config)
        self.heads = [InvariantHead() for _ in config.modalities]
        self.imagination = Imagination(options.widths, options.num_blocks)
        self.classifier = FusionClassifier(config, self.num_classes)
        self.missing = self.param("missing", nn.initializers.zeros, (config.num_modalities, config.embedding))

    def encode(self, batch: Batch, *, dropout: Rate = None) -> Encoded:
        """Embedding and invariant features of every modality."""
        return Encoded(self.encoders(batch, dropout=dropout), self.invariant_encoders(batch, dropout=dropout))

    def project(self, invariant: Array) -> Array:
        """Invariant features `[B, M, D]` -> the points that the contrastive loss compares, `[B, M, D]`."""
        return jnp.stack([head(invariant[:, m]) for m, head in enumerate(self.heads)], axis=1)

    def imagine(self, encoded: Encoded, available: Array, imagines: Array, *, dropout: Rate = None) -> Imagined:
        """Logits, imagined embeddings and invariant features.

        Args:
          encoded: Rows that are not available are not read.
          available: `[B, M]`, bool.
          imagines: Whether the classifier reads imagined embeddings (stage 2), a bool; otherwise zeros in their place.
          dropout: Rate of dropout in training, `None` otherwise.
        """
        given = jnp.where(available[..., None], encoded.embedding, 0.0)
        invariant = jnp.where(available[..., None], encoded.invariant, self.missing[None])
        imagined, _ = self.imagination(given, invariant)
        logits = self.classifier(given + jnp.where(imagines, imagined, 0.0), dropout=dropout)
        return Imagined(logits, imagined, invariant)

    def __call__(self, batch: Batch) -> Imagined:
        """Touches every parameter, for initialisation."""
        encoded = self.encode(batch)
        self.project(encoded.invariant)
        return self.imagine(encoded, batch.present, jnp.array(True))


def loss(
    model: CifMmin,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy, contrastive loss, squared errors of the imagination and of the invariant features.

    The targets are the teacher's: the embeddings of the hidden modalities, zero for the available ones, and the
    invariant features of all. Modalities that an utterance lacks by nature do not count (D).
    """
    apply, (encode_key, classify_key) = bind(model, params["student"]), jax.random.split(key)
    encoded = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    out = apply(
        encoded, available, imagines(params), dropout=hyper.dropout, rngs={"dropout": classify_key}, method="imagine"
    )
    taught = jax.lax.stop_gradient(bind(model, teacher_of(params))(batch, method="encode"))
    target = jnp.where(available[..., None], 0.0, taught.embedding)
    counted = batch.present & batch.where[:, None]
    mean = lambda error: losses.masked_mean(*error, axis_name=axis_name)
    supervised, value = supervised_loss(out.logits, batch, axis_name)
    terms = {
        supervised: value,
        "contrast": contrast(model, params, encoded.invariant, available, batch.where, axis_name),
        "imagination": mean(losses.squared_error(out.imagined, target, counted)),
        "consistency": mean(losses.squared_error(out.invariant, taught.invariant, counted)),
    }
    return value + sum(hyper.weights[name] * terms[name] for name in WEIGHTS), terms


def inspect(model: CifMmin, params: Params, batch: Batch, encoded: Encoded, available: Array) -> dict[str, Array]:
    """The embeddings that are to be imagined, and the error of the imagined ones."""
    out = bind(model, params["student"])(encoded, available, imagines(params), method="imagine")
    taught = bind(model, teacher_of(params))(batch, method="encode")
    return imagined_error(params, out.imagined, taught.embedding, encoded.embedding, available)


def contrast(
    model: CifMmin, params: Params, invariant: Array, available: Array, where: Array, axis_name: str | None
) -> Array:
    """Contrastive loss between the available modalities, weighted over pairs, nats; a share of the global mean."""
    apply = bind(model, params["student"])
    pairs = losses.point_alignment(
        apply(invariant, method="project"),
        available,
        where,
        temperature=model.options.temperature,
        positive_in_denominator=False,
        axis_name=axis_name,
    )
    weights = pair_weights([modality.name for modality in model.config.modalities])
    by_pair = [
        losses.masked_mean(pairs.value[:, p], pairs.valid[:, p], axis_name=axis_name) for p in range(len(weights))
    ]
    return jnp.dot(jnp.asarray(weights), jnp.stack(by_pair))


def pair_weights(modalities: Sequence[str]) -> list[float]:
    """Weight of each pair of modalities, in the order of `losses.point_alignment`; they sum to 1.

    For audio, video and text those of the paper (L), for other modalities equal ones (D).
    """
    pairs = list(itertools.combinations(modalities, 2))
    if set(map(frozenset, pairs)) == set(PAIR_WEIGHTS):
        return [PAIR_WEIGHTS[frozenset(pair)] for pair in pairs]
    return [1 / len(pairs)] * len(pairs)
