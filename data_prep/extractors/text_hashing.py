"""Text features without weights: letter groups of each word, hashed."""

import dataclasses
import functools
import re
from typing import Any, ClassVar

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, need
from data_prep.media import Media

WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")  # don't and well-known are one word each


@dataclasses.dataclass(frozen=True)
class TextHashing(Extractor):
    """One vector per word, made of its letters alone: words that share letter groups have similar vectors.

    A word in lower case, with a space on either side, is cut into all groups of 2 to 4 characters. scikit-learn's
    `HashingVectorizer` adds 1 or -1 for each group to the number that the group's hash (MurmurHash3) points to; then
    the vector is scaled to length 1.

    Attributes:
      dims: D.
      max_words: Words that are kept.
    """

    name: ClassVar[str] = "text_hashing"
    modality: ClassVar[Modality] = "text"
    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn",)
    dims: int = 256
    max_words: int = 64

    def __post_init__(self) -> None:
        need("sklearn", "experiments")
        if self.dims < 1 or self.max_words < 1:
            raise ValueError(f"dims and max_words must be 1 or more, found {self.dims} and {self.max_words}")

    @property
    def width(self) -> int:
        """D."""
        return self.dims

    @functools.cached_property
    def _vectorizer(self) -> Any:
        text = need("sklearn.feature_extraction.text", "experiments")
        return text.HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), n_features=self.dims)

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = words, at most `max_words`."""
        if not (media.text or "").strip():
            raise MediaError("there is no transcript")
        words = WORD.findall(media.text or "")[: self.max_words]
        if not words:
            raise MediaError("the transcript holds no word")
        return self._vectorizer.transform(words).toarray()
