"""The hard synthetic set: features as wide as IEMOCAP's, modalities that depend on each other beyond the class.

What differs from the easy set (`generative.py`):

- Interactions. An utterance has two hidden signs. Audio shows both; text shows the first one and video the second one,
  each times a sign that depends on the class. Alone, none of the three says anything by it; audio with text, or audio
  with video, tells one half of the classes from the other. A rule that adds the evidence of modalities never sees it.
- Shared nuisance is stronger than the cues, so modalities agree for other reasons than the class.
- Private nuisance: many directions of each modality vary more than those of the class. Noise of a frame is spread over
  all features. So networks and linear classifiers overfit.

The posterior is still exact: a mixture of four Gaussians per class.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from data_prep.synthetic import generative
from data_prep.synthetic.generative import MODALITIES, Parameters

WIDTHS: Mapping[str, int] = MappingProxyType({"audio": 130, "video": 342, "text": 1024})
FRAME_SCALE = 0.4  # of the lengths of the easy set, in the preset: a third of the memory
SIGNS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])  # the hidden signs of each component
# Sign of each class in the interaction of audio and text, and of audio and video.
CLASS_SIGNS = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]])
INTERACTION = 0.7  # size of a hidden sign in each of the two modalities that show it; noise of variance 1 is added
CUE_SCALE = 0.8  # of the gains of the easy set
SHARED_STD = 1.5  # of nuisance that two modalities share
PRIVATE = {"audio": (30, 2.0), "video": (60, 2.0), "text": (120, 2.0)}  # directions, standard deviation of each
FRAME_STD = 0.6
_SHARED = (0, 1, 2, 4)  # nuisance coordinates of the easy set that two modalities see


def make_hard_parameters(widths: Mapping[str, int] = WIDTHS) -> Parameters:
    """The tuned model. Its latent is that of the easy set and four interaction coordinates.

    Args:
      widths: D of each of `audio`, `video`, `text`; they change the noise to be ignored, not the ceiling.

    Raises:
      ValueError: if the modalities are others, or a width has no room for the directions.
    """
    least = {name: count + 5 for name, (count, _) in PRIVATE.items()}
    if tuple(widths) != MODALITIES or any(widths[name] < least[name] for name in MODALITIES):
        raise ValueError(f"widths are wanted for {MODALITIES}, at least {least}, found {dict(widths)}")
    easy = generative.make_parameters()
    num_easy = easy.mean.shape[-1]
    audio_text, audio_video, text, video = range(num_easy, num_easy + 4)
    mean = np.zeros((4, len(SIGNS), num_easy + 4))
    mean[..., :num_easy] = easy.mean
    mean[..., audio_text], mean[..., audio_video] = INTERACTION * SIGNS.T
    mean[..., text] = INTERACTION * SIGNS[:, 0] * CLASS_SIGNS[:, 0, None]
    mean[..., video] = INTERACTION * SIGNS[:, 1] * CLASS_SIGNS[:, 1, None]
    std = np.concatenate([easy.utterance_std, np.ones(4)])
    std[3 + np.array(_SHARED)] = SHARED_STD
    seen = {"audio": (audio_text, audio_video), "video": (video,), "text": (text,)}
    maps, private = {}, {}
    for number, name in enumerate(MODALITIES):
        views = np.pad(generative.views(name), ((0, len(seen[name])), (0, 4)))
        views[:3, :3] *= CUE_SCALE
        for row, coordinate in enumerate(seen[name], start=3):
            views[row, coordinate] = 1.0
        count, spread = PRIVATE[name]
        directions = _orthonormal(widths[name], len(views) + count, seed=number)
        maps[name] = directions[:, : len(views)] @ views
        private[name] = spread * directions[:, len(views) :]
    return Parameters(
        mean=mean,
        utterance_std=std,
        speaker_std=np.full(len(std), easy.speaker_std[0]),
        maps=maps,
        private=private,
        frame_std=dict.fromkeys(MODALITIES, FRAME_STD),
        skew=easy.skew,
        tail=easy.tail,
    )


def _orthonormal(width: int, count: int, seed: int) -> np.ndarray:
    """Fixed directions, `[width, count]`; signs as of QR with a positive diagonal, so that LAPACK does not matter."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((width, count)))
    return q * np.sign(np.diag(r))
