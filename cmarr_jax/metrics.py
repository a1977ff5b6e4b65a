"""WAR, UAR and macro F1 from confusion counts.

Counts are summed as integers on the device, over batches and devices; the scores are divided once, over the whole test
fold. A mean of per-batch UARs is another number.
"""

import chex
import jax.numpy as jnp
import numpy as np

from cmarr_jax.types import Array


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


def war(counts: np.ndarray | Array) -> np.ndarray:
    """Weighted accuracy (share of utterances that are right), `[..., K, K] -> [...]`; nan where nothing was counted."""
    counts = np.asarray(counts, np.float64)
    return _divide(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def uar(counts: np.ndarray | Array) -> np.ndarray:
    """Unweighted average recall, `[..., K, K] -> [...]`.

    Classes without an utterance are left out of the mean, as in scikit-learn's `balanced_accuracy_score`.
    """
    counts = np.asarray(counts, np.float64)
    support = counts.sum(-1)
    recall = _divide(np.diagonal(counts, axis1=-2, axis2=-1), support)
    return _divide(np.where(support > 0, recall, 0.0).sum(-1), (support > 0).sum(-1))


def macro_f1(counts: np.ndarray | Array) -> np.ndarray:
    """Mean F1 over the classes that occur as a label or as a prediction, `[..., K, K] -> [...]`."""
    counts = np.asarray(counts, np.float64)
    total = counts.sum(-1) + counts.sum(-2)
    f1 = _divide(2 * np.diagonal(counts, axis1=-2, axis2=-1), total)
    return _divide(np.where(total > 0, f1, 0.0).sum(-1), (total > 0).sum(-1))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division that gives nan, without a warning, where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=np.asarray(denominator) > 0)
