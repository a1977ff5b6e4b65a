"""Writing files that appear complete or not at all, and what is said when the disk does not take them."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

PARTIAL = ".partial"
FULL = {errno.ENOSPC, errno.EDQUOT}
LOCKED = {errno.EROFS, errno.EACCES, errno.EPERM}


class DiskError(OSError):
    """A file cannot be written: one sentence that names it and says what to do."""


def disk_error(error: OSError, path: Path | str | None = None) -> DiskError | None:
    """The sentence for a full disk or a folder that cannot be written; None for another error.

    Args:
      error: What the operating system said.
      path: What was being written; by default what the error names.
    """
    if isinstance(error, DiskError):
        return error
    if error.errno not in FULL | LOCKED:
        return None
    what = path or error.filename or "a file of the output folder"
    advice = "free some space" if error.errno in FULL else "make its folder writable"
    return DiskError(
        f"{what} cannot be written ({os.strerror(error.errno)}); {advice}, or name another folder, and give the same "
        "command again: what was finished is kept"
    )


@contextlib.contextmanager
def named_disk_errors(path: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, becomes a `DiskError` that names `path`."""
    try:
        yield
    except (OSError, ValueError) as error:
        found = disk_error(_as_os_error(error), path)
        if found is None:
            raise
        raise found from error


def _as_os_error(error: OSError | ValueError) -> OSError:
    """Orbax gives errors of the disk as a ValueError, with the number in its text."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return OSError(int(number[1]) if number else None, "")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which gets the name `path` at the end. What could not be written is deleted."""
    partial = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}{PARTIAL}")
    with named_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
        except BaseException:  # Ctrl-C, too
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, which is at any moment absent, the old one or the new one, whole."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes text files of a folder, each as `write_text`, and deletes what killed processes left of such files.

    Args:
      folder: Of all of them.
      texts: By their paths in the folder.
    """
    for parent in {(folder / name).parent for name in texts}:
        delete_partial(parent)
    for name, text in texts.items():
        write_text(folder / name, text)


def is_unused(folder: Path) -> bool:
    """Whether a folder is absent or empty. Hidden files do not count: locks, and what killed processes had begun."""
    return not folder.exists() or (folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()))


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which gets the name `folder` at the end. What could not be written is deleted.

    Raises:
      FileExistsError: if the folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name another folder, or delete it")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{PARTIAL}")
    with named_disk_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            partial.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(partial, ignore_errors=True)
            raise FileExistsError(f"{folder} exists; another command has just written it") from error


def delete_partial(folder: Path) -> None:
    """Deletes what killed processes left half-written in a folder of runs; what a living one writes there is left."""
    for path in folder.glob(f".*{PARTIAL}"):
        if _is_written(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_written(partial: Path) -> bool:
    """Whether another process of this machine may be writing it; its name has the number of the process."""
    number = partial.name.removesuffix(PARTIAL).rpartition(".")[2]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)  # asks only
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
