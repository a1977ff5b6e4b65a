"""Finished features, keyed by utterance, from HDF5, npz, CSV or Parquet. Nothing is unpickled."""

import contextlib
import dataclasses
import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.corpus import ArchiveError
from data_prep.extractors.base import need, record_hash
from data_prep.manifest_table import DETAILS, NEEDED, OPTIONAL, read_table
from data_prep.text_files import cannot_read

KINDS = (".h5", ".hdf5", ".npz", ".csv", ".parquet")
SHOWN = 3  # names in a message
_ROW_NUMBERS = re.compile(r"|index|Unnamed: \d+|level_\d+|__index_level_\d+__")  # names of columns
_OF_MANIFESTS = {*NEEDED, *OPTIONAL, *DETAILS}
Found = dict[str, np.ndarray]


class NoneFoundError(ArchiveError):
    """The file can be read, and has usable features of none of the names; `reasons` is kept.

    Args:
      path: The file.
      reasons: For each name, why it has none.
      others: Names in the file, if it has none of those wanted.
    """

    def __init__(self, path: Path, reasons: Mapping[str, str], others: Sequence[str] = ()) -> None:
        first = next(iter(reasons.values()), "the manifest has no utterance")
        text = f"{path}: has features of none of the {len(reasons)} names; {first}"
        if others:
            text += f" but {', '.join(map(repr, others))} ...; if a column of the manifest holds these, add id=COLUMN"
        super().__init__(text)
        self.reasons = reasons


class _Table(NamedTuple):
    """What a table holds.

    Attributes:
      columns: Names of the D columns of numbers.
      rows: By name, `[T, D]`, nan where a cell is no number.
      faults: By name, its first such cell.
    """

    columns: tuple[str, ...]
    rows: Found
    faults: dict[str, str]


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """A file of features of many utterances.

    With `key` and `values`, the file holds the names `[N]` under the one and the features `[N, D]` under the other; a
    table holds the names in the column `key` and numbers in all others. Else an HDF5 or npz file holds one array
    `[T, D]` or `[D]` under the name of each utterance. In a table, rows of the same name are frames in their order.
    A table is read once, however often `read` is called.

    Attributes:
      path: The file.
      key: Key or column of the names; empty: `utterance_id` where the file has it.
      values: Key of the features; empty: `features` where the file has it.
      frames: Whether a table gives `[T, D]`, also of a name with one row; if not, one row gives `[D]`. `None`: it gives
        `[T, D]` where any name of the file has several rows.
    """

    path: Path
    key: str = ""
    values: str = ""
    frames: bool | None = None

    def read(self, names: Sequence[str]) -> tuple[Found, dict[str, str]]:
        """Features of these names, float32, all `[D]` or all `[T, D]`; and for each other name why it has none.

        Raises:
          ArchiveError: if the file cannot be read; `NoneFoundError` if it has none of the names.
        """
        if self.path.suffix.lower() not in KINDS:
            raise ArchiveError(f"{self.path}: features are read from {', '.join(KINDS)}; convert the file")
        if self.is_table:
            found = dict(_from_table(self, names))
        else:
            with _opened(self.path) as arrays:
                found = dict(_from_arrays(self, arrays, names))
        reasons = {name: f"{self.path.name}: has no {name!r}" for name in names if name not in found}
        for name, array in found.items():
            if problem := _problem(array):
                reasons[name] = f"{self.path.name}: {name!r} {problem}"
        shapes = Counter((array.ndim, array.shape[-1]) for name, array in found.items() if name not in reasons)
        if not shapes:
            raise NoneFoundError(self.path, reasons, () if found else self.some_names())
        (ndim, width), _ = shapes.most_common(1)[0]
        for name, array in found.items():
            if name not in reasons and (array.ndim, array.shape[-1]) != (ndim, width):
                most = f"[T, {width}]" if ndim == 2 else f"[{width}]"
                reasons[name] = f"{self.path.name}: {name!r} has shape {list(array.shape)} where most have {most}"
        good = {name: found[name].astype(np.float32) for name in names if name not in reasons}
        return good, reasons

    @functools.cached_property
    def table(self) -> _Table:
        """All rows of a table. Raises ArchiveError if it cannot be read or lacks the column of the names."""
        return _read_table(self.path, self.key or "utterance_id")

    def some_names(self) -> list[str]:
        """The first names of utterances in the file, for messages. Raises ArchiveError if it cannot be read."""
        if self.is_table:
            return list(self.table.rows)[:SHOWN]
        with _opened(self.path) as arrays:
            keyed = _keyed(self, arrays)
            return keyed[0][:SHOWN] if keyed else list(itertools.islice(arrays, SHOWN))

    @property
    def columns(self) -> str:
        """A hash of the names of a table's columns of numbers, in their order; empty if it is no table."""
        return record_hash({"columns": self.table.columns}) if self.is_table else ""

    @property
    def is_table(self) -> bool:
        """Whether it is a table, and not named arrays."""
        return self.path.suffix.lower() in (".csv", ".parquet")

    def note(self) -> str:
        """What the rows of a table are taken for where some names have several; empty if that needs no word."""
        if self.frames is not None or not self.is_table:
            return ""
        rows = self.table.rows
        several = [name for name, found in rows.items() if len(found) > 1]
        if not several:
            return ""
        text = f"a table of frames: {len(several)} of {len(rows)} names have several rows"
        if 2 * len(several) >= len(rows):
            return text
        return f"{text} ({several[0]!r} first); a repeated id may be a mistake"

    def record(self) -> dict[str, Any]:
        """Name and hash of the file, and of a table a hash of its columns in their order, for the record."""
        record = {"name": "features", "file": self.path.name, "sha256": sha256(self.path), "key": self.key}
        return record | {"columns": self.columns} if self.is_table else record


