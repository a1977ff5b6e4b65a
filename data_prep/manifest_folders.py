"""Writes a first manifest of the media in a folder: names of folders become labels, speakers or sessions."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import check_new
from data_prep.manifest_table import relative_path, write_manifest
from data_prep.text_files import printable, stop_at
from data_prep.utterances import examples
from data_prep.write import make_console

Level = Literal["label", "speaker", "session"]
SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".aac", ".opus", ".aif", ".aiff")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".flv", ".mpg", ".mpeg", ".wmv")
_COLUMN = {
    **dict.fromkeys(SOUNDS, "audio"),
    **dict.fromkeys(VIDEOS, "video"),
    ".txt": "transcript_file",
}


def manifest_from_folders(
    folder: Path, manifest: Path, levels: Sequence[Level], *, out: Path | None, force: bool
) -> None:
    """Writes a manifest of all sounds, videos and texts below a folder.

    Files of one name and folder are one utterance: `anna/happy/take1.mp4` with `anna/happy/take1.txt`. An utterance is
    named by its path without the ending. Where some recordings have a sound file and others only a video, the video is
    also the sound of those.

    Args:
      folder: Where the media are.
      manifest: The CSV to write.
      levels: What the folders are, from the outermost; deeper ones are only part of the name.
      out: Must be `None`; the archive is made in a second step.
      force: Replaces a manifest that is there.

    Raises:
      ArchiveError: if there are no media, or they are less deep than `levels`.
    """
    if out is not None:
        raise ArchiveError(f"{out}: --from-folders writes the manifest only; look through it, then make the archive")
    check_new(manifest, force=force)
    if len(set(levels)) < len(levels):
        raise ArchiveError(f"--levels: each of label, speaker and session once, found {' '.join(levels)}")
    if not folder.is_dir():
        raise ArchiveError(f"{folder}: there is no such folder; check the path")
    rows, others = _rows(folder, manifest.parent, levels)
    if not rows:
        raise ArchiveError(f"{folder}: has no sound or video; known endings are {' '.join((*SOUNDS, *VIDEOS))}")
    tracks = _use_sound_tracks(rows)
    write_manifest(manifest, rows)
    console = make_console()
    console.print(f"wrote {manifest}: {len(rows)} utterances", markup=False)
    console.print(f"an utterance_id is the path below {folder} without the ending, such as {rows[0]['utterance_id']!r}")
    for name in ("speaker", "label"):
        found = sorted({row[name] for row in rows if row[name]})
        text = f"{len(found)} of them: {', '.join(found[:12])}"
        advice = "empty: fill in this column by hand before training; a prediction does not need it"
        console.print(f"{name}: {text if found else advice}", markup=False)
    if tracks:
        console.print(f"without a sound file, the sound track of the video is taken: {examples(tracks)}", markup=False)
    if others:
        listed = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(others.items()))
        console.print(f"files that are no media, left out: {listed}", markup=False)
    columns = {key for row in rows for key in row}
    options = ["--audio compare_2016"]
    options += ["--video face_hog"] if "video" in columns else []
    options += ["--text text_hashing"] if "transcript_file" in columns else []
    if len(options) < 2:
        second = "beside the sounds a second modality is needed: a column text, transcripts, or features of a file"
        console.print(f"{second} (--text features:FILE)")
        options += ["--text text_hashing"]
    command = f"python -m data_prep.manifest {manifest} OUT.npz {' '.join(options)}"
    console.print(f"Next: look through it, then {command}")
    if not levels:
        console.print(
            f"or predict: python -m experiments.predict --run FOLDER --input {manifest} --out predictions.csv"
        )


def _rows(folder: Path, base: Path, levels: Sequence[Level]) -> tuple[list[dict[str, str]], dict[str, int]]:
    """One row per utterance, sorted by name; and how many other files there are, by ending."""
    rows: dict[str, dict[str, str]] = {}
    others: dict[str, int] = {}
    for where, folders, names in os.walk(folder, followlinks=True, onerror=stop_at):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            _check_link(Path(where) / name, folder)
        for name in sorted(names):
            path = Path(where) / name
            column = _COLUMN.get(path.suffix.lower())
            if name.startswith("."):  # `._` files of a Mac, `.DS_Store`
                continue
            if column is None:
                ending = printable(path.suffix.lower())
                others[ending] = others.get(ending, 0) + 1
                continue
            _add(rows, path, column, folder, base, levels)
    media = {key: row for key, row in rows.items() if "audio" in row or "video" in row}
    if len(media) < len(rows):
        others[".txt"] = len(rows) - len(media)  # a note or a list, not the transcript of a recording
    return [media[key] for key in sorted(media)], others


def _check_link(folder: Path, root: Path) -> None:
    """Raises ArchiveError for a link to a folder that holds it, whose recordings would be found again and again."""
    above = [root, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    if folder.is_symlink() and folder.resolve() in [parent.resolve() for parent in above]:
        raise ArchiveError(f"{folder}: is a link to {folder.resolve()}, in which it lies itself; remove it")


def _use_sound_tracks(rows: Sequence[dict[str, str]]) -> list[str]:
    """Writes the video into `audio` where others have a sound file; the names of these rows.

    Without a column `audio` every sound is that of the video; with one, an empty cell says that there is no sound.
    """
    without = [row for row in rows if "audio" not in row]
    if len(without) == len(rows):
        return []
    for row in without:
        row["audio"] = row["video"]
    return [row["utterance_id"] for row in without]


def _add(
    rows: dict[str, dict[str, str]], path: Path, column: str, folder: Path, base: Path, levels: Sequence[Level]
) -> None:
    relative = path.relative_to(folder)
    if len(relative.parts) <= len(levels):
        text = f"lies in {len(relative.parts) - 1} folders, where {' / '.join(levels)} are expected"
        raise ArchiveError(f"{path}: {text}; move it, or give other --levels")
    name = relative.with_suffix("").as_posix()
    row = rows.setdefault(name, {"utterance_id": name, "speaker": "", "label": ""})
    if column in row:
        text = f"is a second {column} of {name!r}, beside {row[column]}; move one of them elsewhere"
        raise ArchiveError(f"{path}: {text}")
    row.update(zip(levels, relative.parts, strict=False))
    row[column] = relative_path(path, base)
