"""Finds the folder of a corpus that was unpacked a few folders deeper than expected."""

from collections.abc import Callable
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError


def find_folder(root: Path, holds: Callable[[Path], bool], advice: str, levels: int = 3) -> tuple[Path, list[str]]:
    """The folder that holds a corpus: `root` itself, or the only one at most `levels` below it.

    Args:
      root: The folder that was given.
      holds: Whether a folder is the one.
      advice: End of the sentence where none is.
      levels: How deep to search.

    Returns:
      The folder, and a note if it is another one than `root`.

    Raises:
      ArchiveError: if `root` is no folder, or none or several hold the corpus.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise ArchiveError(f"{root}: {what}; give the folder of the corpus")
    level, found = [root], [root] if holds(root) else []
    for _ in range(levels):
        if found:
            break
        level = sorted(path for folder in level for path in _folders(folder))
        found = [path for path in level if holds(path)]
    if not found:
        raise ArchiveError(f"{root}: {advice}")
    if len(found) > 1:
        raise ArchiveError(
            f"{root}: holds the corpus {len(found)} times, in {found[0]} and {found[1]}; give one of them"
        )
    return found[0], [] if found[0] == root else [f"{root}: the corpus is read from {found[0]}"]


def _folders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:  # not ours to read; it holds no corpus for us
        return []
