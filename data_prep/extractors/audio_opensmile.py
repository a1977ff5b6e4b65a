"""Audio features by openSMILE, whose licence allows research and private use only."""

import dataclasses
import functools
import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import signal

from data_prep.extractors.base import Extractor, MediaError, Modality, average_frames, need
from data_prep.extractors.sound import RATE, read_sound
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class OpenSmile(Extractor):
    """One feature set and one or more levels of the `opensmile` package; levels are put side by side.

    Attributes:
      feature_set: Name in `opensmile.FeatureSet`.
      levels: Names in `opensmile.FeatureLevel`.
      group: Frames that become one; openSMILE gives 100 frames/s, so 10 gives 10 frames/s.
      resample: `mean` of the group; or `poly`, `scipy.signal.resample_poly` as in the code of the MMIN family, which
        takes the values before and after the utterance for zeros.
    """

    modality: ClassVar[Modality] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("opensmile", "soundfile", "scipy")
    feature_set: ClassVar[str]
    levels: ClassVar[tuple[str, ...]]
    group: int = 10
    resample: Literal["mean", "poly"] = "mean"

    def __post_init__(self) -> None:
        need("opensmile")
        if self.group < 1 or self.resample not in ("mean", "poly"):
            text = "group must be 1 or more and resample mean or poly"
            raise ValueError(f"{text}, found {self.group} and {self.resample!r}")

    @functools.cached_property
    def _smiles(self) -> list[Any]:
        opensmile = need("opensmile")
        feature_set = opensmile.FeatureSet[self.feature_set]
        return [opensmile.Smile(feature_set, opensmile.FeatureLevel[level]) for level in self.levels]

    @functools.cached_property
    def width(self) -> int:
        """D."""
        return sum(smile.num_features for smile in self._smiles)

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = frames / group, rounded up."""
        sound = np.clip(read_sound(media), -1.0, 32767 / 32768)  # at 1.0 opensmile's 16-bit integers would wrap around
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Segment too short")
            levels = [np.atleast_3d(smile(sound, RATE))[0].T for smile in self._smiles]
        if any(np.isnan(level).all() for level in levels):
            raise MediaError(f"{media.audio or media.video}: is too short for openSMILE ({len(sound) / RATE:.3f} s)")
        shortest = min(len(level) for level in levels)  # the deltas have two frames more, at the end
        frames = np.concatenate([level[:shortest] for level in levels], axis=1)
        if self.resample == "poly":
            return signal.resample_poly(frames, 1, self.group, axis=0)
        return average_frames(frames, self.group)


class Compare2016(OpenSmile):
    """ComParE_2016: 65 low-level descriptors and their 65 deltas, D = 130."""

    name = "compare_2016"
    feature_set = "ComParE_2016"
    levels = ("LowLevelDescriptors", "LowLevelDescriptors_Deltas")


class Egemaps(OpenSmile):
    """eGeMAPSv02: 25 low-level descriptors."""

    name = "egemaps"
    feature_set = "eGeMAPSv02"
    levels = ("LowLevelDescriptors",)


class EgemapsFunctionals(OpenSmile):
    """eGeMAPSv02: 88 functionals of the whole utterance, T = 1."""

    name = "egemaps_functionals"
    feature_set = "eGeMAPSv02"
    levels = ("Functionals",)
