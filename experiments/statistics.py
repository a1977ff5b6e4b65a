"""Intervals and tests for tables of folds and seeds, which respect that utterances of one speaker are alike.

A score is computed from confusion counts per fold, averaged over the seeds of the fold, then over the folds. It varies
with the speakers and with what training does by chance.

- Speakers are drawn again, over all folds together: a bootstrap.
- Speakers of one fold are judged by the same models, so chance in training is the same for them. Its variance is
  estimated from the seeds and added; one seed says nothing of it, so intervals of one seed lack it.
- A fold of one seed beside folds of several has their variance, pooled.
- In a fold of one speaker nothing is added: there each speaker has models of its own, so drawing speakers draws
  trainings, too.

That other training speakers would give other models is in no interval: folds share most of theirs.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; Hesterberg, What Teachers Should Know About the
Bootstrap, The American Statistician 2015 (the factor `n / (n - 1)` and Student's t for few speakers); Satterthwaite,
1946 (degrees of freedom of a sum of variances); Holm, 1979.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

Metric = Callable[[np.ndarray], np.ndarray]
"""Confusion counts `[..., P, K, K]` to scores `[..., P]`, as `cmarr_jax.metrics.uar`, or to scores `[..., 1]`.

Of a regression, counts are sums `[..., P, 7]` (`agreement_sums`), here and below.
"""


FoldCounts = np.ndarray
"""Confusion counts of one method on the test part of one fold, `[S, G, P, K, K]`: seeds, speakers, conditions."""


class Bootstrap(NamedTuple):
    """An estimate, or a difference of two, and how it varies.

    Attributes:
      mean: `[P]`.
      samples: With speakers drawn again, `[B, P]`.
      training: Variance that training adds to that of the samples, `[P]`.
      num_speakers: Of the folds that have a score, `[P]`.
      num_seeds: Degrees of freedom of `training`: seeds beyond the first of those folds that have several speakers,
        `[P]`.
    """

    mean: np.ndarray
    samples: np.ndarray
    training: np.ndarray
    num_speakers: np.ndarray
    num_seeds: np.ndarray


class Interval(NamedTuple):
    """An estimate with its 95 % interval; nan where there is too little to compute one."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


NUM_DRAWS = 2000  # of speakers for an interval, of exchanges for a test


def estimate(folds: Sequence[FoldCounts], metric: Metric) -> np.ndarray:
    """Mean over the folds of the mean over their seeds, per condition, `[P]`; a fold without a score is left out."""
    return _mean_over_folds([metric(counts.sum(1)).mean(0) for counts in folds])


def bootstrap(
    ours: Sequence[FoldCounts],
    theirs: Sequence[FoldCounts] | None,
    metric: Metric,
    num_samples: int = NUM_DRAWS,
    seed: int = 0,
) -> Bootstrap:
    """Draws speakers with replacement, the same for both methods, and estimates what training adds.

    Args:
      ours: Per fold.
      theirs: Per fold, with the same speakers and seeds; None: the estimate is of ours alone, not of the difference.
      metric: From counts to scores.
      num_samples: B.
      seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    sizes = [counts.shape[1] for counts in ours]
    draws = np.split(_times(rng, sum(sizes), num_samples), np.cumsum(sizes)[:-1], axis=1)
    samples, mean = _resampled(ours, metric, draws), estimate(ours, metric)
    if theirs is not None:
        samples, mean = samples - _resampled(theirs, metric, draws), mean - estimate(theirs, metric)
    has_score = ~np.isnan([metric(counts.sum(1)).mean(0) for counts in ours])
    training, num_seeds = _training(ours, theirs, metric, has_score, rng, num_samples)
    return Bootstrap(mean, samples, training, has_score.T @ np.array(sizes), num_seeds)


def interval(found: Bootstrap, place: int = 0, level: float = 0.95) -> Interval:
    """Student's interval of one condition, with the bootstrap's standard error and what training adds.

    In simulated tables it is more exact than quantiles of the bootstrap, which are too close for few speakers.
    """
    mean, samples, n = float(found.mean[place]), found.samples[:, place], int(found.num_speakers[place])
    samples = samples[~np.isnan(samples)]
    if n < 2 or len(samples) == 0 or np.isnan(mean):
        return Interval(mean, np.nan, np.nan)
    speakers, training = float(np.var(samples)) * n / (n - 1), float(found.training[place])
    freedom = n - 1.0
    if training > 0:
        freedom = (speakers + training) ** 2 / (speakers**2 / (n - 1) + training**2 / found.num_seeds[place])
    reach = float(stats.t.ppf(0.5 + level / 2, freedom)) * np.sqrt(speakers + training)
    return Interval(mean, mean - reach, mean + reach)


def _mean_over_folds(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over the folds that have a score; nan where none has."""
    known = ~np.isnan(scores)
    count = known.sum(0)
    return np.where(count > 0, np.nansum(scores, axis=0) / np.maximum(count, 1), np.nan)


