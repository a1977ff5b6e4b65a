"""A finished run on disk: parameters and normaliser (Orbax), outputs (npz), configuration and scores (JSON).

The only module that imports Orbax.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint
from orbax.checkpoint import v1 as ocp

from cmarr_jax.config import REGRESSION_TASK, RunConfig
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.json_object import is_kind, read_object, shown
from cmarr_jax.data.normalizer import Normalizer, identity_normalizer
from cmarr_jax.methods import UnknownMethodError, make_method, with_all_defaults
from cmarr_jax.methods.base import Params
from cmarr_jax.training.disk import named_disk_errors, whole_folder
from cmarr_jax.training.state_file import is_key, storable
from cmarr_jax.types import Array

PARAMS, LAST_GOOD, OUTPUTS, RECORD = "params", "last_good", "outputs.npz", "run.json"
FORMAT = 1  # of a saved run; a later one may hold what this version does not know
OWN = ("format", "sha256")  # what `save_run` adds to the record
KEPT = 2  # checkpoints of a running training: the newest one, and one to go back to if that is damaged
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
    *,
    name: str = PARAMS,
) -> None:
    """Writes a finished run into a new folder, which appears complete or not at all.

    It is written beside and then renamed. Of several processes, one calls it. What is not finite becomes null in the
    record.

    Args:
      folder: New.
      config: Of the run; all options and weights are written, those with their default, too.
      params: Of the chosen epoch.
      normalizer: Of the run.
      record: What else is to be known of it.
      arrays: Files of arrays to write beside it, by file name.
      name: Of the parameters: `LAST_GOOD` for a run that diverged, whose `params` are those of `RunResult.params`.

    Raises:
      FileExistsError: if the folder exists.
      DiskError: if the disk is full or the folder cannot be written; nothing of the run is left then.
      ValueError: if a parameter is not finite: such a run is no result.
    """
    tree = jax.tree.map(np.asarray, {"params": params, "normalizer": normalizer})  # Orbax refuses numpy scalars
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(tree)):
        raise ValueError(f"{folder}: a parameter or the normaliser is not finite; a diverged run is not saved")
    with whole_folder(folder) as partial:
        with _lone_checkpointer() as checkpointer:
            checkpointer.save((partial / name).absolute(), args=orbax.checkpoint.args.StandardSave(tree))
        _write_arrays(partial, arrays)
        own = {"format": FORMAT, "sha256": digest(tree)}
        values = {"config": with_all_defaults(config).to_dict(), **record, **own}
        (partial / RECORD).write_text(to_json(values, indent=1) + "\n")


def save_record(folder: Path, record: dict[str, Any], arrays: Arrays | None = None) -> None:
    """Writes the record of a run without parameters, such as a diverged one, and files of arrays; as `save_run`."""
    with whole_folder(folder) as partial:
        _write_arrays(partial, arrays)
        (partial / RECORD).write_text(to_json(record, indent=1) + "\n")


def _write_arrays(folder: Path, arrays: Arrays | None) -> None:
    for name, values in (arrays or {}).items():
        np.savez(folder / name, **values)  # type: ignore[arg-type]


def to_json(value: Any, **options: Any) -> str:
    """Standard JSON: arrays become lists, and numbers that are not finite become null."""
    return json.dumps(_plain(value), allow_nan=False, **options)


def load_run(folder: Path, name: str = PARAMS) -> SavedRun:
    """Reads what `save_run` wrote.

    Args:
      folder: Of the run.
      name: As in `save_run`.

    Raises:
      FileNotFoundError: if the folder holds no finished run, or its run has no such parameters.
      ValueError: if it is damaged, of a newer version, or something else.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no finished run: {RECORD} is missing; give the folder of one fold and seed"
        )
    config, record = read_record(path)
    like = state_like(path, config)
    found = {key: record.pop(key, None) for key in OWN}
    if not (folder / name).is_dir():
        raise FileNotFoundError(
            f"{folder} has no {name}: the run {record.get('status', 'has no known end')}; give the folder of another"
        )
    again = "delete this folder and repeat the command that trained it"
    try:
        tree = ocp.load((folder / name).absolute(), like)
    except Exception as error:  # Orbax raises errors of many types
        raise ValueError(f"{folder / name} is damaged ({_first_line(error)}); {again}") from error
    if found["sha256"] is not None and digest(tree) != found["sha256"]:
        raise ValueError(f"{folder / name} is damaged (its SHA-256 is not the one in {RECORD}); {again}")
    return SavedRun(config, tree["params"], tree["normalizer"], record)


def read_record(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """The configuration of a saved run and the rest of its record.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it is damaged, of a newer version, or something else.
    """
    record = read_object(path, "delete its folder and train this run again")
    if not isinstance(record.get("config"), dict) or "method" not in record["config"]:
        raise ValueError(f"{path} is not the record of a trained model of cmarr_jax; give the folder of one")
    check_format(path, record)
    config = record.pop("config")
    if str(config["method"]).startswith("classical_"):  # rows of experiments.classical
        raise ValueError(
            f"{path} is of {config['method']!r}, which has no network, as models of scikit-learn have none"
        )
    try:
        if isinstance(config.get("options"), dict):
            config["options"] = _options_of_today(config["method"], config["options"])
        return RunConfig.from_dict(config), record
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path}: this version cannot read its configuration ({error}); use the one that wrote it"
        ) from error


