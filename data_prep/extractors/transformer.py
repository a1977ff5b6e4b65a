"""Loads a `transformers` model from a local folder, never from the network, and says what does not fit."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.extractors.base import need, need_file, one_line

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
HASHED = (".safetensors", ".bin", ".json", ".txt", ".model")

# Parts of a tensor's name. Hidden states do not depend on these, so they may be missing:
UNUSED = {"pooler", "position_ids", "masked_spec_embed"}
# and these are heads of pretraining and of other tasks, which the weights may have beside the encoder.
HEADS = {
    "cls", "classifier", "pre_classifier", "sop_classifier", "score", "qa_outputs", "seq_relationship", "predictions",
    "lm_head", "lm_loss", "lm_predictions", "mask_predictions", "discriminator_predictions", "generator_predictions",
    "generator_lm_head", "vocab_transform", "vocab_layer_norm", "vocab_projector",
    "quantizer", "project_q", "project_hid", "projector", "final_proj", "label_embs_concat", "layer_weights",
}  # fmt: skip


def check_folder(folder: Path, what: str) -> None:
    """Raises FileNotFoundError unless the folder holds a configuration and weights, ImportError without libraries."""
    need("transformers", "extract-torch")
    need("torch", "extract-torch")
    need_file(folder, what)
    snapshots = folder / "snapshots"
    if snapshots.is_dir() and not (folder / "config.json").is_file():
        inner = min(snapshots.iterdir(), default=snapshots / "HASH")
        raise FileNotFoundError(f"{what}: {folder} is a folder of the hub's cache; give the folder in it, {inner}")
    need_file(folder / "config.json", what)
    if not any((folder / name).is_file() for name in WEIGHTS):
        need_file(folder / WEIGHTS[0], what)


def folder_files(folder: Path) -> tuple[Path, ...]:
    """Weights, configuration and vocabulary, in the order of their names."""
    return tuple(sorted(path for path in folder.iterdir() if path.suffix in HASHED and path.is_file()))


def load_part(kind: str, folder: Path, needs: str) -> Any:
    """A tokenizer, feature extractor or configuration: `transformers.KIND` from the folder.

    Raises:
      ValueError: if it cannot be loaded; the sentence names the files that it needs.
    """
    transformers = need("transformers", "extract-torch")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library and its readers raise many types, of many lines
        kind = kind.removeprefix("Auto")
        text = f"its {kind} cannot be loaded; copy {needs} of the same model into it ({one_line(error)})"
        raise ValueError(f"{folder}: {text}") from error


def load_model(folder: Path, reads: str) -> Any:
    """The encoder in float32, on the CPU, on one core (`run` works on many utterances at once).

    Args:
      folder: As `save_pretrained` writes it.
      reads: Main input of the model: `input_ids` of a text encoder, `input_values` of a speech encoder.

    Raises:
      ValueError: if the weights are damaged or are not those of the model that config.json describes.
    """
    torch, transformers = need("torch", "extract-torch"), need("transformers", "extract-torch")
    torch.set_num_threads(1)
    kind = load_part("AutoConfig", folder, "config.json").model_type
    try:
        model, info = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # truncated or foreign bytes raise types of safetensors, pickle and torch
        text = f"its weights cannot be loaded ({one_line(error)}); copy the folder again"
        raise ValueError(f"{folder}: {text}") from error
    pair = getattr(model.config, "is_encoder_decoder", False)
    if model.main_input_name != reads or pair or not hasattr(model.config, "hidden_size"):
        found = "encoder and decoder" if pair else f"its main input is {model.main_input_name}"
        text = f"holds a model of type {kind!r} ({found}); give the folder of a single encoder that reads {reads}"
        raise ValueError(f"{folder}: {text}")
    check_tensors(folder, info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"])
    return model.eval()


def check_tensors(
    folder: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[tuple[str, Any, Any]]
) -> None:
    """Compares the tensors of the weights with those of the model; `transformers` fills missing ones by chance.

    Args:
      folder: For the message.
      missing: Names that the model has and the weights have not.
      unexpected: Names that the weights have and the model has not.
      mismatched: Names, shapes in the weights, and shapes in the model.

    Raises:
      ValueError: if one is left that is not known to be harmless.
    """
    for name, found, wanted in mismatched:
        shapes = f"has shape {list(found)} in the weights where config.json gives {list(wanted)}"
        raise ValueError(f"{folder}: tensor {name!r} {shapes}; copy config.json and weights of the same model")
    lost = sorted(name for name in missing if not UNUSED & set(name.split(".")))
    other = sorted(name for name in unexpected if not (UNUSED | HEADS) & set(name.split(".")))
    if lost:
        text = f"{len(lost)} tensors of the model are not in the weights, {lost[0]!r} first"
        for name in other:
            if name.endswith(f".{lost[0]}"):
                prefix = name.removesuffix(lost[0])
                text += f", which is named {name!r} there; save it again without the prefix {prefix!r}"
                raise ValueError(f"{folder}: {text}")
        raise ValueError(f"{folder}: {text}; copy config.json and weights of the same model")
    if other:
        text = (
            f"{len(other)} tensors of the weights are not in the model that config.json describes, {other[0]!r} first"
        )
        do = "copy both of the same model, or save the encoder alone by save_pretrained"
        raise ValueError(f"{folder}: {text}; {do}")


def check_layer(folder: Path, layer: int, run: Callable[[], Any]) -> None:
    """Tries the model once.

    Args:
      folder: For the message.
      layer: The wanted index into the hidden states.
      run: Gives the hidden states for something small.

    Raises:
      ValueError: if the model fails, has no such layer, or gives values that are not finite.
    """
    try:
        states = run()
        count = len(states)
    except Exception as error:  # any model of the user
        text = f"the model fails on a first trial ({one_line(error)}); copy the folder again"
        raise ValueError(f"{folder}: {text}") from error
    if not isinstance(layer, int) or not -count <= layer < count:
        text = f"the model has hidden states 0 to {count - 1} (or -{count} to -1), found layer={layer!r}"
        raise ValueError(f"{folder}: {text}")
    if not np.isfinite(states[layer].numpy()).all():
        raise ValueError(f"{folder}: the model gives values that are not finite; copy the folder again")
