"""What is predicted: the class of an utterance, or a number.

A task is what follows from that: the loss, the sums that an evaluation keeps, the score that chooses the epoch. The
network tells the task by its outputs: a logit for each class, or one number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from cmarr_jax.config import CLASSIFICATION_TASK, REGRESSION_TASK
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldError, FoldSplit
from cmarr_jax.metrics import agreement_sums, ccc, confusion_counts, uar
from cmarr_jax.types import Array, Batch


class Task(NamedTuple):
    """Classification or regression as pure functions.

    Attributes:
      name: As in `RunConfig.task`.
      loss_name: Name of the loss in the history of a run.
      score_name: Name of the score that chooses the epoch.
      loss: `(outputs [B, ..., K], batch) -> values [B, ...]`, not reduced; rows without label have any finite value.
      sums: `(outputs [B, K], batch, where [B]) -> sums`, which are added over batches, devices and conditions.
      score: Sums to the score that chooses the epoch; larger is better.
    """

    name: str
    loss_name: str
    score_name: str
    loss: Callable[[Array, Batch], Array]
    sums: Callable[[Array, Batch, Array], Array]
    score: Callable[[Array], Array]


def task_of(num_outputs: int) -> Task:
    """The task of a network with this number of outputs: one is a regression."""
    return REGRESSION if num_outputs == 1 else CLASSIFICATION


def check_targets(corpus: Corpus, folds: Sequence[FoldSplit]) -> None:
    """Checks that the folds of a corpus can be used for regression.

    Raises:
      FoldError: if the corpus has no target, or all utterances of a training or validation part have the same one:
        CCC, which chooses the epoch, cannot tell predictions apart then.
    """
    if corpus.target is None:
        raise FoldError("a regression needs a number for each utterance; write the key target into the archive")
    for fold in folds:
        for part, rows in (("training", fold.train), ("validation", fold.val)):
            found = np.unique(corpus.target[rows])
            if len(found) < 2:
                text = f"every {part} utterance has the target {found[0]}; use other folds or more utterances"
                raise FoldError(f"fold {fold.name!r}: {text}")


def _cross_entropy(outputs: Array, batch: Batch) -> Array:
    """Cross-entropy, nats."""
    label = _for_each(jnp.maximum(batch.label, 0), outputs)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, label)


def _squared_error(outputs: Array, batch: Batch) -> Array:
    """Squared error of the standardised target (D).

    It is near 1 for a network that knows nothing, much as cross-entropy is, so the weights of the other losses fit both
    tasks. Its optimum is the mean of the target, which no further parameter, as a Huber loss has, moves.
    """
    target = jnp.where(batch.label >= 0, _target(batch), 0.0)
    return jnp.square(outputs[..., 0] - _for_each(target, outputs))


def _for_each(values: Array, outputs: Array) -> Array:
    """`[B]` as `[B, ...]`, for outputs `[B, ..., K]`."""
    return jnp.broadcast_to(values.reshape(-1, *[1] * (outputs.ndim - 2)), outputs.shape[:-1])


def _counts(outputs: Array, batch: Batch, where: Array) -> Array:
    """Confusion counts, `[K, K]`."""
    return confusion_counts(batch.label, outputs.argmax(axis=-1), where, num_classes=outputs.shape[-1])


def _agreement(outputs: Array, batch: Batch, where: Array) -> Array:
    """Sums of target and output, `[7]`, as standardised as the target of the batch is."""
    return agreement_sums(_target(batch), outputs[:, 0], where)


def _target(batch: Batch) -> Array:
    if batch.target is None:
        raise ValueError("a regression needs Batch.target; give a corpus with targets")
    return batch.target


CLASSIFICATION = Task(CLASSIFICATION_TASK, "cross_entropy", "uar", _cross_entropy, _counts, uar)
REGRESSION = Task(REGRESSION_TASK, "target_error", "ccc", _squared_error, _agreement, ccc)
TASKS = {task.name: task for task in (CLASSIFICATION, REGRESSION)}
