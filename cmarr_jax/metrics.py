"""WAR, UAR and macro F1 from confusion counts.

Counts are summed as integers on the device, over batches and devices; the scores are divided once, over the whole test
fold. A mean of per-batch UARs is another number.
"""

from typing import TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.types import Array

Counts = TypeVar("Counts", np.ndarray, Array)


def confusion_counts(label: Array, predicted: Array, where: Array, *, num_classes: int) -> Array:
    """Counts utterances by true and predicted class.

    Args:
      label: True class, `[B]`, int, in `[0, K)`.
      predicted: Predicted class, `[B]`, int, in `[0, K)`.
      where: Rows that count, `[B]`, bool.
      num_classes: K.

    Returns:
      Counts, `[K, K]`, int32; rows are true classes, columns predicted ones.
    """
    chex.assert_equal_shape([label, predicted, where])
    chex.assert_type([label, predicted], int)
    cell = label * num_classes + predicted
    one_hot = (cell[:, None] == jnp.arange(num_classes**2)) & where[:, None]
    return jnp.sum(one_hot, axis=0, dtype=jnp.int32).reshape(num_classes, num_classes)


def war(counts: Counts) -> Counts:
    """Weighted accuracy (share of utterances that are right), `[..., K, K] -> [...]`; nan where nothing was counted."""
    xp = _namespace(counts)
    return _divide(xp.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def uar(counts: Counts) -> Counts:
    """Unweighted average recall, `[..., K, K] -> [...]`.

    Classes without an utterance are left out of the mean, as in scikit-learn's `balanced_accuracy_score`.
    """
    xp = _namespace(counts)
    support = counts.sum(-1)
    recall = _divide(xp.diagonal(counts, axis1=-2, axis2=-1), support)
    return _divide(xp.where(support > 0, recall, 0.0).sum(-1), (support > 0).sum(-1))


def macro_f1(counts: Counts) -> Counts:
    """Mean F1 over the classes that occur as a label or as a prediction, `[..., K, K] -> [...]`."""
    xp = _namespace(counts)
    total = counts.sum(-1) + counts.sum(-2)
    f1 = _divide(2 * xp.diagonal(counts, axis1=-2, axis2=-1), total)
    return _divide(xp.where(total > 0, f1, 0.0).sum(-1), (total > 0).sum(-1))


def _namespace(counts: Counts):
    """numpy for numpy counts (float64 scores on the host), jax.numpy for device arrays (float32, traceable)."""
    return jnp if isinstance(counts, jax.Array) else np


def _divide(numerator: Counts, denominator: Counts) -> Counts:
    """Division that gives nan, without a warning, where the denominator is 0."""
    xp = _namespace(numerator)
    return xp.where(denominator > 0, numerator / xp.maximum(denominator, 1), xp.nan)
