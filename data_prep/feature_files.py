"""Finished features, keyed by utterance, from HDF5, npz, CSV or Parquet. Nothing is unpickled."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.corpus import ArchiveError
from data_prep.extractors.base import need
from data_prep.manifest_table import read_table
from data_prep.text_files import cannot_read

KINDS = (".h5", ".hdf5", ".npz", ".csv", ".parquet")
Found = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """A file of features of many utterances.

    With `key` and `values`, the file holds the names `[N]` under the one and the features `[N, D]` under the other; a
    table holds the names in the column `key` and numbers in all others. Else an HDF5 or npz file holds one array
    `[T, D]` or `[D]` under the name of each utterance. In a table, rows of the same name are frames in their order.

    Attributes:
      path: The file.
      key: Key or column of the names; empty: `utterance_id` where the file has it.
      values: Key of the features; empty: `features` where the file has it.
    """

    path: Path
    key: str = ""
    values: str = ""

    def read(self, names: Sequence[str]) -> tuple[Found, dict[str, str]]:
        """Features of these names, float32, all `[D]` or all `[T, D]`; and for each other name why it has none.

        Raises:
          ArchiveError: if the file cannot be read, or has none of the names.
        """
        kind = self.path.suffix.lower()
        if kind not in KINDS:
            raise ArchiveError(f"{self.path}: features are read from {', '.join(KINDS)}; convert the file")
        found = dict(_READERS[kind](self, names))
        reasons = {name: f"{self.path.name}: has no {name!r}" for name in names if name not in found}
        for name, array in found.items():
            if problem := _problem(array):
                reasons[name] = f"{self.path.name}: {name!r} {problem}"
        shapes = Counter((array.ndim, array.shape[-1]) for name, array in found.items() if name not in reasons)
        if not shapes:
            raise ArchiveError(f"{self.path}: has features of none of the {len(names)} names; {_first(reasons)}")
        (ndim, width), _ = shapes.most_common(1)[0]
        for name, array in found.items():
            if name not in reasons and (array.ndim, array.shape[-1]) != (ndim, width):
                most = f"[T, {width}]" if ndim == 2 else f"[{width}]"
                reasons[name] = f"{self.path.name}: {name!r} has shape {list(array.shape)} where most have {most}"
        good = {name: found[name].astype(np.float32) for name in names if name not in reasons}
        return good, reasons

    def record(self) -> dict[str, Any]:
        """Name and hash of the file, for the record."""
        return {"name": "features", "file": self.path.name, "sha256": sha256(self.path), "key": self.key}


def _problem(array: np.ndarray) -> str:
    """What is wrong with the features of one utterance; empty if nothing is."""
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        return f"must be [T, D] or [D] of numbers, found {array.dtype} {list(array.shape)}"
    if 0 in array.shape:
        return f"has shape {list(array.shape)}, nothing in it"
    with np.errstate(over="ignore"):
        return "" if np.isfinite(array.astype(np.float32)).all() else "holds nan or infinity (as float32)"


def _first(reasons: Mapping[str, str]) -> str:
    return next(iter(reasons.values()), "the manifest has no utterance")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns every error of a reader into a sentence."""
    try:
        yield
    except ArchiveError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise ArchiveError(cannot_read(path, error)) from error
        raise ArchiveError(f"{path}: is damaged or no {path.suffix} file ({error}); copy it again") from error
    except Exception as error:  # damaged bytes make numpy, zipfile, zlib and h5py raise many types
        raise ArchiveError(f"{path}: is damaged or no {path.suffix} file ({error}); copy it again") from error


def _from_npz(file: FeatureFile, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    with _readable(file.path), open(file.path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        yield from _from_arrays(file, arrays, names)


def _from_h5(file: FeatureFile, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    h5py = need("h5py", "corpora")
    with _readable(file.path), h5py.File(file.path, "r") as arrays:
        from data_prep.hdf5_inside import Inside  # takes h5py along

        yield from _from_arrays(file, Inside(arrays), names)


def _from_arrays(file: FeatureFile, arrays: Any, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    key, values = file.key or "utterance_id", file.values or "features"
    if file.key or file.values or (key in arrays and values in arrays):
        for name in (key, values):
            if name not in arrays:
                raise ArchiveError(f"{file.path}: has no key {name!r}; it has {', '.join(list(arrays)[:8])}")
        ids, rows = np.asarray(arrays[key]), np.asarray(arrays[values])
        if ids.ndim != 1 or len(ids) != len(rows):
            text = f"has shape {list(ids.shape)} where {values!r} has {list(rows.shape)}; one name per row is needed"
            raise ArchiveError(f"{file.path}: key {key!r} {text}")
        listed = [item.decode() if isinstance(item, bytes) else str(item) for item in ids.tolist()]
        yield from _one_row_each(file.path, listed, rows, names)
        return
    for name in names:
        if name in arrays:
            item = arrays[name]
            yield name, item[()] if hasattr(item, "shape") else np.empty((0, 0))  # an HDF5 group is no array


def _one_row_each(
    path: Path, listed: Sequence[str], rows: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    row_of: dict[str, int] = {}
    for row, name in enumerate(listed):
        if row_of.setdefault(name, row) != row:
            raise ArchiveError(f"{path}: row {row} names {name!r}, which is already in row {row_of[name]}; remove one")
    yield from ((name, rows[row_of[name]]) for name in names if name in row_of)


def _from_table(file: FeatureFile, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    columns, rows = read_table(file.path)
    key = file.key or "utterance_id"
    if key not in columns:
        raise ArchiveError(f"{file.path}: has no column {key!r}; it has {', '.join(columns[:8])}; give key=COLUMN")
    wanted, numbers = set(names), [name for name in columns if name != key]
    frames: dict[str, list[list[float]]] = {}
    for number, row in rows:
        if row[key] in wanted:
            frames.setdefault(row[key], []).append([_number(file.path, number, name, row[name]) for name in numbers])
    is_vector = all(len(found) == 1 for found in frames.values())
    for name, found in frames.items():
        yield name, np.array(found[0] if is_vector else found)


def _number(path: Path, row: int, column: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        text = f"{text!r} is no number; remove the column or correct it"
        raise ArchiveError(f"{path}: row {row}, column {column!r}: {text}") from None


_READERS = {".npz": _from_npz, ".h5": _from_h5, ".hdf5": _from_h5, ".csv": _from_table, ".parquet": _from_table}
