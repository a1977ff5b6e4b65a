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
      label: True class, `[B]`, int, in `[0, K)` where it counts (not checked: a row outside of it is not counted).
      predicted: Predicted class, `[B]`, int, as `label`.
      where: Rows that count, `[B]`, bool.
      num_classes: K.

    Returns:
      Counts, `[K, K]`, int32; rows are true classes, columns predicted ones.

    Raises:
      AssertionError: at trace time, if ranks, shapes or dtypes differ from the above.
    """
    chex.assert_rank(label, 1)
    chex.assert_equal_shape([label, predicted, where])
    chex.assert_type([label, predicted, where], [int, int, bool])
    classes = jnp.arange(num_classes)[None]
    is_label = (label[:, None] == classes) & where[:, None]
    is_predicted = predicted[:, None] == classes
    return jnp.sum(is_label[:, :, None] & is_predicted[:, None, :], axis=0, dtype=jnp.int32)


def war(counts: np.ndarray | Array) -> np.ndarray:
    """Weighted accuracy (share of utterances that are right), a fraction; nan where nothing was counted.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`, float64.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _divide(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def uar(counts: np.ndarray | Array) -> np.ndarray:
    """Unweighted average recall, a fraction; nan where nothing was counted.

    Classes without an utterance are left out of the mean, as in scikit-learn's `balanced_accuracy_score`.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`, float64.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _class_mean(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def macro_f1(counts: np.ndarray | Array) -> np.ndarray:
    """Mean F1 over the classes, a fraction; nan where nothing was counted.

    Classes that occur neither as a label nor as a prediction are left out of the mean, as in scikit-learn's `f1_score`
    with `average="macro"`.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`, float64.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _class_mean(2 * np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2))


def _as_counts(counts: np.ndarray | Array) -> np.ndarray:
    counts = np.asarray(counts, np.float64)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"confusion counts must be [..., K, K], found shape {counts.shape}")
    return counts


def _class_mean(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Mean of the quotients over the classes (last axis) whose denominator is not 0."""
    quotient = np.nan_to_num(_divide(numerator, denominator))
    return _divide(quotient.sum(-1), (denominator > 0).sum(-1))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Division that gives nan, without a warning, where the denominator is 0."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0)
