"""The generative model of the synthetic corpus, and its exact class posterior for every availability pattern.

Synthetic, not IEMOCAP: only the speakers, their class counts and the lengths are shaped like that corpus.

    z = class_mean[label] + offset[speaker] + noise         latent of an utterance, `[L]`
    y[m, t] = maps[m] z + frame_std noise                   frame t of modality m, `[D_m]`
    x[m, t] = sinh((arcsinh(y[m, t]) + skew[m]) / tail[m])  what is stored, float32, elementwise

Only the first three coordinates of z (arousal, valence, expression) depend on the class. Each modality sees all three
with other gains, and each of its three views adds a nuisance coordinate; some nuisance coordinates are seen by two
modalities, so the modalities of one utterance share more than its class.

The posterior is that of a single utterance: its speaker is unknown, so the offset is part of the noise. The mean of the
unwarped frames is a sufficient statistic and all distributions are Gaussian, so the posterior has a closed form
(`log_likelihood`).
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import Corpus
from data_prep.known_counts import IEMOCAP

CLASS_NAMES = ("angry", "happy", "neutral", "sad")
MODALITIES = ("audio", "video", "text")
DEFAULT_WIDTHS: Mapping[str, int] = MappingProxyType({"audio": 16, "video": 12, "text": 24})

# Arousal, valence, expression of each class; the mean over classes is taken off.
_CLASS_CUES = np.array([[1.0, -1.0, 0.5], [1.0, 1.0, 0.5], [0.0, 0.0, -1.0], [-1.0, -0.6, 0.3]])
_CUE_STD = 0.6  # of arousal, valence and expression within a class; seen by all modalities alike
_SPEAKER_STD = 0.15  # of every latent coordinate
# Gains on (arousal, valence, expression). Fitted to UAR a 60, v 52, t 69, av 67, at 76, vt 75, avt 80 (README.md).
_GAIN = {"audio": (1.61, 0.42, 1.08), "video": (0.78, 0.88, 0.26), "text": (1.00, 1.70, 1.41)}
# Nuisance in the three views of each modality: {coordinate: share of the variance, which is 1, with the sign of its
# root}. Coordinate 0 is seen by audio and video, 1 and 2 by audio and text, 4 by video and text, the others by one.
_NUISANCE = {
    "audio": ({0: 1.0}, {1: 1.0}, {2: 1.0}),
    "video": ({0: 0.25, 3: 0.75}, {4: 1.0}, {6: 1.0}),
    "text": ({5: 1.0}, {1: 0.44, 4: -0.56}, {2: 0.09, 7: 0.91}),
}
_NUM_CUES, _NUM_NUISANCE = 3, 8
_FEATURE_SCALE = 0.6  # brings the unwarped features to a standard deviation of about 1
_FRAME_STD = {"audio": 0.3, "video": 0.3, "text": 0.25}
_SKEW = {"audio": 0.25, "video": -0.2, "text": 0.15}
_TAIL = {"audio": 1.1, "video": 0.95, "text": 1.05}

# Lengths: audio is lognormal, the others follow the duration of the utterance.
_AUDIO_MEDIAN, _AUDIO_LOG_STD, _AUDIO_LONGEST = 35.8, 0.566, 300
_VIDEO_RATE, _VIDEO_LONGEST = 0.8, 50
_TEXT_RATE, _TEXT_LOG_STD, _TEXT_LONGEST = 0.30, 0.35, 22


@dataclasses.dataclass(frozen=True, eq=False)
class Parameters:
    """Constants of the generative model, float64.

    Attributes:
      class_mean: Mean latent of each class, `[K, L]`.
      utterance_std: Standard deviation of the utterance noise per latent coordinate, `[L]`.
      speaker_std: Standard deviation of the speaker offset per latent coordinate, `[L]`.
      maps: Per modality, latent to unwarped features, `[D, L]`.
      frame_std: Per modality, standard deviation of the frame noise.
      skew: Per modality, shift of the warp.
      tail: Per modality, divisor of the warp, > 0; 1 with skew 0 is the identity.
    """

    class_mean: np.ndarray
    utterance_std: np.ndarray
    speaker_std: np.ndarray
    maps: dict[str, np.ndarray]
    frame_std: dict[str, float]
    skew: dict[str, float]
    tail: dict[str, float]


def make_parameters(widths: Mapping[str, int] = DEFAULT_WIDTHS) -> Parameters:
    """The tuned model for features of the given widths. Widths change how the views are spread, not the ceiling.

    Args:
      widths: D of each of `audio`, `video`, `text`, >= 4.

    Raises:
      ValueError: if the modalities are others or a width is below 4.
    """
    if tuple(widths) != MODALITIES or min(widths.values()) < 4:
        raise ValueError(f"widths are wanted for {MODALITIES}, each at least 4, found {dict(widths)}")
    return Parameters(
        class_mean=np.pad(_CLASS_CUES - _CLASS_CUES.mean(0), ((0, 0), (0, _NUM_NUISANCE))),
        utterance_std=np.array([_CUE_STD] * _NUM_CUES + [1.0] * _NUM_NUISANCE),
        speaker_std=np.full(_NUM_CUES + _NUM_NUISANCE, _SPEAKER_STD),
        maps={name: _spread(width) @ _views(name) for name, width in widths.items()},
        frame_std=dict(_FRAME_STD),
        skew=dict(_SKEW),
        tail=dict(_TAIL),
    )


def class_counts(scale: float = 1.0) -> dict[str, np.ndarray]:
    """Utterances per speaker and class, `[K]` int: IEMOCAP's times `scale`, rounded, at least 2 each.

    Raises:
      ValueError: if `scale` is not above 0.
    """
    if not scale > 0:
        raise ValueError(f"scale must be above 0, found {scale}")
    return {
        speaker: np.maximum(np.rint(scale * np.asarray(counts)).astype(int), 2) for speaker, counts in IEMOCAP.items()
    }


def sample(
    parameters: Parameters, *, scale: float = 1.0, frame_scale: float = 1.0, seed: int = 0, repeats: int = 1
) -> Corpus:
    """Draws a corpus. The same arguments give the same bytes; numpy's global state is neither read nor changed.

    Args:
      parameters: The model.
      scale: Multiplies the class counts of each speaker (see `class_counts`).
      frame_scale: Multiplies all lengths; at least one frame remains.
      seed: Seed of everything that is random, >= 0.
      repeats: Draws that many sets of ten speakers, all with the same ten names; for checks of the ceiling.

    Returns:
      The corpus in the order of `utterance_id`, classes shuffled within each speaker.

    Raises:
      ValueError: if `scale` or `frame_scale` is not above 0.
    """
    if not frame_scale > 0:
        raise ValueError(f"frame_scale must be above 0, found {frame_scale}")
    counts = class_counts(scale)
    speaker_rng, utterance_rng, frame_rng = (np.random.default_rng([seed, stream]) for stream in range(3))
    ids, speakers, labels, latents = [], [], [], []
    for repeat in range(repeats):
        for name, per_class in counts.items():
            offset = parameters.speaker_std * speaker_rng.standard_normal(parameters.speaker_std.size)
            label = utterance_rng.permutation(np.repeat(np.arange(len(per_class)), per_class))
            noise = utterance_rng.standard_normal((label.size, offset.size))
            latents.append(parameters.class_mean[label] + offset + parameters.utterance_std * noise)
            labels.append(label)
            speakers += [name] * label.size
            ids += [f"synthetic_{name}_{repeat * label.size + i:05d}" for i in range(label.size)]
    lengths = _sample_lengths(frame_rng, len(ids), frame_scale)
    return Corpus(
        utterance_id=np.array(ids),
        speaker=np.array(speakers),
        session=np.array([name[:2] for name in speakers]),
        label=np.concatenate(labels).astype(np.int32),
        class_names=CLASS_NAMES,
        features={
            name: _sample_frames(frame_rng, np.concatenate(latents), lengths[name], parameters, name)
            for name in parameters.maps
        },
        length=lengths,
        present=np.ones((len(ids), len(parameters.maps)), bool),
    )


def warp(values: np.ndarray, *, skew: float, tail: float) -> np.ndarray:
    """Elementwise, increasing `sinh((arcsinh(y) + skew) / tail)`; `unwarp` is its inverse."""
    return np.sinh((np.arcsinh(values) + skew) / tail)


def unwarp(values: np.ndarray, *, skew: float, tail: float) -> np.ndarray:
    """Inverse of `warp`, `sinh(tail * arcsinh(x) - skew)`."""
    return np.sinh(tail * np.arcsinh(values) - skew)


def log_likelihood(corpus: Corpus, parameters: Parameters) -> np.ndarray:
    """Log density of the available frames given each class, for every availability pattern, from the stored features.

    With `W = diag(speaker_std^2 + utterance_std^2)^-1` and, summed over the available modalities,
    `Lambda = sum T_m maps_m' maps_m / frame_std_m^2` and `eta = sum T_m maps_m' ybar_m / frame_std_m^2`, where `ybar_m`
    is the mean of the T_m unwarped frames, it is, up to a term that all classes of an utterance and pattern share,

        out[n, p, k] = class_mean_k' W ((W + Lambda)^-1 (eta + W class_mean_k / 2) - class_mean_k / 2)

    This is Woodbury's form: only `[L, L]` systems are solved. The speaker is marginalised for each utterance alone.
    Modalities that an utterance lacks by nature never count.

    Args:
      corpus: Sequences of the modalities of `parameters`; the stored float32 features are what is unwarped.
      parameters: The model that the corpus was drawn from.

    Returns:
      Nats up to a constant, `[N, P, K]`, float64; P in the order of `availability_patterns`.
    """
    precision = 1.0 / (parameters.speaker_std**2 + parameters.utterance_std**2)  # diagonal of W
    weighted = parameters.class_mean * precision  # [K, L]
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
        right = pull[:, pattern].sum(1)[:, :, None] + 0.5 * weighted.T  # [N, L, K]
        solved = np.linalg.solve(system, right).swapaxes(1, 2)
        out.append(np.sum(weighted * (solved - 0.5 * parameters.class_mean), axis=-1))
    return np.stack(out, axis=1)


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


def _views(name: str) -> np.ndarray:
    """Three views of the latent by one modality, `[3, L]`: a gain on one cue each, and nuisance of variance 1."""
    views = np.zeros((_NUM_CUES, _NUM_CUES + _NUM_NUISANCE))
    views[:, :_NUM_CUES] = np.diag(_GAIN[name])
    for row, shares in enumerate(_NUISANCE[name]):
        for coordinate, share in shares.items():
            views[row, _NUM_CUES + coordinate] = np.sign(share) * np.sqrt(abs(share))
    return views


def _spread(width: int) -> np.ndarray:
    """Spreads three views over the features by orthogonal cosines, `[D, 3]`, of mean square `_FEATURE_SCALE^2 / 3`."""
    grid = np.pi * (np.arange(width)[:, None] + 0.5) * np.arange(1, _NUM_CUES + 1) / width
    return _FEATURE_SCALE * np.sqrt(2.0 / _NUM_CUES) * np.cos(grid)


def _sample_lengths(rng: np.random.Generator, count: int, frame_scale: float) -> dict[str, np.ndarray]:
    duration = _AUDIO_MEDIAN * np.exp(_AUDIO_LOG_STD * rng.standard_normal(count))
    pieces = _TEXT_RATE * duration * np.exp(_TEXT_LOG_STD * rng.standard_normal(count))
    frames = {
        "audio": np.clip(duration, 2, _AUDIO_LONGEST),
        "video": np.clip(_VIDEO_RATE * duration, 2, _VIDEO_LONGEST),
        "text": np.clip(pieces, 2, _TEXT_LONGEST),
    }
    return {name: np.maximum(np.rint(frame_scale * n), 1).astype(np.int32) for name, n in frames.items()}


def _sample_frames(
    rng: np.random.Generator, latent: np.ndarray, length: np.ndarray, parameters: Parameters, name: str
) -> np.ndarray:
    """Warped frames of one modality for all utterances, one after another, `[sum of T, D]`, float32."""
    frames = np.repeat(latent @ parameters.maps[name].T, length, axis=0)
    frames += parameters.frame_std[name] * rng.standard_normal(frames.shape)
    return warp(frames, skew=parameters.skew[name], tail=parameters.tail[name]).astype(np.float32)


def _frame_sums(corpus: Corpus, name: str, parameters: Parameters) -> np.ndarray:
    """Sum of the unwarped frames of each utterance, `[N, D]`, float64; 0 for an utterance without frames."""
    frames = unwarp(corpus.features[name].astype(np.float64), skew=parameters.skew[name], tail=parameters.tail[name])
    filled = corpus.length[name] > 0
    sums = np.zeros((len(corpus), frames.shape[1]))
    start = np.cumsum(corpus.length[name]) - corpus.length[name]
    sums[filled] = np.add.reduceat(frames, start[filled], axis=0)
    return sums
