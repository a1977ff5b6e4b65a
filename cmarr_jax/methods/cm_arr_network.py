"""The network of CM-ARR and its options. What it is trained by is in `cm_arr.py`.

`encode` reads the features of modalities that an utterance has. `complete` replaces the points of modalities that are
not *available* (missing, or hidden by a condition) and reads only available ones, so the values of a hidden modality,
NaN included, cannot reach a prediction.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, check_choice
from cmarr_jax.methods.base import check_positive
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.flow import RealNVP, check_flow, per_modality
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.nn.gaussian import LinearHead, ResidualHead
from cmarr_jax.nn.recovery import Autoencoder, mean_latent
from cmarr_jax.nn.temperature import bounded_temperature, check_temperatures
from cmarr_jax.types import Array, Batch, GaussianEmbedding

HEADS = ("linear", "residual")
RECOVERIES = ("flow", "autoencoder", "zeros")
DISTANCES = {
    "squared_w2": losses.pairwise_squared_w2,
    "symmetric_kl": losses.pairwise_symmetric_kl,
    "squared_mean": losses.pairwise_squared_mean_distance,
}
ALIGNMENTS = (*DISTANCES, "cosine")
REFINEMENTS = ("supervised", "unsupervised")
COMBINATIONS = ("mean", "precision", "linear")


@dataclasses.dataclass(frozen=True)
class Options:
    """Sizes and variants of the network beside the encoders (Gaussian heads and flow D)."""

    min_log_std: float = -6.0  # D
    max_log_std: float = 3.0  # D
    head: str = "linear"  # D: the mean is the encoder's output itself; "residual" (L: MAP): layers between the two
    head_ratio: int = 4  # L: MAP; hidden width of the residual head, relative to the embedding
    min_temperature: float = 0.01  # D; the learned temperature (L: MAP) starts at the geometric middle, 0.1
    max_temperature: float = 1.0  # D
    alignment: str = "squared_w2"  # C; the others are ablations, "cosine" of points instead of distributions
    alignment_scale: float | None = None  # D: factor of the distance; None is 1 / embedding
    within_speaker: bool = False  # D: alignment tells an utterance apart from others of its speaker only
    recovery: str = "flow"  # C; the others are ablations
    flow_layers: int = 8  # D
    flow_hidden: int = 128  # D; also of the autoencoder
    flow_total_log_scale: float = 2.0  # D; of a dimension, over all couplings
    combination: str = "mean"  # D: how the latents of the available modalities become one
    clean_target: bool = False  # D: the reconstruction's target is encoded once more without dropout
    refinement: str = "supervised"  # C: positives share the label; "unsupervised": they are of one utterance
    fusion: str = "concat"  # L
    projection: int = 64  # D: width of the points compared in the refinement
    availability_bits: bool = False  # D: the classifier is told what is available
    late_logits: bool = False  # D: each available modality adds logits of its own
    patterns: int = 1  # D: availability patterns of an utterance in one step; it is encoded once
    unlabelled: bool = True  # D: alignment, likelihood and squared error also learn from rows without label
    pseudo_labels: bool = False  # D: self-training on rows without label, too

    def __post_init__(self):
        check_choice("head", self.head, HEADS)
        check_choice("alignment", self.alignment, ALIGNMENTS)
        check_choice("recovery", self.recovery, RECOVERIES)
        check_choice("refinement", self.refinement, REFINEMENTS)
        check_choice("combination", self.combination, COMBINATIONS)
        check_choice("fusion", self.fusion, FUSIONS)
        check_positive("patterns", self.patterns)
        if self.pseudo_labels and not self.unlabelled:
            raise ValueError("pseudo_labels reads rows without label, so it needs unlabelled=True")
        check_flow(self.flow_layers, self.flow_hidden, self.flow_total_log_scale)
        for name in ("head_ratio", "projection"):
            check_positive(name, getattr(self, name))
        if self.alignment_scale is not None and not 0 < self.alignment_scale < math.inf:
            raise ValueError(f"alignment_scale must be above 0 and finite, found {self.alignment_scale}")
        check_temperatures(self.min_temperature, self.max_temperature)
        if not self.min_log_std < self.max_log_std <= 6:
            raise ValueError(
                f"min_log_std < max_log_std <= 6 is needed, found {self.min_log_std} and {self.max_log_std}"
            )


class Encoded(NamedTuple):
    """The Gaussian embeddings of a batch and the latents of their means, `[B, M, D]` each; no latents with zeros."""

    mean: Array
    log_std: Array
    latent: Array | None


class CmArr(nn.Module):
    """Encoders, Gaussian heads, one flow (or autoencoder) per modality, projection, fusion and classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        config, options = self.config, self.options
        self.encoders = UnimodalEncoders(config)
        bounds = options.min_log_std, options.max_log_std
        self.heads = (
            per_modality(LinearHead)(*bounds)
            if options.head == "linear"
            else per_modality(ResidualHead)(*bounds, options.head_ratio)
        )
        if self.has_flow:
            self.flows = per_modality(RealNVP, ["to_latent", "from_latent", "largest_log_scale"])(
                config.embedding, options.flow_layers, options.flow_hidden, options.flow_total_log_scale
            )
        if options.recovery == "autoencoder":
            self.autoencoders = per_modality(Autoencoder, ["to_latent", "from_latent"])(
                config.embedding, options.flow_hidden
            )
        if options.combination == "linear":
            self.combiner = nn.Dense(config.embedding)
        self.projection = nn.Dense(options.projection)
        self.classifier = FusionClassifier(
            config, self.num_classes, options.fusion, options.availability_bits, options.late_logits
        )
        self.raw_temperature = self.param("raw_temperature", nn.initializers.zeros, ())

    @property
    def has_flow(self) -> bool:
        return self.options.recovery == "flow"

    @property
    def recovers(self) -> bool:
        return self.options.recovery != "zeros"

    def encode(self, batch: Batch, *, dropout: Rate = None) -> GaussianEmbedding:
        """Gaussian embedding of every modality, `[B, M, D]`."""
        return self.heads(self.encoders(batch, dropout=dropout))

    def temperature(self) -> Array:
        """The alignment's learned temperature, a scalar between the bounds of the options."""
        options = self.options
        return bounded_temperature(self.raw_temperature, options.min_temperature, options.max_temperature)

    def to_latent(self, points: Array) -> tuple[Array, Array | None]:
        """`[B, M, D]` -> latents `[B, M, D]` and, of flows, log-determinants `[B, M]`."""
        return self.flows.to_latent(points) if self.has_flow else (self.autoencoders.to_latent(points), None)

    def largest_log_scale(self, points: Array) -> Array:
        """`[B, M, D]` -> largest absolute log-scale of the flows, `[B, M]`."""
        return self.flows.largest_log_scale(points)

    def from_latent(self, latent: Array) -> Array:
        """Latents `[B, M, D]` -> points `[B, M, D]`."""
        return self.flows.from_latent(latent) if self.has_flow else self.autoencoders.from_latent(latent)

    def combine(self, latent: Array, log_std: Array, available: Array) -> Array:
        """One latent per utterance from those of the available modalities.

        Args:
          latent: `[B, M, D]`; unavailable rows are not read.
          log_std: Spread of the embeddings, `[B, M, D]`, read by `precision` only.
          available: `[B, M]`, bool.

        Returns:
          `[B, D]`; zeros where nothing is available.
        """
        if self.options.combination == "linear":
            return self.combiner(jnp.where(available[..., None], latent, 0.0).reshape(latent.shape[0], -1))
        return mean_latent(latent, available, log_std if self.options.combination == "precision" else None)

    def reconstruct(self, latent: Array, log_std: Array, available: Array) -> Array:
        """Every modality's point that the flows make from the latents of the available ones, `[B, M, D]`."""
        shared = self.combine(latent, log_std, available)
        return self.from_latent(jnp.broadcast_to(shared[:, None], latent.shape))

    def classify(self, points: Array, available: Array, *, dropout: Rate = None) -> Array:
        """Completed points `[B, M, D]` -> logits `[B, K]`."""
        return self.classifier(points, available, dropout=dropout)

    def project(self, points: Array) -> Array:
        """Points `[B, M, D]` -> the points that the refinement compares, `[B, M, projection]`."""
        return self.projection(points)

    def encode_once(self, batch: Batch) -> Encoded:
        """Embeddings and latents once for all availability patterns: a latent depends on its own modality only."""
        embedding = self.encode(batch)
        latent = self.to_latent(embedding.mean)[0] if self.recovers else None
        return Encoded(*embedding, latent)

    def complete(self, encoded: Encoded, available: Array) -> Array:
        """Means of the available modalities, the others recovered (through the latents, or as zeros), `[B, M, D]`."""
        recovered = jnp.zeros_like(encoded.mean)
        if encoded.latent is not None:
            recovered = self.reconstruct(encoded.latent, encoded.log_std, available)
        return jnp.where(available[..., None], encoded.mean, recovered)

    def predict(self, encoded: Encoded, available: Array) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classify(self.complete(encoded, available), available)

    def __call__(self, batch: Batch) -> Array:
        """Touches every parameter, for initialisation."""
        embedding = self.encode(batch)
        self.temperature()
        self.project(embedding.mean)
        points = embedding.mean
        if self.recovers:
            points = self.reconstruct(self.to_latent(points)[0], embedding.log_std, batch.present)
        return self.classify(points, batch.present)
