"""Reads the sound of an utterance: mono, 16 kHz."""

import math

import numpy as np
from scipy import signal

from data_prep.extractors.base import MediaError, need
from data_prep.extractors.sound_file import read_samples
from data_prep.extractors.sound_track import read_track
from data_prep.media import Media

RATE = 16000


def check_readers() -> None:
    """Raises ImportError if a library that reads sound is not installed."""
    need("soundfile")
    need("av")


def read_sound(media: Media) -> np.ndarray:
    """The utterance's part of the sound file, or of the video's sound track where there is no sound file.

    Channels are averaged; other rates are resampled by `scipy.signal.resample_poly`; a full scale sine has amplitude 1.

    Returns:
      Samples at 16 kHz, `[N]`, float32, N >= 1.

    Raises:
      MediaError: if there is no sound, or it cannot be read.
    """
    if media.audio is not None:
        samples, rate = read_samples(media.audio, media.audio_start, media.audio_end)
        path = media.audio
    elif media.video is not None:
        samples, rate = read_track(media.video, media.start, media.end, "video")
        path = media.video
    else:
        raise MediaError("there is neither a sound file nor a video")
    mono = samples.astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise MediaError(f"{path}: holds samples that are not finite")
    if rate != RATE:
        common = math.gcd(rate, RATE)
        mono = signal.resample_poly(mono, RATE // common, rate // common)
    return mono.astype(np.float32)
