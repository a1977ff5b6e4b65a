"""Keeps a second command out of a folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock
import jax

LOCK = ".lock"


@contextlib.contextmanager
def own_folder(folder: Path) -> Iterator[None]:
    """Keeps other commands out of the folder; the lock ends with the process, however it ends.

    Raises:
      ValueError: if another command is training in it.
    """
    if jax.process_index() != 0:
        yield
        return
    lock = filelock.FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ValueError(
            f"{folder}: another command is training in this folder; wait until it has ended, or name another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()
