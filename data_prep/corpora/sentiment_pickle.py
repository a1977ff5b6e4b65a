"""Reads the pickles in which CMU-MOSI and CMU-MOSEI are shared: those of MMSA and those of MulT.

Both hold `train`, `valid` and `test`, each a dict of `id`, `audio`, `vision` and `text`, `[N, T, D]`; frames of zeros
are padding.

| | MMSA (`aligned_50.pkl`, `unaligned_50.pkl`) | MulT (`mosi_data.pkl`, `mosei_senti_data_noalign.pkl`) |
|---|---|---|
| score | `regression_labels`, `[N]` | `labels`, `[N, 1, 1]` |
| `id` | `VIDEO$_$NUMBER` | text or bytes, `[N, 3]`: video, start, end |
| transcript | `raw_text` | none |
| real lengths | `audio_lengths`, `vision_lengths`; the mask `text_bert[:, 1]` | none; padding is in front |

Without lengths, frames of zeros at both ends are cut off. (MMSA's `unaligned_39.pkl` has the same form and holds
CH-SIMS, another corpus: its counts differ.)
"""

import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.corpora.segment import Segment
from data_prep.restricted_pickle import read_pickle

PARTS = {"train": "train", "valid": "val", "test": "test"}
KEYS = {"audio": "audio", "video": "vision", "text": "text"}


def read_segments(path: Path) -> Iterator[Segment]:
    """The utterances of a pickle.

    Raises:
      ArchiveError: if it cannot be read or does not have the form above.
    """
    data = read_pickle(path)
    missing = [part for part in PARTS if not isinstance(data, dict) or not isinstance(data.get(part), dict)]
    if missing:
        text = "train, valid and test are needed, as in the files of MMSA and MulT"
        raise ArchiveError(f"{path}: holds no dict {missing[0]!r}; {text}")
    for part in PARTS:
        yield from _Part(path, part, data[part]).segments()


class _Part:
    """One of `train`, `valid` and `test`."""

    def __init__(self, path: Path, part: str, data: Mapping[str, Any]) -> None:
        self.path, self.part, self.data = path, part, data
        self.size = len(self.sequence("id"))

    def fail(self, key: str, text: str) -> NoReturn:
        raise ArchiveError(f"{self.path}: part {self.part!r}, key {key!r} {text}; take another copy of the file")

    def sequence(self, key: str) -> Any:
        """A list, tuple or array with an entry per utterance."""
        value = self.data.get(key)
        if not isinstance(value, (list, tuple)) and not (isinstance(value, np.ndarray) and value.ndim):
            self.fail(key, "is missing or no list")
        if key != "id" and len(value) != self.size:
            self.fail(key, f"has {len(value)} entries where 'id' has {self.size}")
        return value

    def segments(self) -> Iterator[Segment]:
        ids = self.texts("id")
        scores = self.numbers("regression_labels" if "regression_labels" in self.data else "labels")
        texts = self.texts("raw_text") if "raw_text" in self.data else [[""]] * self.size
        arrays = {name: self.frames(key) for name, key in KEYS.items() if key in self.data}
        lengths = {name: self.lengths(name, array) for name, array in arrays.items()}
        if len(arrays) < 2:
            self.fail("audio", "or another of audio, vision and text is missing")
        for row, words in enumerate(ids):
            features = {}
            for name, array in arrays.items():
                length = lengths[name]
                features[name] = _without_padding(array[row]) if length is None else array[row][: length[row]]
            yield Segment(
                "_".join(words),
                _video(words[0]),
                PARTS[self.part],
                float(scores[row]),
                " ".join(texts[row]),
                features,
            )

    def frames(self, key: str) -> np.ndarray:
        array = self.data[key]
        if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "fiu":
            self.fail(key, "is no array [utterances, frames, numbers]")
        if len(array) != self.size:
            self.fail(key, f"has {len(array)} entries where 'id' has {self.size}")
        return array

    def texts(self, key: str) -> list[list[str]]:
        """Words per utterance: one, or the three of MulT's ids."""
        rows = [list(item) if isinstance(item, (list, tuple, np.ndarray)) else [item] for item in self.sequence(key)]
        if not all(
            row and isinstance(item, (str, bytes, int, float, np.number)) for row in rows for item in row or [0]
        ):
            self.fail(key, "holds something that is no text")
        return [
            [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in row] for row in rows
        ]

    def numbers(self, key: str) -> np.ndarray:
        """One number per utterance, `[N]`."""
        value = self.sequence(key)
        if isinstance(value, np.ndarray):
            if value.size != self.size:
                self.fail(key, f"has {value.size // max(self.size, 1)} numbers an utterance; one score is needed")
            value = value.ravel()
        if not all(_is_number(item) for item in value):
            self.fail(key, "holds something that is no number")
        return np.asarray(value, np.float64)

    def lengths(self, name: str, array: np.ndarray) -> np.ndarray | None:
        """Real lengths, `[N]`, if the file gives them."""
        key = f"{KEYS[name]}_lengths"
        if name == "text" and isinstance(mask := self.data.get("text_bert"), np.ndarray):
            fits = mask.ndim == 3 and mask.shape[1] == 3 and mask.shape[::2] == array.shape[:2]
            if fits and mask.dtype.kind in "biuf" and np.isin(mask[:, 1], (0, 1)).all():
                return mask[:, 1].sum(1).astype(np.int64)
            print(f"note: part {self.part!r}: text_bert {mask.shape} does not fit text {array.shape} and is not used")
        if key not in self.data:
            return None
        length = self.numbers(key).astype(np.int64)
        if (length < 0).any() or (length > array.shape[1]).any():
            self.fail(key, f"holds a length outside 0 to {array.shape[1]}")
        return length


def _is_number(item: Any) -> bool:
    """Whether this is a finite number that fits into a float."""
    if isinstance(item, int):
        return abs(item) <= sys.float_info.max
    return isinstance(item, (float, np.integer, np.floating)) and math.isfinite(item)


def _without_padding(frames: np.ndarray) -> np.ndarray:
    """`[T, D]` without frames of zeros at both ends."""
    used = np.flatnonzero((frames != 0).any(axis=1))
    return frames[used[0] : used[-1] + 1] if len(used) else frames[:0]


def _video(word: str) -> str:
    """The video of an id: `VIDEO$_$NUMBER` (MMSA) or `VIDEO[NUMBER]` (the SDK after alignment)."""
    return word.split("$_$")[0].split("[")[0]
