"""Reads the folder `target` of the MMIN family: names and labels of the folds, in `.npy`."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.unreadable import check_readable

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


def find_target(root: Path) -> Path:
    """The folder `target` below `root`.

    Raises:
      ArchiveError: if there is none; names a folder up to three levels below, or the one above, that has it.
    """
    try:
        if (root / "target").is_dir():
            return root / "target"
        inside = sorted(path.name for path in root.iterdir() if path.is_dir())
        deeper = [path for levels in range(1, 4) for path in sorted(root.glob("*/" * levels + "target"))]
    except OSError as error:
        text = f"cannot be read ({error.strerror}); give the folder with A, V, L and target"
        raise ArchiveError(f"{root}: {text}") from error
    advice = "give the folder with A, V, L and target"
    if other := [name for name in inside if name.lower() == "target"]:
        advice = f"rename {root / other[0]} to target"
    elif deeper:
        advice = f"give {deeper[0].parent}, which has one"
    elif os.path.isdir(root.absolute().parent / "target"):
        advice = f"give {root.absolute().parent}, which has one"
    raise ArchiveError(f"{root}: has no folder target; {advice}")


def read_npy(path: Path) -> np.ndarray:
    """Reads numbers or text from an `.npy`; objects are never unpickled.

    Raises:
      ArchiveError: if the file cannot be read, is damaged or holds objects.
    """
    check_readable(path, "copy the target folder again")
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            rest = file.read(1)
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
    folders = _fold_folders(target)
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


def _fold_folders(target: Path) -> list[Path]:
    """Folders with names of utterances. One that lacks some of the files counts, so that it is not passed over."""
    pattern = "_int2name.npy"
    try:
        inside = [path for path in target.iterdir() if path.is_dir()]
        folders = [path for path in inside if any(name.endswith(pattern) for name in os.listdir(path))]
        deeper = sorted(target.glob(f"*/*/*{pattern}"))
    except OSError as error:
        raise ArchiveError(f"{target}: cannot be read ({error.strerror}); it must hold one folder per fold") from error
    if not folders and deeper:
        text = f"the folders of the folds are in {deeper[0].parent.parent}; move them up into {target}"
        raise ArchiveError(f"{target}: {text}")
    if not folders:
        raise ArchiveError(f"{target}: no folder in it holds trn{pattern}; give the folder with A, V, L and target")
    return folders


def _check_parts(fold: FileFold, folder: Path) -> None:
    first: dict[str, str] = {}
    for part, names in fold.parts.items():
        for name in names:
            if name in first:
                text = f"{name!r} is in {PARTS[first[name]]} and in {PARTS[part]}; an utterance belongs to one part"
                raise ArchiveError(f"{folder}: {text}")
            first[name] = part
