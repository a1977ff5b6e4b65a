"""Reads features of the MMIN family: an HDF5 file with one data set `[frames, width]` per utterance name."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.hdf5_inside import Inside, NotInFile
from data_prep.unreadable import check_readable, hdf5_reason

MISSING = "missing"


@dataclasses.dataclass(frozen=True, eq=False)
class Entries:
    """What a file has of the wanted utterances, known without reading values.

    Attributes:
      names: The wanted utterances.
      shapes: Stored frames and width, `[N, 2]`; zeros where there is nothing usable.
      unusable: What is wrong, and where: one pair for each utterance that is missing or cannot be used.
      unnamed: Entries of the file that are not wanted.
    """

    names: Sequence[str]
    shapes: np.ndarray
    unusable: dict[str, tuple[str, str]]
    unnamed: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """One modality, frames of all utterances one after another.

    Attributes:
      features: `[sum of T, D]`, float32.
      length: Frames per utterance, `[N]`, int32; 0 where it is absent.
      present: Whether the utterance has this modality, `[N]`, bool.
      padding: Number of trailing frames of zeros removed, per present utterance, `[N]`, int32.
      total: Sum over the stored frames of each utterance, `[N, D]`, float64.
      stored: Stored frames, `[N]`, int32.
      zero: Whether all stored frames are zeros, `[N]`, bool.
      entries: What the file has, with all that is unusable.
    """

    features: np.ndarray
    length: np.ndarray
    present: np.ndarray
    padding: np.ndarray
    total: np.ndarray
    stored: np.ndarray
    zero: np.ndarray
    entries: Entries


@contextlib.contextmanager
def open_features(path: Path) -> Iterator[Inside]:
    """An HDF5 file for reading; no other file is opened.

    Raises:
      ArchiveError: if it cannot be opened; the message says why.
    """
    check_readable(path, _if_missing(path))
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ArchiveError(f"{path}: {hdf5_reason(error)}") from error
    with file:
        yield Inside(file)


def read_entries(path: Path, names: Sequence[str]) -> Entries:
    """Looks at the shapes of all wanted utterances. Reads no values.

    Raises:
      ArchiveError: if the file cannot be opened or has nothing usable.
    """
    shapes, unusable = np.zeros((len(names), 2), np.int64), dict[str, tuple[str, str]]()
    with open_features(path) as file:
        try:
            inside = list(file)
        except Exception as error:  # damaged bytes make h5py raise many types
            raise ArchiveError(f"{path}: its list of utterances is damaged; copy the file again") from error
        unnamed = tuple(sorted({*inside} - {*names}))
        for row, name in enumerate(names):
            shape, wrong = _look(file, name)
            if wrong:
                unusable[name] = wrong
            else:
                shapes[row] = shape
    if shapes.any():
        width = np.bincount(shapes[shapes[:, 1] > 0, 1]).argmax()  # that of most utterances
        for row in np.flatnonzero((shapes[:, 1] > 0) & (shapes[:, 1] != width)).tolist():
            unusable[names[row]] = "of another width", f"{shapes[row, 1]} where most have {width}"
            shapes[row] = 0
    entries = Entries(names, shapes, unusable, unnamed)
    _check_any(path, entries)
    return entries


def read_frames(path: Path, names: Sequence[str], *, zeros_are_present: bool, keep_padding: bool) -> Frames:
    """Reads one modality into one array, utterance by utterance. An entry that cannot be used is absent.

    Args:
      path: The HDF5 file, one data set `[T, D]` per utterance.
      names: Utterances to read, in this order.
      zeros_are_present: Whether an utterance of zeros only is present, with one frame; if not, it is absent.
      keep_padding: Whether trailing frames of zeros stay.

    Raises:
      ArchiveError: if the file cannot be opened or has nothing usable.
    """
    entries = read_entries(path, names)
    shapes = entries.shapes
    width = int(shapes[:, 1].max())
    features = np.empty((int(shapes[:, 0].sum()), width), np.float32)
    length, end = np.zeros(len(names), np.int32), 0
    total, zero = np.zeros((len(names), width)), np.zeros(len(names), bool)
    with open_features(path) as file:
        for row in np.flatnonzero(shapes[:, 0]).tolist():
            values = features[end : end + shapes[row, 0]]
            if wrong := _read(file, names[row], values):
                entries.unusable[names[row]] = wrong
                shapes[row] = 0
                continue
            total[row] = values.sum(0, dtype=np.float64)
            zero[row] = not values.any()
            if zeros_are_present or not zero[row]:
                length[row] = len(values) if keep_padding else _without_padding(values)
            end += length[row]
    _check_any(path, entries)
    present, stored = length > 0, shapes[:, 0].astype(np.int32)
    if not present.any():
        text = f"all {zero.sum()} utterances are of zeros only, as if nothing was extracted; extract the features again"
        raise ArchiveError(f"{path}: {text}, or give --zeros-are-present to use them")
    return Frames(features[:end], length, present, np.where(present, stored - length, 0), total, stored, zero, entries)


def check_usable(path: Path, entries: Entries, *, allow_missing: bool) -> str:
    """Says how many utterances are missing or cannot be used, with an example of each kind; empty if there are none.

    Raises:
      ArchiveError: with this sentence, unless `allow_missing`.
    """
    text = _unusable_text(entries) if entries.unusable else ""
    if text and not allow_missing:
        advice = "copy or extract the file again, or give --allow-missing to take them as absent"
        raise ArchiveError(f"{path}: {text}; {advice}")
    return text


def _unusable_text(entries: Entries) -> str:
    kinds: dict[str, list[str]] = {}
    for name, (kind, where) in entries.unusable.items():
        kinds.setdefault(kind, []).append(f"{name!r}: {where}" if where else repr(name))
    examples = {kind: _first(items, 3) if kind == MISSING else items[0] for kind, items in kinds.items()}
    parts = [f"{len(items)} {kind} ({examples[kind]})" for kind, items in kinds.items()]
    text = f"cannot use {len(entries.unusable)} of {len(entries.names)} utterances: {', '.join(parts)}"
    if MISSING in kinds and entries.unnamed:
        others = _first([repr(name) for name in entries.unnamed], 3)
        text += f"; it has {len(entries.unnamed)} others that no label names ({others}), so it may divide the "
        text += "recordings otherwise than the labels: take both from one release"
    return text


def _if_missing(path: Path) -> str:
    """Names what is there instead: the same name in other letter case, other HDF5 files, or arrays per fold."""
    try:
        inside = sorted(item.name for item in path.parent.iterdir())
        arrays = sorted(path.parent.glob("*/*.npy"))
    except OSError:
        return "give the folder with A, V, L and target, or the file by its option --audio, --video or --text"
    other = [name for name in inside if name.lower() == path.name.lower()]
    other = other or [name for name in inside if name.endswith((".h5", ".hdf5"))]
    if other:
        return f"{path.parent} has {_first(other, 3)}: give the right one by its option --audio, --video or --text"
    if arrays:
        text = f"{arrays[0]} holds rows without names, which are not read, since rows are matched by name and never by"
        return f"{text} position"
    return "copy it there, or give the file by its option --audio, --video or --text"


def _look(file: Inside, name: str) -> tuple[tuple[int, int], tuple[str, str] | None]:
    """Shape of an entry, and what is wrong with it."""
    try:
        if name not in file:
            return (0, 0), (MISSING, "")
        item = file[name]
        if not isinstance(item, h5py.Dataset):
            return (0, 0), ("of the wrong kind", "a group instead of floats [frames, width]")
        if item.ndim != 2 or item.dtype.kind != "f":
            return (0, 0), ("of the wrong kind", f"{item.dtype} {list(item.shape)} instead of floats [frames, width]")
        return item.shape, ("without frames", f"shape {list(item.shape)}") if 0 in item.shape else None
    except NotInFile as error:
        return (0, 0), ("of values that are not in the file", f"it {error}")
    except Exception:  # damaged bytes make h5py raise many types
        return (0, 0), ("damaged", "")


def _read(file: Inside, name: str, values: np.ndarray) -> tuple[str, str] | None:
    """Reads an entry into `values`; what is wrong with it."""
    try:
        file[name].read_direct(values)
    except Exception:  # damaged bytes make h5py raise many types
        return "damaged", ""
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        frame, column = wrong[0].tolist()
        return "with nan or infinity", f"frame {frame}, column {column} is {values[frame, column]} as float32"
    return None


def _check_any(path: Path, entries: Entries) -> None:
    if entries.shapes.any():
        return
    if all(kind == MISSING for kind, _ in entries.unusable.values()):
        inside = _first([repr(name) for name in entries.unnamed], 3) or "nothing"
        wanted = _first([repr(name) for name in entries.names], 3)
        text = f"has none of the {len(entries.names)} utterances of the labels ({wanted}) but {inside}"
        text += "; take both from one release, since features are found by name and never by position"
        raise ArchiveError(f"{path}: {text}")
    raise ArchiveError(f"{path}: {_unusable_text(entries)}; copy or extract the file again")


def _first(items: Sequence[str], count: int) -> str:
    return ", ".join(items[:count]) + (" ..." if len(items) > count else "")


def _without_padding(values: np.ndarray) -> int:
    filled = np.flatnonzero(values.any(axis=1))
    return int(filled[-1]) + 1 if len(filled) else 1