def _options_of_today(method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a saved run, where an earlier version wrote them in another way."""
    options = dict(options)
    if method == "cm_arr":
        options.setdefault("head", "residual")  # what the models have that were saved before this option
    if method in ("cm_arr", "dicmor") and "flow_log_scale_bound" in options:
        # the bound of one coupling; now it is that of all that change a half
        options["flow_total_log_scale"] = options.pop("flow_log_scale_bound") * options["flow_layers"] / 2
    return options


def check_format(path: Path, record: Mapping[str, Any]) -> None:
    """Raises ValueError if a record was written by a newer version than this one, or does not say by which."""
    if not is_kind(record.get("format") or 0, int):
        raise ValueError(f"{path} is damaged (its format is {shown(record['format'])}); copy or train it again")
    if (record.get("format") or 0) > FORMAT:
        raise ValueError(
            f"{path} was written by a newer version of cmarr_jax (format {shown(record['format'])}, this one reads "
            f"{FORMAT}); "
            "install that version"
        )


def state_like(path: Path, config: RunConfig) -> dict[str, Any]:
    """`abstract_state` of a configuration that was read from `path`. Raises ValueError if it makes no network."""
    try:
        return abstract_state(config)
    except UnknownMethodError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # a value of a wrong type or size makes JAX and Flax raise many types
        raise ValueError(
            f"{path}: its configuration makes no network ({_first_line(error)}); use the version that wrote it, or "
            "train this run again"
        ) from error


def digest(tree: Any) -> str:
    """SHA-256 of the arrays of a tree, with their dtypes and shapes."""
    found = hashlib.sha256()
    for leaf in map(storable, jax.tree.leaves(tree)):
        found.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        found.update(np.ascontiguousarray(leaf).data)
    return found.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def save_progress(folder: Path, step: int, tree: Any, record: dict[str, Any]) -> None:
    """Writes a running training into `folder/STEP` and keeps the one before; every process must call it.

    Args:
      folder: Where the checkpoints of this training are.
      step: Steps done.
      tree: Arrays, typed PRNG keys among them.
      record: What JSON can hold, such as the position of the input.

    Raises:
      DiskError: if the disk is full or the folder cannot be written; the checkpoint before is still there.
    """
    with named_disk_errors(folder / str(step)), _checkpointer(folder) as checkpointer:
        arrays = jax.tree.map(storable, tree)
        record = record | {"format": FORMAT, "sha256": digest(arrays)}
        checkpointer.save(step, arrays, custom_metadata=record, force=True, overwrite=True)


def load_progress(folder: Path, like: Any, log: Callable[[str], None] = print) -> tuple[int, Any, dict[str, Any]]:
    """Reads the newest of what `save_progress` wrote that is not damaged: step, tree and record.

    Args:
      folder: As in `save_progress`.
      like: A tree of the same structure, shapes and dtypes.
      log: Called with one sentence for each checkpoint that cannot be read.

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if none can be read.
    """
    steps: list[int] = []
    if folder.is_dir():
        with _readable_checkpointer(folder) as checkpointer:
            steps = sorted((checkpoint.step for checkpoint in checkpointer.checkpoints), reverse=True)
            for step in steps:
                try:
                    return step, *_load_step(checkpointer, step, like)
                except _OtherFormat as error:
                    log(f"{folder / str(step)} {error}; the checkpoint before it is tried.")
                except Exception as error:  # Orbax raises errors of many types
                    log(f"{folder / str(step)} is damaged ({_first_line(error)}); the checkpoint before it is tried.")
    if not steps:
        raise FileNotFoundError(f"{folder} holds no checkpoint to go on from; start without --resume in another folder")
    raise ValueError(f"{folder}: no checkpoint can be read; start anew without --resume in another folder")


class _OtherFormat(ValueError):
    """A checkpoint that another version, or another program, wrote."""


def _readable_checkpointer(folder: Path) -> Any:
    """Raises ValueError if the metadata of any checkpoint is damaged: Orbax then reads and writes none."""
    try:
        return _checkpointer(folder)
    except Exception as error:  # Orbax raises errors of many types
        raise ValueError(
            f"{folder}: the metadata of a checkpoint is damaged ({_first_line(error)}); delete the damaged one, most "
            "likely the newest, which has the largest number, and go on from the one before"
        ) from error


def _load_step(checkpointer: Any, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    record = dict(checkpointer.metadata(step).custom_metadata or {})
    if (found := record.pop("format", None)) != FORMAT:
        raise _OtherFormat(f"is of format {found}, where {FORMAT} is read: another version or program wrote it")
    stored = checkpointer.load(step, jax.tree.map(lambda x: _abstract(storable(x)), like))
    if digest(stored) != record.pop("sha256"):
        raise ValueError("its SHA-256 is another one")
    return jax.tree.map(lambda x, old: jax.random.wrap_key_data(x) if is_key(old) else x, stored, like), record


def _checkpointer(folder: Path) -> Any:
    policy = ocp.training.preservation_policies.LatestN(KEPT)
    return ocp.training.Checkpointer(folder.absolute(), preservation_policy=policy)


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)


def abstract_state(config: RunConfig) -> dict[str, Any]:
    """Shapes and dtypes of what `save_run` stores; Orbax needs them to give tuples back as tuples."""
    method = make_method(config)
    modalities = config.encoders.modalities

    def state(key: Array) -> dict[str, Any]:
        params = method.init(key, example_batch(modalities))
        regression = config.task == REGRESSION_TASK
        return {"params": params, "normalizer": identity_normalizer(modalities, target=regression)}

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
