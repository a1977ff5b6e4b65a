"""DiCMoR-like: missing modalities recovered by flows with one Gaussian prior per class.

One flow per modality maps its embeddings to a latent space in which each class is a Gaussian, the same for all
modalities. The mean latent of the available modalities goes back through the flow of a missing one, and a small network
repairs the result. "Like": the encoders, classifier and schedule are those of the other methods.

As in the published code (L), the flows learn from the likelihood only: neither the reconstruction error nor the
cross-entropy reaches them, and the error trains the repair. Differences from it (D): RealNVP for Glow, a residual MLP
for residual channel attention in the repair, a unit variance for a learned one in the priors, embeddings that are
trained and, of text and of vectors, have no negative value (there a projection at random that is never trained),
gradients clipped by their norm instead of by value, and the mean of the latents, where the code lets a layer merge what
each of them gives.

Marks C, L, D: docs/decisions.md.

Source: Wang, Cui and Li, Distribution-Consistent Modal Recovering for Incomplete Multimodal Learning, ICCV 2023.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig, check_choice
from cmarr_jax.methods.base import (
    Method,
    Params,
    adam,
    bind,
    check_classes,
    check_positive,
    complete_then_missing,
    cross_entropy,
    is_labelled,
)
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.flow import RealNVP, check_flow, per_modality
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.nn.gaussian import ResidualMlp
from cmarr_jax.nn.recovery import mean_latent
from cmarr_jax.types import Array, Batch

PRIORS = ("learned", "random")
WEIGHTS = {
    "nll": 0.1,  # L: weight of the flow's negative log-likelihood, here a mean over modalities and dimensions in nats
    "squared_error": 0.1,  # L: weight of the reconstruction error
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sizes and variants of the network beside the encoders."""

    flow_layers: int = 8  # D
    flow_hidden: int = 128  # D
    flow_total_log_scale: float = 2.0  # D; of a dimension, over all couplings
    prior: str = "learned"  # L: means of the classes, from zeros; D: "random" draws them from N(0, I) and keeps them
    repair_ratio: int = 4  # D: hidden width of the repair, relative to the embedding
    fusion: str = "concat"  # L; or "attention"

    def __post_init__(self):
        check_choice("prior", self.prior, PRIORS)
        check_choice("fusion", self.fusion, FUSIONS)
        check_flow(self.flow_layers, self.flow_hidden, self.flow_total_log_scale)
        check_positive("repair_ratio", self.repair_ratio)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """DiCMoR-like: flows and classifier on complete data, then recovery with modalities hidden.

    Raises:
      ValueError: in a regression: the priors of its flows belong to classes.
    """
    check_classes("dicmor", num_classes)
    model = Dicmor(encoders, num_classes, options)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=complete_then_missing(train),
        encode=lambda params, batch: bind(model, params)(batch, method="encode_once"),
        predict=lambda params, encoded, available: bind(model, params)(encoded, available, method="predict"),
        diagnose=partial(diagnose, model),
        inspect=lambda params, batch, encoded, available: inspect(model, params, encoded, available),
        complete=lambda params, encoded, available: bind(model, params)(encoded, available, method="complete"),
        weights=WEIGHTS,
        optimizer=adam(train, own_counts=True),
    )


class Encoded(NamedTuple):
    """Embeddings of a batch and their latents, `[B, M, D]` each."""

    embedding: Array
    latent: Array


