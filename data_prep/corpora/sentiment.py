"""Shared by `mosi` and `mosei`: scores become targets and two classes, features go into one HDF5 file per modality."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import h5py
import numpy as np
import tyro

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import check_new
from data_prep.corpora import sentiment_csd, sentiment_pickle
from data_prep.corpora.common import check_counts, finish, note
from data_prep.corpora.segment import MODALITIES, Segment

Source = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.pkl|FOLDER")]
Known = tuple[Mapping[str, int], ...]


class FeatureFiles:
    """Writes one HDF5 file per modality beside the manifest, one data set `[T, D]` float32 per utterance.

    The files get their names when all is written: `with FeatureFiles(source, manifest, force=False) as files`. Values
    that are not finite become 0, as is usual for COVAREP, and are counted.

    Raises:
      ArchiveError: if a file is there already, cannot be written, or would have frames of two widths.
    """

    def __init__(self, source: Path, manifest: Path, *, force: bool) -> None:
        self.source = source
        self.paths = {name: manifest.with_name(f"{manifest.stem}_{name}.h5") for name in MODALITIES}
        for path in (manifest, *self.paths.values()):
            check_new(path, force=force)
        self.num_utterances = dict.fromkeys(MODALITIES, 0)
        self.num_replaced = dict.fromkeys(MODALITIES, 0)
        self._width: dict[str, int] = {}
        self._temporary = {name: path.with_name(f".{path.name}.{os.getpid()}") for name, path in self.paths.items()}
        self._files: dict[str, h5py.File] = {}

    def __enter__(self) -> Self:
        for name, path in self._temporary.items():
            with _written(self.paths[name]):
                self._files[name] = h5py.File(path, "w")
        return self

    def add(self, name: str, modality: str, frames: np.ndarray) -> None:
        """Adds the frames of an utterance."""
        width = self._width.setdefault(modality, frames.shape[1])
        if frames.shape[1] != width:
            text = f"{modality} of utterance {name!r} has {frames.shape[1]} numbers a frame where others have {width}"
            raise ArchiveError(f"{self.source}: {text}; take another copy of the file")
        is_finite = np.isfinite(frames)
        self.num_replaced[modality] += int(frames.size - is_finite.sum())
        self.num_utterances[modality] += 1
        with _written(self.paths[modality]):
            self._files[modality].create_dataset(name, data=np.where(is_finite, frames, 0).astype(np.float32))

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        try:
            for name, file in self._files.items():
                with _written(self.paths[name]):
                    file.close()
            for name in self.written() if kind is None else []:
                with _written(self.paths[name]):
                    os.replace(self._temporary[name], self.paths[name])
        finally:
            for temporary in self._temporary.values():
                temporary.unlink(missing_ok=True)

    def written(self) -> list[str]:
        """Modalities that an utterance has."""
        return [name for name, count in self.num_utterances.items() if count]

    def extractors(self) -> dict[str, str]:
        """What `data_prep.manifest` takes to read them."""
        return {name: f"features:{self.paths[name]}" for name in self.written()}

    def tell(self) -> None:
        """Prints what was written and replaced."""
        for name in self.written():
            if count := self.num_replaced[name]:
                print(f"note: {name}: {count} values that are not finite were set to 0")
            print(f"wrote {self.paths[name]}: {self.num_utterances[name]} utterances")


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # what h5py raises if the disk is full
        raise ArchiveError(f"{path}: cannot be written ({error}); choose another path") from error


def write_sentiment(
    source: Path,
    manifest: Path,
    known: Known,
    known_without_split: Known,
    *,
    folds: Path | None,
    drop_neutral: bool,
    force: bool,
    allow: bool,
) -> None:
    """Writes features and manifest of CMU-MOSI or CMU-MOSEI.

    Args:
      source: A pickle of MMSA or MulT, or a folder with `.csd` files.
      manifest: The file to write.
      known: Numbers of utterances per part, of each published version of the corpus; empty if there are none.
      known_without_split: The same where there is no split: of a folder, without `folds`.
      folds: With `.csd` files: the Python file of the SDK with the lists of videos per part; `None`: there is no split.
      drop_neutral: Leaves out the score 0.
      force: Replaces files that are there.
      allow: Goes on if the counts are not known ones.

    Raises:
      ArchiveError: if a file is there or cannot be read or written, an id is there twice, or the counts differ.
    """
    if source.is_dir():
        segments = sentiment_csd.read_segments(source, folds)
        known = known_without_split if folds is None else known
    else:
        segments = sentiment_pickle.read_segments(source)
    _write(source, manifest, segments, known, drop_neutral=drop_neutral, force=force, allow=allow)


def _write(
    source: Path,
    manifest: Path,
    segments: Iterator[Segment],
    known: Known,
    *,
    drop_neutral: bool,
    force: bool,
    allow: bool,
) -> None:
    files = FeatureFiles(source, manifest, force=force)
    rows: dict[str, dict[str, object]] = {}
    parts, neutral, empty = [], [], []
    with files:
        for segment in segments:
            _check(source, segment, rows)
            parts.append(segment.split or "all")
            present = {name: frames for name, frames in segment.features.items() if len(frames)}
            if drop_neutral and segment.score == 0:
                neutral.append(segment.name)
            elif not present:
                empty.append(segment.name)
            else:
                rows[segment.name] = _row(segment)
                for name, frames in present.items():
                    files.add(segment.name, name, frames)
        _check_parts(source, parts, known, allow=allow)
    note("utterances of the score 0, left out", neutral)
    note("utterances without any frame, left out", empty)
    files.tell()
    finish(manifest, list(rows.values()), files.extractors())


def _check(source: Path, segment: Segment, rows: Mapping[str, object]) -> None:
    name = segment.name
    if not np.isfinite(segment.score):
        raise ArchiveError(f"{source}: utterance {name!r} has no score; take another copy of the file")
    if name in rows:
        raise ArchiveError(f"{source}: utterance {name!r} is there twice; take another copy of the file")
    if not name or "/" in name or name.strip() != name or not name.isprintable():
        raise ArchiveError(f"{source}: {name!r} cannot be the id of an utterance; take another copy of the file")


def _row(segment: Segment) -> dict[str, object]:
    row: dict[str, object] = {
        "utterance_id": segment.name,
        "speaker": segment.video,
        "label": "positive" if segment.score >= 0 else "negative",
        "target": f"{segment.score:.6g}",
    }
    return row | {key: value for key, value in {"split": segment.split, "text": segment.text}.items() if value}


def _check_parts(source: Path, parts: list[str], known: Known, *, allow: bool) -> None:
    counts = {part: parts.count(part) for part in dict.fromkeys(parts)}
    if known:
        version = next((version for version in known if version == counts), known[0])
        check_counts(source, parts, version, allow=allow)
    else:
        print(f"{len(parts)} utterances; no published number is known")
