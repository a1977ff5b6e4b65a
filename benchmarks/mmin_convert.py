"""Time and memory of `data_prep.mmin_features` at full size, on generated numbers with the known counts.

    python -m benchmarks.mmin_convert [--corpus iemocap msp_improv] [--work DIR]

The HDF5 files have the widths of the MMIN family and lengths like its own. The numbers in them are random: nothing of a
corpus is in them, and no score on them means anything. Needs about 4 GB of disk per corpus while it runs.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import tyro

from data_prep.known_counts import KNOWN


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      corpus: Corpora, one after the other.
      work: Where the files are made and removed; by default a temporary folder.
      scale: Multiplies the counts; below 1 for a quick look.
    """

    corpus: tuple[Literal["iemocap", "msp_improv"], ...] = ("iemocap", "msp_improv")
    work: Path | None = None
    scale: float = 1.0


def make_names(corpus: str, scale: float = 1.0) -> list[tuple[str, str, int]]:
    """Name, speaker and class of every utterance, shuffled."""
    rows = []
    for speaker, counts in KNOWN[corpus].items():
        labels = np.repeat(np.arange(4), [max(1, round(scale * count)) for count in counts])
        for index, label in enumerate(labels.tolist()):
            session, sex = speaker[:2], speaker[2]
            scene, turn = divmod(index, 99)
            name = f"Ses{session}F_impro{scene + 1:02d}_{sex}{turn:03d}"
            if corpus == "msp_improv":
                name = f"MSP-IMPROV-S{scene + 1:02d}{'AHNS'[label]}-{sex}{session}-S-{'MF'[sex == 'F']}{sex}{turn:02d}"
            rows.append((name, speaker, label))
    np.random.default_rng(0).shuffle(rows)
    return [(name, speaker, int(label)) for name, speaker, label in rows]


def make_files(root: Path, corpus: str, scale: float) -> int:
    """Writes the layout of the MMIN family; returns the number of utterances."""
    rng = np.random.default_rng(0)
    rows = make_names(corpus, scale)
    for folder in ("A", "V", "L"):
        (root / folder).mkdir(parents=True)
    pool = rng.normal(size=(340, 1024)).astype(np.float32)
    with (
        h5py.File(root / "A/comparE.h5", "w") as audio,
        h5py.File(root / "V/denseface.h5", "w") as video,
        h5py.File(root / "L/bert_large.h5", "w") as text,
    ):
        for name, _, _ in rows:
            audio[name] = pool[: int(np.clip(rng.lognormal(3.58, 0.57), 4, 340)), :130] + np.float32(rng.random())
            video[name] = _padded(pool[:50, :342] + np.float32(rng.random()), int(rng.integers(5, 51)))
            text[name] = _padded(pool[:22] + np.float32(rng.random()), int(rng.integers(3, 23)))
    speakers = sorted(KNOWN[corpus])
    for index, speaker in enumerate(speakers):
        target = root / "target" / str(index + 1)
        target.mkdir(parents=True)
        partner = next(name for name in speakers if name[:2] == speaker[:2] and name != speaker)
        part = {speaker: "tst", partner: "val"}
        for prefix in ("trn", "val", "tst"):
            chosen = [(name, label) for name, who, label in rows if part.get(who, "trn") == prefix]
            names = np.array([[name.encode()] for name, _ in chosen])
            labels = np.array([label for _, label in chosen])
            np.save(target / f"{prefix}_int2name.npy", names if corpus == "iemocap" else names[:, 0].astype(str))
            np.save(target / f"{prefix}_label.npy", np.eye(4)[labels] if corpus == "iemocap" else labels)
    return len(rows)


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    values[length:] = 0
    return values


def main() -> None:
    """Makes the files, converts them in a process of its own, and prints time and peak memory."""
    options = tyro.cli(Options, description=__doc__)
    for corpus in options.corpus:
        work = Path(tempfile.mkdtemp(dir=options.work, prefix="mmin_convert_"))
        try:
            start = time.perf_counter()
            count = make_files(work / "features", corpus, options.scale)
            size = sum(path.stat().st_size for path in work.rglob("*.h5")) / 1e9
            print(f"{corpus}: generated {count} utterances, {size:.2f} GB, in {time.perf_counter() - start:.0f} s")
            command = [sys.executable, "-m", "data_prep.mmin_features", str(work / "features"), str(work / "out.npz")]
            start = time.perf_counter()
            extra = [] if options.scale == 1 else ["--allow-count-differences"]
            _, status, usage = os.wait4(subprocess.Popen([*command, *extra]).pid, 0)
            if status != 0:
                sys.exit("the conversion failed")
            print(
                f"{corpus}: {time.perf_counter() - start:.1f} s, peak memory {usage.ru_maxrss / 2**20:.2f} GiB",
                flush=True,
            )
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
