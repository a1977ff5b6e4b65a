"""What a streamed training writes and prints of some steps."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.data.streamed import Batches, DataSetError, read_text
from experiments.skipped import named


def line_means(aux: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over some steps, those aside whose update was skipped (nan if all were), and how many were skipped."""
    made = aux["skipped"] == 0
    means = {name: float(np.mean(value[made])) if made.any() else float("nan") for name, value in aux.items()}
    return means | {"skipped": int(np.sum(~made))}


def last_not_finite(skipped: np.ndarray, in_row: int, max_skipped: int) -> tuple[int | None, int]:
    """Which of some steps was the last that was not finite, and how many such steps there are in a row at the end.

    Args:
      skipped: 1 where a step's update was skipped, `[S]`.
      in_row: Skipped steps in a row before.
      max_skipped: So many in a row end the training; what follows is skipped whatever it is.
    """
    last = None
    for index, is_skipped in enumerate(skipped):
        if not is_skipped:
            in_row = 0
        elif in_row < max_skipped:
            last, in_row = index, in_row + 1
    return last, in_row


def utterances_of(batches: Batches, number: int) -> list[str]:
    """The ids, or else the row numbers, of a whole batch."""
    rows, where = dataclasses.replace(batches, process_index=0, process_count=1).rows_of(number)
    try:
        return read_text(batches.data_set, "utterance_id", rows[where]).tolist()
    except DataSetError:  # a data set without ids
        return [f"row {row}" for row in rows[where].tolist()]


def train_text(line: dict[str, Any]) -> str:
    """A line of metrics to read."""
    text = f"step {line['step']}, {line['stage']}: loss {line['loss']:.4f}, {line['resident_mib']:.0f} MiB resident"
    if line["skipped"]:
        text += (
            f", skipped updates: {line['skipped']} (not finite; the last batch: {named(line['skipped_utterances'])})"
        )
    if "waited" not in line:
        return text
    return f"{text}, {line['utterances_per_s']:.0f} utterances/s, waited {100 * line['waited']:.1f} % for input"


def resident_mib() -> float:
    """Resident memory of this process, MiB; nan where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
