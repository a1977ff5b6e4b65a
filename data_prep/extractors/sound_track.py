"""Reads sound by FFmpeg: the track of a video, and sound files that libsndfile does not know (AAC, m4a, WebM)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.extractors.base import MediaError, need
from data_prep.extractors.frames import MAX_MISSING, seek

# Decoding starts this many seconds before the utterance: the first block after a seek is not exact in AAC, MP3, Opus.
# Another number changes features: increase `revision` of the extractors of sound with it.
LEAD = 0.25


class Header(NamedTuple):
    """What a sound file says of itself: Hz, number of channels, and length in seconds, if it is given."""

    rate: int
    channels: int
    seconds: float | None


def read_track(path: Path, start: float | None, end: float | None) -> tuple[np.ndarray, int]:
    """The first sound track between two times.

    Args:
      path: Any file that FFmpeg reads.
      start: Second to start at; `None`: the beginning.
      end: Second to end at; `None`: the end.

    Returns:
      Samples `[N, C]`, float32, N >= 1, and their rate.

    Raises:
      MediaError: if the file cannot be read, or ends more than a second before `end`.
    """
    check_times(path, start, end)
    with _opened(path) as (container, stream):
        if start:
            seek(container, stream, max(0.0, start - LEAD))
        origin = (container.start_time or 0) / need("av").time_base
        first, last = (None if time is None else time + origin for time in (start, end))
        to_float = need("av").AudioResampler(format="fltp")  # the sample format only
        blocks = [
            _cut(part, first, last) for frame in _frames(container, stream, last) for part in to_float.resample(frame)
        ]
        rate, channels = stream.rate, stream.channels
    samples = np.concatenate([np.zeros((0, channels), np.float32), *blocks])
    check_length(path, len(samples) / rate, start, end)
    return samples, rate


def read_track_header(path: Path) -> Header:
    """What the first sound track says of itself. Raises MediaError if its first samples cannot be decoded."""
    with _opened(path) as (container, stream):
        if next(container.decode(stream), None) is None:
            raise MediaError(f"{path}: holds no sound")
        seconds = None if container.duration is None else container.duration / need("av").time_base
        if stream.duration is not None:
            seconds = float(stream.duration * stream.time_base)
        return Header(stream.rate, stream.channels, seconds)


def check_times(path: Path, start: float | None, end: float | None) -> None:
    """Raises MediaError if the utterance does not end after it starts."""
    if end is not None and end <= (start or 0.0):
        raise MediaError(f"{path}: the utterance ends at {end:.2f} s, before it starts at {start or 0.0:.2f} s")


def check_length(path: Path, seconds: float, start: float | None, end: float | None) -> None:
    """Raises MediaError if `seconds` of sound are more than a second too few, or none."""
    wanted = None if end is None else end - (start or 0.0)
    if wanted is not None and seconds < wanted - MAX_MISSING:
        raise MediaError(f"{path}: has {seconds:.2f} s of sound where the utterance has {wanted:.2f} s")
    if seconds <= 0:
        raise MediaError(f"{path}: holds no sound" + (f" after {start:.2f} s" if start else ""))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The file and its first sound track; FFmpeg's errors become a sentence."""
    av = need("av")
    if not path.is_file():
        raise MediaError(f"{path}: is not there")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"{path}: has no sound track")
            yield container, container.streams.audio[0]
    except av.FFmpegError as error:
        raise MediaError(f"{path}: is damaged or no sound file ({error.strerror})") from error


def _frames(container: Any, stream: Any, end: float | None) -> Iterator[Any]:
    for frame in container.decode(stream):
        if end is not None and frame.time >= end:
            return
        yield frame


def _cut(frame: Any, start: float | None, end: float | None) -> np.ndarray:
    samples = frame.to_ndarray().T
    first = 0 if start is None else round((start - frame.time) * frame.rate)
    last = len(samples) if end is None else round((end - frame.time) * frame.rate)
    return samples[max(first, 0) : max(last, 0)]
