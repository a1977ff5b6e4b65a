"""Audio features by openSMILE, whose licence allows research and private use only."""

import dataclasses
import functools
import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import signal

from data_prep.extractors.base import Extractor, MediaError, Modality, average_frames, need, one_line
from data_prep.extractors.sound import RATE, check_readers, read_sound
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class OpenSmile(Extractor):
    """One feature set of the `opensmile` package, at one level or at several side by side.

    Attributes:
      feature_set: Name in `opensmile.FeatureSet`.
      level: Level of the set's configuration file: `lld`, `lld_de` (deltas) or `func`. Several, with `;` between them,
        come from one pass over the sound; a frame is given if all of them have it.
      group: Frames that become one; openSMILE gives 100 frames/s, so 10 gives 10 frames/s.
      resample: `mean` of the group; or `poly`, `scipy.signal.resample_poly` as in the code of the MMIN family, which
        takes the values before and after the utterance for zeros.
    """

    modality: ClassVar[Modality] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("opensmile", "soundfile", "scipy")
    feature_set: ClassVar[str]
    level: ClassVar[str]
    group: int = 10
    resample: Literal["mean", "poly"] = "mean"

    def __post_init__(self) -> None:
        need("opensmile")
        check_readers()
        if self.group < 1 or self.resample not in ("mean", "poly"):
            text = "group must be 1 or more and resample mean or poly"
            raise ValueError(f"{text}, found {self.group} and {self.resample!r}")

    @functools.cached_property
    def _smile(self) -> Any:
        opensmile = need("opensmile")
        try:
            return opensmile.Smile(opensmile.FeatureSet[self.feature_set], self.level)
        except Exception as error:  # its library or configuration files are damaged
            text = f"openSMILE cannot be started ({one_line(error)}); install the package opensmile again"
            raise ValueError(text) from error

    @functools.cached_property
    def width(self) -> int:
        """D."""
        return self._smile.num_features

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = frames / group, rounded up."""
        sound = np.clip(read_sound(media), -1.0, 32767 / 32768)  # at 1.0 opensmile's 16-bit integers would wrap around
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Segment too short")
            frames = np.atleast_3d(self._smile(sound, RATE))[0].T
        if np.isnan(frames).all():
            raise MediaError(f"{media.audio or media.video}: is too short for openSMILE ({len(sound) / RATE:.3f} s)")
        if self.resample == "poly":
            return signal.resample_poly(frames, 1, self.group, axis=0)
        return average_frames(frames, self.group)


class Compare2016(OpenSmile):
    """ComParE_2016: 65 low-level descriptors and their 65 deltas, D = 130."""

    name = "compare_2016"
    feature_set = "ComParE_2016"
    level = "lld;lld_de"


class Egemaps(OpenSmile):
    """eGeMAPSv02: 25 low-level descriptors."""

    name = "egemaps"
    feature_set = "eGeMAPSv02"
    level = "lld"


class EgemapsFunctionals(OpenSmile):
    """eGeMAPSv02: 88 functionals of the whole utterance, T = 1."""

    name = "egemaps_functionals"
    gives_vector = True
    feature_set = "eGeMAPSv02"
    level = "func"
