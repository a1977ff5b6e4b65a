"""Video features without weights: histograms of oriented gradients of the largest face of each sampled frame."""

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from data_prep.extractors.base import need
from data_prep.extractors.faces import FaceExtractor, resize_face

SIDE, CELL, ORIENTATIONS = 64, 8, 8


@dataclasses.dataclass(frozen=True)
class FaceHog(FaceExtractor):
    """Crops the largest face, resizes it to 64 x 64 grey, and counts its gradients; zeros if there is no face.

    Each cell of 8 x 8 pixels has a histogram of 8 orientations (0 to 180 degrees) of length 1: D = 8 * 8 * 8 = 512, in
    the order row, column, orientation.
    """

    name: ClassVar[str] = "face_hog"
    libraries: ClassVar[tuple[str, ...]] = ("av", "scikit-image")
    width: ClassVar[int] = (SIDE // CELL) ** 2 * ORIENTATIONS
    colour: ClassVar[Literal["gray", "rgb24"]] = "gray"

    def check(self) -> None:
        """Loads the detector and describes a blank face. Raises ValueError or OSError."""
        super().check()
        self.describe(np.zeros((SIDE, SIDE), np.uint8))

    def describe(self, face: np.ndarray) -> np.ndarray:
        """`[512]` for a grey face."""
        return need("skimage.feature").hog(
            resize_face(face, SIDE, SIDE),
            orientations=ORIENTATIONS,
            pixels_per_cell=(CELL, CELL),
            cells_per_block=(1, 1),
            block_norm="L2-Hys",
        )
