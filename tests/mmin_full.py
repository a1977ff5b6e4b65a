"""Labels of the MMIN family's files for the whole IEMOCAP: names that are made up, counts that are the known ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from data_prep.known_counts import CLASS_NAMES, IEMOCAP


def make_rows() -> list[tuple[str, str, str]]:
    """Name, speaker and class of each utterance of IEMOCAP."""
    rows = []
    for speaker, counts in IEMOCAP.items():
        for number, emotion in enumerate(np.repeat(CLASS_NAMES, counts).tolist()):
            name = f"Ses{speaker[:2]}F_impro{number // 90 + 1:02d}_{speaker[2]}{number % 90:03d}"
            rows.append((name, speaker, emotion))
    return rows


def write_target(root: Path, rows: Sequence[tuple[str, str, str]], order: Sequence[str] = CLASS_NAMES) -> None:
    """Writes the folds that leave one speaker out; a label is the position of the class in `order`."""
    for fold, speaker in enumerate(sorted({who for _, who, _ in rows}), 1):
        part_of = lambda who, test: "tst" if who == test else "val" if who[:2] == test[:2] else "trn"
        folder = root / "target" / str(fold)
        folder.mkdir(parents=True)
        for part in ("trn", "val", "tst"):
            chosen = [(name, order.index(emotion)) for name, who, emotion in rows if part_of(who, speaker) == part]
            np.save(folder / f"{part}_int2name.npy", np.array([[name.encode()] for name, _ in chosen]))
            np.save(folder / f"{part}_label.npy", np.eye(4)[[label for _, label in chosen]])


def labels_of_iemocap(
    order: Sequence[str], *options: str, keep: float = 1.0, classes: Sequence[str] = CLASS_NAMES
) -> Callable[[Path], list[str]]:
    """Labels in another order, of all utterances or a part of them; without features, which are read later."""

    def argv(folder: Path) -> list[str]:
        rng = np.random.default_rng(0)
        rows = [row for row in make_rows() if row[2] in classes and rng.random() < keep]
        write_target(folder / "iemocap", rows, order)
        return [str(folder / "iemocap"), str(folder / "out.npz"), *options]

    return argv
