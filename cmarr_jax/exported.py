"""Loads an exported model and runs it; needs jax and numpy only. An export holds a copy of this file as `load.py`.

    from load import load
    model = load("EXPORT")
    answer = model({"audio": frames}, {"audio": lengths})  # logits and probabilities, `[B, K]` each

Features are not standardised; frames are `[B, T, D]`, vectors `[B, D]`. B and T are any, but no utterance has more
frames than `max_frames` in `config.json`, if that is a number.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

MODEL, MODULE, PARAMS, CONFIG = "model.jax_export", "model.stablehlo", "params.safetensors", "config.json"
LARGEST = 1e18  # of features, as in cmarr_jax.data.targets: their squares are float32, too
FLOATS = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_}


def load(folder: str | Path) -> Callable[..., dict[str, jax.Array]]:
    """`model(features, length, present) -> {"logits", "probabilities"}`, `[B, K]` each.

    A modality that is left out of `features`, or `None`, is missing for all; `present` `{name: [B] bool}` says which
    utterances have one that is there, by default all. `length` `{name: [B] int}` is the number of valid frames, by
    default all. `model` raises ValueError for arguments that it cannot use.

    Raises:
      FileNotFoundError: if a file of the export is missing.
      ValueError: if one is damaged.
    """
    folder = Path(folder)
    with _damage_named(folder / CONFIG):
        config = json.loads((folder / CONFIG).read_text())
        modalities, max_frames = config["modalities"], config["max_frames"]
        specs(config, {}), len(config["class_names"]), len(config["platforms"])  # what is read later
    params = {name: jnp.asarray(values) for name, values in read_safetensors(folder / PARAMS).items()}
    with _damage_named(folder / MODEL):
        call = jax.jit(_exported(folder, config, params).call)

    def model(
        features: Mapping[str, Any], length: Mapping[str, Any] | None = None, present: Mapping[str, Any] | None = None
    ) -> dict[str, jax.Array]:
        return call(params, *_arguments(modalities, max_frames, features, length or {}, present or {}))

    return model


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file: 8 bytes of header length, a JSON header, the bytes of the arrays.

    Raises:
      ValueError: if the file is damaged.
    """
    data, arrays = path.read_bytes(), {}
    with _damage_named(path):
        start = 8 + int.from_bytes(data[:8], "little")
        for name, entry in json.loads(data[8:start]).items():
            if name != "__metadata__":
                first, last = (start + offset for offset in entry["data_offsets"])
                arrays[name] = np.frombuffer(data[first:last], FLOATS[entry["dtype"]]).reshape(entry["shape"])
    return arrays


