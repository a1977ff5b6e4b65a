"""Text features: a hidden layer of a local `transformers` encoder, one vector per word piece of the transcript."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, need
from data_prep.extractors.transformer import check_folder, check_layer, folder_files, load_model, load_part
from data_prep.media import Media

KNOWN_WORDS = ("the", "happy")
TOKENIZER_FILES = "tokenizer.json and tokenizer_config.json (or vocab.txt, or vocab.json and merges.txt)"


@dataclasses.dataclass(frozen=True)
class TextTransformer(Extractor):
    """A layer of an encoder, one vector per word piece; special tokens are read and dropped.

    The encoder reads the whole utterance (up to its own limit); then the first `max_pieces` vectors are kept.

    Attributes:
      weights: Folder as `save_pretrained` writes it, tokenizer included.
      layer: Index into the hidden states; -1 is the last layer, 0 the embeddings.
      max_pieces: Vectors that are kept; 22 as in the MMIN family.
    """

    name: ClassVar[str] = "text_transformer"
    modality: ClassVar[Modality] = "text"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "tokenizers", "torch")
    weights: Path = Path("weights/bert-large-uncased")
    layer: int = -1
    max_pieces: int = 22

    def __post_init__(self) -> None:
        check_folder(self.weights, "text encoder")
        if self.max_pieces < 1:
            raise ValueError(f"max_pieces must be 1 or more, found {self.max_pieces}")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Weights, configuration and vocabulary."""
        return folder_files(self.weights)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        return load_part("AutoTokenizer", self.weights, TOKENIZER_FILES)

    @functools.cached_property
    def _model(self) -> Any:
        return load_model(self.weights, "input_ids")

    @functools.cached_property
    def width(self) -> int:
        """D."""
        return self._model.config.hidden_size

    def check(self) -> None:
        """Loads model and tokenizer, and reads the words that any English text encoder knows. Raises ValueError."""
        size = getattr(self._model.config, "vocab_size", len(self._tokenizer))
        for word in KNOWN_WORDS:
            pieces = self._tokenizer(word, add_special_tokens=False)["input_ids"]
            if not pieces or self._tokenizer.unk_token_id in pieces:
                text = (
                    f"the tokenizer does not know the word {word!r}; copy {TOKENIZER_FILES} of the same model into it"
                )
                raise ValueError(f"{self.weights}: {text}")
        if len(self._tokenizer) > size:
            text = f"the tokenizer has {len(self._tokenizer)} word pieces where the model has {size}"
            raise ValueError(f"{self.weights}: {text}; copy {TOKENIZER_FILES} of the same model into it")
        check_layer(self.weights, self.layer, lambda: self._read(" ".join(KNOWN_WORDS))[0])

    def _read(self, text: str) -> tuple[Any, np.ndarray]:
        """Hidden states, each `[1, N, D]`, and which of the N are no special tokens."""
        limit = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        tokens = self._tokenizer(
            text, return_tensors="pt", return_special_tokens_mask=True, truncation=True, max_length=limit
        )
        pieces = ~tokens.pop("special_tokens_mask")[0].numpy().astype(bool)
        if not pieces.any():
            raise MediaError("the transcript holds no word piece that the tokenizer knows")
        with need("torch", "extract-torch").inference_mode():
            return self._model(**tokens, output_hidden_states=True).hidden_states, pieces

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = word pieces, at most `max_pieces`."""
        if not (media.text or "").strip():
            raise MediaError("there is no transcript")
        states, pieces = self._read(media.text or "")
        return states[self.layer][0].numpy()[pieces][: self.max_pieces]
