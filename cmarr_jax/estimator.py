"""A classifier with scikit-learn's habits, for arrays without any file.

    model = MissingModalityClassifier("cm_arr").fit({"audio": audio, "text": text}, y, groups=speaker)
    model.predict_proba({"text": new_text})

scikit-learn is not needed; where it is installed, `clone`, `cross_val_score`, `GridSearchCV` and `Pipeline` work, with
`Modalities(features)` as their X.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cmarr_jax.config import CLASSIFICATION_TASK
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.modalities import Modalities, Values
from cmarr_jax.estimator_data import check_known, check_weights, make_corpus, make_parts, read_features
from cmarr_jax.estimator_shared import ESTIMATOR, MissingModalityEstimator, NotFittedError

try:
    from sklearn.base import ClassifierMixin
except ImportError:  # the classifier works without it
    from cmarr_jax.estimator_base import ClassifierMixin

__all__ = ["ESTIMATOR", "MissingModalityClassifier", "NotFittedError"]


class MissingModalityClassifier(ClassifierMixin, MissingModalityEstimator):
    """Classifies utterances of which any modalities may be missing, at training and at prediction.

    The defaults are those of the experiments (`cmarr_jax.presets`): `VECTORS` if every modality is one vector per
    utterance, else `SEQUENCES`. Training ends when the validation part no longer improves.

    Attributes:
      classes_: Labels, sorted, `[K]`.
      modalities_: Names of the modalities, in the order of the X that was fitted.
      history_: Per stage and name, a value per epoch: losses, UAR on validation.
      status_: How the training ended, one of `cmarr_jax.training.schedule.STATUS`.
      validation_: Rows of X that were the validation part, `[n]`.
      unlabelled_: Rows of X without label that were in the training part, `[n]`.
      predictor_: A `Predictor` with uncertainty, abstention and recovered embeddings.
    """

    task = CLASSIFICATION_TASK

    def fit(
        self, X: Modalities | Mapping[str, Values], y: Any, groups: Any = None, validation: Any = None
    ) -> "MissingModalityClassifier":
        """Trains on all utterances but a validation part.

        As in scikit-learn's semi-supervised estimators, -1 in y is no class: nobody labelled this utterance. Methods
        that can learn from such utterances do (`Method.unlabelled`); for the others they only enter the mean and spread
        that features are standardised by. Name classes otherwise if one of yours is called -1.

        Args:
          X: Features of N utterances by modality, see `Modalities`; two modalities at least. A pandas DataFrame is
            vectors, one row per utterance.
          y: Labels, `[N]`; -1, also among labels of text: unlabelled.
          groups: Speakers, `[N]`: none is in both parts. An unlabelled utterance of a validation speaker is not used.
            `None`: every utterance is its own.
          validation: Which utterances are the validation part, `[N]` bool: whole groups. Unlabelled utterances among
            them are not used. `None`: a share of groups, or of each class.

        Raises:
          ValueError: if the data or a parameter has a fault (`cmarr_jax.data.corpus.ArchiveError` is one), or the
            training diverged. An estimator that was fitted before stays as it was.
        """
        corpus, classes = _to_corpus(read_features(X), y, groups)
        by_group, seed = groups is not None, self.random_state
        fold = make_parts(corpus, validation, self.validation_fraction, by_group=by_group, seed=seed)
        self._train(corpus, fold)
        self.classes_ = classes
        return self

    def predict_proba(self, X: Modalities | Mapping[str, Values]) -> np.ndarray:
        """Probabilities, `[N, K]` in the order of `classes_`, from the modalities that each utterance has.

        Raises:
          ValueError: at the first utterance that cannot be answered: without any modality, of another width; if there
            is none.
        """
        return np.stack([answer.probabilities for answer in self._answers(X)])

    def predict(self, X: Modalities | Mapping[str, Values]) -> np.ndarray:
        """The most probable class of each utterance, `[N]`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def score(self, X: Modalities | Mapping[str, Values], y: Any, sample_weight: Any = None) -> float:
        """Accuracy (WAR), 0 to 1, of the utterances that are labelled.

        Args:
          X: As in `predict`.
          y: True labels, `[N]`, as in `fit`; -1: unlabelled, not counted.
          sample_weight: Weights of the utterances, `[N]`, at least 0; equal by default.

        Raises:
          ValueError: if y is not one label per utterance, text where `classes_` are numbers or the reverse, none is
            labelled, the weights have a fault, or an utterance cannot be answered.
        """
        features = read_features(X)
        truth = _labels(y, features)
        labelled = ~_is_unlabelled(truth)
        if not labelled.any():
            raise ValueError("no utterance of y is labelled, so there is no score")
        predicted = self.predict(features)
        if _has_text(truth[labelled]) != _has_text(self.classes_):
            raise ValueError(f"y holds {truth[labelled][0]!r} where classes are {self.classes_.tolist()}; give those")
        hit = predicted[labelled] == truth[labelled]
        weights = None if sample_weight is None else check_weights(sample_weight, features.shape)[labelled]
        if weights is not None and not weights.any():
            raise ValueError("sample_weight is 0 for every labelled utterance, so there is no score")
        return float(np.average(hit, weights=weights))

    def _learned(self) -> dict[str, Any]:
        return {"classes": self.classes_.tolist()}

    def _set_learned(self, own: Mapping[str, Any]) -> None:
        self.classes_ = np.array(own["classes"])


