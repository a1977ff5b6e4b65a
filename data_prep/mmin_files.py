"""Reads feature files of the MMIN family: features per utterance in HDF5, names and labels of folds in `.npy`."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from cmarr_jax.data.corpus import ArchiveError

PARTS = {"train": "trn", "val": "val", "test": "tst"}  # our names: prefixes of the files


@dataclasses.dataclass(frozen=True, eq=False)
class FileFold:
    """One fold of the files.

    Attributes:
      name: Folder below `target`.
      parts: Names of the utterances in `train`, `val` and `test`.
    """

    name: str
    parts: dict[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Frames:
    """One modality, frames of all utterances one after another.

    Attributes:
      features: `[sum of T, D]`, float32.
      length: Frames per utterance, `[N]`, int32.
      present: Whether the file has the utterance, `[N]`, bool.
      padding: Number of trailing frames of zeros removed, per utterance, `[N]`, int32.
      total: Sum over the stored frames of each utterance, `[N, D]`, float64.
      stored: Stored frames, `[N]`, int32.
      zero: Whether all stored frames are zeros, `[N]`, bool.
      unused: Utterances of the file that no fold names.
    """

    features: np.ndarray
    length: np.ndarray
    present: np.ndarray
    padding: np.ndarray
    total: np.ndarray
    stored: np.ndarray
    zero: np.ndarray
    unused: int


def read_npy(path: Path) -> np.ndarray:
    """Reads numbers or text from an `.npy`; objects are never unpickled.

    Raises:
      ArchiveError: if the file cannot be read, is damaged or holds objects.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            rest = file.read(1)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror}); copy the target folder again") from error
    except Exception as error:  # damaged bytes make numpy raise many types
        if "Object arrays" in str(error):
            raise ArchiveError(
                f"{path}: holds pickled Python objects, which are never unpickled; where you trust the file, resave it "
                "with numpy.save(path, numpy.load(path, allow_pickle=True).astype(str)), or .astype(int) for labels"
            ) from error
        raise ArchiveError(f"{path}: is truncated or no .npy file; copy it again") from error
    if rest:
        raise ArchiveError(f"{path}: has bytes after its array; copy it again")
    return array


def read_names(path: Path) -> tuple[str, ...]:
    """Utterance names, `[N]` or `[N, 1]`, bytes or text.

    Raises:
      ArchiveError: if the file is damaged, or holds something else or a name twice.
    """
    array = read_npy(path)
    if array.dtype.kind not in "SU" or array.ndim not in (1, 2) or array.size != len(array):
        text = f"must hold one name per utterance (bytes or text), found {array.dtype} {list(array.shape)}"
        raise ArchiveError(f"{path}: {text}; copy it again")
    try:
        names = tuple(item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist())
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{path}: holds a name that is not UTF-8; resave it as text") from error
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in seen:
            raise ArchiveError(f"{path}: row {row} names {name!r}, which is already in row {seen[name]}; remove one")
        seen[name] = row
    return names


def read_labels(path: Path, num_classes: int) -> np.ndarray:
    """Labels, `[N]` int: stored as class indices (`[N]` or `[N, 1]`) or one-hot (`[N, K]`).

    Raises:
      ArchiveError: if the file is damaged or a row is no label.
    """
    array = read_npy(path)
    if array.dtype.kind not in "iufb" or array.ndim not in (1, 2) or array.size == 0:
        text = f"must hold class indices or one-hot rows, found {array.dtype} {list(array.shape)}"
        raise ArchiveError(f"{path}: {text}; copy it again")
    if array.ndim == 2 and array.shape[1] > 1:
        wrong = np.flatnonzero(~((array == 1).sum(1) == 1) | ~((array == 0).sum(1) == array.shape[1] - 1))
        label = array.argmax(1)
    else:
        label = array.ravel()
        wrong = np.flatnonzero(label != np.round(label))
    if len(wrong):
        found = np.array2string(array[wrong[0]], threshold=8)
        raise ArchiveError(f"{path}: row {wrong[0]} is {found}, neither a class index nor one-hot; correct it")
    outside = np.flatnonzero((label < 0) | (label >= num_classes))
    if len(outside):
        text = f"row {outside[0]} has label {int(label[outside[0]])}, but there are {num_classes} classes"
        raise ArchiveError(f"{path}: {text} (0 to {num_classes - 1}); correct it or give --class-names")
    return label.astype(np.int64)


def read_folds(target: Path, num_classes: int) -> tuple[list[FileFold], dict[str, int]]:
    """All folds below `target`, and the label of each utterance.

    Raises:
      ArchiveError: if files are missing, do not fit together, or give an utterance two labels.
    """
    try:
        folders = [path for path in target.iterdir() if path.is_dir() and (path / "trn_int2name.npy").exists()]
    except OSError as error:
        raise ArchiveError(f"{target}: cannot be read ({error.strerror}); it must hold one folder per fold") from error
    if not folders:
        raise ArchiveError(f"{target}: no folder in it holds trn_int2name.npy; give the folder with A, V, L and target")
    folds, labels = [], dict[str, int]()
    origin: dict[str, Path] = {}
    for folder in sorted(folders, key=lambda path: (len(path.name), path.name)):
        parts = {}
        for part, prefix in PARTS.items():
            names = read_names(folder / f"{prefix}_int2name.npy")
            path = folder / f"{prefix}_label.npy"
            label = read_labels(path, num_classes)
            if len(label) != len(names):
                raise ArchiveError(f"{path}: has {len(label)} rows for {len(names)} names; copy both again")
            for name, value in zip(names, label.tolist(), strict=True):
                if labels.setdefault(name, value) != value:
                    text = f"{name!r} has label {value} here and {labels[name]} in {origin[name]}"
                    raise ArchiveError(f"{path}: {text}; correct one of them")
                origin.setdefault(name, path)
            parts[part] = names
        folds.append(FileFold(folder.name, parts))
        _check_parts(folds[-1], folder)
    return folds, labels


