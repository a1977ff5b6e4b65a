"""The face detector's default settings find a face in compressed video, not only in a still."""

import functools

from data_prep.extractors.frames import find_face, read_frames
from data_prep.extractors.video_onnx import FaceOnnx
from tests import miniature
from tests.media_files import write_onnx


def test_defaults_find_the_face_in_nearly_every_compressed_frame(tmp_path):
    extractor = FaceOnnx(weights=write_onnx(tmp_path / "faces.onnx"))
    video = next(miniature.iemocap(tmp_path).glob("Session1/dialog/avi/DivX/Ses01F*.avi"))
    find = functools.partial(
        find_face, cascade=extractor._cascade, min_face=extractor.min_face, step_ratio=extractor.step_ratio
    )
    pictures = read_frames(video, 0.0, 10.0, "right", max_frames=20, format="gray")
    assert sum(find(picture) is not None for picture in pictures) >= 18  # with step_ratio 1.25 it found a third
    assert all(find(picture) is None for picture in read_frames(video, 0.0, 10.0, "left", max_frames=5, format="gray"))
