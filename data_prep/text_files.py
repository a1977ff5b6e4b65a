"""Reads text files as people really have them: any line ends, UTF-8, UTF-16 or the Windows and Latin encodings."""

import codecs
import errno
from pathlib import Path
from typing import NoReturn

from cmarr_jax.data.corpus import ArchiveError

_MARKS = {  # at the beginning of a file; that of UTF-32 begins with that of UTF-16
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
_ADVICE = {
    errno.ENOENT: "check the path",
    errno.EACCES: "give yourself the right to read it",
    errno.EPERM: "give yourself the right to read it",
    errno.EISDIR: "give a file in it",
    errno.ENOTDIR: "check the path",
    errno.ENAMETOOLONG: "shorten the path",
}


def read_text(path: Path) -> str:
    """A text file with `\\n` as line ends.

    The encoding is UTF-16 or UTF-32 where the file begins with its mark, else UTF-8, else Windows-1252 (which has
    curly quotes where Latin-1 has control characters), else Latin-1.

    Raises:
      ArchiveError: if it cannot be read or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArchiveError(cannot_read(path, error)) from error
    return decode(data, path)


def read_lines(path: Path) -> list[str]:
    """The lines of `read_text`."""
    return read_text(path).split("\n")


def decode(data: bytes, path: Path) -> str:
    """The text of a file's bytes; `path` is for the message. Raises ArchiveError if they are no text."""
    marked = [name for name, marks in _MARKS.items() if data.startswith(marks)]
    if marked:
        encodings = marked[:1]
    elif b"\0" in data:
        raise ArchiveError(f"{path}: is not a text file (it has zero bytes); save it again as UTF-8 text")
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        return text.replace("\r\n", "\n").replace("\r", "\n")
    text = f"begins as {marked[0].upper()} text and ends in the middle of a letter"
    raise ArchiveError(f"{path}: {text}; save it again as UTF-8 text")


def printable(name: str) -> str:
    """The name of a file, with escapes for bytes that are not UTF-8 (`caf\\xe9.wav`), which Python cannot print."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def stop_at(error: OSError) -> NoReturn:
    """For `os.walk`, which leaves out folders that cannot be read. Raises ArchiveError."""
    raise ArchiveError(cannot_read(Path(error.filename), error)) from error


def cannot_read(path: Path, error: OSError) -> str:
    """A sentence for a file that cannot be opened, with advice for its cause."""
    advice = _ADVICE.get(error.errno or 0, "see that the disk is there and healthy")
    return f"{path}: cannot be read ({error.strerror or error}); {advice}"
