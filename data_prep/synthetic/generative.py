"""The generative model of the synthetic corpus, and its exact class posterior for every availability pattern.

Synthetic, not IEMOCAP: only the speakers, their class counts and the lengths are shaped like that corpus.

    z = mean[label, component] + offset[speaker] + noise    latent of an utterance, `[L]`
    y[m, t] = maps[m] z + private[m] w[m] + frame_std noise frame t of modality m, `[D_m]`
    x[m, t] = sinh((arcsinh(y[m, t]) + skew[m]) / tail[m])  what is stored, float32, elementwise

Only the first three coordinates of z (arousal, valence, expression) depend on the class. Each modality sees all three
with other gains, and each of its three views adds a nuisance coordinate; some nuisance coordinates are seen by two
modalities, so the modalities of one utterance share more than its class.

This is the easy set. The hard one (`hard.py`) has several components per class, all equally frequent, and private
nuisance w, of each modality alone, in directions that carry nothing else; here there is one component and no w.

The posterior is that of a single utterance: its speaker is unknown, so the offset is part of the noise. The mean of the
unwarped frames is a sufficient statistic and all distributions are Gaussian, so the posterior has a closed form
(`posterior.py`).
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

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
      mean: Mean latent of each class and component, `[K, S, L]`.
      utterance_std: Standard deviation of the utterance noise per latent coordinate, `[L]`.
      speaker_std: Standard deviation of the speaker offset per latent coordinate, `[L]`.
      maps: Per modality, latent to unwarped features, `[D, L]`.
      private: Per modality, private nuisance of variance 1 to unwarped features, `[D, Q]`; orthogonal to `maps`.
      frame_std: Per modality, standard deviation of the frame noise.
      skew: Per modality, shift of the warp.
      tail: Per modality, divisor of the warp, > 0; 1 with skew 0 is the identity.
    """

    mean: np.ndarray
    utterance_std: np.ndarray
    speaker_std: np.ndarray
    maps: dict[str, np.ndarray]
    private: dict[str, np.ndarray]
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
        mean=np.pad(_CLASS_CUES - _CLASS_CUES.mean(0), ((0, 0), (0, _NUM_NUISANCE)))[:, None],
        utterance_std=np.array([_CUE_STD] * _NUM_CUES + [1.0] * _NUM_NUISANCE),
        speaker_std=np.full(_NUM_CUES + _NUM_NUISANCE, _SPEAKER_STD),
        maps={name: _spread(width) @ views(name) for name, width in widths.items()},
        private={name: np.zeros((width, 0)) for name, width in widths.items()},
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
            num_components = parameters.mean.shape[1]
            component = utterance_rng.integers(num_components, size=label.size) if num_components > 1 else 0
            latents.append(parameters.mean[label, component] + offset + parameters.utterance_std * noise)
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


def views(name: str) -> np.ndarray:
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
    still, private = latent @ parameters.maps[name].T, parameters.private[name]
    if private.shape[1]:
        still += rng.standard_normal((len(latent), private.shape[1])) @ private.T
    frames = np.repeat(still, length, axis=0)
    frames += parameters.frame_std[name] * rng.standard_normal(frames.shape)
    return warp(frames, skew=parameters.skew[name], tail=parameters.tail[name]).astype(np.float32)
