"""Shared by the commands: reads a source `.npz`, writes the archive, turns errors into a message and an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from cmarr_jax.data.archive import sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.folds import FoldError

Source = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
Out = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Flag = tyro.conf.FlagCreatePairsOff[bool]


def read_source(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads `keys` of an `.npz`, never unpickled; all must have the same number of rows.

    Raises:
      ArchiveError: if the file cannot be read, a key is missing, or the numbers of rows differ.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as source:
            missing = [key for key in keys if key not in source]
            arrays = {key: source[key] for key in keys if key not in missing}
    except OSError as error:
        reason = error.strerror or error
        raise ArchiveError(f"{path}: cannot be read ({reason}); give the path of the source .npz") from error
    except Exception as error:  # damaged bytes make numpy, zipfile and zlib raise many types
        raise ArchiveError(f"{path}: is not a readable .npz ({error}); download it again") from error
    if missing:
        raise ArchiveError(f"{path}: key {missing[0]!r} is missing; the source must hold {', '.join(keys)}")
    for key, array in arrays.items():
        if array.ndim == 0 or len(array) != len(arrays[keys[0]]):
            text = f"has shape {array.shape} where {keys[0]!r} has {len(arrays[keys[0]])} rows; download it again"
            raise ArchiveError(f"{path}: key {key!r} {text}")
    return arrays


def check_new(path: Path, *, force: bool) -> None:
    """Checks that a file can be written. Raises ArchiveError if it exists (without `force`) or its folder does not."""
    if path.exists() and not force:
        raise ArchiveError(f"{path}: is there already; give --force to replace it")
    if not path.parent.is_dir():
        raise ArchiveError(f"{path}: there is no folder {path.parent}; make it first")


def write_new(out: Path, corpus: Corpus, *, force: bool) -> None:
    """Writes an archive and prints its size and SHA-256. An existing file is replaced with `force` only.

    Raises:
      ArchiveError: if the file exists, or the corpus has an error.
    """
    check_new(out, force=force)
    write_archive(out, corpus)
    views = ", ".join(f"{name} ({width})" for name, width in corpus.widths.items())
    speakers = len(np.unique(corpus.speaker))
    print(f"wrote {out}: {len(corpus)} utterances, {speakers} speakers, {corpus.num_classes} classes, {views}")
    print(f"SHA-256 {sha256(out)}")


def run_command(command: Callable[..., None], argv: Sequence[str] | None, *, prog: str) -> int:
    """Runs a command line. An error in the data becomes one sentence on stderr and exit code 1.

    `~` is expanded where the shell left it: inside `--option=~/file`.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        tyro.cli(command, args=[_expanded(item) for item in given], prog=prog)
    except (ArchiveError, FoldError, ImportError) as error:  # ImportError: of a package that an extra brings
        print(error, file=sys.stderr)
        return 1
    return 0


def _expanded(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{option}{equals}{os.path.expanduser(value)}" if value.startswith("~") else argument
