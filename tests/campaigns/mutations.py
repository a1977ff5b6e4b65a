"""Ways to spoil a file. Each takes the path and a source of random numbers, changes the file, and says what it did.

`BYTES` are for any file; the others know the format and write a file that a program could have written.
"""

import csv
import io
import json
import os
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutate = Callable[[Path, random.Random], str]

LONG = 100_000
CELLS = (
    *("", " ", "nan", "inf", "-inf", "1e999", "-1", "0", "9" * 400, "1" * LONG, "x", "\0", "\ud7ff", "é", '"', "\n"),
    *("../../outside.txt", "/etc/passwd", "~nobody/x.wav", "~", ".", "/", "\x1b[31m", "train", "1,2", "a;b"),
)
VALUES = (
    *(None, True, False, 0, -1, 10**400, -(10**18), 2**31, 1.5, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "x", "9" * LONG, "../../outside", "/etc/passwd", [], {}, [[]], [None], {"a": 1}, [0] * 1000),
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "utf-7")


class Unpickled:
    """Makes a file where it is unpickled."""

    marker = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.marker, "w"))


def of_bytes(change: Callable[[bytearray, random.Random], bytearray]) -> Mutate:
    """A mutation of a file's bytes."""

    def mutate(path: Path, places: random.Random) -> str:
        path.write_bytes(change(bytearray(path.read_bytes()), places))
        return change.__name__

    return mutate


def flip_bits(content: bytearray, places: random.Random) -> bytearray:
    for _ in range(places.choice((1, 1, 2, 8)) if content else 0):
        content[places.randrange(len(content))] ^= 1 << places.randrange(8)
    return content


def cut(content: bytearray, places: random.Random) -> bytearray:
    return content[: places.randrange(len(content) + 1)]


def cut_start(content: bytearray, places: random.Random) -> bytearray:
    return content[places.randrange(len(content) + 1) :]


def insert(content: bytearray, places: random.Random) -> bytearray:
    at = places.randrange(len(content) + 1)
    return content[:at] + places.randbytes(places.choice((1, 2, 8, 500))) + content[at:]


def double_block(content: bytearray, places: random.Random) -> bytearray:
    first, last = sorted(places.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:last] + content[last:]


