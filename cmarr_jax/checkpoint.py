"""A finished run on disk: parameters and normaliser (Orbax), configuration and scores (JSON).

The only module that imports Orbax.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
from orbax.checkpoint import v1 as ocp

from cmarr_jax.config import ModelConfig, RunConfig
from cmarr_jax.input import Normalizer
from cmarr_jax.method import Params
from cmarr_jax.objectives import make_method
from cmarr_jax.types import Array, Batch

PARAMS, RECORD = "params", "run.json"


class SavedRun(NamedTuple):
    """A run that was read back: `record` is what was given to `save_run`."""

    config: RunConfig
    params: Params
    normalizer: Normalizer
    record: dict[str, Any]


def save_run(folder: Path, config: RunConfig, params: Params, normalizer: Normalizer, record: dict[str, Any]) -> None:
    """Writes a finished run into a new folder. The record is written last: a folder without it is unfinished.

    Of several processes, one calls it.

    Raises:
      FileExistsError: if the folder exists.
    """
    folder.mkdir(parents=True)
    tree = jax.tree.map(np.asarray, {"params": params, "normalizer": normalizer})  # Orbax refuses numpy scalars
    with _lone_checkpointer() as checkpointer:
        checkpointer.save((folder / PARAMS).absolute(), args=orbax.checkpoint.args.StandardSave(tree))
    text = json.dumps({"config": config.to_dict(), **record}, indent=1, default=_to_json)
    partial = folder / f"{RECORD}.partial"
    partial.write_text(text + "\n")
    partial.rename(folder / RECORD)


def load_run(folder: Path) -> SavedRun:
    """Reads what `save_run` wrote.

    Raises:
      FileNotFoundError: if the folder holds no finished run.
    """
    if not (folder / RECORD).is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run: {RECORD} is missing; give the folder of one fold and seed"
        )
    record = json.loads((folder / RECORD).read_text())
    config = RunConfig.from_dict(record.pop("config"))
    tree = ocp.load((folder / PARAMS).absolute(), abstract_state(config))
    return SavedRun(config, tree["params"], tree["normalizer"], record)


def save_progress(folder: Path, step: int, tree: Any, record: dict[str, Any]) -> None:
    """Writes a running training into `folder/STEP` and then deletes the one before; every process must call it.

    Args:
      folder: Where the checkpoints of this training are.
      step: Steps done.
      tree: Arrays; no typed keys (`jax.random.key_data`).
      record: What JSON can hold, such as the position of the input.
    """
    with _checkpointer(folder) as checkpointer:
        arrays = jax.tree.map(np.asarray, tree)  # Orbax refuses numpy scalars
        checkpointer.save(step, arrays, custom_metadata=record, force=True, overwrite=True)


def load_progress(folder: Path, like: Any) -> tuple[int, Any, dict[str, Any]]:
    """Reads the newest of what `save_progress` wrote: step, tree and record.

    Args:
      folder: As in `save_progress`.
      like: A tree of the same structure, shapes and dtypes.

    Raises:
      FileNotFoundError: if there is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} holds no checkpoint to go on from; start without --resume")
    with _checkpointer(folder) as checkpointer:
        if checkpointer.latest is None:
            raise FileNotFoundError(f"{folder} holds no checkpoint to go on from; start without --resume")
        step = checkpointer.latest.step
        tree = checkpointer.load(step, jax.tree.map(_abstract, like))
        record = dict(checkpointer.metadata(step).custom_metadata)
    return step, tree, record


def _checkpointer(folder: Path) -> Any:
    return ocp.training.Checkpointer(
        folder.absolute(), preservation_policy=ocp.training.preservation_policies.LatestN(1)
    )


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)


def abstract_state(config: RunConfig) -> dict[str, Any]:
    """Shapes and dtypes of what `save_run` stores; Orbax needs them to give tuples back as tuples."""
    method = make_method(config.method, config.model, config.train)
    widths = {modality.name: modality.width for modality in config.model.modalities}

    def state(key: Array) -> dict[str, Any]:
        zeros = {name: jnp.zeros(width) for name, width in widths.items()}
        return {"params": method.init(key, example_batch(config.model)), "normalizer": Normalizer(zeros, zeros)}

    return jax.tree.map(_abstract, jax.eval_shape(state, jax.random.key(0)))


def example_batch(config: ModelConfig, size: int = 2, num_frames: int = 8) -> Batch:
    """A batch of zeros with the shapes that a model takes."""
    features, length = {}, {}
    for modality in config.modalities:
        frames = () if modality.encoder == "vector" else (num_frames,)
        features[modality.name] = jnp.zeros((size, *frames, modality.width))
        if frames:
            length[modality.name] = jnp.full((size,), num_frames, jnp.int32)
    present = jnp.ones((size, config.num_modalities), bool)
    return Batch(features, length, present, jnp.zeros((size,), jnp.int32), jnp.ones((size,), bool))


def _lone_checkpointer() -> orbax.checkpoint.Checkpointer:
    """Saves from this process alone. Orbax's v1 `save` waits for all processes, whatever its options say (0.12.8)."""
    own = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    handler = orbax.checkpoint.StandardCheckpointHandler(multiprocessing_options=alone)
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=alone)


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return np.asarray(value).tolist()
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")
