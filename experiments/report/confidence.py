"""How far probabilities can be trusted: calibration error, risk against coverage.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017; Geifman and El-Yaniv, Selective Classification
for Deep Neural Networks, NeurIPS 2017.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from cmarr_jax.calibration import Decisions

NUM_BINS = 15


class Bins(NamedTuple):
    """Decisions by confidence, in `NUM_BINS` bins of equal width.

    Attributes:
      counts: Decisions in each bin.
      confidence: Mean confidence of each bin, nan where it is empty.
      accuracy: Share of right decisions, nan where it is empty.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of confidence and accuracy, weighted by the counts."""
        return float(np.nansum(self.counts * np.abs(self.confidence - self.accuracy)) / self.counts.sum())


def confidence_and_hits(decisions: Decisions, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Largest probability, and whether its class is right, of each decision."""
    probability = scipy.special.softmax(decisions.logits / temperature, axis=-1)
    return probability.max(-1), probability.argmax(-1) == decisions.label


def reliability(confidence: np.ndarray, hits: np.ndarray) -> Bins:
    """Decisions by confidence."""
    at = np.minimum((confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    count = np.bincount(at, minlength=NUM_BINS)
    divisor = np.where(count, count, np.nan)
    total = lambda values: np.bincount(at, weights=values, minlength=NUM_BINS)
    return Bins(count, total(confidence) / divisor, total(hits) / divisor)


def risk_by_coverage(confidence: np.ndarray, hits: np.ndarray, coverage: Sequence[float]) -> np.ndarray:
    """Share of wrong decisions among the most confident ones, for each share of decisions that are kept."""
    wrong = ~hits[np.argsort(-confidence, kind="stable")]
    kept = np.maximum(np.rint(np.asarray(coverage) * len(wrong)).astype(int), 1)
    return np.cumsum(wrong)[kept - 1] / kept