def remove_block(content: bytearray, places: random.Random) -> bytearray:
    first, last = sorted(places.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[last:]


def extreme_block(content: bytearray, places: random.Random) -> bytearray:
    at, size = places.randrange(len(content) + 1), places.choice((1, 4, 8, 64))
    return content[:at] + bytes([places.choice((0, 255, 127, 128))]) * size + content[at + size :]


def foreign(content: bytearray, places: random.Random) -> bytearray:
    heads = (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"PK\x03\x04", b"\x93NUMPY", b"<html>", b"\x1f\x8b")
    return bytearray(places.choice(heads)) + (content if places.random() < 0.6 else bytearray())


BYTES = [
    of_bytes(change)
    for change in (flip_bits, flip_bits, cut, cut_start, insert, double_block, remove_block, extreme_block, foreign)
]


def in_json(path: Path, places: random.Random) -> str:
    """Removes, replaces, renames or doubles one value somewhere in a JSON file."""
    value = json.loads(path.read_text())
    parent, key = places.choice(list(_places(value)))
    how = places.choice(("remove", "replace", "replace", "rename", "nest", "bare"))
    if how == "bare":
        path.write_text(json.dumps(places.choice(VALUES)) if places.random() < 0.8 else "[" * LONG)
        return "the whole is another value"
    if how == "remove":
        del parent[key]
    elif how == "replace":
        parent[key] = places.choice(VALUES)
    elif how == "nest":
        parent[key] = [parent[key]]
    elif isinstance(parent, dict):
        parent[places.choice(("x", "", "../x", key + " "))] = parent.pop(key)
    else:
        parent.insert(key, parent[key])
    path.write_text(json.dumps(value, indent=1))
    return f"{how} {key!r}"


def _places(value: Any) -> Any:
    """Each container in a JSON value with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def in_csv(path: Path, places: random.Random) -> str:
    """Changes a cell, row, column, the encoding or the separator of a CSV file."""
    rows = list(csv.reader(io.StringIO(path.read_text())))
    how = places.choice(("cell", "cell", "cell", "double row", "remove row", "header", "column", "encode", "separate"))
    row, column = places.randrange(len(rows)), places.randrange(len(rows[0]))
    if how == "cell":
        rows[row][column] = places.choice(CELLS)
    elif how == "double row":
        rows.insert(places.randrange(len(rows) + 1), list(rows[row]))
    elif how == "remove row":
        del rows[row]
    elif how == "header":
        rows[0][column] = places.choice((*CELLS, rows[0][0], rows[0][-1], "present", "Speaker"))
    elif how == "column":
        rows = [line[:column] + line[column + 1 :] for line in rows]
    text = io.StringIO()
    separator = places.choice((",", ";", "\t", "|")) if how == "separate" else ","
    csv.writer(text, delimiter=separator, lineterminator=places.choice(("\n", "\r\n"))).writerows(rows)
    encoding = places.choice(ENCODINGS) if how == "encode" else "utf-8"
    path.write_bytes(text.getvalue().encode(encoding, "replace"))
    return f"{how}, row {row}, column {column}, {encoding}"


def in_npz(path: Path, places: random.Random) -> str:
    """Changes, adds or removes an array of an npz file, or what its header says."""
    with np.load(path) as file:
        arrays: dict[str, Any] = dict(file)
    key = places.choice(list(arrays))
    how = places.choice(("remove", "rename", "array", "array", "array", "header", "twice", "add"))
    if how == "remove":
        del arrays[key]
    elif how == "rename":
        arrays[places.choice(("../x", "/tmp/x", "x", "audio", "é"))] = arrays.pop(key)
    elif how == "add":
        arrays["x"] = arrays[key]
    elif how == "array":
        arrays[key], how = _changed(arrays[key], places)
    entries = [(f"{name}.npy", _npy(array)) for name, array in arrays.items()]
    if how == "twice":
        entries.append((f"{key}.npy", _npy(arrays[key])))
    if how == "header":
        entries = [(name, _false_header(data, places) if name == f"{key}.npy" else data) for name, data in entries]
    _write_zip(path, entries, places)
    return f"{how} {key!r}"


def in_npy(path: Path, places: random.Random) -> str:
    """Changes the array of an npy file, or what its header says."""
    if places.random() < 0.2:
        path.write_bytes(_false_header(path.read_bytes(), places))
        return "header"
    array, how = _changed(np.load(path), places)
    path.write_bytes(_npy(array))
    return how


def in_hdf5(path: Path, places: random.Random) -> str:
    """Changes one data set of an HDF5 file; some of it then lies in another file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = places.choice(names)
        array = file[name][()]
        how = places.choice(
            ("remove", "group", "array", "array", "huge", "link", "soft", "external", "virtual", "compressed")
        )
        del file[name]
        outside = places.choice((str(path.parent.parent / "outside.h5"), "../outside.h5", str(path.absolute())))
        if how == "group":
            file.create_group(f"{name}/x")
        elif how == "array":
            changed, how = _changed(array, places)
            if changed.dtype.kind in "biufcS":
                file[name] = changed
        elif how == "huge":
            chunks = tuple(min(4, size) or 1 for size in array.shape)
            size = places.choice((10**5, 10**9, 2**60))
            file.create_dataset(name, (size, *array.shape[1:]), array.dtype, chunks=chunks, compression="gzip")
        elif how == "link":
            file[name] = h5py.ExternalLink(outside, "data")
        elif how == "soft":
            file["to_outside"] = h5py.ExternalLink(outside, "data")
            file[name] = h5py.SoftLink(places.choice(("/to_outside", f"/{name}", "/gone", "/")))
        elif how == "external":
            file.create_dataset(name, array.shape, array.dtype, external=[(outside, 0, h5py.h5f.UNLIMITED)])
        elif how == "virtual":
            layout = h5py.VirtualLayout(array.shape, array.dtype)
            layout[...] = h5py.VirtualSource(outside, "data", shape=array.shape)
            file.create_virtual_dataset(name, layout)
        elif how == "compressed":
            file.create_dataset(name, data=array, compression="gzip", chunks=True)
    return f"{how} {name!r}"


def in_pickle(path: Path, places: random.Random) -> str:
    """Puts another value somewhere into a pickle."""
    value = pickle.loads(path.read_bytes())
    parent, key = places.choice(list(_places(value)))
    others: tuple[Any, ...] = (Unpickled(), np.array([Unpickled()]), {1, 2}, range(3), *VALUES)
    if isinstance(parent[key], np.ndarray) and places.random() < 0.5:
        parent[key], how = _changed(parent[key], places)
    else:
        parent[key], how = places.choice(others), "value"
    path.write_bytes(pickle.dumps(value, places.randrange(6)))
    return f"{how} {key!r}"


def _changed(array: np.ndarray, places: random.Random) -> tuple[np.ndarray, str]:
    """An array of another dtype, shape or value."""
    how = places.choice(("dtype", "object", "shape", "value", "value", "rows"))
    if how == "object":
        return np.array([Unpickled()] * max(1, len(array) if array.ndim else 1), object), how
    if how == "dtype":
        kind = places.choice(("f2", "f4", "f8", ">f4", "i1", "i8", "u8", "?", "c8", "S4", "U3", "M8[s]", "V3"))
        return np.resize(np.zeros(1, kind) if array.dtype.kind in "SUM" else array, array.shape).astype(kind), how
    if how in ("shape", "rows"):
        array = np.atleast_1d(array)
    if how == "shape":
        shapes: Sequence[Any] = (array.ravel(), array[None], array[..., None], array.T, array[:0])
        return np.array(places.choice(shapes)), how
    if how == "rows":
        times = places.choice((1, 2, 50))
        return (array[:-1] if times == 1 else np.concatenate([array] * times)), how
    changed = array.copy()
    at = tuple(places.randrange(size) for size in array.shape)
    if array.size:
        with np.errstate(all="ignore"):
            changed[at] = _value(array.dtype.kind, places)
    return changed, how


def _value(kind: str, places: random.Random) -> Any:
    if kind == "f":
        return places.choice((np.nan, np.inf, -np.inf, 1e30, -1.0, 0.0))
    if kind in "SU":
        return places.choice(("", " ", "../x", "/", "x", "\x1b[3", "é" if kind == "U" else "e"))
    return places.choice((-2, -1, 0, 1, 100, 127)) if kind == "i" else places.choice((0, 1))


def _npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array(data, np.asarray(array), allow_pickle=True)
    return data.getvalue()


def _false_header(data: bytes, places: random.Random) -> bytes:
    """The same bytes under the header of another shape or dtype."""
    stream = io.BytesIO(data)
    np.lib.format.read_magic(stream)
    shape, order, dtype = np.lib.format.read_array_header_1_0(stream)
    size = places.choice((0, 1, 7, 10**6, 10**10, 2**62, 2**70, -1))
    fields = {"shape": (size, *shape[1:]), "fortran_order": order, "descr": dtype.str}
    if places.random() < 0.3:
        fields["descr"] = places.choice(("O", "<U1000000000", "V0", "<f16", "x", "<M8[s]", [("a", "O")]))
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, fields)
    return head.getvalue() + data[stream.tell() :]


def _write_zip(path: Path, entries: Sequence[tuple[str, bytes]], places: random.Random) -> None:
    method = places.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, data in entries:
            archive.writestr(name, data)


AWARE: dict[str, Mutate] = {
    ".json": in_json,
    ".csv": in_csv,
    ".npz": in_npz,
    ".npy": in_npy,
    ".h5": in_hdf5,
    ".pkl": in_pickle,
}


def spoil(folder: Path, places: random.Random) -> tuple[Path, str, bool]:
    """Spoils one file of a folder: which, how, and whether a program could have written it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and os.path.getsize(path))
    path = places.choice(files)
    aware = AWARE.get(path.suffix)
    knows = aware is not None and places.random() < 0.6
    mutate = aware if knows and aware is not None else places.choice(BYTES)
    return path, mutate(path, places), knows
