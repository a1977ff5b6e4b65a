"""Audio features: a hidden layer of a local model of the wav2vec 2.0 family (wav2vec 2.0, HuBERT, WavLM)."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_prep.extractors.base import Extractor, MediaError, Modality, average_frames, need
from data_prep.extractors.sound import RATE, check_readers, read_sound
from data_prep.extractors.transformer import check_folder, check_layer, folder_files, load_model, load_part
from data_prep.media import Media

MIN_SAMPLES = 400  # receptive field of the family's convolutions, 25 ms


@dataclasses.dataclass(frozen=True)
class Wav2Vec2(Extractor):
    """A layer of the transformer, averaged over time.

    Attributes:
      weights: Folder as `save_pretrained` writes it, `preprocessor_config.json` included.
      layer: Index into the hidden states; -1 is the last layer.
      group: Frames that are averaged; the family gives 50 frames/s, so 5 gives 10 frames/s.
    """

    name: ClassVar[str] = "wav2vec2"
    modality: ClassVar[Modality] = "audio"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "torch", "soundfile", "scipy")
    weights: Path = Path("weights/wav2vec2-base")
    layer: int = -1
    group: int = 5

    def __post_init__(self) -> None:
        check_folder(self.weights, "speech encoder")
        check_readers()
        if self.group < 1:
            raise ValueError(f"group must be 1 or more, found {self.group}")

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Weights and configuration."""
        return folder_files(self.weights)

    @functools.cached_property
    def _prepare(self) -> Any:
        return load_part("AutoFeatureExtractor", self.weights, "preprocessor_config.json")

    @functools.cached_property
    def _model(self) -> Any:
        return load_model(self.weights, "input_values")

    @functools.cached_property
    def width(self) -> int:
        """D."""
        return self._model.config.hidden_size

    def check(self) -> None:
        """Loads model and feature extractor, and runs both on a second of noise. Raises ValueError."""
        _ = self._model, self._prepare
        noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
        check_layer(self.weights, self.layer, lambda: self._hear(noise))

    def _hear(self, sound: np.ndarray) -> Any:
        """Hidden states, each `[1, N, D]`."""
        values = self._prepare(sound, sampling_rate=RATE, return_tensors="pt")["input_values"]
        with need("torch", "extract-torch").inference_mode():
            return self._model(values, output_hidden_states=True).hidden_states

    def extract(self, media: Media) -> np.ndarray:
        """`[T, D]`, T = model frames / group, rounded up."""
        sound = read_sound(media)
        if len(sound) < MIN_SAMPLES:
            raise MediaError(f"{media.audio or media.video}: is too short for the model ({len(sound) / RATE:.3f} s)")
        return average_frames(self._hear(sound)[self.layer][0].numpy(), self.group)