def _to_corpus(features: Modalities, y: Any, groups: Any) -> tuple[Corpus, np.ndarray]:
    """A checked corpus, and the labels in the order of its classes."""
    label = _labels(y, features)
    unlabelled = _is_unlabelled(label)
    if len(empty := [row for row, value in enumerate(label.tolist()) if value == ""]):
        raise ValueError(f"y of utterance {empty[0]} is an empty text; write -1 where nobody has labelled")
    index = np.full(len(label), -1)
    try:
        classes, index[~unlabelled] = np.unique(label[~unlabelled], return_inverse=True)
    except TypeError as error:
        raise ValueError(f"y must be all text or all numbers, except -1 ({error})") from None
    if len(classes) < 2:
        text = f", and {unlabelled.sum()} times -1, which says that an utterance is unlabelled" * bool(unlabelled.any())
        raise ValueError(f"y must have two classes or more, found {classes.tolist()}{text}")
    return make_corpus(features, index, tuple(map(str, classes.tolist())), groups), classes


def _labels(y: Any, features: Modalities) -> np.ndarray:
    """y as an array, `[N]`. Raises ValueError unless each label is text, a finite number or a bool."""
    label = np.asarray(y)
    if label.dtype.kind == "U" and isinstance(y, list | tuple):  # numpy makes text of numbers among text
        label = np.asarray(y, object) if any(not isinstance(value, str) for value in y) else label
    if label.dtype.kind == "S":
        label = np.char.decode(label, "utf-8")
    if label.dtype.kind == "T":  # numpy's text of any length
        label = np.array(label.tolist(), str)
    if label.shape != features.shape:
        raise ValueError(f"y must have one label per utterance, [{len(features)}], found shape {list(label.shape)}")
    check_known("y", y, "write -1 where nobody has labelled")
    for row, value in enumerate(label):
        if not _is_label(value):
            raise ValueError(f"y of utterance {row} is {value!r}; a label is text, a finite number, or true or false")
    return label


def _is_label(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isfinite(value))
    return isinstance(value, str | int | np.integer | np.bool_)


def _has_text(label: np.ndarray) -> bool:
    return any(isinstance(value, str) for value in label.tolist())


def _is_unlabelled(label: np.ndarray) -> np.ndarray:
    """Which labels are -1, `[N]` bool; among text, as in a column of a CSV file, the text of it."""
    if label.dtype == object:
        return np.array([value == ("-1" if isinstance(value, str) else -1) for value in label], bool)
    return label == ("-1" if label.dtype.kind == "U" else -1)
