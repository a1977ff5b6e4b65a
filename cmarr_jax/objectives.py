"""Losses of CM-ARR and of the zero-fill baseline: `(params, batch, available, key, hyper) -> (loss, aux)`.

All means are shares of the mean over the whole batch (`masked_mean`), so the sums over devices are the batch's numbers.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from cmarr_jax import losses
from cmarr_jax.config import Hyperparameters, ModelConfig, TrainConfig
from cmarr_jax.gaussian import sample
from cmarr_jax.method import Method, Params, Stage
from cmarr_jax.model import CmArr, Encoded, ZeroFill
from cmarr_jax.types import Array, Batch, GaussianEmbedding

Loss = tuple[Array, dict[str, Array]]


def cm_arr(config: ModelConfig, train: TrainConfig) -> Method:
    """CM-ARR: stage 1 aligns on complete data, stage 2 reconstructs and refines with modalities hidden."""
    model = CmArr(config)
    stages = (
        Stage("alignment", train.complete_epochs, hide=False, without=("refinement",)),
        Stage("reconstruction_refinement", train.missing_epochs, hide=True),
    )
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(cm_arr_loss, model),
        stages=stages,
        encode=lambda params, batch: bind(model, params)(batch, method="encode_once"),
        predict=lambda params, encoded, available: bind(model, params)(encoded, available, method="predict"),
        diagnose=partial(diagnose, model),
    )


def zero_fill(config: ModelConfig, train: TrainConfig) -> Method:
    """The baseline: cross-entropy only, absent modalities as zeros, the schedule and patterns of CM-ARR."""
    model = ZeroFill(config)
    stages = (
        Stage("complete", train.complete_epochs, hide=False),
        Stage("missing", train.missing_epochs, hide=True),
    )
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(zero_fill_loss, model),
        stages=stages,
        encode=lambda params, batch: bind(model, params)(batch, method="encode"),
        predict=lambda params, embedding, available: bind(model, params)(embedding, available, method="predict"),
        diagnose=lambda params, embedding, where: {},
    )


METHODS = {"cm_arr": cm_arr, "zero_fill": zero_fill}


def make_method(name: str, config: ModelConfig, train: TrainConfig) -> Method:
    """The method of that name. Raises ValueError with the known names."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; found {name!r}")
    return METHODS[name](config, train)


def bind(model: nn.Module, params: Params) -> Callable[..., Any]:
    """`model.apply` with these parameters."""
    return partial(model.apply, {"params": params})


