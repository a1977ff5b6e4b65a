"""Reads and writes the feature archive, the input format of the library. Its contents are checked by `corpus.py`.

An archive is an `.npz` (never unpickled; float16 or float32 features, unicode text) with the keys

| key | shape | content |
|---|---|---|
| `utterance_id` | `[N]` text | distinct |
| `speaker`, `session` | `[N]` text | folds are made from them |
| `label` | `[N]` integer | index into `class_names`, or -1: nobody has labelled the utterance |
| `class_names` | `[K]` text | distinct, K >= 2, each with a labelled utterance |
| `modalities` | `[M]` text | distinct identifiers, M >= 2; their order is that of the columns of `present` |
| NAME, per modality | `[N, D]` float | one vector per utterance |
| or NAME | `[sum of T, D]` float | frames of all utterances one after another, with NAME`_length` `[N]` integer |
| NAME`_present` | `[N]` bool | optional: `False` where the modality is missing by nature |
| `target` | `[N]` float | optional: the number that a regression predicts; nan where `label` is -1 |
| `split` | `[N]` text | optional: `train`, `val` or `test`, all three used, instead of folds |

Any other key is an error, so misspelt keys are found. Nothing is dropped or repaired. Values of absent entries are
ignored: they may be NaN, and both reading and writing replace them by zeros. An absent entry of a sequence may have
length 0; a present one may not.
"""

import dataclasses
import hashlib
import math
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cmarr_jax.data.corpus import (
    REQUIRED,
    ArchiveError,
    Corpus,
    check_corpus,
    check_modalities,
    check_text,
    fault,
    frame_where,
    is_unicode,
)
from cmarr_jax.data.whole_file import whole_file


def read_archive(path: str | os.PathLike[str]) -> Corpus:
    """Reads and checks a feature archive.

    Peak memory is the size of the arrays and about 4 MB for the checks. Labels and lengths of any integer type become
    int32, targets float32, absent entries become zeros, all other values stay as stored.

    Raises:
      ArchiveError: at the first fault, with one sentence that names file, key and row and says what to do.
    """
    source = os.fspath(path)
    with open_archive(source) as archive:
        keys = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        for key in REQUIRED:
            if key not in keys:
                raise fault(source, key, "is missing; write the archive with cmarr_jax.data.archive.write_archive")
        modalities = load_array(archive, source, "modalities")
        check_modalities(source, modalities)
        names = [str(name) for name in modalities]
        _check_keys(source, keys, names)
        arrays = {key: load_array(archive, source, key) for key in keys if key != "modalities"}
    corpus = _from_arrays(source, names, arrays)
    check_corpus(corpus, source)
    for column, name in enumerate(names):
        _zero_absent(corpus, name, corpus.features[name], column)  # in place: the arrays were just read
    return _with_common_types(corpus)


def write_archive(path: str | os.PathLike[str], corpus: Corpus, *, compressed: bool = False) -> None:
    """Checks a corpus and writes it as a feature archive.

    A temporary file in the same folder is written and then renamed: if the process is killed, `path` holds the old
    archive or the new one. An existing file is replaced. Equal corpora give equal bytes, and reading returns the corpus
    bit by bit (absent entries as zeros).

    Args:
      path: The `.npz` to write.
      corpus: What to write.
      compressed: Compress with deflate: slower, and saves little on float features.

    Raises:
      ArchiveError: if the corpus has a fault, or the file cannot be written.
    """
    source = os.fspath(path)
    check_corpus(corpus, source)
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with whole_file(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", method) as archive:
        for key, array in _to_arrays(corpus):
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _plain(array), allow_pickle=False)


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_archive(source: str) -> zipfile.ZipFile:
    """Opens an `.npz`. Raises ArchiveError for any other file."""
    try:
        with open(source, "rb") as file:
            start = file.read(6)
    except OSError as error:
        raise ArchiveError(f"{source}: cannot be read ({error.strerror}); give the path of an .npz archive") from error
    if not start:
        raise ArchiveError(f"{source}: is an empty file; write the archive again")
    if not start.startswith(b"PK"):
        advice = "write it with cmarr_jax.data.archive.write_archive"
        if Path(source).suffix in (".csv", ".parquet"):
            advice = f"if it is a manifest, make an archive of it: python -m data_prep.manifest {source} OUT.npz"
        raise ArchiveError(f"{source}: is not an .npz archive; {advice}")
    try:
        archive = zipfile.ZipFile(source)
    except Exception as error:  # damaged bytes make zipfile raise many types
        raise ArchiveError(f"{source}: is truncated or damaged ({error}); copy or write it again") from error
    if any(info.comment for info in archive.infolist()):  # a damaged length here swallows the entries that follow
        archive.close()
        raise ArchiveError(f"{source}: is damaged (an entry has a comment); copy or write it again")
    return archive


