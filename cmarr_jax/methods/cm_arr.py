"""CM-ARR after the published description of arXiv 2407.09029: its loss and stages. The network: `cm_arr_network.py`.

Alignment: each modality of an utterance is a Gaussian; the Gaussians of one utterance are pulled together
(contrastive, 2-Wasserstein distance, no labels). Reconstruction: one RealNVP per modality maps them to a shared latent
space; the mean latent of the available modalities goes back through the flow of a missing one. Refinement: supervised
contrastive learning of the points, real or recovered.

Marks C, L, D: docs/decisions.md.
"""

from functools import partial

import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.methods import self_training
from cmarr_jax.methods.base import (
    Method,
    Params,
    Stage,
    adam,
    bind,
    contrast_group,
    each_pattern,
    is_labelled,
    supervised_loss,
)
from cmarr_jax.methods.cm_arr_network import DISTANCES, CmArr, Encoded, Options
from cmarr_jax.nn.flow import call_and_detached_copy
from cmarr_jax.nn.gaussian import sample
from cmarr_jax.types import Array, Batch, GaussianEmbedding

__all__ = ["WEIGHTS", "CmArr", "Encoded", "Options", "make"]

WEIGHTS = {
    "alignment": 0.1,  # D: weight of the distribution-based contrastive loss
    "late_alignment": 1.0,  # D: factor of that weight in stage 2; below 1 the supervised losses take over there
    "nll": 0.5,  # D: weight of the flow's negative log-likelihood
    "squared_error": 0.5,  # D: weight of the reconstruction error
    "refinement": 0.1,  # D: weight of the supervised contrastive loss
    "refinement_temperature": 0.1,  # L: Khosla et al. 2020
    "entropy": 0.0,  # D: weight of the entropy floor
    "entropy_floor": 0.0,  # D: nats per dimension below which an embedding's entropy is penalised
}


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """CM-ARR: stage 1 aligns on complete data, stage 2 reconstructs and refines with modalities hidden."""
    model = CmArr(encoders, num_classes, options)
    weights, off = self_training.weights_of(options.pseudo_labels, num_classes)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=(
            Stage(
                "alignment",
                train.complete_epochs,
                hide=False,
                weights={"refinement": 0.0, "late_alignment": 1.0, **off},
            ),
            Stage("reconstruction_refinement", train.missing_epochs, hide=True, decay=train.decay),
        ),
        encode=partial(encode, model),
        predict=partial(predict, model),
        diagnose=partial(diagnose, model),
        inspect=partial(inspect, model),
        complete=lambda params, encoded, available: bind(model, params)(encoded, available, method="complete"),
        draw=partial(draw, model),
        weights={**WEIGHTS, **weights},
        optimizer=adam(train, own_counts=True),
        patterns=options.patterns,
        unlabelled=options.unlabelled,
    )


def encode(model: CmArr, params: Params, batch: Batch) -> Encoded:
    """As `Method.encode`."""
    return bind(model, params)(batch, method="encode_once")


def predict(model: CmArr, params: Params, encoded: Encoded, available: Array) -> Array:
    """As `Method.predict`."""
    return bind(model, params)(encoded, available, method="predict")


