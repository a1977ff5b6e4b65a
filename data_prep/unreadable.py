"""Says why a file cannot be read: each cause has its own sentence, because each needs something else done."""

import errno
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError

_HEADS = {
    b"version https://git-lfs": "is a Git LFS pointer and not the file itself; run git lfs pull where you cloned it",
    b"/annex/objects/": "is a git-annex pointer and not the file itself; run git annex get where you cloned it",
    b"<": "is a web page and not the file itself, so the download failed; download it again",
    b"PK\x03\x04": "is a zip archive; unpack it and give the file that is in it",
    b"\x1f\x8b": "is compressed with gzip; unpack it",
}


def check_readable(path: Path, if_missing: str) -> None:
    """Reads the first bytes of a file.

    Args:
      path: The file.
      if_missing: What to do if there is no such file; the end of that sentence.

    Raises:
      ArchiveError: if it is missing, no file or empty, may not be read, or is something that stands in for the file.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except FileNotFoundError as error:
        if path.is_symlink():
            text = f"is a link to {path.readlink()}, which is not there; fetch that file"
            raise ArchiveError(f"{path}: {text}") from error
        raise ArchiveError(f"{path}: is missing; {if_missing}") from error
    except PermissionError as error:
        text = "may not be read (permission denied); change its permissions with chmod, or ask its owner"
        raise ArchiveError(f"{path}: {text}") from error
    except IsADirectoryError as error:
        raise ArchiveError(f"{path}: is a folder where a file is wanted; {if_missing}") from error
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be read ({error.strerror}); {if_missing}") from error
    if not head:
        raise ArchiveError(f"{path}: is empty (0 bytes); copy it again")
    for start, text in _HEADS.items():
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(start):
            raise ArchiveError(f"{path}: {text}")


def hdf5_reason(error: OSError) -> str:
    """Why h5py did not open a file that `check_readable` let pass, and what to do; the end of a sentence."""
    text = str(error)
    if "unable to lock file" in text and error.errno in (errno.EAGAIN, errno.EACCES):
        return "is locked by a program that has it open for writing, such as a notebook; close it there"
    if "unable to lock file" in text:
        return "is on a file system without locks; set the environment variable HDF5_USE_FILE_LOCKING=FALSE"
    if "already open for write" in text:
        return "was not closed by the program that wrote it; close it there, or run h5clear -s on a copy"
    if "truncated" in text:
        return "is truncated; copy it again"
    if "signature not found" in text:
        return "is no HDF5 file; copy it again, or give another file by its option"
    return f"is damaged ({text}); copy it again"
