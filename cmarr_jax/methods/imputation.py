"""Imputation: the embedding of a missing modality is replaced by a guess from the available ones.

`mean` guesses the mean embedding of the training data, `ridge` a linear map of the available embeddings. Both are
fitted to the embeddings by least squares, the map with a ridge penalty, behind a stop-gradient, while encoders and
classifier are trained by cross-entropy on the completed embeddings.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig, check_choice
from cmarr_jax.methods.base import Method, Params, adam, bind, complete_then_missing, supervised_loss
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FUSIONS, FusionClassifier
from cmarr_jax.types import Array, Batch

GUESSES = ("mean", "ridge")
GUESS_SPEED = 10.0  # D: a step of Adam moves the guess this many times as far as a parameter
WEIGHTS = {
    "error": 1.0,  # D: weight of the guess's squared error, whose gradient reaches the guess only
    "ridge": 1.0,  # D: of squared coefficients, for inputs of unit mean square: a lone one's is about halved
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Variants of the network."""

    guess: str = "mean"  # L: or "ridge"
    fusion: str = "concat"  # L; or "attention"

    def __post_init__(self):
        check_choice("guess", self.guess, GUESSES)
        check_choice("fusion", self.fusion, FUSIONS)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """Imputation: complete data first, then a new availability pattern per utterance and reading."""
    model = Imputation(encoders, num_classes, options)
    return Method(
        init=lambda key, batch: model.init(key, batch)["params"],
        loss=partial(loss, model),
        stages=complete_then_missing(train),
        encode=lambda params, batch: bind(model, params)(batch, method="encode"),
        predict=lambda params, embedding, available: bind(model, params)(embedding, available, method="predict"),
        diagnose=lambda params, embedding, where: {},
        inspect=lambda params, batch, embedding, available: inspect(model, params, embedding, available),
        complete=lambda params, embedding, available: bind(model, params)(embedding, available, method="complete"),
        weights=WEIGHTS,
        optimizer=adam(train, own_counts=options.guess == "ridge"),  # its coefficients begin with the second stage
    )


class Imputation(nn.Module):
    """Encoders, a guess for each modality, classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        config = self.config
        self.encoders = UnimodalEncoders(config)
        self.classifier = FusionClassifier(config, self.num_classes, self.options.fusion)
        num, size = config.num_modalities, config.embedding
        self.mean = GUESS_SPEED * self.param("raw_mean", nn.initializers.zeros, (num, size))
        if self.options.guess == "ridge":
            shape = (num * (size + 1), num * size)  # from the embeddings and what is available
            self.coefficients = GUESS_SPEED * self.param("raw_coefficients", nn.initializers.zeros, shape)

    def encode(self, batch: Batch, *, dropout: Rate = None) -> Array:
        """Embedding of every modality, `[B, M, D]`."""
        return self.encoders(batch, dropout=dropout)

    def guess(self, embedding: Array, available: Array) -> Array:
        """What each modality's embedding should be, from the available ones, `[B, M, D]`."""
        if self.options.guess == "mean":
            return jnp.broadcast_to(self.mean[None], embedding.shape)
        return self.mean[None] + (self.inputs(embedding, available) @ self.coefficients).reshape(embedding.shape)

    def inputs(self, embedding: Array, available: Array) -> Array:
        """What the linear map reads: centred embeddings, zeros where unavailable, and what is available, `[B, I]`."""
        centred = jnp.where(available[..., None], embedding - self.mean[None], 0.0)
        return jnp.concatenate([centred.reshape(embedding.shape[0], -1), available.astype(embedding.dtype)], axis=-1)

    def complete(self, embedding: Array, available: Array) -> Array:
        """Embeddings of the available modalities, guesses of the others, `[B, M, D]`."""
        guessed = jax.lax.stop_gradient(self.guess(embedding, available))  # fitted by its own error only
        return jnp.where(available[..., None], embedding, guessed)

    def predict(self, embedding: Array, available: Array, *, dropout: Rate = None) -> Array:
        """Logits `[B, K]` from the available modalities."""
        return self.classifier(self.complete(embedding, available), dropout=dropout)

    def __call__(self, batch: Batch) -> Array:
        return self.predict(self.encode(batch), batch.present)


def inspect(model: Imputation, params: Params, embedding: Array, available: Array) -> dict[str, Array]:
    """The embeddings, and the error of the guess."""
    guessed = bind(model, params)(embedding, available, method="guess")
    error = jnp.mean(jnp.square(guessed - embedding), axis=-1)
    return {"point": embedding, "error": jnp.where(available, 0.0, error)}


def loss(
    model: Imputation,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy on completed embeddings, and the squared error of the guess on hidden modalities.

    The mean is fitted to all modalities that an utterance has, the linear map to the hidden ones.
    """
    apply, (encode_key, classify_key) = bind(model, params), jax.random.split(key)
    embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    logits = apply(embedding, available, dropout=hyper.dropout, rngs={"dropout": classify_key}, method="predict")
    target = jax.lax.stop_gradient(embedding)
    counted = batch.present & batch.where[:, None]
    mean = lambda points, where: losses.masked_mean(*losses.squared_error(points, target, where), axis_name=axis_name)
    supervised, value = supervised_loss(logits, batch, axis_name)
    terms = {
        supervised: value,
        "mean_error": mean(jnp.broadcast_to(GUESS_SPEED * params["raw_mean"][None], target.shape), counted),
    }
    total = value + hyper.weights["error"] * terms["mean_error"]
    if model.options.guess == "ridge":
        fixed = {**params, "raw_mean": jax.lax.stop_gradient(params["raw_mean"])}
        guessed = bind(model, fixed)(target, available, method="guess")
        terms["ridge_error"] = mean(guessed, counted & ~available)
        inputs = bind(model, fixed)(target, available, method="inputs")
        terms["ridge_penalty"] = ridge_penalty(params, inputs, batch.where, axis_name)
        total += hyper.weights["error"] * (terms["ridge_error"] + hyper.weights["ridge"] * terms["ridge_penalty"])
    return total, terms


def ridge_penalty(params: Params, inputs: Array, where: Array, axis_name: str | None) -> Array:
    """Sum over the inputs of mean square times squared coefficient, mean over the outputs; a share of the global value.

    So it is the penalty of ridge regression on inputs that were divided by their root mean square, whatever their unit.

    Args:
      params: Of the network.
      inputs: What the linear map reads, `[B, I]`, float.
      where: Rows that count, `[B]`, bool.
      axis_name: Device axis of an enclosing `pmap`, or None.

    Returns:
      Scalar in squared embedding units.
    """
    columns = jax.vmap(lambda column: losses.masked_mean(jnp.square(column), where, axis_name=axis_name), in_axes=1)
    mean_square = jax.lax.stop_gradient(columns(inputs))
    squares = jnp.mean(jnp.square(GUESS_SPEED * params["raw_coefficients"]), axis=-1)
    return mean_square @ squares
