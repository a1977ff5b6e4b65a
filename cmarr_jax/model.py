"""The CM-ARR network from its parts; no losses here.

`encode` reads the features of modalities that an utterance has. `complete` replaces the points of modalities that are
not *available* (missing, or hidden by a condition) and reads only the available ones, so what a hidden modality holds,
NaN included, cannot reach a prediction.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax.config import ModelConfig
from cmarr_jax.encoders import make_encoder
from cmarr_jax.flow import RealNVP, per_modality
from cmarr_jax.fusion import FusionClassifier
from cmarr_jax.gaussian import GaussianHead, soft_bound
from cmarr_jax.types import Array, Batch, GaussianEmbedding

# L: MAP keeps its learned temperature in this range; it starts at the geometric middle, 0.1 (D).
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 1.0


class UnimodalEncoders(nn.Module):
    """One encoder per modality, `Batch -> [B, M, D]`; rows of modalities that an utterance lacks are not meaningful."""

    config: ModelConfig

    @nn.compact
    def __call__(self, batch: Batch, *, train: bool = False) -> Array:
        embeddings = []
        for column, modality in enumerate(self.config.modalities):
            features = batch.features[modality.name]
            has, length = batch.present[:, column], batch.length.get(modality.name)
            encoder = make_encoder(modality, self.config, name=f"encoder_{modality.name}")
            if length is None:
                features = jnp.where(has[:, None], features, 0)
            else:
                length = jnp.where(has, length, 0)
            embeddings.append(encoder(features, length, train=train))
        return jnp.stack(embeddings, axis=1)


class Encoded(NamedTuple):
    """The Gaussian embeddings of a batch and the latents of their means, `[B, M, D]` each; no latents without flows."""

    mean: Array
    log_std: Array
    latent: Array | None


class CmArr(nn.Module):
    """Encoders, Gaussian heads, one flow per modality, projection, fusion and classifier."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.encoders = UnimodalEncoders(config)
        self.heads = per_modality(GaussianHead)(config.min_log_std, config.max_log_std)
        self.flows = per_modality(RealNVP, ["to_latent", "from_latent"])(
            config.embedding, config.flow_layers, config.flow_hidden, config.flow_log_scale_bound
        )
        if config.combination == "linear":
            self.combiner = nn.Dense(config.embedding)
        self.projection = nn.Dense(config.projection)
        self.classifier = FusionClassifier(config.num_classes, config.embedding, config.dropout, config.fusion)
        self.raw_temperature = self.param("raw_temperature", nn.initializers.zeros, ())

    def encode(self, batch: Batch, *, train: bool = False) -> GaussianEmbedding:
        """Gaussian embedding of every modality, `[B, M, D]`."""
        return self.heads(self.encoders(batch, train=train))

    def temperature(self) -> Array:
        """The alignment's learned temperature, a scalar in (0.01, 1)."""
        return jnp.exp(soft_bound(self.raw_temperature, math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)))

    def to_latent(self, points: Array) -> tuple[Array, Array]:
        """`[B, M, D]` -> latents `[B, M, D]` and log-determinants `[B, M]`."""
        return self.flows.to_latent(points)

    def from_latent(self, latent: Array) -> Array:
        """Latents `[B, M, D]` -> points `[B, M, D]`."""
        return self.flows.from_latent(latent)

    def combine(self, latent: Array, log_std: Array, available: Array) -> Array:
        """One latent per utterance from those of the available modalities.

        Args:
          latent: `[B, M, D]`; unavailable rows are not read.
          log_std: Spread of the embeddings, `[B, M, D]`, read by `precision` only.
          available: `[B, M]`, bool.

        Returns:
          `[B, D]`; zeros where nothing is available.
        """
        seen = available[..., None]
        latent = jnp.where(seen, latent, 0.0)
        if self.config.combination == "linear":
            return self.combiner(latent.reshape(latent.shape[0], -1))
        weight = jnp.ones_like(latent)
        if self.config.combination == "precision":
            # One weight per modality, from its mean log-variance: the flow mixes the dimensions.
            weight = jnp.exp(-2 * jnp.where(seen, log_std, 0.0).mean(-1, keepdims=True)) * weight
        weight = jnp.where(seen, weight, 0.0)
        return jnp.sum(weight * latent, axis=1) / jnp.maximum(weight.sum(1), 1e-6)

    def reconstruct(self, latent: Array, log_std: Array, available: Array) -> Array:
        """Every modality's point as the flows see it from the latents of the available ones, `[B, M, D]`."""
        shared = self.combine(latent, log_std, available)
        return self.flows.from_latent(jnp.broadcast_to(shared[:, None], latent.shape))

    def classify(self, points: Array, *, train: bool = False) -> Array:
        """Completed points `[B, M, D]` -> logits `[B, K]`."""
        return self.classifier(points, train=train)

    def project(self, points: Array) -> Array:
        """Points `[B, M, D]` -> what the refinement compares, `[B, M, projection]`."""
        return self.projection(points)

    def encode_once(self, batch: Batch) -> Encoded:
        """All that predictions under any availability share: a modality's latent depends on that modality only."""
        embedding = self.encode(batch)
        latent = self.to_latent(embedding.mean)[0] if self.config.recovery == "flow" else None
        return Encoded(*embedding, latent)

    def complete(self, encoded: Encoded, available: Array) -> Array:
        """Means of the available modalities, the others recovered (by the flows, or as zeros), `[B, M, D]`."""
        recovered = jnp.zeros_like(encoded.mean)
        if encoded.latent is not None:
            recovered = self.reconstruct(encoded.latent, encoded.log_std, available)
        return jnp.where(available[..., None], encoded.mean, recovered)

    def predict(self, encoded: Encoded, available: Array) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classify(self.complete(encoded, available))

    def __call__(self, batch: Batch) -> Array:
        """Touches every parameter, for initialisation."""
        embedding = self.encode(batch)
        self.temperature()
        self.project(embedding.mean)
        recovered = self.reconstruct(self.to_latent(embedding.mean)[0], embedding.log_std, batch.present)
        return self.classify(recovered)


class ZeroFill(nn.Module):
    """The strong simple baseline: the same encoders and classifier, unavailable modalities as zeros."""

    config: ModelConfig

    def setup(self) -> None:
        config = self.config
        self.encoders = UnimodalEncoders(config)
        self.classifier = FusionClassifier(config.num_classes, config.embedding, config.dropout, config.fusion)

    def encode(self, batch: Batch, *, train: bool = False) -> Array:
        """Embedding of every modality, `[B, M, D]`."""
        return self.encoders(batch, train=train)

    def predict(self, embedding: Array, available: Array, *, train: bool = False) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classifier(jnp.where(available[..., None], embedding, 0.0), train=train)

    def __call__(self, batch: Batch) -> Array:
        return self.predict(self.encode(batch), batch.present)
