"""CMU-MOSI at utterance level, from the CSV files of bc-LSTM: acoustic and visual features, transcripts.

    python -m data_prep.corpora.mosi_utterance multimodal-deep-learning/bc-LSTM/data mosi_utterance.csv

From the repository declare-lab/multimodal-deep-learning (MIT), commit 111b401d867c14a1dcd930fd2b2ab58a5eca3f70. The
corpus is free for research; the videos belong to their makers. Its `text` features are not read: they were learned with
the labels of the training videos. Text features are made from the transcripts. The files have classes and no scores, so
there is no target for a regression; `data_prep.corpora.mosi` has them.

| file | rows |
|---|---|
| `transcripts.csv` | id, words, number of the video, label; no header |
| `text_train.csv`, `text_test.csv` | the first number is a row of the transcripts, counted from 0 |
| `audio/audio_train0.csv`, `video/video_train0.csv`, ... | features in the order of the above, then the label |
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.cmu_mosi_utterance import CLASS_NAMES, validation_videos
from data_prep.convert import Flag, run_command
from data_prep.corpora.common import Allow, Folder, Manifest, check_counts, finish
from data_prep.corpora.sentiment import FeatureFiles
from data_prep.text_files import read_text

FILES = {"audio": "audio/audio_{}0.csv", "video": "video/video_{}0.csv"}
KNOWN = {"train negative": 738, "train positive": 709, "test negative": 285, "test positive": 467}


class _Line(NamedTuple):
    name: str
    text: str
    label: str


def convert(
    folder: Folder,
    manifest: Manifest,
    force: Flag = False,
    allow_count_differences: Allow = False,
) -> None:
    """Writes the manifest of CMU-MOSI at utterance level with the split of bc-LSTM (negative, positive).

    Test is bc-LSTM's; validation is every fifth of its training videos. The visual features were learned with the
    labels of the training videos, so validation overrates them.

    Args:
      folder: bc-LSTM/data of the repository.
      manifest: The manifest to write; MANIFEST_audio.h5 and MANIFEST_video.h5 are written beside it.
      force: Replaces files that are there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    files = FeatureFiles(folder, manifest, force=force)
    lines = _transcripts(folder / "transcripts.csv")
    rows: dict[str, dict[str, object]] = {}
    with files:
        for part in ("train", "test"):
            for line, vectors in _part(folder, part, lines):
                if line.name in rows:
                    raise ArchiveError(f"{folder}: utterance {line.name!r} is there twice; take the files again")
                rows[line.name] = _row(part, line)
                for modality, vector in vectors.items():
                    files.add(line.name, modality, vector[None])
        names = [f"{row['split']} {row['label']}" for row in rows.values()]
        check_counts(folder, names, KNOWN, allow=allow_count_differences)
    held_out = validation_videos({str(row["speaker"]) for row in rows.values() if row["split"] == "train"})
    for row in rows.values():
        row["split"] = "val" if row["speaker"] in held_out else row["split"]
    files.tell()
    finish(manifest, list(rows.values()), files.extractors() | {"text": "text_hashing"})


def _transcripts(path: Path) -> list[_Line]:
    lines = []
    for number, cells in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), 1):
        if len(cells) != 4 or cells[3] not in ("0", "1"):
            raise ArchiveError(f"{path}: row {number}: id, words, video and label are expected; take the file again")
        lines.append(_Line(cells[0], cells[1], cells[3]))
    return lines


def _part(folder: Path, part: str, lines: Sequence[_Line]) -> list[tuple[_Line, dict[str, np.ndarray]]]:
    """The utterances of a part and their vectors `[D]` per modality."""
    index_path = folder / f"text_{part}.csv"
    index = _numbers(index_path)[:, 0]
    if not np.isin(index, np.arange(len(lines))).all():
        raise ArchiveError(f"{index_path}: names a row that transcripts.csv does not have; take the files again")
    chosen = [lines[int(row)] for row in index]
    features = {}
    for modality, name in FILES.items():
        path = folder / name.format(part)
        values = _numbers(path)
        if values.shape[1] < 2 or values[:, -1].astype(str).tolist() != [f"{line.label}.0" for line in chosen]:
            raise ArchiveError(f"{path}: its last column differs from the labels of transcripts.csv; take both again")
        features[modality] = values[:, :-1]
    return [(line, {name: values[row] for name, values in features.items()}) for row, line in enumerate(chosen)]


def _numbers(path: Path) -> np.ndarray:
    """A CSV of numbers without a header, `[rows, columns]`."""
    text = read_text(path)
    if not text.strip():
        raise ArchiveError(f"{path}: is empty; take the file again")
    try:
        return np.loadtxt(io.StringIO(text), delimiter=",", quotechar='"', ndmin=2)
    except ValueError as error:
        raise ArchiveError(f"{path}: is no table of numbers ({error}); take the file again") from error


def _row(part: str, line: _Line) -> dict[str, object]:
    return {
        "utterance_id": line.name,
        "speaker": line.name.rsplit("_", 1)[0],
        "label": CLASS_NAMES[int(line.label)],
        "split": part,
        "text": line.text,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.mosi_utterance")


if __name__ == "__main__":
    sys.exit(main())
