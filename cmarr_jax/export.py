"""Exports a unit: a program (StableHLO) for any batch and any number of frames, and its parameters."""

import shutil
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from cmarr_jax import exported
from cmarr_jax.calibration import Calibration
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.normalizer import normalize
from cmarr_jax.methods import make_method
from cmarr_jax.predict import LoadedUnit
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.types import Array, Batch

PLATFORMS = ("cpu", "cuda", "tpu")
LOADER = "load.py"


def export_unit(unit: LoadedUnit, folder: Path) -> None:
    """Writes program, parameters, configuration and loader into an existing folder.

    Args:
      unit: From `cmarr_jax.predict.load_unit`.
      folder: Files of these names are replaced.

    Raises:
      ImportError: if the packages safetensors or flatbuffers are missing.
      cmarr_jax.data.corpus.ArchiveError: if the unit is a regression.
    """
    from safetensors.numpy import save_file

    params = flat_params(unit)
    config = describe(unit)
    program = jax.export.export(jax.jit(make_program(unit)), platforms=PLATFORMS)(*exported.specs(config, params))
    config |= {
        "module_kept_var_idx": list(program.module_kept_var_idx),
        "calling_convention_version": program.calling_convention_version,
    }
    text = to_json(config, indent=1) + "\n"
    (folder / exported.MODEL).write_bytes(program.serialize())
    (folder / exported.MODULE).write_bytes(program.mlir_module_serialized)
    save_file(params, folder / exported.PARAMS)
    (folder / exported.CONFIG).write_text(text)
    shutil.copy(exported.__file__, folder / LOADER)


def calibration_of(unit: LoadedUnit) -> Calibration:
    """The unit's calibration; an `ArchiveError` if it is a regression, which has none and cannot be exported."""
    if unit.calibration is None:
        text = "is a regression, and exports are for classes; use cmarr_jax.predict or experiments.predict"
        raise ArchiveError(f"{unit.folder}: {text}")
    return unit.calibration


def flat_params(unit: LoadedUnit) -> dict[str, np.ndarray]:
    """Parameters, statistics of the normaliser and temperature, by names like `params/encoders/...`.

    Raises:
      cmarr_jax.data.corpus.ArchiveError: if the unit is a regression.
    """
    tree = {
        "params": unit.params,
        "normalizer": unit.normalizer._asdict(),
        "temperature": np.float32(calibration_of(unit).temperature),
    }
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")
    return {name(path): np.array(leaf, order="C") for path, leaf in leaves}


def describe(unit: LoadedUnit) -> dict[str, Any]:
    """What a user of the export has to know, for JSON."""
    return {
        "modalities": [vars(modality) for modality in unit.config.encoders.modalities],
        "class_names": list(unit.input.class_names),
        "max_frames": unit.input.max_frames,
        "platforms": list(PLATFORMS),
        "jax": jax.__version__,
        "run": unit.config.to_dict(),
    }


def make_program(unit: LoadedUnit):
    """`(params by name, features, length, present [B, M]) -> {"logits", "probabilities"}`, `[B, K]` each.

    Features are padded and not standardised. Of a sequence longer than `max_frames`, the caller makes a shorter one.
    """
    method, modalities = make_method(unit.config), unit.config.encoders.modalities
    like = jax.tree.structure({"params": unit.params, "normalizer": unit.normalizer._asdict(), "temperature": 0.0})
    names = list(flat_params(unit))
    kind = type(unit.normalizer)

    def program(
        params: Mapping[str, Array], features: Mapping[str, Array], length: dict[str, Array], present: Array
    ) -> dict[str, Array]:
        tree = jax.tree.unflatten(like, [params[name] for name in names])
        ordered: dict[str, Array] = OrderedDict((modality.name, features[modality.name]) for modality in modalities)
        size = present.shape[0]
        batch = Batch(ordered, length, present, jnp.zeros((size,), jnp.int32), jnp.ones((size,), bool))
        embedding = method.encode(tree["params"], normalize(kind(**tree["normalizer"]), batch))
        logits = method.predict(tree["params"], embedding, present)
        return {"logits": logits, "probabilities": jax.nn.softmax(logits / tree["temperature"], axis=-1)}

    return program
