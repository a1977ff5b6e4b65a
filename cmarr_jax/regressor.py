"""A regressor with scikit-learn's habits: predicts a number, such as the intensity of a sentiment, from arrays.

    model = MissingModalityRegressor("cm_arr").fit({"audio": audio, "text": text}, y, groups=speaker)
    model.predict({"text": new_text})

All that is not said here is as in `cmarr_jax.estimator.MissingModalityClassifier`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cmarr_jax.config import REGRESSION_TASK
from cmarr_jax.data.corpus import UNLABELLED
from cmarr_jax.data.modalities import Modalities, Values
from cmarr_jax.data.targets import LARGEST, rounding_fault
from cmarr_jax.estimator_data import make_corpus, make_parts, read_features
from cmarr_jax.estimator_shared import MissingModalityEstimator
from cmarr_jax.metrics import agreement_sums, ccc, mae
from cmarr_jax.task import check_targets

try:
    from sklearn.base import RegressorMixin
except ImportError:  # the regressor works without it
    from cmarr_jax.estimator_base import RegressorMixin

HALVES = ("low", "high")


class MissingModalityRegressor(RegressorMixin, MissingModalityEstimator):
    """Predicts a number for utterances of which any modalities may be missing, at training and at prediction.

    It is trained by the squared error of the standardised number. The epoch is the one with the best concordance
    correlation (CCC) on the validation part. `score` is R2, as of scikit-learn's regressors; `scores` gives CCC and the
    mean absolute error.

    Contrastive losses need classes: there, utterances of one half, up to the median of y or above it, are alike (D).

    Attributes:
      modalities_: Names of the modalities, in the order of the X that was fitted.
      history_: Per stage and name, a value per epoch: losses, CCC on validation.
      status_: How the training ended, one of `cmarr_jax.training.schedule.STATUS`.
      validation_: Rows of X that were the validation part, `[n]`.
      unlabelled_: Rows of X without number that were in the training part, `[n]`.
      predictor_: A `Predictor` with uncertainty and recovered embeddings.
    """

    task = REGRESSION_TASK

    def fit(
        self, X: Modalities | Mapping[str, Values], y: Any, groups: Any = None, validation: Any = None
    ) -> "MissingModalityRegressor":
        """Trains on all utterances but a validation part.

        Args:
          X: Features of N utterances by modality, see `Modalities`; two modalities at least. A pandas DataFrame is
            vectors, one row per utterance.
          y: Numbers, `[N]`; nan: unlabelled, which methods learn from that can (`Method.unlabelled`).
          groups: Speakers, `[N]`: none is in both parts. An unlabelled utterance of a validation speaker is not used.
            `None`: every utterance is its own.
          validation: Which utterances are the validation part, `[N]` bool: whole groups. Unlabelled utterances among
            them are not used. `None`: a share of groups, or of each half.

        Raises:
          ValueError: if the data or a parameter has a fault, or the training diverged. An estimator that was fitted
            before stays as it was.
        """
        features = read_features(X)
        target = _numbers(y, features)
        corpus = make_corpus(features, _halves(target, target), HALVES, groups, target)
        by_group, seed = groups is not None, self.random_state
        fold = make_parts(corpus, validation, self.validation_fraction, by_group=by_group, seed=seed)
        check_targets(corpus, [fold])
        # What training reads of the halves, in CM-ARR's refinement, knows no number of the validation part.
        corpus = dataclasses.replace(corpus, label=_halves(target, target[fold.train]).astype(np.int32))
        self._train(corpus, fold)
        return self

    def predict(self, X: Modalities | Mapping[str, Values]) -> np.ndarray:
        """The number of each utterance, `[N]` float64, from the modalities that it has.

        Raises:
          ValueError: at the first utterance that cannot be answered: without any modality, of another width; if there
            is none.
        """
        return np.array([answer.value for answer in self._answers(X)])

    def scores(self, X: Modalities | Mapping[str, Values], y: Any) -> dict[str, float]:
        """CCC and MAE of the predictions, as in the tables of the experiments.

        Args:
          X: As in `predict`.
          y: True numbers, `[N]`; nan: the utterance is not counted.

        Returns:
          `ccc`, the concordance correlation, -1 to 1; `mae`, the mean absolute error in the unit of y. Both are nan if
          no utterance counts. `ccc` is nan, too, if all numbers, true and predicted, are one constant.

        Raises:
          ValueError: if y is not one number per utterance, or an utterance cannot be answered.
        """
        features = read_features(X)
        target = _checked(y, features)
        sums = agreement_sums(target, self.predict(features), ~np.isnan(target))
        return {"ccc": float(ccc(sums)), "mae": float(mae(sums))}


def _numbers(y: Any, features: Modalities) -> np.ndarray:
    """y as `[N]` float32, with two different numbers at least."""
    given = _checked(y, features)
    target = given.astype(np.float32)
    if len(known := np.unique(target[~np.isnan(target)])) < 2:
        raise ValueError(f"y must have two different numbers or more, found {known.tolist()}")
    if (text := rounding_fault(given)) is not None:
        raise ValueError(f"y is {text}")
    return target


def _checked(y: Any, features: Modalities) -> np.ndarray:
    """y as `[N]` float64: numbers up to `LARGEST`, and nan."""
    try:
        target = np.asarray(y, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"y must be numbers ({error}); write nan where there is none") from None
    if np.ma.is_masked(y):
        raise ValueError("y has masked numbers; write nan where there is none")
    if target.shape != features.shape:
        raise ValueError(f"y must have one number per utterance, [{len(features)}], found shape {list(target.shape)}")
    if (too_large := np.abs(target) > LARGEST).any():
        row = int(np.argmax(too_large))
        raise ValueError(
            f"y of utterance {row} is {target[row]}, beyond {LARGEST:g}; correct it, or give all in a larger unit"
        )
    return target


def _halves(target: np.ndarray, of: np.ndarray) -> np.ndarray:
    """0 up to the median of some of the numbers, 1 above it, -1 where there is none, `[N]`; both halves have some."""
    known = of[~np.isnan(of)]
    median = np.median(known)
    bound = median if (known > median).any() else known[known < median].max()  # the median may be the largest number
    return np.where(np.isnan(target), UNLABELLED, target > bound)
