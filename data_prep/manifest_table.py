"""Reads a table of text from CSV or Parquet, and writes CSV."""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.whole_file import whole_file
from data_prep.extractors.base import need
from data_prep.text_files import cannot_read, printable, read_text

NEEDED = ("utterance_id", "speaker", "label")
OPTIONAL = ("session", "split", "target", "audio", "video", "text", "start", "end", "cut", "half", "transcript_file")
FILES = ("audio", "video", "transcript_file")
DETAILS = ("dialogue", "sex", "valence", "arousal", "dominance")  # have a place of their own in the details file
Row = Mapping[str, str]


def read_table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Column names, and rows of text with their numbers: lines of a CSV, or counted from 1 in a Parquet file.

    Values have no spaces at their ends. In a CSV a comma, semicolon or tab separates: what the first line has most of.

    Raises:
      ArchiveError: if the file cannot be read, two columns have one name, or a row has more or fewer values than there
        are columns.
    """
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise ArchiveError(f"{path}: is a spreadsheet; save its sheet as CSV (UTF-8) and give that")
    columns, rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    for name, count in Counter(columns).items():
        if count > 1:
            raise ArchiveError(f"{path}: column {name!r} is there {count} times; keep one")
    return columns, rows


def write_manifest(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes rows as CSV: UTF-8, columns in the order of README, further ones after them.

    Raises:
      ArchiveError: if the file cannot be written, or a file that a row names has a name that is not UTF-8.
    """
    _check_file_names(path, rows)
    found = dict.fromkeys(key for row in rows for key in row)
    known = [key for key in (*NEEDED, *OPTIONAL, *DETAILS) if key in found]
    columns = [*known, *(key for key in found if key not in known)]
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def relative_path(path: Path | None, folder: Path) -> str:
    """How a manifest in `folder` names a file: relative to it where the file lies below it, else absolute."""
    if path is None:
        return ""
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _check_file_names(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Raises ArchiveError for a name that is not UTF-8 (Linux allows any bytes), since text cannot hold it."""
    for row in rows:
        for column in FILES:
            name = str(row.get(column, ""))
            if (shown := printable(name)) != name:
                text = f"{shown} has a name that is not UTF-8; rename the file or its folder"
                raise ArchiveError(f"{path}: column {column!r}: {text}")


def _read_csv(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Column names, and rows with their line numbers; a comma, semicolon or tab separates, as in the first line."""
    text = read_text(path)
    head = text.split("\n", 1)[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, Row]] = []
    try:
        columns = [name.strip() for name in next(reader, [])]
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                text = f"has {len(cells)} values where the first line names {len(columns)} columns"
                raise ArchiveError(f"{path}: row {reader.line_num} {text}; put quotes around a text with {separator!r}")
            cells = [cell.strip() for cell in cells]
            rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise ArchiveError(f"{path}: row {reader.line_num} is no CSV ({error}); save the table again") from error
    return columns, rows


def _read_parquet(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Column names, and rows numbered from 1."""
    parquet = need("pyarrow.parquet", "corpora")
    try:
        table = parquet.read_table(path)
    except OSError as error:
        raise ArchiveError(cannot_read(path, error)) from error
    except Exception as error:  # damaged bytes make pyarrow raise many types
        raise ArchiveError(f"{path}: is damaged or no Parquet file; write it again") from error
    rows = [{key: _as_text(value) for key, value in row.items()} for row in table.to_pylist()]
    return list(table.column_names), list(enumerate(rows, 1))


def _as_text(value: Any) -> str:
    is_empty = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if is_empty else (value.decode() if isinstance(value, bytes) else str(value)).strip()
