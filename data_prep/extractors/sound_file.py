"""Reads a sound file or a part of it: by libsndfile, or by FFmpeg where libsndfile does not know the format."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.extractors.base import MediaError, need
from data_prep.extractors.frames import MAX_MISSING
from data_prep.extractors.sound_track import Header, check_length, check_times, read_track, read_track_header


def read_header(path: Path) -> Header:
    """What a sound file says of itself, read as `read_samples` would read it.

    Raises:
      MediaError: if it cannot be opened; the message is one sentence with the path.
    """
    file = _open(path)
    if file is None:
        return read_track_header(path)
    with file:
        return Header(file.samplerate, file.channels, file.frames / file.samplerate)


def read_samples(path: Path, start: float | None, end: float | None) -> tuple[np.ndarray, int]:
    """The samples between two times; the rest of the file is not decoded, as far as its format allows that.

    Args:
      path: Sound file.
      start: Second to start at; `None`: the beginning.
      end: Second to end at; `None`: the end.

    Returns:
      Samples `[N, C]`, float32, N >= 1, and their rate.

    Raises:
      MediaError: if the file cannot be read, or ends more than a second before `end`.
    """
    check_times(path, start, end)
    file = _open(path)
    if file is None:
        return read_track(path, start, end)
    soundfile = need("soundfile")
    with file:
        rate = file.samplerate
        first = min(round((start or 0.0) * rate), file.frames)
        last = file.frames if end is None else min(round(end * rate), file.frames)
        try:
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise MediaError(f"{path}: is damaged or no sound file ({_reason(error)})") from error
    if len(samples) < last - first - MAX_MISSING * rate:
        text = f"{len(samples) / rate:.2f} s of sound can be read where its header says {(last - first) / rate:.2f} s"
        raise MediaError(f"{path}: is damaged; {text}")
    check_length(path, len(samples) / rate, start, end)
    return samples, rate


def _open(path: Path) -> Any:
    """The file as libsndfile opens it; `None` if it does not know the format, or the header gives no length."""
    soundfile = need("soundfile")
    if not path.is_file():
        raise MediaError(f"{path}: is not there")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: is an empty file")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError):  # TypeError: .raw, which has no header
        return None
    if file.frames < 2**62 and file.seekable():
        return file
    file.close()
    return None


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)) or "it cannot be decoded"
