"""A manifest: a table with one row per utterance, read as utterances and made of them.

The columns are described in data_prep/README.md. Columns of other names are kept as text in the details file.
"""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cmarr_jax.data.corpus import PARTS, ArchiveError
from data_prep.details import NUMBERS, RESERVED
from data_prep.manifest_table import DETAILS, NEEDED, OPTIONAL, read_table, relative_path
from data_prep.media import Media
from data_prep.text_files import read_text
from data_prep.utterances import Parsed, Utterance, examples

CUTS = ("", "audio", "video")
NOTHING = ("nan", "na", "n/a", "<na>", "null", "-1")  # what programs write where a table has no value
HALVES = ("", "left", "right")
Row = Mapping[str, str]


def read_manifest(path: Path, *, labelled: bool = True) -> Parsed:
    """Reads a manifest. No media file is opened; files that are not there are noted and that medium is absent.

    Args:
      path: CSV or Parquet.
      labelled: Whether speakers and labels are needed; without, they may be missing.

    Raises:
      ArchiveError: if the file cannot be read, a needed column is missing, or a row has a fault.
    """
    columns, rows = read_table(path)
    _check_columns(path, columns, NEEDED if labelled else NEEDED[:1])
    if not rows:
        raise ArchiveError(f"{path}: has no row; write one row per utterance")
    cells = [_Cells(path, number, row) for number, row in rows]
    utterances = [_utterance(item, columns, labelled) for item in cells]
    _check_together(path, rows, utterances)
    if labelled:
        _check_targets(path, rows, utterances)
    utterances, notes, not_there = _without_missing_files(path, utterances)
    files = {item.text("utterance_id"): item.file("transcript_file") for item in cells}
    lost = {key: file for key, file in files.items() if file is not None and not os.path.isfile(file)}
    if lost:
        notes.append(f"{path}: transcript files that are not there, taken as absent: {examples([*lost])}")
    return Parsed(tuple(utterances), tuple(notes), {**not_there, "text": lost})


def to_rows(utterances: Iterable[Utterance], folder: Path) -> list[dict[str, object]]:
    """Rows of a manifest that will lie in `folder`; paths are relative to it where they lie below it."""
    return [{key: value for key, value in _row(item, folder).items() if value != ""} for item in utterances]


def _row(item: Utterance, folder: Path) -> dict[str, object]:
    media = item.media
    number = lambda value: "" if value is None or math.isnan(value) else repr(value)
    spans = {"audio": (media.audio_start, media.audio_end), "video": (media.start, media.end)}
    cut = {name: span for name, span in spans.items() if span != (None, None)}
    if len(set(cut.values())) > 1:
        raise ValueError(f"{media.utterance_id}: sound and video are cut at different times")
    start, end = next(iter(cut.values()), (None, None))
    return {
        "utterance_id": media.utterance_id,
        "speaker": item.speaker,
        "label": item.label,
        "session": item.session,
        "split": item.split,
        "target": number(item.target),
        "audio": relative_path(media.audio, folder),
        "video": relative_path(media.video, folder),
        "text": media.text or "",
        "start": number(start),
        "end": number(end),
        "cut": "" if len(cut) == 2 else next(iter(cut), ""),
        "half": media.half or "",
        "dialogue": item.dialogue,
        "sex": item.sex,
        **{key: number(getattr(item, key)) for key in ("valence", "arousal", "dominance")},
        **item.extra,
    }


