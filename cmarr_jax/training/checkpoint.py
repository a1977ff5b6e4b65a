"""A finished run on disk: parameters and normaliser (Orbax), outputs (npz), configuration and scores (JSON).

The only module that imports Orbax.
"""

import contextlib
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint
from orbax.checkpoint import v1 as ocp

from cmarr_jax.config import RunConfig
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.normalizer import Normalizer, identity_normalizer
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Params
from cmarr_jax.types import Array

PARAMS, OUTPUTS, RECORD, PARTIAL = "params", "outputs.npz", "run.json", ".partial"
Arrays = Mapping[str, Mapping[str, np.ndarray]]


class SavedRun(NamedTuple):
    """A run that was read back: `record` is what was given to `save_run`."""

    config: RunConfig
    params: Params
    normalizer: Normalizer
    record: dict[str, Any]


def save_run(
    folder: Path,
    config: RunConfig,
    params: Params,
    normalizer: Normalizer,
    record: dict[str, Any],
    arrays: Arrays | None = None,
) -> None:
    """Writes a finished run into a new folder, which appears complete or not at all.

    It is written beside and then renamed. Of several processes, one calls it. What is not finite becomes null in the
    record.

    Args:
      folder: New.
      config: Of the run.
      params: Of the chosen epoch.
      normalizer: Of the run.
      record: What else is to be known of it.
      arrays: Files of arrays to write beside it, by file name.

    Raises:
      FileExistsError: if the folder exists.
      ValueError: if a parameter is not finite: such a run is no result.
    """
    tree = jax.tree.map(np.asarray, {"params": params, "normalizer": normalizer})  # Orbax refuses numpy scalars
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(tree)):
        raise ValueError(f"{folder}: a parameter or the normaliser is not finite; a diverged run is not saved")
    with _complete_or_not_at_all(folder) as partial:
        with _lone_checkpointer() as checkpointer:
            checkpointer.save((partial / PARAMS).absolute(), args=orbax.checkpoint.args.StandardSave(tree))
        _write_arrays(partial, arrays)
        (partial / RECORD).write_text(to_json({"config": config.to_dict(), **record}, indent=1) + "\n")


def save_record(folder: Path, record: dict[str, Any], arrays: Arrays | None = None) -> None:
    """Writes the record of a run without parameters, such as a diverged one, and files of arrays; as `save_run`."""
    with _complete_or_not_at_all(folder) as partial:
        _write_arrays(partial, arrays)
        (partial / RECORD).write_text(to_json(record, indent=1) + "\n")


def _write_arrays(folder: Path, arrays: Arrays | None) -> None:
    for name, values in (arrays or {}).items():
        np.savez(folder / name, **values)  # type: ignore[arg-type]


def delete_partial(folder: Path) -> None:
    """Deletes what killed processes left half-written in a folder of runs. Nobody may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _complete_or_not_at_all(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name at the end."""
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name another folder, or delete it")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(folder)


def to_json(value: Any, **options: Any) -> str:
    """Standard JSON: arrays become lists, and numbers that are not finite become null."""
    return json.dumps(_plain(value), allow_nan=False, **options)


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


def save_state(path: Path, tree: Any) -> None:
    """Writes arrays, typed PRNG keys among them, into one file, which is complete or not there at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    with partial.open("wb") as file:
        np.savez(file, *map(_storable, jax.tree.leaves(tree)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path, like: Any) -> Any | None:
    """Reads what `save_state` wrote; None if there is no file.

    Args:
      path: Of the file.
      like: A tree of the same structure, shapes and dtypes.

    Raises:
      ValueError: if the file is damaged or holds something else.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            stored = [file[f"arr_{number}"] for number in range(len(file.files))]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    leaves, tree = jax.tree.flatten(like)
    form = lambda x: (np.shape(x), x.dtype)
    if [form(x) for x in stored] != [form(_storable(x)) for x in leaves]:
        raise ValueError(f"{path} holds the state of another run")
    restored = [jax.random.wrap_key_data(x) if _is_key(old) else x for x, old in zip(stored, leaves, strict=True)]
    return jax.tree.unflatten(tree, restored)


def save_progress(folder: Path, step: int, tree: Any, record: dict[str, Any]) -> None:
    """Writes a running training into `folder/STEP` and then deletes the one before; every process must call it.

    Args:
      folder: Where the checkpoints of this training are.
      step: Steps done.
      tree: Arrays, typed PRNG keys among them.
      record: What JSON can hold, such as the position of the input.
    """
    with _checkpointer(folder) as checkpointer:
        arrays = jax.tree.map(_storable, tree)
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
        stored = checkpointer.load(step, jax.tree.map(lambda x: _abstract(_storable(x)), like))
        tree = jax.tree.map(lambda x, old: jax.random.wrap_key_data(x) if _is_key(old) else x, stored, like)
        record = dict(checkpointer.metadata(step).custom_metadata)
    return step, tree, record


def _checkpointer(folder: Path) -> Any:
    return ocp.training.Checkpointer(
        folder.absolute(), preservation_policy=ocp.training.preservation_policies.LatestN(1)
    )


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _storable(x: Any) -> np.ndarray:
    """An array that Orbax takes: no numpy scalar, no typed key."""
    return np.asarray(jax.random.key_data(x) if _is_key(x) else x)


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)


def abstract_state(config: RunConfig) -> dict[str, Any]:
    """Shapes and dtypes of what `save_run` stores; Orbax needs them to give tuples back as tuples."""
    method = make_method(config)
    modalities = config.encoders.modalities

    def state(key: Array) -> dict[str, Any]:
        params = method.init(key, example_batch(modalities))
        return {"params": params, "normalizer": identity_normalizer(modalities)}

    return jax.tree.map(_abstract, jax.eval_shape(state, jax.random.key(0)))


def _lone_checkpointer() -> orbax.checkpoint.Checkpointer:
    """Saves from this process alone. Orbax's v1 `save` waits for all processes, whatever its options say (0.12.8)."""
    own = jax.process_index()
    alone = orbax.checkpoint.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    handler = orbax.checkpoint.StandardCheckpointHandler(multiprocessing_options=alone)
    return orbax.checkpoint.Checkpointer(handler, multiprocessing_options=alone)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
