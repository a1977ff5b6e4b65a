"""Probabilities that can be trusted: a temperature, and the confidence below which a prediction abstains.

Both are fitted to a run's validation logits, which never trained it.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017; Geifman and El-Yaniv, Selective Classification
for Deep Neural Networks, NeurIPS 2017.
"""

from typing import NamedTuple

import numpy as np
import scipy.optimize  # JAX depends on scipy
import scipy.special

from cmarr_jax.data.availability import availability_patterns


class Decisions(NamedTuple):
    """Decisions on utterances in all missing-modality conditions: `logits [n, K]`, `label [n]`."""

    logits: np.ndarray
    label: np.ndarray


class Calibration(NamedTuple):
    """What the validation part says of a run's confidence.

    Attributes:
      temperature: By which logits are divided.
      confidence: Largest probability of each validation decision, `[n_p]`, by available modalities, `[P]` in the order
        of `availability_patterns`. An utterance counts in each entry all of whose modalities it has.
    """

    temperature: float
    confidence: tuple[np.ndarray, ...]

    def threshold(self, pattern: int, coverage: float) -> float:
        """The confidence that this share of the validation decisions with these modalities reaches.

        Where validation has no such utterance, those of all patterns are taken. A coverage of 1 keeps everything.
        """
        if coverage == 1:
            return 0.0
        found = self.confidence[pattern]
        return float(np.quantile(found if len(found) else np.concatenate(self.confidence), 1 - coverage))


def calibrate(logits: np.ndarray, label: np.ndarray, present: np.ndarray) -> Calibration:
    """Fits the temperature to the missing-modality conditions, and finds the confidences.

    Args:
      logits: By condition, `[P, n, K]`.
      label: `[n]`, int.
      present: Modalities that each utterance has, `[n, M]`, bool.
    """
    temperature = fit_temperature(missing_decisions(logits, label, present))
    whole = [present[:, pattern].all(1) for pattern in availability_patterns(present.shape[1])]
    confidence = [
        scipy.special.softmax(one[where] / temperature, axis=-1).max(-1, initial=0.0)
        for one, where in zip(logits, whole, strict=True)
    ]
    return Calibration(temperature, tuple(confidence))


def missing_decisions(logits: np.ndarray, label: np.ndarray, present: np.ndarray) -> Decisions:
    """The decisions in the missing-modality conditions, one after the other.

    Args:
      logits: By condition, `[P, n, K]`.
      label: `[n]`, int.
      present: Modalities that each utterance has, `[n, M]`, bool. Where it has none of a condition's it does not count.
    """
    counted = [(present & pattern).any(1) for pattern in availability_patterns(present.shape[1])[:-1]]
    kept = [one[where] for one, where in zip(logits, counted, strict=False)]  # complete data is the last
    return Decisions(np.concatenate(kept), np.concatenate([label[where] for where in counted]))


def fit_temperature(decisions: Decisions) -> float:
    """The temperature, between 0.05 and 20, at which the labels are likeliest."""

    def nll(log_temperature: float) -> float:
        log_p = scipy.special.log_softmax(decisions.logits / np.exp(log_temperature), axis=-1)
        return -float(log_p[np.arange(len(log_p)), decisions.label].mean())

    return float(np.exp(scipy.optimize.minimize_scalar(nll, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def disagreement(probabilities: np.ndarray) -> np.ndarray:
    """How far several predictions of the same utterances disagree: mutual information of class and prediction, nats.

    `entropy(mean over S of p) - mean over S of entropy(p)`: 0 if all are the same, at most `log K`.

    Args:
      probabilities: `[S, n, K]`.

    Returns:
      `[n]`.

    References:
      Houlsby et al., Bayesian Active Learning for Classification and Preference Learning, 2011.
    """
    probabilities = np.asarray(probabilities, np.float64)  # of predictions that hardly differ float32 leaves nothing
    entropy = lambda p: scipy.special.entr(p).sum(-1)
    return np.maximum(entropy(probabilities.mean(0)) - entropy(probabilities).mean(0), 0.0)
