"""Miniature CMU-MOSI in the three forms in which it is shared, with their known oddities."""

import pickle
from pathlib import Path

import h5py
import numpy as np

PARTS = {"train": ("v0", "v1"), "valid": ("v2",), "test": ("v3",)}
SCORES = (-1.4, 0.0, 2.2)  # of the three utterances of each video
WIDTHS = {"audio": 3, "vision": 4, "text": 5}
NUM_FRAMES = 6


def frames(width: int, length: int, row: int) -> np.ndarray:
    """`[length, width]`, no frame of zeros."""
    return 1 + row + np.arange(length * width, dtype=np.float64).reshape(length, width) / 8


def mmsa(path: Path, protocol: int = 4) -> Path:
    """A pickle as MMSA's `unaligned_50.pkl`: zeros behind, lengths; -inf in COVAREP, as in real copies, and a nan."""
    data = {}
    for part, videos in PARTS.items():
        num = len(videos) * len(SCORES)
        lengths = {key: [2 + (row + shift) % 4 for row in range(num)] for key, shift in (("audio", 0), ("vision", 1))}
        arrays = {key: np.zeros((num, NUM_FRAMES, width), np.float32) for key, width in WIDTHS.items()}
        mask = np.zeros((num, 3, NUM_FRAMES), np.float32)
        for row in range(num):
            for key, width in WIDTHS.items():
                length = lengths[key][row] if key in lengths else 4
                arrays[key][row, :length] = frames(width, length, row)
            mask[row, 1, :4] = 1
        arrays["audio"][0, 1, 0], arrays["audio"][1, 0, 2] = -np.inf, np.nan
        arrays["audio"][2, 0] = 0  # a real frame of zeros: lengths say so
        data[part] = {
            "raw_text": [f"line {row} of it" for row in range(num)],
            **arrays,
            "text_bert": mask,
            "id": [f"{video}$_${turn}" for video in videos for turn in range(len(SCORES))],
            "audio_lengths": lengths["audio"],
            "vision_lengths": lengths["vision"],
            "annotations": ["Neutral"] * num,
            "classification_labels": np.ones(num),
            "regression_labels": np.array(SCORES * len(videos), np.float32),
        }
    path.write_bytes(pickle.dumps(data, protocol))
    return path


def mult(path: Path, protocol: int = 2) -> Path:
    """A pickle as MulT's `mosi_data.pkl`: zeros in front, ids of three values, no words; a picture of zeros only."""
    data = {}
    for part, videos in PARTS.items():
        num = len(videos) * len(SCORES)
        arrays = {key: np.zeros((num, NUM_FRAMES, width)) for key, width in WIDTHS.items()}
        for row in range(num):
            for key, width in WIDTHS.items():
                arrays[key][row, NUM_FRAMES - 3 :] = frames(width, 3, row)
        arrays["audio"][0, NUM_FRAMES - 2] = 0  # a frame of zeros in the middle stays
        arrays["vision"][0] = 0
        ids = [[video, f"{turn}.5", f"{turn + 1}.25"] for video in videos for turn in range(len(SCORES))]
        scores = np.array(SCORES * len(videos)).reshape(-1, 1, 1)
        data[part] = {**arrays, "id": np.array(ids, "S"), "labels": scores}
    path.write_bytes(pickle.dumps(data, protocol))
    return path


def csd(folder: Path) -> Path:
    """Computational sequences of the SDK and its file of folds. Utterances last two seconds, with a second between.

    Oddities: video v9 is in no fold; v3 has no picture; `sp` between words.
    """
    folder.mkdir(parents=True)
    videos = [video for names in PARTS.values() for video in names] + ["v9"]
    starts = np.arange(len(SCORES)) * 3.0
    spans = np.stack([starts, starts + 2], 1)
    each = lambda values, times: dict.fromkeys(videos, (values, times))
    clock = np.arange(0, 9, 0.5)
    times = np.stack([clock, clock + 0.5], 1)
    values = lambda width: np.arange(len(clock) * width, dtype=np.float32).reshape(-1, width)
    picture = {video: pair for video, pair in each(values(4), times).items() if video != "v3"}
    words = np.array([[f"w{row}".encode() if row % 3 else b"sp"] for row in range(len(clock))])
    _sequence(folder / "CMU_MOSI_Opinion_Labels.csd", each(np.array(SCORES)[:, None], spans))
    _sequence(folder / "CMU_MOSI_COVAREP.csd", each(values(3), times))
    _sequence(folder / "CMU_MOSI_VisualFacet_4.1.csd", picture)
    _sequence(folder / "CMU_MOSI_TimestampedWordVectors_1.1.csd", each(values(5), times))
    _sequence(folder / "CMU_MOSI_TimestampedWords.csd", each(words, times))
    (folder / "cmu_mosi_std_folds.py").write_text(
        "".join(f"standard_{part}_fold = {list(names)!r}\n" for part, names in PARTS.items())
    )
    return folder


def _sequence(path: Path, videos: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with h5py.File(path, "w") as file:
        root = file.create_group(path.stem)
        root.create_group("metadata")["version"] = "1.0"
        for video, (values, times) in videos.items():
            root[f"data/{video}/features"], root[f"data/{video}/intervals"] = values, times


def bc_lstm(folder: Path) -> Path:
    """The CSV files of bc-LSTM/data: six training videos and one test video of two utterances, in another order."""
    videos = [f"v{row}_x" for row in range(7)]
    names = [f"{video}_{turn}" for video in videos for turn in (1, 2)]
    label = np.arange(len(names)) % 2
    for name in ("audio", "video"):
        (folder / name).mkdir(parents=True)
    lines = [f'"{name}","LINE {row}, IT IS","{row // 2}","{label[row]}"' for row, name in enumerate(names)]
    (folder / "transcripts.csv").write_text("\n".join([*lines, ""]))
    for part, rows in (("train", np.arange(12)[::-1]), ("test", np.array([13, 12]))):
        text = np.column_stack([rows, np.ones((len(rows), 3))])
        audio = np.column_stack([rows + 0.25, rows, label[rows]])
        video = np.column_stack([rows + 0.5, rows, -rows, label[rows]])
        for path, values in (
            (f"text_{part}.csv", text),
            (f"audio/audio_{part}0.csv", audio),
            (f"video/video_{part}0.csv", video),
        ):
            (folder / path).write_text(
                "".join(",".join(f'"{value:g}"' for value in row) + "\n" for row in values.tolist())
            )
    return folder
