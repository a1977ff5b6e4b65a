"""An utterance of CMU-MOSI or CMU-MOSEI, as both of their readers give it."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

MODALITIES = ("audio", "video", "text")


class Segment(NamedTuple):
    """One utterance.

    Attributes:
      name: Its id.
      video: Id of the video, which shows one speaker.
      split: `train`, `val` or `test`; empty if there is no split.
      score: Sentiment, -3 to 3.
      text: Transcript; empty if there is none.
      features: Frames per modality, `[T, D]` of any float type; T = 0 if it is absent.
    """

    name: str
    video: str
    split: str
    score: float
    text: str
    features: Mapping[str, np.ndarray]
