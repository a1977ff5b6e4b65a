"""The output folder of a streamed training: configuration, metrics, checkpoints. Process 0 writes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.json_object import read_object
from cmarr_jax.training.checkpoint import LAST_GOOD, load_progress, save_progress, to_json
from cmarr_jax.training.disk import is_unused, write_text
from cmarr_jax.training.streamed_loop import Progress, on_host
from experiments.results import append_lines, complete_lines

CONFIG, METRICS, CHECKPOINTS, MODEL = "config.json", "metrics.jsonl", "checkpoints", "model"


def prepare_folder(folder: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Makes the output folder and writes the configuration, or checks that it is the one of before.

    Args:
      folder: The output folder.
      record: Configuration, which may not change when a training goes on.
      resume: Whether it goes on.

    Raises:
      FileExistsError: if a new training would write into a folder that holds something, or an old one is finished.
      FileNotFoundError: if there is nothing to go on with.
      ValueError: if the training to go on with was another one.
    """
    path, record = folder / CONFIG, json.loads(json.dumps(record))
    if resume:
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no training to go on with; start it without --resume")
        if (folder / MODEL).exists():
            raise FileExistsError(f"{folder}: this training is finished; name a new folder with --out to start another")
        if (folder / LAST_GOOD).exists():
            raise FileExistsError(
                f"{folder}: this training diverged; start another one, for example with a lower rate, or delete "
                f"{folder / LAST_GOOD} to go on from the newest checkpoint all the same"
            )
        before = read_object(path, "copy it again, or start anew in another folder")
        changed = [name for name in record if before.get(name) != record[name]]
        if changed:
            raise ValueError(
                f"{path}: was another training ({', '.join(changed)} differ); give the options of then, and the same "
                "data, versions and commit"
            )
    elif jax.process_index() == 0:
        if not is_unused(folder):
            raise FileExistsError(f"{folder} is not empty; name a new folder with --out, or give --resume")
        write_text(path, to_json(record, indent=1) + "\n")


def data_digest(path: Path) -> str:
    """SHA-256 of a prepared data set: of the names and contents of its files, wherever its folder is."""
    files = sorted(file for file in path.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name} {sha256(file)}\n" for file in files).encode()).hexdigest()


def save(folder: Path, number: int, progress: Progress) -> None:
    """Writes a checkpoint after `number` steps in all."""
    arrays = {"run": progress.run, "sums": progress.sums}
    save_progress(folder / CHECKPOINTS, number, arrays, {"step": progress.step, "position": progress.position})


def restore(folder: Path, like: Progress) -> tuple[int, Progress]:
    """Reads the newest checkpoint, and takes the metrics of later steps out of their file."""
    number, arrays, record = load_progress(folder / CHECKPOINTS, {"run": like.run, "sums": like.sums})
    if jax.process_index() == 0:
        keep_lines(folder, number)
    run, sums = on_host(arrays["run"]), jax.device_get(arrays["sums"])
    return number, Progress(run, record["step"], sums, record["position"])


def write_line(folder: Path, line: dict[str, Any]) -> None:
    """Adds a line to the metrics; process 0 only."""
    if jax.process_index() == 0:
        append_lines(folder / METRICS, [line])


def keep_lines(folder: Path, number: int) -> None:
    """Takes the lines of later steps, and a half line at the end, out of the metrics; written beside, then renamed.

    Raises:
      ValueError: for a line that holds no step; the file stays as it is.
    """
    path = folder / METRICS
    if not path.exists():
        return
    lines = [line for at, line in enumerate(complete_lines(path), 1) if _step(path, at, line) <= number]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _step(path: Path, at: int, line: str) -> int:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or type(value.get("step")) is not int:
        raise ValueError(f"{path}, line {at}: is damaged (it holds no step); delete the line, or the file")
    return value["step"]
