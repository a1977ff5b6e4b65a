"""The exact class posterior of the synthetic sets for every availability pattern, and what rules make of it."""

import numpy as np
import scipy.special

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import Corpus
from data_prep.synthetic.generative import Parameters, unwarp


def log_likelihood(corpus: Corpus, parameters: Parameters) -> np.ndarray:
    """Log density of the available frames given each class, for every availability pattern, from the stored features.

    With `W = diag(speaker_std^2 + utterance_std^2)^-1` and, summed over the available modalities,
    `Lambda = sum T_m maps_m' maps_m / frame_std_m^2` and `eta = sum T_m maps_m' ybar_m / frame_std_m^2`, where `ybar_m`
    is the mean of the T_m unwarped frames, it is, up to a term that all classes of an utterance and pattern share,

        out[n, p, k] = log sum_s exp(mean_ks' W ((W + Lambda)^-1 (eta + W mean_ks / 2) - mean_ks / 2))

    This is Woodbury's form: only `[L, L]` systems are solved. The speaker is marginalised for each utterance alone.
    Private nuisance lies in directions that `maps` does not see, so it cancels.
    Modalities that an utterance lacks by nature never count.

    Args:
      corpus: Sequences of the modalities of `parameters`; the stored float32 features are what is unwarped.
      parameters: The model that the corpus was drawn from.

    Returns:
      Nats up to a constant, `[N, P, K]`, float64; P in the order of `availability_patterns`.
    """
    precision = 1.0 / (parameters.speaker_std**2 + parameters.utterance_std**2)  # diagonal of W
    num_classes, num_components, num_latent = parameters.mean.shape
    mean = parameters.mean.reshape(-1, num_latent)
    weighted = mean * precision  # [K S, L]
    information = np.zeros((len(corpus), len(parameters.maps), precision.size, precision.size))
    pull = np.zeros(information.shape[:3])
    for column, name in enumerate(corpus.modalities):
        maps, length = parameters.maps[name], corpus.length[name]
        weight = np.where(corpus.present[:, column], length, 0) / parameters.frame_std[name] ** 2
        total = _frame_sums(corpus, name, parameters) / np.maximum(length, 1)[:, None]
        information[:, column] = weight[:, None, None] * (maps.T @ maps)
        pull[:, column] = weight[:, None] * (total @ maps)
    out = []
    for pattern in availability_patterns(len(parameters.maps)):
        system = np.diag(precision) + information[:, pattern].sum(1)  # [N, L, L]
        right = pull[:, pattern].sum(1)[:, :, None] + 0.5 * weighted.T  # [N, L, K S]
        solved = np.linalg.solve(system, right).swapaxes(1, 2)
        of_component = np.sum(weighted * (solved - 0.5 * mean), axis=-1).reshape(-1, num_classes, num_components)
        out.append(scipy.special.logsumexp(of_component, axis=-1))
    return np.stack(out, axis=1)


def product_rule(log_likelihood: np.ndarray, num_modalities: int) -> np.ndarray:
    """What late fusion makes of the exact posteriors of single modalities: their log-likelihoods, added.

    Args:
      log_likelihood: As returned by the function of that name, `[N, P, K]`.
      num_modalities: M; the first M patterns have one modality each.

    Returns:
      `[N, P, K]`, to be used in its place; without the dependence of the modalities given the class.
    """
    single = log_likelihood[:, :num_modalities] - log_likelihood[:, :num_modalities].mean(-1, keepdims=True)
    patterns = availability_patterns(num_modalities).astype(float)
    return np.einsum("nmk,pm->npk", single, patterns)


def oracle_counts(label: np.ndarray, log_likelihood: np.ndarray, log_prior: np.ndarray | None = None) -> np.ndarray:
    """Confusion counts of Bayes' rule per availability pattern, for `cmarr_jax.metrics.war` and `uar`.

    Args:
      label: True classes, `[N]`, int.
      log_likelihood: As returned by the function of that name, `[N, P, K]`.
      log_prior: Log of the class shares, `[K]`: the rule that is best for WAR. `None` weighs classes alike: the rule
        that is best for UAR.

    Returns:
      Counts, `[P, K, K]`, int64; rows are true classes, columns decisions.
    """
    _, num_patterns, num_classes = log_likelihood.shape
    decision = np.argmax(log_likelihood if log_prior is None else log_likelihood + log_prior, axis=-1)  # [N, P]
    counts = np.zeros((num_patterns, num_classes, num_classes), np.int64)
    np.add.at(counts, (np.arange(num_patterns), label[:, None], decision), 1)
    return counts


def _frame_sums(corpus: Corpus, name: str, parameters: Parameters) -> np.ndarray:
    """Sum of the unwarped frames of each utterance, `[N, D]`, float64; 0 for an utterance without frames."""
    frames = unwarp(corpus.features[name].astype(np.float64), skew=parameters.skew[name], tail=parameters.tail[name])
    filled = corpus.length[name] > 0
    sums = np.zeros((len(corpus), frames.shape[1]))
    start = np.cumsum(corpus.length[name]) - corpus.length[name]
    sums[filled] = np.add.reduceat(frames, start[filled], axis=0)
    return sums
