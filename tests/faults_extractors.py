"""Faults of models, detectors and options of the extractors: found before anything is extracted."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import skimage.data

from tests import miniature
from tests.fault_case import Case
from tests.media_files import write_onnx


def extract(video: str, make: Callable[[Path], object], *options: str, text: str = "text_hashing") -> Callable:
    """A raw corpus whose features are to be extracted; `make` writes the files that `video` names."""

    def argv(folder: Path) -> list[str]:
        root = miniature.iemocap(folder, with_media=False)
        make(folder)
        given = ["--audio", "none", "--video", video.replace("DIR", str(folder)), "--text", text]
        return [str(root), str(folder / "out.npz"), *given, "--allow-count-differences", "--without-tfds", *options]

    return argv


def empty(folder: Path) -> None:
    """A model of no bytes, which is a valid message without content."""
    (folder / "m.onnx").write_bytes(b"")


def tiny(folder: Path) -> None:
    """A model that works."""
    write_onnx(folder / "m.onnx")


def nan(folder: Path) -> None:
    """A model with a weight that is not a number."""
    model = onnx.load(write_onnx(folder / "m.onnx"))
    weight = np.full((64, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "weight"))
    onnx.save(model, folder / "m.onnx")


def haar(folder: Path) -> None:
    """A cascade of another kind of features."""
    local = Path(skimage.data.lbp_frontal_face_cascade_filename()).read_text()
    (folder / "d.xml").write_text(local.replace("LBP", "HAAR"))


def no_xml(folder: Path) -> None:
    """A detector that is none."""
    (folder / "d.xml").write_text("no xml")


MODEL = "face_onnx:weights=DIR/m.onnx"
DETECTOR = "face_hog:detector=DIR/d.xml"
CASES = (
    Case("an ONNX model of no bytes", "iemocap.__main__", extract(MODEL, empty)),
    Case("the same, in a dry run", "iemocap.__main__", extract(MODEL, empty, "--dry-run"), "video: "),
    Case("an ONNX model without that layer", "iemocap.__main__", extract(f"{MODEL},layer=pool5", tiny)),
    Case("an ONNX model that gives nan", "iemocap.__main__", extract(f"{MODEL},layer=last", nan)),
    Case("a detector of faces that is no XML", "iemocap.__main__", extract(DETECTOR, no_xml)),
    Case("a detector of faces of another kind", "iemocap.__main__", extract(DETECTOR, haar)),
    Case("an option of another type", "iemocap.__main__", extract("face_hog", tiny, text="text_hashing:dims=many")),
    Case("an option out of range", "iemocap.__main__", extract("face_hog:min_face=2", tiny)),
)
