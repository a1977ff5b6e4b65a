"""From the features of single utterances to batches of few shapes, and the checks of each utterance."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.device import shorten
from cmarr_jax.data.modalities import NUMBERS
from cmarr_jax.data.targets import LARGEST
from cmarr_jax.types import Batch

ROWS = (1, 16, 256)  # rows that a batch may have
FAR = 100.0  # standard deviations from the training's mean: features beyond are of another kind than those trained on
MOST_NUMBERS = 2**28  # in the features of a batch, padded: 1 GiB; only an utterance alone may have more
SHORTEST = 8  # frames of the smallest shape; the others are twice as long each
Features = Mapping[str, Any]  # of one utterance: modality -> frames `[T, D]`, or one vector `[D]`; None: absent


class UtteranceError(ValueError):
    """An utterance that cannot be answered; the message is one sentence."""


def check_utterance(features: Features, modalities: Sequence[ModalityConfig]) -> dict[str, np.ndarray]:
    """The modalities that an utterance has, as float32.

    Raises:
      UtteranceError: at the first fault.
    """
    if not isinstance(features, Mapping):
        raise UtteranceError(f"is a {type(features).__name__} where a dict from modalities to features is expected")
    known = {modality.name: modality for modality in modalities}
    for name in features:
        if name not in known:
            raise UtteranceError(f"there is no modality {name!r}; this model has {', '.join(known)}; leave it out")
    found = {name: _checked(known[name], value) for name, value in features.items() if value is not None}
    if not found:
        raise UtteranceError(f"no modality is there; give at least one of {', '.join(known)}")
    return found


def _checked(modality: ModalityConfig, value: Any) -> np.ndarray:
    name, width, is_vector = modality.name, modality.width, modality.encoder == "vector"
    try:
        array = np.asarray(value)
    except Exception as error:  # what an object of another library raises is its own
        raise UtteranceError(
            f"{name}: is no array of numbers ({error}); correct it or leave the modality out"
        ) from None
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
    if (wrong := ~(np.abs(array) <= LARGEST)).any():
        *frame, column = np.argwhere(wrong)[0].tolist()
        place = f"frame {frame[0]}, column {column}" if frame else f"column {column}"
        found = array[*frame, column]
        number = f"{found:g}, beyond {LARGEST:g}" if np.isfinite(found) else f"{found} (as float32)"
        raise UtteranceError(f"{name}: {place} is {number}; correct it or leave the modality out")
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


def cut_into_batches(
    rows: Sequence[Mapping[str, np.ndarray]], modalities: Sequence[ModalityConfig], max_frames: int | None
) -> Iterator[slice]:
    """Yields which checked utterances make a batch, in their order: few enough that the padded ones fit into memory.

    Args:
      rows: From `check_utterance`.
      modalities: Of the model.
      max_frames: As in `make_batch`.
    """
    start, longest = 0, dict.fromkeys((modality.name for modality in modalities), 1)
    for end, item in enumerate(rows):
        padded = {name: max(frames, _frames(item.get(name), max_frames)) for name, frames in longest.items()}
        numbers = _size(end + 1 - start) * sum(padded[modality.name] * modality.width for modality in modalities)
        if end - start == ROWS[-1] or (end > start and numbers > MOST_NUMBERS):
            yield slice(start, end)
            start, padded = end, {name: _frames(item.get(name), max_frames) for name in longest}
        longest = padded
    if rows:
        yield slice(start, len(rows))


def _size(num_rows: int) -> int:
    """Rows of the smallest batch that holds `num_rows`; of more than the largest one, those of the largest."""
    return next((number for number in ROWS if number >= num_rows), ROWS[-1])


def _frames(values: np.ndarray | None, max_frames: int | None) -> int:
    """Padded frames of one utterance; 1 for a vector or an absent modality."""
    return 1 if values is None or values.ndim == 1 else num_frames(len(values), max_frames)


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
    size = _size(len(rows))
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