def loss(
    model: CmArr,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The total loss; with nothing hidden, its squared error is zero.

    Rows without label enter alignment, likelihood, squared error, the entropy floor where it is on and, with
    `pseudo_labels`, self-training. The task's loss and refinement do not read them.

    True features of a hidden modality are read as the reconstruction's target and, with `pseudo_labels`, to guess the
    label, both behind a stop-gradient. So is the point that the flow's likelihood is fitted to, or the encoder could
    lower it by shrinking its embeddings (D).
    """
    options, weights, apply = model.options, hyper.weights, bind(model, params)
    mean = partial(losses.masked_mean, axis_name=axis_name)
    encode_key, sample_key, classify_key = jax.random.split(key, 3)
    embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    shown = available if available.ndim == 2 else available.any(axis=0)  # in one of the patterns
    points = jnp.where(shown[..., None], sample(sample_key, embedding), 0.0)
    seen = shown & batch.where[:, None]
    floor = losses.entropy_floor(embedding.log_std, floor_per_dim=weights["entropy_floor"])
    terms = {
        "alignment": mean(*align(model, params, embedding, shown, batch, axis_name)),
        "entropy": mean(floor, seen),
    }
    latent, nll = latents(model, params, points)
    if nll is not None:
        terms["nll"] = mean(nll, seen)
    target = apply(batch, method="encode").mean if options.clean_target and model.recovers else embedding.mean
    guess = None
    if options.pseudo_labels:
        guess = self_training.guessed(partial(encode, model), partial(predict, model), params, batch, axis_name)
    # From here on, rows are patterns of utterances.
    (points, latent, log_std, target, guess), rows, available = each_pattern(
        (points, latent, embedding.log_std, target, guess), batch, available
    )
    completed, usable = jnp.where(available[..., None], points, 0.0), available
    if model.recovers:
        recovered = apply(latent, log_std, available, method="reconstruct")
        completed = jnp.where(available[..., None], points, recovered)
        usable = rows.present
        hidden = rows.present & ~available & rows.where[:, None]
        terms["squared_error"] = mean(*losses.squared_error(completed, jax.lax.stop_gradient(target), hidden))
    # The points of available modalities are the same in all patterns, so each pattern is refined by itself.
    parts = [x.reshape(-1, len(batch.where), *x.shape[1:]) for x in (completed, usable)]
    refined = lambda points, where: mean(*refine(model, params, points, where, batch, hyper, axis_name))
    terms["refinement"] = jnp.mean(jnp.stack([refined(*part) for part in zip(*parts, strict=True)]))
    logits = apply(completed, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="classify")
    supervised, value = supervised_loss(logits, rows, axis_name)
    weights = {**weights, "alignment": weights["alignment"] * weights["late_alignment"]}
    total = value + sum(weights[name] * terms[name] for name in terms)
    if guess is not None:
        pseudo, more = self_training.pseudo_terms(logits, guess, rows, weights, axis_name)
        total, terms = total + pseudo, {**terms, **more}
    return total, {supervised: value, **terms}


def latents(model: CmArr, params: Params, points: Array) -> tuple[Array | None, Array | None]:
    """Latents of points `[B, M, D]`, and of a flow their negative log-likelihood per dimension, `[B, M]`."""
    to_latent = lambda params, points: bind(model, params)(points, method="to_latent")
    if not model.has_flow:
        return (to_latent(params, points)[0] if model.recovers else None), None
    (latent, _), (fitted, log_det) = call_and_detached_copy(to_latent, params, points)
    return latent, losses.flow_nll_per_dim(fitted, log_det)


def align(
    model: CmArr, params: Params, embedding: GaussianEmbedding, available: Array, batch: Batch, axis_name: str | None
) -> losses.MaskedLoss:
    """Contrastive loss between the available modalities of each utterance, of their Gaussians or of the means alone."""
    options, temperature = model.options, bind(model, params)(method="temperature")
    group = contrast_group(batch, options.within_speaker)
    if options.alignment == "cosine":
        return losses.point_alignment(
            embedding.mean, available, batch.where, group=group, temperature=temperature, axis_name=axis_name
        )
    return losses.alignment(
        embedding.mean,
        jnp.exp(embedding.log_std),
        available,
        batch.where,
        group=group,
        temperature=temperature,
        scale=options.alignment_scale,
        distance=DISTANCES[options.alignment],
        axis_name=axis_name,
    )


def refine(
    model: CmArr,
    params: Params,
    points: Array,
    usable: Array,
    batch: Batch,
    hyper: Hyperparameters,
    axis_name: str | None,
) -> losses.MaskedLoss:
    """Contrastive loss between the usable points `[B, M, D]` of the labelled rows, all modalities together."""
    positives = batch.label
    if model.options.refinement == "unsupervised":  # rows of other devices are other utterances
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * len(batch.label)
        positives = first + jnp.arange(len(batch.label))
    return losses.supervised_contrastive(
        bind(model, params)(points, method="project").reshape(-1, model.options.projection),
        jnp.repeat(positives, usable.shape[1]),
        (usable & is_labelled(batch)[:, None]).reshape(-1),
        temperature=hyper.weights["refinement_temperature"],
        axis_name=axis_name,
    )


def draw(model: CmArr, params: Params, key: Array, encoded: Encoded) -> Encoded:
    """The same utterances with points drawn from their Gaussians, and the latents of these points."""
    noise = jax.random.normal(key, encoded.mean.shape[1:], encoded.mean.dtype)
    points = encoded.mean + jnp.exp(encoded.log_std) * noise[None]
    latent = None if encoded.latent is None else bind(model, params)(points, method="to_latent")[0]
    return Encoded(points, encoded.log_std, latent)


def inspect(model: CmArr, params: Params, batch: Batch, encoded: Encoded, available: Array) -> dict[str, Array]:
    """Means of the embeddings, their mean log standard deviation, and the error of what is recovered."""
    completed = bind(model, params)(encoded, available, method="complete")
    error = jnp.mean(jnp.square(completed - encoded.mean), axis=-1)
    return {"point": encoded.mean, "spread": encoded.log_std.mean(-1), "error": error}


def diagnose(model: CmArr, params: Params, encoded: Encoded, where: Array) -> dict[str, Array]:
    """Largest round-trip error, of an autoencoder, too; flow's largest log-scale (absolute); log_std; temperature."""
    apply = bind(model, params)
    counted = jnp.broadcast_to(where[:, None, None], encoded.log_std.shape)
    scalars = {
        "log_std": losses.masked_mean(encoded.log_std, counted),
        "temperature": apply(method="temperature"),
    }
    if encoded.latent is not None:
        error = jnp.abs(apply(encoded.latent, method="from_latent") - encoded.mean)
        scalars["round_trip_error"] = jnp.max(jnp.where(counted, error, 0.0))
    if model.has_flow:
        log_scale = apply(encoded.mean, method="largest_log_scale")
        scalars["log_scale"] = jnp.max(jnp.where(where[:, None], log_scale, 0.0))
    return scalars