def specs(config: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Shapes of the arguments: parameters, features, lengths, presence; the batch `b` and the frames are symbols."""
    modalities, scope = config["modalities"], jax.export.SymbolicScope()
    axes = ["b", *(f"t{number}" for number in range(len(modalities)))]
    size, *frames = (jax.export.symbolic_shape(axis, scope=scope)[0] for axis in axes)
    features, length = {}, {}
    for number, modality in enumerate(modalities):
        is_sequence = modality["encoder"] != "vector"
        shape = (size, frames[number], modality["width"]) if is_sequence else (size, modality["width"])
        features[modality["name"]] = jax.ShapeDtypeStruct(shape, jnp.float32)
        if is_sequence:
            length[modality["name"]] = jax.ShapeDtypeStruct((size,), jnp.int32)
    present = jax.ShapeDtypeStruct((size, len(modalities)), jnp.bool_)
    shapes = {name: jax.ShapeDtypeStruct(np.shape(values), values.dtype) for name, values in params.items()}
    return shapes, features, length, present


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what damaged content raises, of many types, into a ValueError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); copy the export again, or make it again"
        ) from error


def _arguments(
    modalities: Any,
    max_frames: int | None,
    features: Mapping[str, Any],
    length: Mapping[str, Any],
    present: Mapping[str, Any],
):
    names = [modality["name"] for modality in modalities]
    for name in (*features, *length, *present):
        if name not in names:
            raise ValueError(f"there is no modality {name!r}; this model has {', '.join(names)}")
    features = {name: _numbers(name, values) for name, values in features.items() if values is not None}
    if not features:
        raise ValueError(f"no modality is there; give at least one of {', '.join(names)}")
    size = len(next(iter(features.values())))
    arrays, lengths, columns = {}, {}, []
    for modality in modalities:
        name, width, is_sequence = modality["name"], modality["width"], modality["encoder"] != "vector"
        empty = np.zeros((size, 1, width) if is_sequence else (size, width), np.float32)
        arrays[name] = features.get(name, empty)
        if arrays[name].ndim != empty.ndim or arrays[name].shape[0] != size or arrays[name].shape[-1] != width:
            wanted = f"[{size}, T, {width}]" if is_sequence else f"[{size}, {width}]"
            raise ValueError(f"{name}: has shape {list(arrays[name].shape)} where {wanted} is expected")
        columns.append(_column(f"{name}: present", present.get(name, np.full(size, name in features)), size, bool))
        if name not in features and columns[-1].any():
            raise ValueError(f"{name}: present says that utterances have it, but features have none; give both or none")
        if name in length and not is_sequence:
            raise ValueError(f"{name}: has a length, but is one vector per utterance; leave the length out")
        valid = np.broadcast_to(columns[-1], (1, size)).T
        if is_sequence:
            num_frames = arrays[name].shape[1]
            found = length.get(name, np.full(size, num_frames))
            found = _column(f"{name}: length", found, size, np.int32)
            valid = valid & (np.arange(num_frames) < found[:, None])
            read, lengths[name] = found[columns[-1]], found.astype(np.int32)
            if len(faulty := read[(read < 1) | (read > num_frames)]):
                raise ValueError(f"{name}: a length of {faulty[0]} where features have {num_frames} frames")
            longest = max(read, default=0)
            if max_frames is not None and longest > max_frames:
                raise ValueError(
                    f"{name}: {longest} frames where the model was trained with at most {max_frames} (max_frames in "
                    f"{CONFIG}); average neighbouring frames first, as cmarr_jax.data.device.shorten does"
                )
        usable = (np.abs(arrays[name]) <= LARGEST).all(-1).reshape(valid.shape)
        wrong = np.any(valid & ~usable, axis=1)
        if wrong.any():
            text = f"has nan or a number beyond {LARGEST:g}; correct it, or say in present that it is not there"
            raise ValueError(f"{name}: utterance {np.argmax(wrong)} {text}")
    there = np.stack(columns, axis=1)
    if not there.any(axis=1).all():
        raise ValueError(f"utterance {np.argmin(there.any(axis=1))} has no modality; leave it out")
    return arrays, lengths, there


def _numbers(name: str, values: Any) -> np.ndarray:
    """Features as float32, of one utterance or more."""
    array = np.asarray(values)
    if np.ma.is_masked(values):
        raise ValueError(f"{name}: has masked numbers; fill them, and say in present which utterances do not have it")
    if array.dtype.kind not in "fiub" and array.dtype != jnp.bfloat16:
        raise ValueError(f"{name}: holds {array.dtype} where numbers are expected; convert it to float32")
    if not array.ndim or not len(array):
        raise ValueError(f"{name}: has no utterance; give an array of one or more")
    with np.errstate(over="ignore"):  # what is too large is told as infinity
        return array.astype(np.float32)


def _column(what: str, values: Any, size: int, kind: Any) -> np.ndarray:
    """One entry per utterance, `[B]`."""
    array = np.asarray(values)
    if np.ma.is_masked(values) or array.dtype.kind not in ("b" if kind is bool else "iu"):
        holds = "masked entries" if np.ma.is_masked(values) else array.dtype
        raise ValueError(f"{what} holds {holds} where {np.dtype(kind)} is expected; convert it")
    if array.shape != (size,):
        raise ValueError(f"{what} must have one entry per utterance, [{size}], found shape {list(array.shape)}")
    return array


def _exported(folder: Path, config: Mapping[str, Any], params: Mapping[str, Any]) -> jax.export.Exported:
    try:
        return jax.export.deserialize(bytearray((folder / MODEL).read_bytes()))
    except ImportError:  # JAX's reader needs the package flatbuffers
        return _without_flatbuffers(folder, config, params)


def _without_flatbuffers(folder: Path, config: Mapping[str, Any], params: Mapping[str, Any]) -> jax.export.Exported:
    """An export of a function of the same arguments and results, with the module put in."""
    num_classes = len(config["class_names"])

    def same_shapes(params, features, length, present):
        zeros = jnp.zeros((present.shape[0], num_classes))
        return {"logits": zeros, "probabilities": zeros}

    like = jax.export.export(jax.jit(same_shapes), platforms=config["platforms"])(*specs(config, params))
    return dataclasses.replace(
        like,
        mlir_module_serialized=(folder / MODULE).read_bytes(),
        module_kept_var_idx=tuple(config["module_kept_var_idx"]),
        calling_convention_version=config["calling_convention_version"],
    )
