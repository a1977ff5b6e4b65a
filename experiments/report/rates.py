"""Scores at random missing rates, from the kept logits: no utterance is classified again, and nothing is drawn.

At rate r each modality of each utterance is missing with probability r, independently, and at least one is there. The
expected confusion counts follow from the probability of each pattern, so the scores have no noise of sampling.
"""

from collections.abc import Sequence

import numpy as np

from cmarr_jax.data.availability import availability_patterns
from experiments.comparison import METRICS
from experiments.units import Outputs

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def pattern_weights(rate: float, present: np.ndarray) -> np.ndarray:
    """Probability of each condition for each utterance, given that something of it is available, `[n, P]`.

    Args:
      rate: In [0, 1).
      present: Modalities that each utterance has, `[n, M]`, bool, at least one.
    """
    patterns = availability_patterns(present.shape[1])
    available = patterns.sum(1)
    weight = rate ** (present.shape[1] - available) * (1 - rate) ** available  # [P]
    counted = (present[:, None] & patterns[None]).any(-1)
    weight = np.where(counted, weight[None], 0.0)
    return weight / weight.sum(1, keepdims=True)


def expected_counts(outputs: Outputs, rate: float) -> np.ndarray:
    """Expected confusion counts at a missing rate, `[K, K]`."""
    num_classes = outputs.logits.shape[-1]
    counts = np.zeros((num_classes, num_classes))
    weights = pattern_weights(rate, outputs.present)
    for condition, logits in enumerate(outputs.logits):
        np.add.at(counts, (outputs.label, logits.argmax(-1)), weights[:, condition])
    return counts


def scores_by_rate(folds: Sequence[Sequence[Outputs]], rates: Sequence[float] = RATES) -> dict[str, np.ndarray]:
    """Mean over the folds of the mean over their seeds, per metric, `[rates]`.

    Args:
      folds: The outputs of each seed of each fold.
      rates: Missing rates.
    """
    counts = [[[expected_counts(run, rate) for rate in rates] for run in fold] for fold in folds]
    return {
        name: np.nanmean([np.mean([metric(np.stack(run)) for run in fold], axis=0) for fold in counts], axis=0)
        for name, metric in METRICS.items()
    }
