"""Reads the sound of an utterance: mono, 16 kHz."""

import math

import numpy as np
from scipy import signal

from data_prep.extractors.base import MediaError, need
from data_prep.extractors.sound_file import read_samples
from data_prep.media import Media

RATE = 16000


def check_readers() -> None:
    """Raises ImportError if a library that reads sound is not installed."""
    need("soundfile")
    need("av")


def read_sound(media: Media) -> np.ndarray:
    """The utterance's part of `audio`: a sound file, or the sound track of a video that is given there.

    Channels are averaged; other rates are resampled by `scipy.signal.resample_poly`; a full scale sine has amplitude 1.

    Returns:
      Samples at 16 kHz, `[N]`, float32, N >= 1.

    Raises:
      MediaError: if there is no sound, or it cannot be read.
    """
    if media.audio is None:
        raise MediaError("there is no sound")
    samples, rate = read_samples(media.audio, media.audio_start, media.audio_end)
    mono = samples.astype(np.float64).mean(axis=1)
    if not np.isfinite(mono).all():
        raise MediaError(f"{media.audio}: holds samples that are not finite")
    if rate != RATE:
        common = math.gcd(rate, RATE)
        mono = signal.resample_poly(mono, RATE // common, rate // common)
    return mono.astype(np.float32)
