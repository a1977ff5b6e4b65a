"""What classifier and regressor need of scikit-learn, where it is not installed."""

import inspect
from typing import Any

import numpy as np

from cmarr_jax.estimator_data import check_weights


class NotFittedError(ValueError, AttributeError):
    """The classifier or regressor has not been fitted."""


class BaseEstimator:
    """Parameters by name, as scikit-learn's estimators have them."""

    @classmethod
    def _names(cls) -> list[str]:
        return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters of the constructor. `deep` changes nothing, since none is an estimator."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> "BaseEstimator":
        """Changes parameters. Raises ValueError if there is no parameter of a name."""
        for name, value in params.items():
            if name not in self._names():
                raise ValueError(f"there is no parameter {name!r}; there are {', '.join(self._names())}")
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"


class ClassifierMixin:
    """Marks a classifier, as scikit-learn's does."""


class RegressorMixin:
    """The score of scikit-learn's regressors."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, at most 1: 1 less the ratio of the squared error to the variance of y. Of a constant y: 1 or 0.

        Raises:
          ValueError: if y is not one finite number per prediction, or the weights have a fault.
        """
        predicted = np.asarray(self.predict(X))  # type: ignore[attr-defined]
        truth = np.asarray(y, np.float64)
        if truth.shape != predicted.shape:
            raise ValueError(f"y must be {len(predicted)} finite numbers, found shape {list(truth.shape)}")
        bad = np.ma.getmask(y) | ~np.isfinite(truth)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"y must be {len(predicted)} finite numbers; row {row} is masked, or not finite: {truth[row]}"
            )
        weight = np.ones(truth.shape) if sample_weight is None else check_weights(sample_weight, truth.shape)
        if not weight.any():
            raise ValueError("sample_weight is 0 for every utterance, so there is no score")
        error = np.sum(weight * (truth - predicted) ** 2)
        spread = np.sum(weight * (truth - np.average(truth, weights=weight)) ** 2)
        return float(1 - error / spread) if spread else float(error == 0)
