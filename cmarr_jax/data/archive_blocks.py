"""Reads the features of an `.npz` in the form of a feature archive as a stream, so that memory does not grow.

What only training needs (speaker, session, label, class_names, split, target) may be missing and is not read. The
features are read as they are: whoever uses an utterance checks its widths and values.
"""

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from cmarr_jax.data.archive import load_array, open_archive
from cmarr_jax.data.corpus import RESERVED, ArchiveError, check_distinct, check_text, fault

BLOCK = 256  # utterances read at a time
Named = tuple[str, dict[str, np.ndarray]]


def read_utterances(path: Path, only: Sequence[str] = ()) -> Iterator[Named]:
    """Yields id and features of each utterance: frames `[T, D]` or one vector `[D]` of each modality that it has.

    Args:
      path: The `.npz`: `utterance_id`, and for each modality NAME, NAME_length and NAME_present as in an archive.
      only: Modalities to read; all by default.

    Raises:
      ArchiveError: if the file cannot be read, or its arrays do not belong together.
    """
    source = str(path)
    with open_archive(source) as archive:
        keys = [info.filename.removesuffix(".npy") for info in archive.infolist()]
        if "utterance_id" not in keys:
            raise fault(source, "utterance_id", "is missing; give every utterance a name")
        ids = load_array(archive, source, "utterance_id")
        check_text(source, "utterance_id", ids)
        check_distinct(source, "utterance_id", ids)
        columns = [_Column(archive, source, name, len(ids)) for name in _names(archive, source, keys, only)]
        for start in range(0, len(ids), BLOCK):
            stop = min(start + BLOCK, len(ids))
            parts = {column.name: column.read(start, stop) for column in columns}
            for row in range(stop - start):
                found = {name: values[row] for name, values in parts.items()}
                yield str(ids[start + row]), {name: value for name, value in found.items() if value is not None}
        for column in columns:
            column.check_end()


def _names(archive: zipfile.ZipFile, source: str, keys: Sequence[str], only: Sequence[str]) -> list[str]:
    """The modalities to read: those that `modalities` names, else every key that is no other key of the format."""
    suffixed = {f"{name}_{suffix}" for name in keys for suffix in ("length", "present")}
    names = [key for key in keys if key not in RESERVED and key not in suffixed]
    if "modalities" in keys:
        listed = load_array(archive, source, "modalities")
        check_text(source, "modalities", listed)
        for name in names:
            if name not in listed:
                raise fault(source, name, "is not in modalities; add it there or remove it")
        names = listed.tolist()
    for name in (*names, *only):
        if name not in keys:
            raise fault(source, name, f"is missing; the file has {', '.join(keys)}")
    return [name for name in names if not only or name in only]


class _Column:
    """One modality: its array is read forward, block by block."""

    def __init__(self, archive: zipfile.ZipFile, source: str, name: str, num: int) -> None:
        self.name, self.source = name, source
        keys = archive.namelist()
        load = lambda key: load_array(archive, source, key) if f"{key}.npy" in keys else None
        present, self.length = load(f"{name}_present"), load(f"{name}_length")
        self.present = np.ones(num, bool) if present is None else present
        if self.present.dtype != np.bool_ or self.present.shape != (num,):
            raise fault(source, f"{name}_present", f"must be bool with one entry per utterance_id, {num}")
        self.stream, self.shape, self.dtype = self._open(archive)
        rows = num if self.length is None else self._total(num)
        if self.shape[0] != rows:
            text = f"has {self.shape[0]} rows where {rows} are expected; write one row per utterance, or {name}_length"
            raise fault(source, name, text)

    def _open(self, archive: zipfile.ZipFile) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
        """The entry behind its header, and the shape and dtype that the header says."""
        try:
            stream = archive.open(f"{self.name}.npy")
            version = np.lib.format.read_magic(stream)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, by_columns, dtype = read(stream)
        except Exception as error:  # damaged bytes make zipfile, zlib and numpy raise many types
            raise self._damaged(error) from error
        if len(shape) != 2 or dtype.kind not in "fiu":
            raise fault(
                self.source, self.name, f"must be [N, D] or [sum of T, D] of numbers, found {dtype} {list(shape)}"
            )
        if by_columns and min(shape) > 1:
            raise fault(self.source, self.name, "is stored by columns; write it after numpy.ascontiguousarray")
        return stream, shape, dtype

    def _total(self, num: int) -> int:
        length, key = self.length, f"{self.name}_length"
        assert length is not None
        if length.dtype.kind not in "iu" or length.shape != (num,):
            raise fault(self.source, key, f"must be integers, one per utterance_id, {num}")
        if (length < 0).any():
            raise fault(self.source, key, "is negative; give the number of frames", int(np.argmax(length < 0)))
        return int(length.sum(dtype=np.int64))

    def read(self, start: int, stop: int) -> list[np.ndarray | None]:
        """Features of the next utterances; `None` where they are absent."""
        lengths = np.ones(stop - start, int) if self.length is None else self.length[start:stop].astype(int)
        rows, width = int(lengths.sum()), self.shape[1]
        try:
            data = self.stream.read(rows * width * self.dtype.itemsize)
            values = np.frombuffer(data, self.dtype).reshape(rows, width)
        except Exception as error:
            raise self._damaged(error) from error
        ends = list(itertools.accumulate(lengths.tolist()))
        take = lambda end, frames: values[end - 1] if self.length is None else values[end - frames : end]
        return [
            take(end, frames) if has else None
            for end, frames, has in zip(ends, lengths.tolist(), self.present[start:stop], strict=True)
        ]

    def check_end(self) -> None:
        """Raises ArchiveError if more follows; zipfile compares the checksum where the entry ends."""
        try:
            rest = self.stream.read(1)
        except Exception as error:
            raise self._damaged(error) from error
        if rest:
            raise fault(self.source, self.name, "is longer than its header says; write the file again")

    def _damaged(self, error: Exception) -> ArchiveError:
        return fault(self.source, self.name, f"is truncated or damaged ({error}); copy or write the file again")
