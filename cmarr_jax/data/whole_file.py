"""Writes a file under a temporary name first: it is complete under its own name, or not there at all."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError


@contextlib.contextmanager
def whole_file(path: Path, option: str = "") -> Iterator[Path]:
    """A temporary path in the same folder, to write to. At the end it is renamed to `path`; after an error, deleted.

    Args:
      path: The file.
      option: Of the command line, which named it: the message begins with it.

    Raises:
      ArchiveError: if the file cannot be written. An error of another file, which the caller reads meanwhile, is not.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, temporary, os.fspath(temporary)):
            raise
        said = f"{option}: " if option else ""
        raise ArchiveError(f"{said}{path}: cannot be written ({error.strerror}); choose another path") from error
    finally:
        with contextlib.suppress(OSError):  # a name that is too long cannot be deleted either
            temporary.unlink(missing_ok=True)