class Dicmor(nn.Module):
    """Encoders, one flow and one repair per modality, means of the classes, classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        config, options = self.config, self.options
        self.encoders = UnimodalEncoders(config)
        self.flows = per_modality(RealNVP, ["to_latent", "from_latent", "largest_log_scale"])(
            config.embedding, options.flow_layers, options.flow_hidden, options.flow_total_log_scale
        )
        self.repair = per_modality(ResidualMlp)(options.repair_ratio)
        self.classifier = FusionClassifier(config, self.num_classes, options.fusion)
        start = nn.initializers.zeros if options.prior == "learned" else nn.initializers.normal(1.0)
        self.prior_mean = self.param("prior_mean", start, (self.num_classes, config.embedding))

    def encode(self, batch: Batch, *, dropout: Rate = None) -> Array:
        """Embedding of every modality, `[B, M, D]`."""
        return self.encoders(batch, dropout=dropout)

    def encode_once(self, batch: Batch) -> Encoded:
        """Embeddings and latents once for all availability patterns: a latent depends on its own modality only."""
        embedding = self.encode(batch)
        return Encoded(embedding, self.to_latent(embedding)[0])

    def to_latent(self, points: Array) -> tuple[Array, Array]:
        """`[B, M, D]` -> latents `[B, M, D]` and log-determinants `[B, M]`."""
        return self.flows.to_latent(points)

    def largest_log_scale(self, points: Array) -> Array:
        """`[B, M, D]` -> largest absolute log-scale of the flows, `[B, M]`."""
        return self.flows.largest_log_scale(points)

    def from_latent(self, latent: Array) -> Array:
        """Latents `[B, M, D]` -> points `[B, M, D]`."""
        return self.flows.from_latent(latent)

    def class_means(self) -> Array:
        """Means of the priors, `[K, D]`; fixed ones have no gradient."""
        return self.prior_mean if self.options.prior == "learned" else jax.lax.stop_gradient(self.prior_mean)

    def recover(self, latent: Array, available: Array) -> Array:
        """Every modality's point from the mean latent of the available ones, `[B, M, D]`; the flows get no gradient."""
        shared = mean_latent(latent, available)
        points = self.flows.from_latent(jnp.broadcast_to(shared[:, None], latent.shape))
        return self.repair(jax.lax.stop_gradient(points))

    def complete(self, encoded: Encoded, available: Array) -> Array:
        """Embeddings of the available modalities, the others recovered, `[B, M, D]`."""
        return jnp.where(available[..., None], encoded.embedding, self.recover(encoded.latent, available))

    def classify(self, points: Array, *, dropout: Rate = None) -> Array:
        """Completed points `[B, M, D]` -> logits `[B, K]`."""
        return self.classifier(points, dropout=dropout)

    def predict(self, encoded: Encoded, available: Array) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classify(self.complete(encoded, available))

    def __call__(self, batch: Batch) -> Array:
        return self.predict(self.encode_once(batch), batch.present)


def inspect(model: "Dicmor", params: Params, encoded: Encoded, available: Array) -> dict[str, Array]:
    """The embeddings, and the error of what is recovered."""
    completed = bind(model, params)(encoded, available, method="complete")
    return {"point": encoded.embedding, "error": jnp.mean(jnp.square(completed - encoded.embedding), axis=-1)}


def loss(
    model: Dicmor,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy of the completed points, negative log-likelihood under the label's prior, reconstruction error.

    The likelihood is fitted to the embeddings of the available modalities behind a stop-gradient, or the encoders could
    raise it by shrinking them (L: there, too, it does not reach what comes before the flows).
    """
    apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
    embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    points = jnp.where(available[..., None], embedding, 0.0)
    latent, log_det = apply(jax.lax.stop_gradient(points), method="to_latent")
    completed = apply(Encoded(points, latent), available, method="complete")
    logits = apply(completed, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="classify")
    label_mean = apply(method="class_means")[batch.label]
    hidden = batch.present & ~available & batch.where[:, None]
    mean = partial(losses.masked_mean, axis_name=axis_name)
    nll = losses.flow_nll_per_dim(latent - label_mean[:, None], log_det)
    error = losses.squared_error(completed, jax.lax.stop_gradient(embedding), hidden)
    terms = {
        "cross_entropy": cross_entropy(logits, batch, axis_name),
        "nll": floored_nll(nll, available & is_labelled(batch)[:, None], axis_name),
        "squared_error": mean(*error),
    }
    return terms["cross_entropy"] + sum(hyper.weights[name] * terms[name] for name in WEIGHTS), terms


def floored_nll(nll: Array, where: Array, axis_name: str | None = None) -> Array:
    """Mean over the modalities of each one's mean, 0 where that is negative (L); a share of the global value.

    Many values of an embedding of text or of a vector are exactly 0. A density of such points has no largest value, so
    without a floor the flow stretches them as far as it can.

    Args:
      nll: Of each point, `[B, M]`, nats per dimension.
      where: Points that count, `[B, M]`, bool.
      axis_name: Device axis of an enclosing `pmap`, or None.
    """
    mean = jax.vmap(partial(losses.masked_mean, axis_name=axis_name), in_axes=1)
    shares = mean(nll, where)
    whole = shares if axis_name is None else jax.lax.psum(shares, axis_name)
    return jnp.mean(jnp.where(whole > 0, shares, 0.0))


def diagnose(model: Dicmor, params: Params, encoded: Encoded, where: Array) -> dict[str, Array]:
    """Flow's largest round-trip error and log-scale (absolute)."""
    apply = bind(model, params)
    error = jnp.abs(apply(encoded.latent, method="from_latent") - encoded.embedding)
    log_scale = apply(encoded.embedding, method="largest_log_scale")
    return {
        "round_trip_error": jnp.max(jnp.where(where[:, None, None], error, 0.0)),
        "log_scale": jnp.max(jnp.where(where[:, None], log_scale, 0.0)),
    }
