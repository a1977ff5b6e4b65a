"""A two-stage method that the library does not know: a teacher on complete data, then a student that imitates it.

In the manner of MMIN, as small as it can be. Stage 1 trains the student on complete data. When stage 2 begins, the
teacher becomes a copy of the student's best epoch and stays frozen; the student starts from there with a fresh
optimizer, hidden modalities, and an imitation loss.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax import losses
from cmarr_jax.config import EncoderConfig, TrainConfig
from cmarr_jax.methods.base import Method, Stage, adam, bind, cross_entropy
from cmarr_jax.nn.encoders import UnimodalEncoders


@dataclasses.dataclass(frozen=True)
class Options:
    """Width of the imagination."""

    hidden: int = 8


class Student(nn.Module):
    """Encoders, one layer that imagines all embeddings from the available ones, a classifier."""

    config: EncoderConfig
    num_classes: int
    options: Options

    def setup(self):
        self.encoders = UnimodalEncoders(self.config)
        self.hidden = nn.Dense(self.options.hidden)
        self.imagined = nn.Dense(self.config.num_modalities * self.config.embedding)
        self.classifier = nn.Dense(self.num_classes)

    def encode(self, batch, *, dropout=None):
        return self.encoders(batch, dropout=dropout)

    def imagine(self, embedding, available):
        seen = jnp.where(available[..., None], embedding, 0.0)
        imagined = self.imagined(nn.relu(self.hidden(seen.reshape(len(seen), -1))))
        return jnp.where(available[..., None], embedding, imagined.reshape(embedding.shape))

    def predict(self, embedding, available):
        points = self.imagine(embedding, available)
        return self.classifier(points.reshape(len(points), -1))

    def __call__(self, batch):
        return self.predict(self.encode(batch), batch.present)


def make(encoders: EncoderConfig, num_classes: int, train: TrainConfig, options: Options) -> Method:
    model = Student(encoders, num_classes, options)

    def init(key, batch):
        student = model.init(key, batch)["params"]
        return {"student": student, "teacher": jax.tree.map(jnp.zeros_like, student["encoders"])}

    def loss(params, batch, available, key, hyper, axis_name=None):
        apply = bind(model, params["student"])
        embedding = apply(batch, dropout=hyper.dropout, rngs={"dropout": key}, method="encode")
        points = apply(embedding, available, method="imagine")
        teacher = jax.lax.stop_gradient({**params["student"], "encoders": params["teacher"]})
        target = bind(model, teacher)(batch, method="encode")
        hidden = batch.present & ~available & batch.where[:, None]
        error = losses.squared_error(points, jax.lax.stop_gradient(target), hidden)
        terms = {
            "cross_entropy": cross_entropy(apply(embedding, available, method="predict"), batch, axis_name),
            "imitation": losses.masked_mean(*error, axis_name=axis_name),
        }
        return terms["cross_entropy"] + hyper.weights["imitation"] * terms["imitation"], terms

    student = lambda params: bind(model, params["student"])
    return Method(
        init=init,
        loss=loss,
        stages=(
            Stage("teacher", train.complete_epochs, hide=False, weights={"imitation": 0.0}, decay=True),
            Stage(
                "student",
                train.missing_epochs,
                hide=True,
                decay=True,
                begin=lambda params: {**params, "teacher": params["student"]["encoders"]},
                from_best=True,
                fresh_optimizer=True,
            ),
        ),
        encode=lambda params, batch: student(params)(batch, method="encode"),
        predict=lambda params, embedding, available: student(params)(embedding, available, method="predict"),
        diagnose=lambda params, embedding, where: {},
        weights={"imitation": 4.0},
        optimizer=adam(train, b1=0.5),
    )
