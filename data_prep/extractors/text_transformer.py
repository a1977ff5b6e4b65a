"""Text features: a hidden layer of a local `transformers` encoder, one vector per word piece of the transcript."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, need
from data_prep.extractors.transformer import check_folder, folder_files, load_model
from data_prep.media import Media


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
        return need("transformers", "extract-torch").AutoTokenizer.from_pretrained(self.weights, local_files_only=True)

    @functools.cached_property
    def _model(self) -> Any:
        return load_model(self.weights)

    @functools.cached_property
    def width(self) -> int:
        """D."""
        config = need("transformers", "extract-torch").AutoConfig.from_pretrained(self.weights, local_files_only=True)
        return config.hidden_size

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = word pieces, at most `max_pieces`."""
        if not (media.text or "").strip():
            raise MediaError("there is no transcript")
        limit = min(self._tokenizer.model_max_length, getattr(self._model.config, "max_position_embeddings", 512))
        tokens = self._tokenizer(
            media.text, return_tensors="pt", return_special_tokens_mask=True, truncation=True, max_length=limit
        )
        pieces = ~tokens.pop("special_tokens_mask")[0].numpy().astype(bool)
        if not pieces.any():
            raise MediaError("the transcript holds no word piece that the tokenizer knows")
        with need("torch", "extract-torch").inference_mode():
            states = self._model(**tokens, output_hidden_states=True).hidden_states
        return states[self.layer][0].numpy()[pieces][: self.max_pieces]
