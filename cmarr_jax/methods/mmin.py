"""MMIN, the missing modality imagination network, after its published description.

Stage 1 trains encoders and a classifier on complete data: the teacher. In stage 2 the encoders go on from the
teacher's best epoch. A cascade of residual autoencoders imagines the embeddings of the missing modalities, a second
one imagines the input back, and a new classifier reads the latents of the first one. The target is what the frozen
teacher makes of the hidden modalities.

Differences from the published code (D): a missing modality is a zero embedding, not the embedding of zero features,
and so is the target of an available one; the schedule is that of the other methods.

Marks C, L, D: docs/decisions.md.

Source: Zhao, Li and Jin, Missing Modality Imagination Network for Emotion Recognition with Uncertain Missing
Modalities, ACL 2021.
"""

import dataclasses
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, Hyperparameters, TrainConfig
from cmarr_jax.methods.base import Method, Params, Stage, adam, bind, supervised_loss
from cmarr_jax.methods.clipping import ParamPath
from cmarr_jax.nn.dropout import Rate
from cmarr_jax.nn.encoders import UnimodalEncoders
from cmarr_jax.nn.fusion import FusionClassifier
from cmarr_jax.nn.imagination import Imagination, check_blocks
from cmarr_jax.types import Array, Batch

WEIGHTS = {
    "imagination": 4.0,  # L: weight of the squared error of the imagined embeddings
    "cycle": 2.0,  # L: weight of the squared error of the input that is imagined back
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Sizes of the two cascades, and what they learn from."""

    widths: tuple[int, ...] = (256, 128, 64)  # L: hidden widths of a block, the latent's last
    num_blocks: int = 5  # L
    unlabelled: bool = False  # D: the cascades learn from unlabelled utterances, too; their losses need no label

    def __post_init__(self):
        object.__setattr__(self, "widths", check_blocks(self.widths, self.num_blocks))  # JSON gives a list


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    """MMIN: a teacher on complete data, then imagination with modalities hidden."""
    model = Mmin(encoders, num_classes, options)
    student = lambda params: bind(model, params["student"])
    return Method(
        init=lambda key, batch: with_teacher(model.init(key, batch)["params"], ["encoders"]),
        loss=partial(loss, model),
        stages=(
            Stage("complete", train.complete_epochs, hide=False, weights=dict.fromkeys(WEIGHTS, 0.0)),
            imagination_stage(train),
        ),
        encode=lambda params, batch: student(params)(batch, method="encode"),
        predict=lambda params, embedding, available: (
            student(params)(embedding, available, imagines(params), method="imagine").logits
        ),
        diagnose=lambda params, embedding, where: {},
        inspect=partial(inspect, model),
        weights=WEIGHTS,
        optimizer=adam(train, b1=0.5, network_of=network_of),  # L
        unlabelled=options.unlabelled,
    )


class Imagined(NamedTuple):
    """What the network makes of the available embeddings.

    Attributes:
      logits: `[B, K]`.
      given: Embeddings of the available modalities, zeros elsewhere, `[B, M, D]`.
      imagined: Embeddings of the missing modalities, `[B, M, D]`, near zero for the available ones.
      cycled: `given`, imagined back, `[B, M, D]`.
    """

    logits: Array
    given: Array
    imagined: Array
    cycled: Array


class Mmin(nn.Module):
    """Encoders, two cascades, and a classifier for each stage."""

    config: EncoderConfig
    num_classes: int
    options: Options = Options()

    def setup(self) -> None:
        sizes = self.options.widths, self.options.num_blocks
        self.encoders = UnimodalEncoders(self.config)
        self.complete_classifier = FusionClassifier(self.config, self.num_classes)
        self.imagination, self.imagination_back = Imagination(*sizes), Imagination(*sizes)
        self.classifier = FusionClassifier(self.config, self.num_classes)

    def encode(self, batch: Batch, *, dropout: Rate = None) -> Array:
        """Embedding of every modality, `[B, M, D]`."""
        return self.encoders(batch, dropout=dropout)

    def imagine(self, embedding: Array, available: Array, imagines: Array, *, dropout: Rate = None) -> Imagined:
        """Logits and imagined embeddings from the available ones.

        Args:
          embedding: `[B, M, D]`; rows that are not available are not read.
          available: `[B, M]`, bool.
          imagines: Whether the logits are those of stage 2, a bool; otherwise of stage 1, whose classifier reads zeros
            for what is not available.
          dropout: Rate of dropout in training, `None` otherwise.
        """
        given = jnp.where(available[..., None], embedding, 0.0)
        imagined, latents = self.imagination(given)
        cycled, _ = self.imagination_back(imagined)
        logits = self.complete_classifier(given, dropout=dropout), self.classifier(latents, dropout=dropout)
        return Imagined(jnp.where(imagines, logits[1], logits[0]), given, imagined, cycled)

    def __call__(self, batch: Batch) -> Imagined:
        return self.imagine(self.encode(batch), batch.present, jnp.array(True))


def loss(
    model: Mmin,
    params: Params,
    batch: Batch,
    available: Array,
    key: Array,
    hyper: Hyperparameters,
    axis_name: str | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Cross-entropy of labelled rows; of all rows, squared error of the imagination and of the way back.

    The imagination's target is the teacher's embedding of the hidden modalities, and zero for the available ones (L);
    modalities that an utterance lacks by nature do not count (D). The cycle's target has no gradient (L).
    """
    apply, (encode_key, classify_key) = bind(model, params["student"]), jax.random.split(key)
    embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": encode_key}, method="encode")
    out = apply(
        embedding, available, imagines(params), dropout=hyper.dropout, rngs={"dropout": classify_key}, method="imagine"
    )
    taught = jax.lax.stop_gradient(bind(model, teacher_of(params))(batch, method="encode"))
    target = jnp.where(available[..., None], 0.0, taught)
    everything = jnp.broadcast_to(batch.where[:, None], available.shape)
    mean = lambda error: losses.masked_mean(*error, axis_name=axis_name)
    supervised, value = supervised_loss(out.logits, batch, axis_name)
    terms = {
        supervised: value,
        "imagination": mean(losses.squared_error(out.imagined, target, batch.present & everything)),
        "cycle": mean(losses.squared_error(out.cycled, jax.lax.stop_gradient(out.given), everything)),
    }
    return value + sum(hyper.weights[name] * terms[name] for name in WEIGHTS), terms


def inspect(model: Mmin, params: Params, batch: Batch, embedding: Array, available: Array) -> dict[str, Array]:
    """The embeddings that are to be imagined, and the error of the imagined ones."""
    out = bind(model, params["student"])(embedding, available, imagines(params), method="imagine")
    taught = bind(model, teacher_of(params))(batch, method="encode")
    return imagined_error(params, out.imagined, taught, embedding, available)


def imagined_error(
    params: Params, imagined: Array, taught: Array, embedding: Array, available: Array
) -> dict[str, Array]:
    """As `Method.inspect`. The embeddings to be imagined are the teacher's; without a teacher yet, the student's."""
    point = jnp.where(imagines(params), taught, embedding)
    error = jnp.mean(jnp.square(imagined - point), axis=-1)
    return {"point": point, "error": jnp.where(available, 0.0, error)}


def with_teacher(student: Params, frozen: Iterable[str]) -> Params:
    """The parameters before stage 1: a student, a teacher that is not used yet, and which stage's logits are asked for.

    Args:
      student: Parameters of the network.
      frozen: The parts of it that the teacher has.
    """
    teacher = {name: jax.tree.map(jnp.zeros_like, student[name]) for name in frozen}
    return {"student": student, "teacher": teacher, "imagines": jnp.zeros(())}


def imagination_stage(train: TrainConfig) -> Stage:
    """Stage 2: the best epoch of stage 1 becomes the teacher; the student goes on from it with a fresh optimizer.

    Raises:
      ValueError: if stage 1 has no epoch: the teacher would be an untrained network.
    """
    if train.complete_epochs < 1:
        raise ValueError("the imagination needs a trained teacher, so complete_epochs must be at least 1, found 0")

    def begin(params: Params) -> Params:
        teacher = {name: params["student"][name] for name in params["teacher"]}
        return {**params, "teacher": jax.tree.map(jnp.copy, teacher), "imagines": jnp.ones_like(params["imagines"])}

    return Stage(
        "imagination",
        train.missing_epochs,
        hide=True,
        decay=train.decay,
        begin=begin,
        from_best=True,
        fresh_optimizer=True,
    )


def network_of(path: ParamPath) -> ParamPath:
    """The network of a parameter, whose gradient is clipped by itself: the encoder of one modality, or another part.

    So an imagination whose error explodes does not keep encoders and classifier from learning.
    """
    return path[: 3 if path[1:2] in (("encoders",), ("invariant_encoders",)) else 2]


def teacher_of(params: Params) -> Params:
    """The network's parameters with the teacher's parts, without gradient."""
    return jax.lax.stop_gradient({**params["student"], **params["teacher"]})


def imagines(params: Params) -> Array:
    """Whether stage 2 has begun, a bool. It is a parameter, 0 or 1, so that `predict` knows; it gets no gradient."""
    return jax.lax.stop_gradient(params["imagines"]) > 0.5
