"""Reads the sound of an utterance: mono, 16 kHz."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from data_prep.extractors.base import MediaError, need
from data_prep.extractors.frames import MAX_MISSING, seek
from data_prep.media import Media

RATE = 16000


def read_sound(media: Media) -> np.ndarray:
    """The sound file of the utterance, or its part of the video's sound track where there is no sound file.

    Channels are averaged; other rates are resampled by `scipy.signal.resample_poly`; a full scale sine has amplitude 1.

    Returns:
      Samples at 16 kHz, `[N]`, float32, N >= 1.

    Raises:
      MediaError: if there is no sound, or it cannot be read.
    """
    if media.audio is not None:
        samples, rate = _read_file(media.audio)
        path = media.audio
    elif media.video is not None:
        samples, rate = _read_track(media.video, media.start, media.end)
        path = media.video
    else:
        raise MediaError("there is neither a sound file nor a video")
    if samples.size == 0:
        raise MediaError(f"{path}: holds no sound")
    mono = samples.astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise MediaError(f"{path}: holds samples that are not finite")
    if rate != RATE:
        common = math.gcd(rate, RATE)
        mono = signal.resample_poly(mono, RATE // common, rate // common)
    return mono.astype(np.float32)


def _read_file(path: Path) -> tuple[np.ndarray, int]:
    """Samples `[N, C]` and their rate."""
    soundfile = need("soundfile")
    if not path.is_file():
        raise MediaError(f"{path}: is not there")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: is an empty file")
    try:
        return soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise MediaError(f"{path}: is damaged or no sound file ({getattr(error, 'error_string', error)})") from error


def _read_track(path: Path, start: float | None, end: float | None) -> tuple[np.ndarray, int]:
    """Samples `[N, C]` between two times of a video's sound track, and their rate."""
    av = need("av")
    if not path.is_file():
        raise MediaError(f"{path}: is not there")
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise MediaError(f"{path}: has no sound track")
            stream = container.streams.audio[0]
            if start:
                seek(container, stream, start)
            origin = (container.start_time or 0) / av.time_base
            start, end = (None if time is None else time + origin for time in (start, end))
            to_float = av.AudioResampler(format="fltp")  # the sample format only
            blocks = [
                _cut(part, start, end) for frame in _frames(container, stream, end) for part in to_float.resample(frame)
            ]
            rate = stream.rate
    except av.FFmpegError as error:
        raise MediaError(f"{path}: is damaged or no video file ({error})") from error
    samples = np.concatenate([np.zeros((0, stream.channels), np.float32), *blocks])
    if start is not None and end is not None and len(samples) < (end - start - MAX_MISSING) * rate:
        raise MediaError(
            f"{path}: has {len(samples) / rate:.2f} s of sound where the utterance has {end - start:.2f} s"
        )
    return samples, rate


def _frames(container: Any, stream: Any, end: float | None) -> Any:
    for frame in container.decode(stream):
        if end is not None and frame.time >= end:
            return
        yield frame


def _cut(frame: Any, start: float | None, end: float | None) -> np.ndarray:
    samples = frame.to_ndarray().T
    first = 0 if start is None else round((start - frame.time) * frame.rate)
    last = len(samples) if end is None else round((end - frame.time) * frame.rate)
    return samples[max(first, 0) : max(last, 0)]
