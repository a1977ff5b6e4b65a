"""Faults in the files of the MMIN family: functions that make them, given the folder with A, V, L and target."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests import miniature


def one_folder_off(given: str) -> Callable[[Path], list[str]]:
    """The files of the MMIN family, and a folder near them on the command line."""

    def make(folder: Path) -> list[str]:
        miniature.mmin_features(folder)
        return [str(folder / given), str(folder / "out.npz"), "--without-tfds", "--allow-count-differences"]

    return make


def repeat_fold(root: Path) -> None:
    """Makes fold 4 a copy of fold 3, as in a copy of IEMOCAP's files whose fold 8 repeats fold 7."""
    for path in (root / "target/3").iterdir():
        (root / "target/4" / path.name).write_bytes(path.read_bytes())


def add_entry(path: str, name: str) -> Callable[[Path], None]:
    """Adds a data set to an HDF5 file."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            file[name] = file[next(iter(file))][()]

    return spoil


def rename_entries(path: str, count: int) -> Callable[[Path], None]:
    """Gives the first data sets of an HDF5 file names of later turns, which no label names."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            for index, name in enumerate(list(file)[:count]):
                file.move(name, f"{name[:-3]}9{index:02d}")

    return spoil


def shift_entries(path: str) -> Callable[[Path], None]:
    """Gives each utterance of an HDF5 file the data set of the one before."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            names = list(file)
            values = [file[name][()] for name in names]
            for index, name in enumerate(names):
                del file[name]
                file[name] = values[index - 1]

    return spoil


def zero_entries(path: str, *names: str) -> Callable[[Path], None]:
    """Sets all values of data sets of an HDF5 file to zero; of all of them if none is named."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            for name in names or list(file):
                file[name][...] = 0

    return spoil


def lock(path: str) -> Callable[[Path], None]:
    """Locks a file as a program does that has it open for writing; it is unlocked when this process ends."""
    return lambda root: fcntl.flock(os.open(root / path, os.O_RDWR), fcntl.LOCK_EX)


def damage_entry(path: str, name: str) -> Callable[[Path], None]:
    """Damages one data set of an HDF5 file: compressed bytes that are none."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            shape = file[name].shape
            del file[name]
            data = file.create_dataset(name, shape, "f8", chunks=shape, compression="gzip")
            data.id.write_direct_chunk((0, 0), b"not compressed")

    return spoil


def all_of(*spoils: Callable[[Path], None]) -> Callable[[Path], None]:
    """Several faults, one after the other."""

    def spoil(root: Path) -> None:
        for item in spoils:
            item(root)

    return spoil


def move(path: str, to: str) -> Callable[[Path], None]:
    """Moves a file or folder; makes the folder that it goes to."""

    def spoil(root: Path) -> None:
        (root / to).parent.mkdir(parents=True, exist_ok=True)
        (root / path).rename(root / to)

    return spoil


def link(path: str, to: str) -> Callable[[Path], None]:
    """Replaces a file by a link to `to`."""

    def spoil(root: Path) -> None:
        (root / path).unlink()
        (root / path).symlink_to(to)

    return spoil


def features_of_folds(path: str) -> Callable[[Path], None]:
    """An HDF5 file with rows of each part of a fold instead of features of each utterance."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "w") as file:
            for part in ("trn", "val", "tst"):
                file[f"1/{part}"] = np.ones((16, 3, 6))

    return spoil


def rows_of_folds(root: Path) -> None:
    """Rows of each part of a fold in `.npy` files, and no HDF5 file."""
    (root / "V/denseface.h5").unlink()
    (root / "V/1").mkdir()
    np.save(root / "V/1/trn.npy", np.ones((16, 3, 6)))
