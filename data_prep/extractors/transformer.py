"""Loads a `transformers` model from a local folder, never from the network."""

from pathlib import Path
from typing import Any

from data_prep.extractors.base import need, need_file

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
HASHED = (".safetensors", ".bin", ".json", ".txt", ".model")


def check_folder(folder: Path, what: str) -> None:
    """Raises FileNotFoundError unless the folder holds a configuration and weights, ImportError without libraries."""
    need("transformers", "extract-torch")
    need("torch", "extract-torch")
    need_file(folder, what)
    need_file(folder / "config.json", what)
    if not any((folder / name).is_file() for name in WEIGHTS):
        need_file(folder / WEIGHTS[0], what)


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Weights, configuration and vocabulary, in the order of their names."""
    return tuple(sorted(path for path in folder.iterdir() if path.suffix in HASHED and path.is_file()))


def load_model(folder: Path) -> Any:
    """The encoder in float32, on the CPU, on one core (`run` works on many utterances at once)."""
    torch, transformers = need("torch", "extract-torch"), need("transformers", "extract-torch")
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    return model.eval()
