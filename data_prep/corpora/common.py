"""Shared by the makers of manifests: finds files, compares counts, writes the manifest and says what comes next."""

import collections
import filecmp
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag
from data_prep.manifest_table import write_manifest
from data_prep.text_files import cannot_read, stop_at

Folder = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
Manifest = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST.csv")]
Allow = Annotated[Flag, tyro.conf.arg(name="allow-count-differences")]

SOUNDS = (".wav", ".flac")
VIDEOS = (".mp4", ".flv", ".avi", ".mkv", ".mov")
_LFS = b"version https://git-lfs"
_SHOWN = 3  # examples in a note


def find_files(
    folder: Path, endings: Sequence[str], key: Callable[[Path], str | None] = lambda path: path.stem
) -> dict[str, Path]:
    """Files anywhere below a folder by a key, by default the name without its ending.

    Hidden files, such as `._a.wav` of a Mac, are not seen. A file that is there twice with the same bytes is taken
    once, and counted in a printed note.

    Args:
      folder: Where to look.
      endings: Endings of names, in small letters.
      key: Key of a path; `None` leaves the file out.

    Raises:
      ArchiveError: if the folder cannot be read, or two files of one key differ.
    """
    found: dict[str, Path] = {}
    copies = []
    for path in sorted(_walk(folder), key=lambda path: (len(path.parts), path)):
        name = key(path) if path.suffix.lower() in endings else None
        if name is None:
            continue
        first = found.setdefault(name, path)
        if first is path:
            continue
        if not same_bytes(first, path):
            raise ArchiveError(f"{path}: has the name of {first} and other content; move one of them away")
        copies.append(path)
    note("files that are there twice, taken once", copies)
    return found


def _walk(folder: Path) -> Iterable[Path]:
    for parent, folders, files in os.walk(folder, onerror=stop_at):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        yield from (Path(parent) / name for name in files if not name.startswith("."))


def same_bytes(one: Path, two: Path) -> bool:
    """Whether two files hold the same. Raises ArchiveError if they cannot be read."""
    try:
        return filecmp.cmp(one, two, shallow=False)
    except OSError as error:
        raise ArchiveError(cannot_read(Path(error.filename or one), error)) from error


def check_media(paths: Iterable[Path]) -> None:
    """Raises ArchiveError if a file is the pointer that Git leaves when Git LFS is not installed."""
    for path in paths:
        try:
            with open(path, "rb") as file:
                is_pointer = file.read(len(_LFS)) == _LFS
        except OSError as error:
            raise ArchiveError(cannot_read(path, error)) from error
        if is_pointer:
            text = "is a Git LFS pointer, not the media; run `git lfs pull` in its repository, or move the folder away"
            raise ArchiveError(f"{path}: {text}")


def check_counts(source: Path, found: Iterable[str], known: Mapping[str, int], *, allow: bool) -> None:
    """Compares how often each name (a class, or part and class) is found with the published numbers, and prints both.

    Raises:
      ArchiveError: with the numbers that differ, unless `allow`.
    """
    counts = collections.Counter(found)
    names = [*known, *sorted(counts.keys() - known.keys())]
    print(f"{counts.total()} utterances: {', '.join(f'{name} {counts[name]}' for name in names)}")
    different = [
        f"{name} {counts[name]} where {known.get(name, 0)} is known"
        for name in names
        if counts[name] != known.get(name, 0)
    ]
    if not different:
        print("The counts are the known ones.")
        return
    text = f"the counts differ from the known ones: {'; '.join(different)}"
    if not allow:
        raise ArchiveError(f"{source}: {text}; give --allow-count-differences to go on")
    print(f"warning: {text}")


def note(text: str, items: Sequence[object]) -> None:
    """Prints how many there are of something, and some of them."""
    if items:
        more = ", ..." if len(items) > _SHOWN else ""
        print(f"note: {text}: {len(items)} ({', '.join(str(item) for item in items[:_SHOWN])}{more})")


def default_extractors(*, audio: bool, video: bool, text: bool) -> dict[str, str]:
    """An extractor for each modality that there is. None of these needs weights."""
    names = {"audio": ("compare_2016", audio), "video": ("face_hog", video), "text": ("text_hashing", text)}
    return {modality: name for modality, (name, there) in names.items() if there}


def finish(manifest: Path, rows: Sequence[Mapping[str, object]], extractors: Mapping[str, str]) -> None:
    """Writes the manifest and prints the command that makes an archive of it.

    Args:
      manifest: The file to write.
      rows: Its rows.
      extractors: Extractor per modality, as `data_prep.manifest` takes it.
    """
    write_manifest(manifest, rows)
    speakers = len({row["speaker"] for row in rows})
    print(f"wrote {manifest}: {len(rows)} utterances, {speakers} speakers")
    options = (word for name, value in extractors.items() for word in (f"--{name}", value))
    command = ["python", "-m", "data_prep.manifest", str(manifest), str(manifest.with_suffix(".npz")), *options]
    print(f"next: {shlex.join(command)}")