def cm_arr_loss(
    model: CmArr,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> Loss:
    """The total loss; with nothing hidden, its squared error is zero.

    True features of a hidden modality are read as the reconstruction's target only, behind a stop-gradient; so is the
    point that the flow's likelihood is fitted to, or the encoder could lower it by shrinking its embeddings (D).
    """
    apply = bind(model, params)
    encode_key, sample_key, classify_key = jax.random.split(key, 3)
    embedding = apply(batch, train=True, rngs={"dropout": encode_key}, method="encode")
    points = jnp.where(available[..., None], sample(sample_key, embedding), 0.0)
    completed = points
    if model.config.recovery == "flow":
        to_latent = lambda params, points: bind(model, params)(points, method="to_latent")
        (latent, _), (fitted, log_det) = for_two_uses(to_latent, params, points)
        recovered = apply(latent, embedding.log_std, available, method="reconstruct")
        completed = jnp.where(available[..., None], points, recovered)
    logits = apply(completed, train=True, rngs={"dropout": classify_key}, method="classify")
    recovered = batch.present if model.config.recovery == "flow" else available
    terms = {
        "cross_entropy": _cross_entropy(logits, batch, axis_name),
        "alignment": _alignment(apply, embedding, batch, available, axis_name),
        "entropy": _entropy(embedding, batch, available, hyper, axis_name),
        "refinement": _refinement(apply, completed, batch, recovered, hyper, axis_name),
    }
    if model.config.recovery == "flow":
        hidden = batch.present & ~available & batch.where[:, None]
        target = jax.lax.stop_gradient(embedding.mean)
        error = losses.squared_error(completed, target, hidden)
        terms["nll"] = _nll(fitted, log_det, batch, available, axis_name)
        terms["squared_error"] = losses.masked_mean(error.value, error.valid, axis_name)
    return _weighted(terms, hyper), terms


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def for_two_uses(function: Callable[[Params, Array], Any], params: Params, x: Array) -> tuple[Any, Any]:
    """`function(params, x)` twice, computed once; the gradient of the second reaches the parameters, but not `x`.

    As `function(params, x), function(params, stop_gradient(x))`, in half the time: the parameters' gradient is linear,
    so both share one backward pass to it.
    """
    value = function(params, x)
    return value, value


def _two_uses_forward(function, params: Params, x: Array):
    value, vjp = jax.vjp(function, params, x)
    return (value, value), vjp


def _two_uses_backward(function, vjp, grads):
    grad_params, _ = vjp(jax.tree.map(jnp.add, *grads))
    _, grad_x = vjp(grads[0])
    return grad_params, grad_x


for_two_uses.defvjp(_two_uses_forward, _two_uses_backward)


def zero_fill_loss(
    model: ZeroFill,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> Loss:
    """Cross-entropy of the zero-fill baseline."""
    del hyper  # it has no weights
    apply = bind(model, params)
    encode_key, classify_key = jax.random.split(key)
    embedding = apply(batch, train=True, rngs={"dropout": encode_key}, method="encode")
    logits = apply(embedding, available, train=True, rngs={"dropout": classify_key}, method="predict")
    loss = _cross_entropy(logits, batch, axis_name)
    return loss, {"cross_entropy": loss}


def diagnose(model: CmArr, params: Params, encoded: Encoded, where: Array) -> dict[str, Array]:
    """Flow round-trip error (largest, absolute), mean log_std of the embeddings, alignment temperature."""
    apply = bind(model, params)
    scalars = {"log_std": jnp.mean(encoded.log_std), "temperature": apply(method="temperature")}
    if encoded.latent is not None:
        error = jnp.abs(apply(encoded.latent, method="from_latent") - encoded.mean)
        scalars["round_trip_error"] = jnp.max(jnp.where(where[:, None, None], error, 0.0))
    return scalars


def _cross_entropy(logits: Array, batch: Batch, axis_name: str | None) -> Array:
    values = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    return losses.masked_mean(values, batch.where, axis_name)


def _alignment(apply, embedding: GaussianEmbedding, batch: Batch, available: Array, axis_name: str | None) -> Array:
    pairs = losses.alignment(
        embedding.mean,
        jnp.exp(embedding.log_std),
        available,
        batch.where,
        temperature=apply(method="temperature"),
        axis_name=axis_name,
    )
    return losses.masked_mean(pairs.value, pairs.valid, axis_name)


def _nll(latent: Array, log_det: Array, batch: Batch, available: Array, axis_name: str | None) -> Array:
    seen = available & batch.where[:, None]
    return losses.masked_mean(losses.flow_nll_per_dim(latent, log_det), seen, axis_name)


def _refinement(
    apply, points: Array, batch: Batch, usable: Array, hyper: Hyperparameters, axis_name: str | None
) -> Array:
    num_modalities = points.shape[1]
    projected = apply(points, method="project")
    anchors = losses.supervised_contrastive(
        projected.reshape(-1, projected.shape[-1]),
        jnp.repeat(batch.label, num_modalities),
        (usable & batch.where[:, None]).reshape(-1),
        temperature=hyper.refinement_temperature,
        axis_name=axis_name,
    )
    return losses.masked_mean(anchors.value, anchors.valid, axis_name)


def _entropy(
    embedding: GaussianEmbedding, batch: Batch, available: Array, hyper: Hyperparameters, axis_name: str | None
) -> Array:
    values = losses.entropy_floor(embedding.log_std, floor_per_dim=hyper.entropy_floor)
    return losses.masked_mean(values, available & batch.where[:, None], axis_name)


def _weighted(terms: dict[str, Array], hyper: Hyperparameters) -> Array:
    weights = {**hyper._asdict(), "cross_entropy": 1.0}
    return sum((weights[name] * value for name, value in terms.items()), start=jnp.zeros(()))