def _times(rng: np.random.Generator, size: int, num_samples: int) -> np.ndarray:
    """How often each of `size` things is among `size` draws, `[B, size]`."""
    return rng.multinomial(size, np.full(size, 1 / size), num_samples)


def _by_seed(counts: FoldCounts, metric: Metric, times: np.ndarray) -> np.ndarray:
    """Scores of each seed with each speaker counted so many times, `[B, G]` -> `[S, B, P]`."""
    drawn = times.astype(float)  # numpy multiplies integers slowly; these are exact
    return np.stack([metric(np.tensordot(drawn, one.astype(float), axes=1)) for one in counts])


def _resampled(folds: Sequence[FoldCounts], metric: Metric, draws: Sequence[np.ndarray]) -> np.ndarray:
    """The estimate in every bootstrap sample, `[B, P]`; a fold weighs as much as speakers of it are drawn."""
    total, weights = np.zeros(()), np.zeros(())
    for counts, times in zip(folds, draws, strict=True):
        score = _by_seed(counts, metric, times).mean(0)
        weight = np.where(np.isnan(score), 0.0, times.mean(1, keepdims=True))
        total, weights = total + weight * np.nan_to_num(score), weights + weight
    return np.where(weights > 0, total / np.where(weights > 0, weights, 1), np.nan)


