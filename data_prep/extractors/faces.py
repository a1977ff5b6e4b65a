"""Base class of extractors that describe the largest face of each sampled frame of a video."""

import abc
import dataclasses
import functools
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, need, need_file
from data_prep.extractors.frames import find_face, read_frames
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class FaceExtractor(Extractor):
    """Describes the largest face of each sampled frame; zeros if there is no face.

    Attributes:
      detector: XML of a cascade of local binary patterns; `None`: the frontal one that scikit-image ships.
      max_frames: Frames of an utterance, evenly sampled; 50 as in the MMIN family.
      min_face: Smallest face, as a share of the shorter side of the picture.
      step_ratio: Coarseness of the search for faces, 1 to 1.5.
      margin: Share of the face's size that the crop is enlarged by on each side.
    """

    modality: ClassVar[Modality] = "video"
    revision: ClassVar[int] = 2  # pictures are turned upright
    zeros_mean: ClassVar[str] = "no face was found in any frame"
    detector: Path | None = None
    max_frames: int = 50
    min_face: float = 0.125
    step_ratio: float = 1.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        need("av")
        need("skimage")
        if self.detector is not None:
            need_file(self.detector, "face detector")
        if self.max_frames < 1 or not 0 < self.min_face <= 1 or not 1 <= self.step_ratio <= 1.5 or self.margin < 0:
            text = "max_frames must be 1 or more, min_face above 0 and at most 1, step_ratio 1 to 1.5, margin 0 or more"
            found = (self.max_frames, self.min_face, self.step_ratio, self.margin)
            raise ValueError(f"{text}, found {', '.join(map(str, found))}")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """The detector."""
        return (self._cascade,)

    @property
    @abc.abstractmethod
    def colour(self) -> Literal["gray", "rgb24"]:
        """What `describe` takes: `[H, W]` or `[H, W, 3]`."""

    @abc.abstractmethod
    def describe(self, face: np.ndarray) -> np.ndarray:
        """The numbers `[D]` of a cropped face, uint8."""

    @functools.cached_property
    def _cascade(self) -> Path:
        return self.detector or Path(need("skimage.data").lbp_frontal_face_cascade_filename())

    def check(self) -> None:
        """Loads the detector, and what describes a face, and tries both. Raises ValueError or OSError."""
        find_face(np.zeros((64, 64), np.uint8), self._cascade, min_face=1.0, step_ratio=self.step_ratio)
        _ = self.width

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = sampled frames, at most `max_frames`; a row of zeros is a frame without a face."""
        if media.video is None:
            raise MediaError("there is no video")
        pictures = read_frames(
            media.video, media.start, media.end, media.half, max_frames=self.max_frames, format=self.colour
        )
        features = np.zeros((len(pictures), self.width), np.float32)
        for row, picture in enumerate(pictures):
            grey = picture if picture.ndim == 2 else np.round(picture @ [0.299, 0.587, 0.114]).astype(np.uint8)
            face = find_face(grey, self._cascade, min_face=self.min_face, step_ratio=self.step_ratio)
            if face is not None:
                features[row] = self.describe(picture[_enlarge(face, self.margin, grey.shape)])
        return features


def resize_face(face: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with anti-aliasing; float, 0 to 255."""
    resize = need("skimage.transform").resize
    return resize(face, (height, width), order=1, anti_aliasing=True, preserve_range=True)


def _enlarge(face: tuple[slice, slice], margin: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(0, side.start - extra), min(limit, side.stop + extra))
        for side, limit in zip(face, shape, strict=True)
        for extra in [round(margin * (side.stop - side.start))]
    )
    return rows, columns