def _check_parts(fold: FileFold, folder: Path) -> None:
    first: dict[str, str] = {}
    for part, names in fold.parts.items():
        for name in names:
            if name in first:
                text = f"{name!r} is in {PARTS[first[name]]} and in {PARTS[part]}; an utterance belongs to one part"
                raise ArchiveError(f"{folder}: {text}")
            first[name] = part


@contextlib.contextmanager
def open_features(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Raises:
      ArchiveError: if it is missing or damaged.
    """
    if not path.is_file():
        raise ArchiveError(f"{path}: is missing; give the folder with A, V, L and target, or the file by its option")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ArchiveError(f"{path}: is truncated or no HDF5 file; copy it again") from error
    with file:
        yield file


def read_shapes(path: Path, names: Sequence[str], *, allow_missing: bool) -> np.ndarray:
    """Stored frames and width per utterance, `[N, 2]`, zeros where the file lacks it. Reads no values.

    Raises:
      ArchiveError: if an utterance is missing (unless allowed), has another width than most, or no frames.
    """
    shapes = np.zeros((len(names), 2), np.int64)
    with open_features(path) as file:
        for row, name in enumerate(names):
            try:
                item = file[name] if name in file else None  # noqa: SIM401  (get hides damage)
            except Exception as error:  # damaged bytes make h5py raise many types
                raise ArchiveError(f"{path}: key {name!r} is damaged; copy the file again") from error
            if item is None:
                if not allow_missing:
                    text = "is missing though the target files name it"
                    raise ArchiveError(f"{path}: key {name!r} {text}; give --allow-missing to take it as absent")
                continue
            if not isinstance(item, h5py.Dataset) or item.ndim != 2 or item.dtype.kind != "f":
                found = f"{item.dtype} {list(item.shape)}" if isinstance(item, h5py.Dataset) else "a group"
                raise ArchiveError(f"{path}: key {name!r} must be [frames, width] of floats, found {found}")
            if 0 in item.shape:
                text = f"has shape {list(item.shape)}; remove it and give --allow-missing, or extract it again"
                raise ArchiveError(f"{path}: key {name!r} {text}")
            shapes[row] = item.shape
    if not shapes.any():
        raise ArchiveError(
            f"{path}: has none of the {len(names)} utterances, {names[0]!r} first; are the names others?"
        )
    width = np.bincount(shapes[shapes[:, 1] > 0, 1]).argmax()  # that of most utterances
    wrong = np.flatnonzero((shapes[:, 1] > 0) & (shapes[:, 1] != width)).tolist()
    if wrong:
        text = f"has width {shapes[wrong[0], 1]} where most utterances have {width}; extract it again"
        raise ArchiveError(f"{path}: key {names[wrong[0]]!r} {text}")
    return shapes


def read_frames(path: Path, names: Sequence[str], *, allow_missing: bool, keep_padding: bool) -> Frames:
    """Reads one modality into one array, utterance by utterance.

    Args:
      path: The HDF5 file, one data set `[T, D]` per utterance.
      names: Utterances to read, in this order.
      allow_missing: Whether utterances that the file lacks are absent instead of an error.
      keep_padding: Whether trailing frames of zeros stay; if not, they are removed except for the first frame.

    Raises:
      ArchiveError: as `read_shapes`, or if a value is nan or infinite or the file is damaged.
    """
    shapes = read_shapes(path, names, allow_missing=allow_missing)
    width = int(shapes[:, 1].max())
    features = np.empty((int(shapes[:, 0].sum()), width), np.float32)
    length, end = np.zeros(len(names), np.int32), 0
    total, zero = np.zeros((len(names), width)), np.zeros(len(names), bool)
    with open_features(path) as file:
        for row in np.flatnonzero(shapes[:, 0]).tolist():
            values = features[end : end + shapes[row, 0]]
            try:
                file[names[row]].read_direct(values)
            except Exception as error:  # damaged bytes make h5py raise many types
                raise ArchiveError(f"{path}: key {names[row]!r} is damaged; copy the file again") from error
            _check_finite(path, names[row], values)
            total[row] = values.sum(0, dtype=np.float64)
            zero[row] = not values.any()
            length[row] = len(values) if keep_padding else _without_padding(values)
            end += length[row]
        unused = len(file) - int((shapes[:, 0] > 0).sum())
    stored = shapes[:, 0].astype(np.int32)
    return Frames(features[:end], length, stored > 0, stored - length, total, stored, zero, unused)


def _check_finite(path: Path, name: str, values: np.ndarray) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        frame, column = wrong[0].tolist()
        text = f"frame {frame}, column {column} is {values[frame, column]} (as float32); extract it again"
        raise ArchiveError(f"{path}: key {name!r}: {text}")


def _without_padding(values: np.ndarray) -> int:
    filled = np.flatnonzero(values.any(axis=1))
    return int(filled[-1]) + 1 if len(filled) else 1
