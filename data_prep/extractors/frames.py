"""Reads frames of a video between two times, evenly sampled, and finds the face in each."""

import contextlib
import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_prep.extractors.base import MediaError, need, one_line

MAX_MISSING = 1.0  # seconds by which a video may end before the utterance does


def read_frames(
    path: Path,
    start: float | None,
    end: float | None,
    half: Literal["left", "right"] | None,
    *,
    max_frames: int,
    format: str,
) -> list[np.ndarray]:
    """At most `max_frames` frames, at the middles of as many equal parts of the time from `start` to `end`.

    Args:
      path: Any video that FFmpeg reads.
      start: Second to start at; `None`: the beginning.
      end: Second to end at; `None`: the end.
      half: Which half of the picture, as a player shows it; `None`: all of it.
      max_frames: Most frames; a video with fewer gives all of them.
      format: `gray` (luma, full range) or `rgb24`.

    Returns:
      Pictures, `[H, W]` or `[H, W, 3]`, uint8; at least one.

    Raises:
      MediaError: if the file cannot be read, or ends more than a second before `end`.
    """
    av = need("av")
    if not path.is_file():
        raise MediaError(f"{path}: is not there")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError(f"{path}: has no picture")
            return _sample(container, path, start or 0.0, end, half, max_frames, format)
    except av.FFmpegError as error:
        raise MediaError(f"{path}: is damaged or no video file ({error})") from error


def _sample(
    container: Any, path: Path, start: float, end: float | None, half: str | None, count: int, format: str
) -> list:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    rate = float(stream.average_rate or stream.base_rate or 25)
    stop = end if end is not None else _duration(container, stream)
    if stop is None:
        raise MediaError(f"{path}: does not say how long it is; give the time where the utterance ends")
    if stop <= start:
        raise MediaError(f"{path}: the utterance ends at {stop:.2f} s, before it starts at {start:.2f} s")
    count = max(1, min(count, round((stop - start) * rate)))
    targets = start + (np.arange(count) + 0.5) * (stop - start) / count - 0.5 / rate  # first frame not before this
    if start > 0:
        seek(container, stream, start)
    pictures: list[np.ndarray] = []
    last = None
    for last, frame in _timed(container, stream, rate):
        while len(pictures) < count and last >= targets[len(pictures)] - 1e-6:
            pictures.append(_half(_upright(frame, format), half))
        if len(pictures) == count:
            return pictures
    if last is None or not pictures or last + 1 / rate < stop - MAX_MISSING:
        ends = "has no frame that can be read" if last is None else f"ends at {last + 1 / rate:.2f} s"
        raise MediaError(f"{path}: {ends} where the utterance lasts from {start:.2f} to {stop:.2f} s")
    return pictures


def _timed(container: Any, stream: Any, rate: float) -> Iterator[tuple[float, Any]]:
    """Frames with their time in seconds; stops at the first damaged frame."""
    av = need("av")
    origin = (container.start_time or 0) / av.time_base
    time = -1 / rate
    try:
        for frame in container.decode(stream):
            stamp = frame.pts if frame.pts is not None else frame.dts
            time = time + 1 / rate if stamp is None else float(stamp * stream.time_base) - origin
            yield time, frame
    except av.FFmpegError:
        return


def seek(container: Any, stream: Any, start: float) -> None:
    """Seeks the last key frame before a time in seconds; without an index in the file, stays at the beginning."""
    av = need("av")
    with contextlib.suppress(av.FFmpegError):
        container.seek(int((start + (container.start_time or 0) / av.time_base) / stream.time_base), stream=stream)


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _upright(frame: Any, format: str) -> np.ndarray:
    """The picture as players show it: a telephone that is held upright writes it on its side, with the turn beside."""
    quarters = round(frame.rotation / 90)  # counterclockwise, as numpy counts
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format=format), quarters))


def _half(picture: np.ndarray, half: str | None) -> np.ndarray:
    middle = picture.shape[1] // 2
    return {None: picture, "left": picture[:, :middle], "right": picture[:, middle:]}[half]


@functools.lru_cache(maxsize=2)
def load_cascade(path: Path) -> Any:
    """scikit-image's cascade of local binary patterns, from an XML as OpenCV writes it.

    Raises:
      ValueError: if the file is something else; scikit-image reads a cascade of another kind without a word.
    """
    use = "give the XML of a cascade of local binary patterns, or leave the option detector out"
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: is damaged or no XML ({error}); {use}") from error
    kind = (tree.findtext(".//featureType") or "").strip()
    if kind != "LBP":
        raise ValueError(f"{path}: is {f'a cascade of {kind} features' if kind else 'no cascade'}; {use}")
    try:
        cascade = need("skimage.feature").Cascade(str(path))
    except Exception as error:  # a part of the XML is missing
        raise ValueError(f"{path}: is damaged ({one_line(error)}); {use}") from error
    return cascade


def find_face(grey: np.ndarray, cascade: Path, *, min_face: float, step_ratio: float) -> tuple[slice, slice] | None:
    """Rows and columns of the largest face, or `None`.

    Args:
      grey: Picture, `[H, W]`, uint8.
      cascade: The detector.
      min_face: Smallest face, as a share of the shorter side of the picture.
      step_ratio: Coarseness of the search, 1 (all places) to 1.5.
    """
    side = max(24, round(min_face * min(grey.shape)))
    if min(grey.shape) < side:
        return None
    faces = load_cascade(cascade).detect_multi_scale(
        img=grey, scale_factor=1.2, step_ratio=step_ratio, min_size=(side, side), max_size=grey.shape
    )
    if not faces:
        return None
    face = max(faces, key=lambda found: (found["width"] * found["height"], -found["r"], -found["c"]))
    return slice(face["r"], face["r"] + face["height"]), slice(face["c"], face["c"] + face["width"])