class _Cells:
    """Values of one row, checked; errors name file and row."""

    def __init__(self, path: Path, line: int, row: Row) -> None:
        self.path, self.line, self.row = path, line, row

    def text(self, column: str) -> str:
        return self.row.get(column, "")

    def fault(self, column: str, text: str) -> ArchiveError:
        return ArchiveError(f"{self.path}: row {self.line}, column {column!r}: {text}")

    def needed(self, column: str, advice: str) -> str:
        if not self.text(column):
            raise self.fault(column, f"is empty; {advice}")
        return self.text(column)

    def number(self, column: str) -> float | None:
        if not self.text(column):
            return None
        try:
            value = float(self.text(column))
            if "_" in self.text(column):  # Python reads 1_000 as 1000
                raise ValueError
        except ValueError:
            raise self.fault(column, f"{self.text(column)!r} is no number; write it like 12.5") from None
        if not math.isfinite(value) and column not in DETAILS:
            advice = "number; write it like -1.5" if column == "target" else "time; write seconds like 12.5"
            raise self.fault(column, f"{self.text(column)!r} is no {advice}")
        return value

    def one_of(self, column: str, known: Sequence[str]) -> str:
        if self.text(column) not in known:
            names = ", ".join(name for name in known if name)
            raise self.fault(column, f"{self.text(column)!r} is unknown; write {names}, or leave it empty")
        return self.text(column)

    def file(self, column: str) -> Path | None:
        """Relative to the manifest; `~` is the home folder."""
        if not self.text(column):
            return None
        try:
            return self.path.parent / Path(self.text(column)).expanduser()
        except RuntimeError:
            text = f"{self.text(column)!r}: there is no such home folder; write the whole path"
            raise self.fault(column, text) from None


def _utterance(cell: _Cells, columns: Sequence[str], labelled: bool) -> Utterance:
    if labelled:
        cell.needed("speaker", "say who speaks, since folds keep speakers apart")
        for column, advice in (("label", "leave it empty"), ("speaker", "say who speaks")):
            if cell.text(column).casefold() in NOTHING:
                text = f"{cell.text(column)!r} is what programs write for a missing value"
                raise cell.fault(column, f"{text}; {advice}, or if it is a name, write it in another way")
    speaker = cell.text("speaker")
    known = {*NEEDED, *OPTIONAL, *DETAILS}
    numbers = {key: cell.number(key) for key in ("target", *DETAILS) if key == "target" or key in NUMBERS}
    return Utterance(
        media=_media(cell, columns),
        speaker=speaker,
        session=cell.text("session") or speaker,
        label=cell.text("label"),
        split=cell.one_of("split", ("", *PARTS)),
        dialogue=cell.text("dialogue"),
        sex=cell.text("sex"),
        **{key: math.nan if value is None else value for key, value in numbers.items()},
        extra={key: cell.text(key) for key in columns if key not in known},
    )


def _media(cell: _Cells, columns: Sequence[str]) -> Media:
    """Files, times and transcript. Without a column `audio`, the sound is the sound track of the video."""
    video = cell.file("video")
    start, end, cut = cell.number("start"), cell.number("end"), cell.one_of("cut", CUTS)
    if start is not None and start < 0:
        raise cell.fault("start", f"{start:g} s is before the beginning; write seconds from the start of the file")
    if end is not None and end <= (start or 0.0):
        raise cell.fault("end", f"the utterance ends at {end:g} s, before it starts at {start or 0:g} s")
    span = (start, end)
    audio_span, video_span = (span if cut in ("", name) else (None, None) for name in ("audio", "video"))
    has_track = "audio" not in columns
    if has_track and cut == "audio":
        text = "is 'audio', and there is no column audio, since the sound is the sound track of the video"
        raise cell.fault("cut", f"{text}; leave it empty, or write video")
    return Media(
        utterance_id=cell.needed("utterance_id", "give every utterance a name of its own"),
        audio=video if has_track else cell.file("audio"),
        video=video,
        start=video_span[0],
        end=video_span[1],
        half=cell.one_of("half", HALVES) or None,  # type: ignore[arg-type]
        text=_transcript(cell),
        audio_start=(video_span if has_track else audio_span)[0],
        audio_end=(video_span if has_track else audio_span)[1],
    )