def _problem(array: np.ndarray) -> str:
    """What is wrong with the features of one utterance; empty if nothing is."""
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2):
        return f"must be [T, D] or [D] of numbers, found {array.dtype} {list(array.shape)}"
    if 0 in array.shape:
        return f"has shape {list(array.shape)}, nothing in it"
    with np.errstate(over="ignore"):
        return "" if np.isfinite(array.astype(np.float32)).all() else "holds nan or infinity (as float32)"


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


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Any]]:
    """The named arrays of an npz or HDF5 file. Any error of its reader becomes ArchiveError."""
    if path.suffix.lower() == ".npz":
        with _readable(path), open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            yield arrays
        return
    h5py = need("h5py", "experiments")
    with _readable(path), h5py.File(path, "r") as group:
        from data_prep.hdf5_inside import Inside  # takes h5py along

        yield Inside(group)


def _from_arrays(file: FeatureFile, arrays: Any, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    if keyed := _keyed(file, arrays):
        yield from _one_row_each(file.path, *keyed, names)
        return
    for name in names:
        if name in arrays:
            item = arrays[name]
            is_array = getattr(item, "shape", None) is not None  # HDF5 has groups, and data sets that hold nothing
            yield name, np.asarray(item[()]) if is_array else np.empty((0, 0))  # one text or number is no array


def _keyed(file: FeatureFile, arrays: Mapping[str, Any]) -> tuple[list[str], np.ndarray] | None:
    """Names `[N]` and features `[N, D]` where the file holds them under two keys. Raises ArchiveError for a fault."""
    key, values = file.key or "utterance_id", file.values or "features"
    if not (file.key or file.values or (key in arrays and values in arrays)):
        return None
    for name in (key, values):
        if name not in arrays:
            raise ArchiveError(f"{file.path}: has no key {name!r}; it has {', '.join(list(arrays)[:8])}")
    ids, rows = np.asarray(arrays[key]), np.asarray(arrays[values])
    if ids.ndim != 1 or ids.shape != rows.shape[:1]:
        text = f"has shape {list(ids.shape)} where {values!r} has {list(rows.shape)}; one name per row is needed"
        raise ArchiveError(f"{file.path}: key {key!r} {text}")
    return [item.decode() if isinstance(item, bytes) else str(item) for item in ids.tolist()], rows


def _one_row_each(
    path: Path, listed: Sequence[str], rows: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    row_of: dict[str, int] = {}
    for row, name in enumerate(listed):
        if row_of.setdefault(name, row) != row:
            raise ArchiveError(f"{path}: row {row} names {name!r}, which is already in row {row_of[name]}; remove one")
    yield from ((name, rows[row_of[name]]) for name in names if name in row_of)


def _from_table(file: FeatureFile, names: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    _, rows, faults = file.table
    gives_frames = any(len(found) > 1 for found in rows.values()) if file.frames is None else file.frames
    for name in names:
        if name in faults:
            raise ArchiveError(f"{file.path}: {faults[name]}")
        if name in rows:
            yield name, rows[name] if gives_frames or len(rows[name]) > 1 else rows[name][0]


def _read_table(path: Path, key: str) -> _Table:
    columns, lines = read_table(path)
    if key not in columns:
        raise ArchiveError(f"{path}: has no column {key!r}; it has {', '.join(columns[:8])}; give key=COLUMN")
    for column in columns:
        is_number, is_known = _ROW_NUMBERS.fullmatch(column), column.strip().casefold() in _OF_MANIFESTS
        if column != key and (is_number or is_known):
            what = "is the row number that pandas and R write" if is_number else "has a name of a manifest's column"
            text = f"column {column!r} {what}; it would become a feature"
            raise ArchiveError(f"{path}: {text}; take it out, or if it is a feature, give it another name")
    numbers = [column for column in columns if column != key]
    rows: dict[str, list[list[float | None]]] = {}
    faults: dict[str, str] = {}
    for number, line in lines:
        if not (name := line[key]):  # no utterance has an empty name
            continue
        values = [_number(line[column]) for column in numbers]
        rows.setdefault(name, []).append(values)
        if None in values:
            column = numbers[values.index(None)]
            text = f"{line[column]!r} is no number; remove the column or correct it"
            faults.setdefault(name, f"row {number}, column {column!r}: {text}")
    return _Table(tuple(numbers), {name: np.array(found, np.float64) for name, found in rows.items()}, faults)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # Python reads 1_000 as 1000
    except ValueError:
        return None
