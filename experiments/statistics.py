"""Intervals and tests for tables of folds and seeds, which respect that utterances of one speaker are alike.

A score is computed from confusion counts per fold, averaged over the seeds of the fold, then over the folds. Speakers
are what is drawn again: utterances of one speaker, and runs on one fold, are not independent.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Hesterberg, What Teachers Should Know About the
Bootstrap, The American Statistician 2015, section 5.3 (the expanded percentile interval); Holm, 1979.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Metric = Callable[[np.ndarray], np.ndarray]
"""Confusion counts `[..., P, K, K]` to scores `[..., P]`, as `cmarr_jax.metrics.uar`, or to scores `[..., 1]`."""


FoldCounts = np.ndarray
"""Confusion counts of one method on the test part of one fold, `[S, G, P, K, K]`: seeds, speakers, conditions."""


class Draws(NamedTuple):
    """How often each speaker, and each seed, is in each of `B` bootstrap samples; the same for methods to be compared.

    Attributes:
      speakers: Per fold, `[B, G]`.
      seeds: Per fold, shares that sum to 1, `[B, S]`.
      num_speakers: Of all folds.
    """

    speakers: list[np.ndarray]
    seeds: list[np.ndarray]
    num_speakers: int


class Interval(NamedTuple):
    """An estimate with its 95 % interval; nan where there is too little to compute one."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


NUM_DRAWS = 2000  # of speakers, for an interval


def draw(shapes: Sequence[tuple[int, int]], num_samples: int = NUM_DRAWS, seed: int = 0) -> Draws:
    """Draws speakers with replacement, over all folds together; with a single fold its seeds, too.

    The speakers of several folds were judged by several models, so that training varies with them. With a single fold
    all were judged by the same few models: there the seeds vary training.

    Args:
      shapes: Seeds and speakers of each fold, `(S, G)`.
      num_samples: B.
      seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    times = lambda size: rng.multinomial(size, np.full(size, 1 / size), num_samples)
    sizes = [speakers for _, speakers in shapes]
    speakers = np.split(times(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
    one_fold = len(shapes) == 1
    seeds = [times(size) / size if one_fold else np.full((num_samples, size), 1 / size) for size, _ in shapes]
    return Draws(speakers, seeds, sum(sizes))


def estimate(folds: Sequence[FoldCounts], metric: Metric) -> np.ndarray:
    """Mean over the folds of the mean over their seeds, per condition, `[P]`; a fold without a score is left out."""
    return np.nanmean([metric(counts.sum(1)).mean(0) for counts in folds], axis=0)


def resampled(folds: Sequence[FoldCounts], metric: Metric, draws: Draws) -> np.ndarray:
    """The estimate in every bootstrap sample, `[B, P]`; a fold weighs as much as speakers of it are drawn."""
    total, weights = np.zeros(()), np.zeros(())
    for counts, speakers, seeds in zip(folds, draws.speakers, draws.seeds, strict=True):
        drawn = speakers.astype(float)  # numpy multiplies integers slowly; these are exact
        by_seed = [metric(np.tensordot(drawn, one.astype(float), axes=1)) for one in counts]  # each [B, P]
        score = np.einsum("bs,sbp->bp", seeds, np.stack(by_seed))
        weight = np.where(np.isnan(score), 0.0, speakers.mean(1, keepdims=True))
        total, weights = total + weight * np.nan_to_num(score), weights + weight
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.nan)


def interval(mean: float, samples: np.ndarray, num_speakers: int, level: float = 0.95) -> Interval:
    """The expanded percentile interval of an estimate from its bootstrap samples `[B]`.

    The plain percentile interval is too short for few speakers: it lacks the factor `n / (n - 1)` and Student's tails.
    Its quantiles are moved out by both.
    """
    samples = samples[~np.isnan(samples)]
    if num_speakers < 2 or len(samples) == 0 or np.isnan(mean):
        return Interval(mean, np.nan, np.nan)
    reach = np.sqrt(num_speakers / (num_speakers - 1)) * stats.t.ppf(0.5 + level / 2, num_speakers - 1)
    low, high = np.quantile(samples, stats.norm.cdf([-reach, reach]))
    return Interval(float(mean), float(low), float(high))


def swap_test(
    ours: Sequence[FoldCounts],
    theirs: Sequence[FoldCounts],
    metric: Metric,
    num_samples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """Two-sided p, per condition `[P]`, of the hypothesis that two methods do not differ: a permutation test.

    Were the methods alike, what they predict for a speaker could be exchanged. So the difference of their estimates is
    compared with those after exchanging it for a random half of the speakers: `(1 + hits) / (1 + num_samples)`.

    Args:
      ours: Per fold.
      theirs: Per fold, with the same speakers and seeds.
      metric: From counts to scores.
      num_samples: How many exchanges are drawn.
      seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    scores = []  # per fold, differences [B, P]
    for one, other in zip(ours, theirs, strict=True):
        swap = rng.integers(0, 2, (num_samples, one.shape[1])).astype(float)
        first, second, change = one.sum(1), other.sum(1), (other - one).astype(float)
        by_seed = [
            metric(first[s] + (moved := np.tensordot(swap, change[s], axes=1))) - metric(second[s] - moved)
            for s in range(len(one))
        ]
        scores.append(np.mean(by_seed, axis=0))
    differences = np.abs(np.nanmean(scores, axis=0))
    found = np.abs(estimate(ours, metric) - estimate(theirs, metric))
    return (1 + np.sum(differences >= found[None] - 1e-12, axis=0)) / (1 + num_samples)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number after Holm, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected.tolist()
