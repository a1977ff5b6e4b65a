"""Miniature corpora with one fault each, and the command lines that read them."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests import miniature


def mmin(spoil: Callable[[Path], None], *options: str, counts: bool = True) -> Callable[[Path], list[str]]:
    """The files of the MMIN family, spoilt."""

    def make(folder: Path) -> list[str]:
        root = miniature.mmin_features(folder)
        spoil(root)
        allowed = ["--allow-count-differences"] if counts else []
        return [str(root), str(folder / "out.npz"), "--without-tfds", *allowed, *options]

    return make


def raw(
    make: Callable[..., Path],
    spoil: Callable[[Path], None],
    *options: str,
    media: bool = False,
    text: str = "text_transformer",
) -> Callable[[Path], list[str]]:
    """A raw corpus, spoilt; labels and media are looked at, nothing is extracted."""

    def argv(folder: Path) -> list[str]:
        root = make(folder, with_media=media)
        spoil(root)
        given = ["--video", "none", "--text", text, "--dry-run", "--allow-count-differences"]
        return [str(root), str(folder / "out.npz"), *given, *options]

    return argv


def change_h5(path: str, name: str, value: object = None) -> Callable[[Path], None]:
    """Replaces a data set of an HDF5 file, or removes it."""

    def spoil(root: Path) -> None:
        with h5py.File(root / path, "r+") as file:
            del file[name]
            if isinstance(value, np.ndarray):
                file[name] = value
            elif value is not None:
                file.create_group(name)

    return spoil


def change_npy(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Replaces an array of the target folder."""

    def spoil(root: Path) -> None:
        np.save(root / "target" / path, change(np.load(root / "target" / path)))

    return spoil


def cut(path: str) -> Callable[[Path], None]:
    """Takes the second half of a file away."""
    return lambda root: (
        (root / path).write_bytes((root / path).read_bytes()[: (root / path).stat().st_size // 2]) and None
    )


def write(path: str, data: bytes) -> Callable[[Path], None]:
    """Overwrites a file."""
    return lambda root: (root / path).write_bytes(data) and None


def replace(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Replaces the first occurrence in a text file."""

    def spoil(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new, 1))

    return spoil


def remove(path: str) -> Callable[[Path], None]:
    """Removes a file, or all files of a folder."""

    def spoil(root: Path) -> None:
        for item in [root / path] if (root / path).is_file() else (root / path).iterdir():
            item.unlink()

    return spoil


def pickled(root: Path) -> None:
    """Saves names as Python objects."""
    path = root / "target/1/trn_int2name.npy"
    np.save(path, np.load(path).astype(str).astype(object), allow_pickle=True)


def swap_parts(root: Path) -> None:
    """Swaps the validation and the test part of fold 1."""
    for kind in ("int2name", "label"):  # fold 1 tests whom fold 2 tests
        one, two = root / f"target/1/tst_{kind}.npy", root / f"target/1/val_{kind}.npy"
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)


def reorder(root: Path) -> None:
    """Turns the order of all names and labels around."""
    for path in (root / "target").glob("*/*.npy"):
        np.save(path, np.load(path)[::-1])


def move_to_train(root: Path) -> None:
    """Moves the first test utterance of fold 1 to its training part."""
    for kind in ("int2name", "label"):
        train, test = root / f"target/1/trn_{kind}.npy", root / f"target/1/tst_{kind}.npy"
        np.save(train, np.concatenate([np.load(train), np.load(test)[:1]]))
        np.save(test, np.load(test)[1:])


def stereo(root: Path) -> None:
    """Makes a wav one of two channels and 44100 Hz."""
    path = root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F001.wav"
    miniature.write_wav(path, np.zeros((9000, 2), np.int16), 44100)


def deeper(root: Path) -> None:
    """Moves a corpus one folder down, into one of the same name."""
    inside = root.with_name("moving")
    root.rename(inside)
    root.mkdir()
    inside.rename(root / root.name)


def copy_folder(path: str, name: str) -> Callable[[Path], None]:
    """Copies a folder to one beside it."""
    return lambda root: shutil.copytree(root / path, (root / path).with_name(name)) and None


def move(old: str, new: str) -> Callable[[Path], None]:
    """Renames a file or folder."""
    return lambda root: (root / old).rename(root / new) and None


def copy_wav(root: Path) -> None:
    """Adds a second file with the name of another one."""
    (root / "copy").mkdir()
    (root / "copy/MSP-IMPROV-S01A-F01-S-MF00.wav").write_bytes(b"RIFF")


def tfds_folder(spoil: Callable[[Path], None]) -> Callable[[Path], list[str]]:
    """A tfds data set of the MMIN family's miniature files, spoilt."""

    def make(folder: Path) -> list[str]:
        from data_prep import mmin_features

        root = miniature.mmin_features(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            assert mmin_features.main([str(root), str(folder / "out.npz"), "--allow-count-differences"]) == 0
        data_set = folder / "tfds/iemocap/out/1.0.0"
        spoil(data_set)
        return [str(data_set), str(folder / "back.npz")]

    return make


def cut_records(data_set: Path) -> None:
    """Keeps the first 100 bytes of each file of records."""
    for path in data_set.glob("*.array_record*"):
        path.write_bytes(path.read_bytes()[:100])


nothing = lambda root: None
to_five = lambda label: np.concatenate([label, np.zeros((len(label), 1))], 1)[:, [0, 1, 2, 4, 3]]


def rename(path: Path) -> None:
    """Gives all data sets of an HDF5 file other names."""
    with h5py.File(path, "r+") as file:
        for name in list(file):
            file.move(name, f"X{name}")
