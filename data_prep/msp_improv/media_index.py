"""Finds sounds, videos and transcripts of MSP-IMPROV by name, wherever they lie in the corpus."""

import os
from collections import Counter
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.corpora.common import same_bytes
from data_prep.media import VIDEOS

Index = dict[str, dict[str, Path]]  # by utterance: `audio`, `video`, `text`


def index_media(root: Path, *, prefer: str | None, transcripts: str | None, notes: list[str]) -> Index:
    """Files `MSP-IMPROV-....wav`, `.avi` (or another video) and `.txt` below a folder, by utterance.

    Transcripts are those below a folder that is called human something: others may be a speech recogniser's.

    Args:
      root: The folder.
      prefer: Folder whose file is taken where a name is there twice.
      transcripts: Folder of the transcripts, below `root`; `None`: those of people.
      notes: Sentences on what is not read are added here.

    Raises:
      ArchiveError: if two files of the same name differ, so that it is not clear which one is meant.
    """
    files: dict[str, Path] = {}
    unread = Counter[str]()
    for folder, _, names in os.walk(root):
        below = Path(os.path.relpath(folder, root))
        is_asked = below.is_relative_to(transcripts) if transcripts else "human" in str(below).lower()
        for name in names:
            if not name.startswith("MSP-IMPROV-"):
                continue
            path = Path(folder) / name
            name = path.with_suffix(path.suffix.lower()).name  # a copy may have .WAV
            if name.endswith(".txt") and not is_asked:
                unread[str(below)] += 1
                continue
            if not path.is_file():  # a link to nowhere
                continue
            known = files.setdefault(name, path)
            if known is not path and not same_bytes(known, path):
                files[name] = _preferred(root, known, path, prefer)
    has_text = any(name.endswith(".txt") for name in files)
    if unread and not has_text:
        text = "not read, since a speech recogniser may have written them; give --transcripts with the folder to read"
        notes.append(f"{root}: transcripts in {', '.join(sorted(unread))}: {text}")
    return _by_utterance(files, notes)


def _preferred(root: Path, one: Path, other: Path, prefer: str | None) -> Path:
    chosen = [path for path in (one, other) if prefer and path.relative_to(root).is_relative_to(prefer)]
    if len(chosen) != 1:
        text = f"is another file than {one}, of the same name; give --prefer with the folder to take, or remove one"
        raise ArchiveError(f"{other}: {text}")
    return chosen[0]


def _by_utterance(files: dict[str, Path], notes: list[str]) -> Index:
    index: Index = {}
    kinds = {".wav": "audio", ".txt": "text"}
    twice = []
    for ending in (*VIDEOS, *kinds):  # of two videos the first ending is taken
        for name, path in files.items():
            if not name.endswith(ending):
                continue
            media = index.setdefault(name.removesuffix(ending), {})
            kind = kinds.get(ending, "video")
            if kind in media:
                twice.append(name)
            media.setdefault(kind, path)
    if twice:
        notes.append(f"videos that are there in a second form, not read: {len(twice)} ({min(twice)!r} first)")
    return index