def load_array(archive: zipfile.ZipFile, source: str, key: str) -> np.ndarray:
    """Reads one array. Its header is checked first: no object is unpickled, and a false size allocates nothing."""
    name = f"{key}.npy"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy only warns of damaged headers
            dtype = _checked_dtype(archive, name)
            if not dtype.hasobject:
                with archive.open(name) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                if array.dtype.kind == "U" and not is_unicode(array).all():
                    raise ValueError("text that is not Unicode")
    except MemoryError as error:
        raise fault(source, key, "does not fit into memory; use a larger machine or float16") from error
    except Exception as error:  # damaged bytes make zipfile, zlib and numpy raise many types
        raise fault(source, key, f"is truncated or damaged ({error}); copy or write the file again") from error
    if dtype.hasobject:
        raise fault(source, key, "holds Python objects, which are never unpickled; convert it to text or numbers")
    return array


def _checked_dtype(archive: zipfile.ZipFile, name: str) -> np.dtype:
    """The dtype of an entry; its header and size must agree (zipfile checks no checksum of a short read)."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(member)
        else:
            raise ValueError(f"npy version {version}")
        size = member.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != archive.getinfo(name).file_size:
        raise ValueError(f"{archive.getinfo(name).file_size} bytes where the header says {size}")
    return dtype


def _check_keys(source: str, keys: list[str], names: list[str]) -> None:
    optional = ["target", "split", *(f"{name}_{suffix}" for name in names for suffix in ("length", "present"))]
    for name in names:
        if name not in keys:
            raise fault(source, name, "is missing though modalities names it; add it or take it out of modalities")
    for row, key in enumerate(keys):
        if key not in (*REQUIRED, *names, *optional):
            raise fault(source, key, f"is not a key of the format with modalities {names}; correct or remove it")
        if key in keys[:row]:
            raise fault(source, key, "is in the file twice; write it again")


def _from_arrays(source: str, names: list[str], arrays: dict[str, np.ndarray]) -> Corpus:
    check_text(source, "class_names", arrays["class_names"])
    check_text(source, "utterance_id", arrays["utterance_id"])
    everywhere = np.ones(len(arrays["utterance_id"]), bool)
    present = [arrays.get(f"{name}_present", everywhere) for name in names]
    for name, column in zip(names, present, strict=True):
        if column.dtype != np.bool_ or column.shape != everywhere.shape:
            text = f"must be bool with one entry per utterance_id, {len(everywhere)}, found {column.dtype}"
            raise fault(source, f"{name}_present", f"{text} {list(column.shape)}")
    return Corpus(
        utterance_id=arrays["utterance_id"],
        speaker=arrays["speaker"],
        session=arrays["session"],
        label=arrays["label"],
        class_names=tuple(str(name) for name in arrays["class_names"]),
        features={name: arrays[name] for name in names},
        length={name: arrays[f"{name}_length"] for name in names if f"{name}_length" in arrays},
        present=np.stack(present, axis=1),
        split=arrays.get("split"),
        target=arrays.get("target"),
    )


def _to_arrays(corpus: Corpus) -> Iterator[tuple[str, np.ndarray]]:
    """Keys and arrays to write. Optional keys come first, so that a truncated file always lacks a required key."""
    corpus = _with_common_types(corpus)
    if corpus.split is not None:
        yield "split", corpus.split
    if corpus.target is not None:
        yield "target", corpus.target
    for column, name in enumerate(corpus.modalities):
        if not corpus.present[:, column].all():
            yield f"{name}_present", corpus.present[:, column]
        if name in corpus.length:
            yield f"{name}_length", corpus.length[name]
    for column, (name, features) in enumerate(corpus.features.items()):
        if not corpus.present[:, column].all():
            features = features.copy()
            _zero_absent(corpus, name, features, column)
        yield name, features
    for key in ("utterance_id", "speaker", "session", "label"):
        yield key, getattr(corpus, key)
    yield "class_names", np.array(corpus.class_names, str)
    yield "modalities", np.array(corpus.modalities, str)


def _plain(array: np.ndarray) -> np.ndarray:
    """The same values, stored by rows, with text no wider than its longest entry: equal values give equal bytes."""
    if array.dtype.kind == "U":
        array = np.array(array.tolist(), str)
    return np.ascontiguousarray(array)


def _zero_absent(corpus: Corpus, name: str, features: np.ndarray, column: int) -> None:
    """Sets absent entries of `features` to zero, in place."""
    if not corpus.present[:, column].all():
        features[frame_where(corpus, name, ~corpus.present[:, column])] = 0


def _with_common_types(corpus: Corpus) -> Corpus:
    length = {name: array.astype(np.int32) for name, array in corpus.length.items()}
    target = None if corpus.target is None else corpus.target.astype(np.float32)
    return dataclasses.replace(corpus, label=corpus.label.astype(np.int32), length=length, target=target)