def _training(
    ours: Sequence[FoldCounts],
    theirs: Sequence[FoldCounts] | None,
    metric: Metric,
    has_score: np.ndarray,
    rng: np.random.Generator,
    num_samples: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The variance that training adds to the estimate, and its degrees of freedom, each `[P]`.

    Seeds of a fold have the same speakers. Their scores differ by training, and by what is peculiar to an utterance:
    the latter varies with the speakers drawn, so the bootstrap of the difference of two seeds says how much it is.

    Args:
      ours: Per fold, as the next.
      theirs: Or None.
      metric: From counts to scores.
      has_score: Whether a fold has a score, `[F, P]`; the others are in no mean.
      rng: Of the draws.
      num_samples: B.
    """
    variances = np.zeros(has_score.shape)  # of the runs of a fold
    freedom = np.zeros(has_score.shape)
    shares = np.zeros(has_score.shape)  # of the variance of a run that the mean of a fold has
    for fold, counts in enumerate(ours):
        num_seeds, num_speakers = counts.shape[:2]
        # Speakers of all folds are drawn together, so the samples have 1 / G of it already.
        shares[fold] = has_score[fold] * (1 - 1 / num_speakers) / num_seeds
        if num_seeds < 2 or num_speakers < 2:
            continue
        times = np.concatenate([np.ones((1, num_speakers), int), _times(rng, num_speakers, num_samples)])
        scores = _by_seed(counts, metric, times)
        if theirs is not None:
            scores = scores - _by_seed(theirs[fold], metric, times)
        scores = np.where(has_score[fold], scores, 0.0)
        deviation = scores - scores.mean(0)  # [S, 1 + B, P]
        variance = np.sum(np.square(deviation[:, 0]), axis=0) / (num_seeds - 1)
        utterances = np.sum(np.nanvar(deviation[:, 1:], axis=1), axis=0) / (num_seeds - 1)
        variances[fold] = variance - utterances * num_speakers / (num_speakers - 1)
        freedom[fold] = has_score[fold] * (num_seeds - 1)
    pooled = (freedom * variances).sum(0) / np.maximum(freedom.sum(0), 1)
    added = shares * np.where(freedom > 0, variances, pooled)
    return np.maximum(added.sum(0) / np.maximum(has_score.sum(0), 1) ** 2, 0.0), freedom.sum(0)


def swap_test(
    ours: Sequence[FoldCounts],
    theirs: Sequence[FoldCounts],
    metric: Metric,
    num_samples: int = NUM_DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Two-sided p, per condition `[P]`, of the hypothesis that two methods do not differ: a permutation test.

    Were the methods alike, what they predict for a speaker could be exchanged. So the difference of their estimates is
    compared with those after exchanging it for a part of the speakers. Up to ten speakers (`2 ** G <= num_samples`) all
    parts are tried, and p is the share of them whose difference is as large. For more, `num_samples` parts are drawn,
    each speaker with probability 1/2, and p is `(1 + hits) / (1 + num_samples)`.

    Args:
      ours: Per fold.
      theirs: Per fold, with the same speakers and seeds.
      metric: From counts to scores.
      num_samples: How many exchanges are looked at, at most.
      seed: Of the random numbers.

    Returns:
      p; nan where the estimate of a method is nan.
    """
    sizes = [counts.shape[1] for counts in ours]
    num_speakers, rng = sum(sizes), np.random.default_rng(seed)
    exact = _all_are_tried(num_speakers, num_samples)
    if exact:  # half of them, since exchanging the other speakers instead gives the same difference, with another sign
        swaps = np.arange(2 ** (num_speakers - 1))[:, None] >> np.arange(num_speakers) & 1
    else:
        swaps = np.concatenate([rng.integers(0, 2, (num_samples, size)) for size in sizes], axis=1)
    parts = np.split(swaps.astype(float), np.cumsum(sizes)[:-1], axis=1)
    scores = []  # per fold, differences [B, P]
    for one, other, swap in zip(ours, theirs, parts, strict=True):
        first, second, change = one.sum(1), other.sum(1), (other - one).astype(float)
        by_seed = [
            metric(first[s] + (moved := np.tensordot(swap, change[s], axes=1))) - metric(second[s] - moved)
            for s in range(len(one))
        ]
        scores.append(np.mean(by_seed, axis=0))
    differences = np.abs(_mean_over_folds(scores))
    found = np.abs(estimate(ours, metric) - estimate(theirs, metric))
    smaller = differences < found[None] * (1 - 1e-9) - 1e-12  # by more than rounding
    hits = np.sum(~smaller, axis=0)  # an exchange without a score counts as a hit
    return np.where(np.isnan(found), np.nan, hits / len(swaps) if exact else (1 + hits) / (1 + num_samples))


def smallest_p(num_speakers: int) -> float:
    """The smallest p of `swap_test`.

    Where all parts are tried, those of nobody and of all are as large as the estimate itself. Where they are drawn,
    none needs to be.
    """
    return 2 / 2**num_speakers if _all_are_tried(num_speakers) else 1 / (1 + NUM_DRAWS)


def exchanges_text(num_speakers: int) -> str:
    """How many exchanges `swap_test` looks at, in words."""
    if _all_are_tried(num_speakers):
        return f"all {2**num_speakers:,} exchanges"
    return f"{NUM_DRAWS:,} random exchanges"


def _all_are_tried(num_speakers: int, num_samples: int = NUM_DRAWS) -> bool:
    return 2**num_speakers <= num_samples


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number after Holm, in the order given; nan is no test: it is not counted."""
    p = np.asarray(p_values, float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    factors = np.arange(len(known), 0, -1)
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return corrected.tolist()
