"""CM-ARR after the published description of arXiv 2407.09029: its network, loss and stages.

Alignment: each modality of an utterance is a Gaussian; the Gaussians of one utterance are pulled together
(contrastive, 2-Wasserstein distance, no labels). Reconstruction: one RealNVP per modality maps them to a shared latent
space; the mean latent of the available modalities goes back through the flow of a missing one. Refinement: supervised
contrastive learning of the points, real or recovered. The marks C, L and D are explained in docs/decisions.md.

`encode` reads the features of modalities that an utterance has. `complete` replaces the points of modalities that are
not *available* (missing, or hidden by a condition) and reads only available ones, so the values of a hidden modality,
NaN included, cannot reach a prediction.
"""

import dataclasses
import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, TrainConfig, check_choice
from cmarr_jax.methods.base import Method, Params, Stage, Weights, adam, bind, cross_entropy
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.flow import RealNVP, call_and_detached_copy, per_modality
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.nn.gaussian import GaussianHead, sample, soft_bound
from cmarr_jax.types import Array, Batch, GaussianEmbedding

RECOVERIES = ("flow", "zeros")
COMBINATIONS = ("mean", "precision", "linear")
WEIGHTS = {
    "alignment": 0.1,  # D: weight of the distribution-based contrastive loss
    "nll": 0.5,  # D: weight of the flow's negative log-likelihood
    "squared_error": 0.5,  # D: weight of the reconstruction error
    "refinement": 0.1,  # D: weight of the supervised contrastive loss
    "refinement_temperature": 0.1,  # L: Khosla et al. 2020
    "entropy": 0.0,  # D: weight of the entropy floor
    "entropy_floor": 0.0,  # D: nats per dimension below which an embedding's entropy is penalised
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sizes and variants of the network beside the encoders (Gaussian heads and flow D)."""

    min_log_std: float = -6.0  # D
    max_log_std: float = 3.0  # D
    head_ratio: int = 4  # L: MAP; hidden width of the head's residual MLPs, relative to the embedding
    min_temperature: float = 0.01  # L: MAP; the learned temperature starts at the geometric middle, 0.1
    max_temperature: float = 1.0  # L
    alignment_scale: float | None = None  # D: factor of the distance; None is 1 / embedding
    recovery: str = "flow"  # C; "zeros" is the ablation
    flow_layers: int = 8  # D
    flow_hidden: int = 128  # D
    flow_log_scale_bound: float = 2.0  # D
    combination: str = "mean"  # D: how the latents of the available modalities become one
    clean_target: bool = False  # D: the reconstruction's target is encoded once more without dropout
    refine_absent: bool = False  # D: recovered points of modalities that an utterance lacks by nature are refined too
    fusion: str = "concat"  # L
    projection: int = 64  # D: width of the points compared in the refinement

    def __post_init__(self):
        check_choice("recovery", self.recovery, RECOVERIES)
        check_choice("combination", self.combination, COMBINATIONS)
        check_choice("fusion", self.fusion, FUSIONS)
        if self.flow_layers < 2 or self.flow_layers % 2:
            raise ValueError(f"flow_layers must be even (one coupling for each half), found {self.flow_layers}")
        if not 0 < self.min_temperature < self.max_temperature:
            raise ValueError(
                f"0 < min_temperature < max_temperature is needed, found {self.min_temperature}, {self.max_temperature}"
            )
        if not self.min_log_std < self.max_log_std <= 6:
            raise ValueError(
                f"min_log_std < max_log_std <= 6 is needed, found {self.min_log_std} and {self.max_log_std}"
            )


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """CM-ARR: stage 1 aligns on complete data, stage 2 reconstructs and refines with modalities hidden."""
    model = CmArr(encoders, num_classes, options)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=(
            Stage("alignment", train.complete_epochs, hide=False, weights={"refinement": 0.0}),
            Stage("reconstruction_refinement", train.missing_epochs, hide=True, decay=train.decay),
        ),
        encode=lambda params, batch: bind(model, params)(batch, method="encode_once"),
        predict=lambda params, encoded, available: bind(model, params)(encoded, available, method="predict"),
        diagnose=partial(diagnose, model),
        weights=WEIGHTS,
        optimizer=adam(train),
    )


class Encoded(NamedTuple):
    """The Gaussian embeddings of a batch and the latents of their means, `[B, M, D]` each; no latents without flows."""

    mean: Array
    log_std: Array
    latent: Array | None


class CmArr(nn.Module):
    """Encoders, Gaussian heads, one flow per modality, projection, fusion and classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        config, options = self.config, self.options
        self.encoders = UnimodalEncoders(config)
        self.heads = per_modality(GaussianHead)(options.min_log_std, options.max_log_std, options.head_ratio)
        if self.has_flow:
            self.flows = per_modality(RealNVP, ["to_latent", "from_latent"])(
                config.embedding, options.flow_layers, options.flow_hidden, options.flow_log_scale_bound
            )
        if options.combination == "linear":
            self.combiner = nn.Dense(config.embedding)
        self.projection = nn.Dense(options.projection)
        self.classifier = FusionClassifier(config, self.num_classes, options.fusion)
        self.raw_temperature = self.param("raw_temperature", nn.initializers.zeros, ())

    @property
    def has_flow(self) -> bool:
        return self.options.recovery == "flow"

    def encode(self, batch: Batch, *, train: bool = False) -> GaussianEmbedding:
        """Gaussian embedding of every modality, `[B, M, D]`."""
        return self.heads(self.encoders(batch, train=train))

    def temperature(self) -> Array:
        """The alignment's learned temperature, a scalar between the bounds of the options."""
        low, high = math.log(self.options.min_temperature), math.log(self.options.max_temperature)
        return jnp.exp(soft_bound(self.raw_temperature, low, high))

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
        if self.options.combination == "linear":
            return self.combiner(latent.reshape(latent.shape[0], -1))
        weight = jnp.ones_like(latent)
        if self.options.combination == "precision":
            # One weight per modality, from its mean log-variance: the flow mixes the dimensions.
            weight = jnp.exp(-2 * jnp.where(seen, log_std, 0.0).mean(-1, keepdims=True)) * weight
        weight = jnp.where(seen, weight, 0.0)
        return jnp.sum(weight * latent, axis=1) / jnp.maximum(weight.sum(1), 1e-6)

    def reconstruct(self, latent: Array, log_std: Array, available: Array) -> Array:
        """Every modality's point that the flows make from the latents of the available ones, `[B, M, D]`."""
        shared = self.combine(latent, log_std, available)
        return self.flows.from_latent(jnp.broadcast_to(shared[:, None], latent.shape))

    def classify(self, points: Array, *, train: bool = False) -> Array:
        """Completed points `[B, M, D]` -> logits `[B, K]`."""
        return self.classifier(points, train=train)

    def project(self, points: Array) -> Array:
        """Points `[B, M, D]` -> the points that the refinement compares, `[B, M, projection]`."""
        return self.projection(points)

    def encode_once(self, batch: Batch) -> Encoded:
        """Embeddings and latents once for all availability patterns: a latent depends on its own modality only."""
        embedding = self.encode(batch)
        latent = self.to_latent(embedding.mean)[0] if self.has_flow else None
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
        points = embedding.mean
        if self.has_flow:
            points = self.reconstruct(self.to_latent(points)[0], embedding.log_std, batch.present)
        return self.classify(points)


def loss(
    model: CmArr,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    weights: Weights,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The total loss; with nothing hidden, its squared error is zero.

    True features of a hidden modality are read as the reconstruction's target only, behind a stop-gradient; so is the
    point that the flow's likelihood is fitted to, or the encoder could lower it by shrinking its embeddings (D).
    """
    options, apply = model.options, bind(model, params)
    encode_key, sample_key, classify_key = jax.random.split(key, 3)
    embedding = apply(batch, train=True, rngs={"dropout": encode_key}, method="encode")
    points = jnp.where(available[..., None], sample(sample_key, embedding), 0.0)
    completed, usable = points, available
    if model.has_flow:
        to_latent = lambda params, points: bind(model, params)(points, method="to_latent")
        (latent, _), (fitted, log_det) = call_and_detached_copy(to_latent, params, points)
        recovered = apply(latent, embedding.log_std, available, method="reconstruct")
        completed = jnp.where(available[..., None], points, recovered)
        usable = jnp.ones_like(available) if options.refine_absent else batch.present
    logits = apply(completed, train=True, rngs={"dropout": classify_key}, method="classify")
    mean = partial(losses.masked_mean, axis_name=axis_name)
    seen = available & batch.where[:, None]
    floor = losses.entropy_floor(embedding.log_std, floor_per_dim=weights["entropy_floor"])
    terms = {
        "cross_entropy": cross_entropy(logits, batch, axis_name),
        "alignment": mean(*align(model, params, embedding, available, batch.where, axis_name)),
        "refinement": mean(*refine(model, params, completed, usable, batch, weights, axis_name)),
        "entropy": mean(floor, seen),
    }
    if model.has_flow:
        hidden = batch.present & ~available & batch.where[:, None]
        target = apply(batch, method="encode").mean if options.clean_target else embedding.mean
        terms["nll"] = mean(losses.flow_nll_per_dim(fitted, log_det), seen)
        terms["squared_error"] = mean(*losses.squared_error(completed, jax.lax.stop_gradient(target), hidden))
    total = terms["cross_entropy"] + sum(weights[name] * terms[name] for name in terms if name != "cross_entropy")
    return total, terms


def align(
    model: CmArr, params: Params, embedding: GaussianEmbedding, available: Array, where: Array, axis_name: str | None
) -> losses.MaskedLoss:
    """Distribution-based contrastive loss between the available modalities of each utterance."""
    return losses.alignment(
        embedding.mean,
        jnp.exp(embedding.log_std),
        available,
        where,
        temperature=bind(model, params)(method="temperature"),
        scale=model.options.alignment_scale,
        axis_name=axis_name,
    )


def refine(
    model: CmArr,
    params: Params,
    points: Array,
    usable: Array,
    batch: Batch,
    weights: Weights,
    axis_name: str | None,
) -> losses.MaskedLoss:
    """Supervised contrastive loss between the usable points `[B, M, D]` of a batch, all modalities together."""
    return losses.supervised_contrastive(
        bind(model, params)(points, method="project").reshape(-1, model.options.projection),
        jnp.repeat(batch.label, usable.shape[1]),
        (usable & batch.where[:, None]).reshape(-1),
        temperature=weights["refinement_temperature"],
        axis_name=axis_name,
    )


def diagnose(model: CmArr, params: Params, encoded: Encoded, where: Array) -> dict[str, Array]:
    """Flow round-trip error (largest, absolute), mean log_std of the embeddings, alignment temperature."""
    apply = bind(model, params)
    counted = jnp.broadcast_to(where[:, None, None], encoded.log_std.shape)
    scalars = {
        "log_std": losses.masked_mean(encoded.log_std, counted),
        "temperature": apply(method="temperature"),
    }
    if encoded.latent is not None:
        error = jnp.abs(apply(encoded.latent, method="from_latent") - encoded.mean)
        scalars["round_trip_error"] = jnp.max(jnp.where(counted, error, 0.0))
    return scalars
