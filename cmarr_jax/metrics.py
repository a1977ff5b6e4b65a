"""WAR, UAR and macro F1 from confusion counts; CCC and MAE of a regression from sums.

Counts and sums are added up over batches and devices; the scores are divided once, over the whole test fold. A mean of
per-batch scores is another number.
"""

from typing import Any, TypeVar

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.types import Array

Counts = TypeVar("Counts", np.ndarray, Array)


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


def war(counts: Counts) -> Counts:
    """Weighted accuracy (share of utterances that are right), a fraction; nan where nothing was counted.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`: float64 for numpy counts, float32 and traceable for device arrays.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _divide(_namespace(counts).trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)))


def uar(counts: Counts) -> Counts:
    """Unweighted average recall, a fraction; nan where nothing was counted.

    Classes without an utterance are left out of the mean, as in scikit-learn's `balanced_accuracy_score`.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`: float64 for numpy counts, float32 and traceable for device arrays.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _class_mean(_namespace(counts).diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1))


def macro_f1(counts: Counts) -> Counts:
    """Mean F1 over the classes, a fraction; nan where nothing was counted.

    Classes that occur neither as a label nor as a prediction are left out of the mean, as in scikit-learn's `f1_score`
    with `average="macro"`.

    Args:
      counts: Confusion counts, `[..., K, K]`, rows are true classes.

    Returns:
      Scores, `[...]`: float64 for numpy counts, float32 and traceable for device arrays.

    Raises:
      ValueError: if the last two axes are not square.
    """
    counts = _as_counts(counts)
    return _class_mean(2 * _namespace(counts).diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2))


def agreement_sums(target: Counts, predicted: Counts, where: Counts) -> Counts:
    """Sums over utterances, from which `ccc` and `mae` are computed; sums of several batches are added.

    Args:
      target: True numbers `y`, `[n]`, float.
      predicted: Predicted numbers `p`, `[n]`, float.
      where: Rows that count, `[n]`, bool; others are not read.

    Returns:
      n, and the sums of y, p, y^2, p^2, y p and |y - p|, `[7]`: float64 for numpy, float32 and traceable for JAX.
    """
    xp = _namespace(target)
    kept = lambda values: xp.where(where, values, 0).astype(xp.float32 if xp is jnp else xp.float64)
    y, p = kept(target), kept(predicted)
    return xp.stack([x.sum() for x in (kept(xp.ones_like(y)), y, p, y * y, p * p, y * p, xp.abs(y - p))])


def ccc(sums: Counts) -> Counts:
    """Concordance correlation coefficient, -1 to 1; nan where nothing was counted, or all numbers are one constant.

    `2 cov(y, p) / (var(y) + var(p) + (mean(y) - mean(p))^2)`, with moments divided by n.

    Args:
      sums: From `agreement_sums`, `[..., 7]`.

    Returns:
      Scores, `[...]`; it is the same in every unit of the numbers. Of JAX's float32 sums it is nan, too, where the
      numbers lie further from zero than 300 of their spreads, since the sums cannot tell it then: standardise them, or
      give numpy arrays.

    References:
      Lin, A concordance correlation coefficient to evaluate reproducibility, Biometrics 1989.
    """
    xp, count = _namespace(sums), sums[..., 0]
    means = sums / xp.maximum(count, 1)[..., None]
    y, p, yy, pp, yp = (means[..., index] for index in range(1, 6))
    spread = xp.maximum(yy - y * y, 0) + xp.maximum(pp - p * p, 0) + (y - p) ** 2
    # Rounding leaves a spread where the numbers are one constant.
    varies = spread > (1e-5 if xp is jnp else 1e-13) * (yy + pp)
    return xp.where(varies, 2 * (yp - y * p) / xp.where(varies, spread, 1), xp.nan)


def mae(sums: Counts) -> Counts:
    """Mean absolute error, in the unit of the numbers; nan where nothing was counted.

    Args:
      sums: From `agreement_sums`, `[..., 7]`.

    Returns:
      Errors, `[...]`.
    """
    return _divide(sums[..., 6], sums[..., 0])


def _namespace(counts: Any) -> Any:
    return jnp if isinstance(counts, jax.Array) else np


def _as_counts(counts: Any) -> Any:
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"confusion counts must be [..., K, K], found shape {counts.shape}")
    return counts


def _class_mean(numerator: Any, denominator: Any) -> Any:
    """Mean of the quotients over the classes (last axis) whose denominator is not 0."""
    quotient = _namespace(numerator).nan_to_num(_divide(numerator, denominator))
    return _divide(quotient.sum(-1), (denominator > 0).sum(-1))


def _divide(numerator: Any, denominator: Any) -> Any:
    """Division that gives nan, without a warning, where the denominator is 0."""
    xp = _namespace(numerator)
    return xp.where(denominator > 0, numerator / xp.maximum(denominator, 1), xp.nan)