def _transcript(cell: _Cells) -> str | None:
    path = cell.file("transcript_file")
    if path is None:
        return cell.text("text") or None
    if cell.text("text"):
        raise cell.fault("transcript_file", "there is a text in this row, too; keep one of them")
    return " ".join(read_text(path).split()) or None if os.path.isfile(path) else None


def _check_columns(path: Path, columns: Sequence[str], needed: Sequence[str]) -> None:
    for name in columns:
        if name in RESERVED and name not in (*NEEDED, *OPTIONAL):
            raise ArchiveError(f"{path}: column {name!r} has a name of the archive's own; rename it")
    for name in needed:
        if name not in columns:
            similar = [found for found in columns if found.strip().lower() in (name, name.split("_")[0], "id")]
            hint = f" (is it {similar[0]!r}?)" if similar else ""
            raise ArchiveError(f"{path}: has no column {name!r}{hint}; it has {', '.join(map(repr, columns))}")
    known = (*NEEDED, *OPTIONAL, *DETAILS)
    for name in columns:
        if name not in known and name.casefold() in known:
            text = f"column {name!r} is not read as {name.casefold()!r}, since names are in small letters"
            raise ArchiveError(f"{path}: {text}; call it so, or something else if it is another thing")


def _check_together(path: Path, rows: Sequence[tuple[int, Row]], utterances: Sequence[Utterance]) -> None:
    """Checks what one row cannot show: ids given twice, and a split of some rows only."""
    first: dict[str, int] = {}
    for (number, _), item in zip(rows, utterances, strict=True):
        name = item.media.utterance_id
        if name in first:
            raise ArchiveError(f"{path}: row {number}: {name!r} is already in row {first[name]}; rename or remove one")
        first[name] = number
    without = [number for (number, _), item in zip(rows, utterances, strict=True) if not item.split]
    if 0 < len(without) < len(rows):
        text = f"row {without[0]} has no split, where others have one; give it to all rows or to none"
        raise ArchiveError(f"{path}: {text}")


def _check_targets(path: Path, rows: Sequence[tuple[int, Row]], utterances: Sequence[Utterance]) -> None:
    """Raises ArchiveError unless utterances with a target are those with a label, where any has a target."""
    if all(math.isnan(item.target) for item in utterances):
        return
    for (number, _), item in zip(rows, utterances, strict=True):
        if math.isnan(item.target) != (not item.label):
            has, lacks = ("label", "target") if item.label else ("target", "label")
            text = f"has a {has} and no {lacks}; give both, or neither where nobody has labelled the utterance"
            raise ArchiveError(f"{path}: row {number}: {text}")


def _without_missing_files(
    path: Path, utterances: Sequence[Utterance]
) -> tuple[list[Utterance], list[str], dict[str, dict[str, Path]]]:
    """Takes a medium whose file is not there as absent; the notes, and these files by column and utterance id.

    Raises:
      ArchiveError: if no file of a column is there: then the paths are meant in another way.
    """
    result, notes, not_there = list(utterances), list[str](), dict[str, dict[str, Path]]()
    for column in ("audio", "video"):
        named = [row for row, item in enumerate(result) if getattr(item.media, column) is not None]
        gone = [row for row in named if not os.path.isfile(getattr(result[row].media, column))]
        if gone and len(gone) == len(named):
            file = getattr(result[gone[0]].media, column)
            text = f"none of its {len(named)} files is there, {file} first; paths are relative to the manifest"
            raise ArchiveError(f"{path}: column {column!r}: {text}")
        if gone:
            names = [result[row].media.utterance_id for row in gone]
            notes.append(f"{path}: {column} files that are not there, taken as absent: {examples(names)}")
        not_there[column] = {result[row].media.utterance_id: getattr(result[row].media, column) for row in gone}
        for row in gone:
            absent: dict[str, Any] = {column: None}
            media = dataclasses.replace(result[row].media, **absent)
            result[row] = dataclasses.replace(result[row], media=media)
    return result, notes, not_there
