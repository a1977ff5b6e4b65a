"""From the features of single utterances to batches of few shapes, and the checks of each utterance."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.device import shorten
from cmarr_jax.data.modalities import NUMBERS
from cmarr_jax.types import Batch

ROWS = (1, 16, 256)  # rows that a batch may have
FAR = 100.0  # standard deviations from the training's mean: features beyond are of another kind than those trained on
SHORTEST = 8  # frames of the smallest shape; the others are twice as long each
Features = Mapping[str, Any]  # of one utterance: modality -> frames `[T, D]`, or one vector `[D]`; None: absent


class UtteranceError(ValueError):
    """An utterance that cannot be answered; the message is one sentence."""


def check_utterance(features: Features, modalities: Sequence[ModalityConfig]) -> dict[str, np.ndarray]:
    """The modalities that an utterance has, as float32.

    Raises:
      UtteranceError: at the first fault.
    """
    known = {modality.name: modality for modality in modalities}
    for name in features:
        if name not in known:
            raise UtteranceError(f"there is no modality {name!r}; this model has {', '.join(known)}; leave it out")
    found = {name: _checked(known[name], value) for name, value in features.items() if value is not None}
    if not found:
        raise UtteranceError(f"no modality is there; give at least one of {', '.join(known)}")
    return found


def _checked(modality: ModalityConfig, value: Any) -> np.ndarray:
    array, name, width = np.asarray(value), modality.name, modality.width
    is_vector = modality.encoder == "vector"
    if np.ma.is_masked(value):
        raise UtteranceError(f"{name}: has masked numbers; fill them or leave the modality out")
    if array.dtype.kind not in NUMBERS:
        raise UtteranceError(f"{name}: holds {array.dtype} where numbers are expected; convert it to float32")
    wanted = f"[{width}], one vector" if is_vector else f"[T, {width}], T frames"
    if array.ndim != (1 if is_vector else 2) or array.shape[-1] != width:
        text = f"has shape {list(array.shape)} where {wanted}, is expected; use the features of the training"
        raise UtteranceError(f"{name}: {text}")
    if not len(array):
        raise UtteranceError(f"{name}: has no frame; leave the modality out")
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        *frame, column = np.argwhere(~np.isfinite(array))[0].tolist()
        place = f"frame {frame[0]}, column {column}" if frame else f"column {column}"
        text = f"{place} is {array[*frame, column]} (as float32); correct it or leave the modality out"
        raise UtteranceError(f"{name}: {text}")
    return array


def far_text(features: Mapping[str, np.ndarray], scales: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Which number of a checked utterance is furthest from the training, if it is beyond `FAR`; otherwise empty.

    Args:
      features: From `check_utterance`.
      scales: Mean and inverse standard deviation of each modality in the training, `[D]`.
    """
    furthest, text = FAR, ""
    for name, values in features.items():
        mean, inverse_std = scales[name]
        distance = np.abs((values - mean) * inverse_std)
        if distance.max() > furthest:
            furthest, place = distance.max(), np.unravel_index(distance.argmax(), distance.shape)
            text = (
                f"{name}: column {place[-1]} is {values[place]:.4g}, {furthest:.0f} standard deviations from the "
                "mean of the training; see whether the features are made as those were"
            )
    return text


def make_batch(
    rows: Sequence[Mapping[str, np.ndarray]], modalities: Sequence[ModalityConfig], max_frames: int | None
) -> Batch:
    """Pads checked utterances to the next of few shapes: utterances of new lengths seldom need another program.

    Args:
      rows: At most `ROWS[-1]` utterances, from `check_utterance`.
      modalities: Of the model.
      max_frames: Longer sequences are shortened (`shorten`), as in training; `None`: none is.

    Returns:
      A batch of numpy arrays; rows that only fill it have `where` False.
    """
    size = next(number for number in ROWS if number >= len(rows))
    features: dict[str, Any] = OrderedDict()
    length: dict[str, Any] = {}
    present = np.zeros((size, len(modalities)), bool)
    for column, modality in enumerate(modalities):
        values = {row: item[modality.name] for row, item in enumerate(rows) if modality.name in item}
        present[list(values), column] = True
        if modality.encoder == "vector":
            features[modality.name] = np.zeros((size, modality.width), np.float32)
        else:
            values = {
                row: frames if max_frames is None else shorten(frames, max_frames) for row, frames in values.items()
            }
            longest = num_frames(max((len(frames) for frames in values.values()), default=1), max_frames)
            features[modality.name] = np.zeros((size, longest, modality.width), np.float32)
            length[modality.name] = np.zeros(size, np.int32)
        for row, value in values.items():
            if modality.encoder == "vector":
                features[modality.name][row] = value
            else:
                features[modality.name][row, : len(value)] = value
                length[modality.name][row] = len(value)
    where = np.arange(size) < len(rows)
    return Batch(features, length, present, np.zeros(size, np.int32), where)  # type: ignore[arg-type]  # numpy


def num_frames(longest: int, max_frames: int | None) -> int:
    """Frames of the smallest shape that holds `longest` frames."""
    frames = SHORTEST
    while frames < longest:
        frames *= 2
    return frames if max_frames is None else min(frames, max_frames)
