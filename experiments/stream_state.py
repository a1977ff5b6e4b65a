"""What a streamed training keeps in its output folder: configuration, metrics, checkpoints. Process 0 writes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cmarr_jax.checkpoint import example_batch, load_progress, save_progress
from cmarr_jax.config import RunConfig
from cmarr_jax.input import Normalizer
from cmarr_jax.method import Method
from cmarr_jax.parallel import replicate
from cmarr_jax.stream_train import Progress
from cmarr_jax.train import Best, make_tx

CONFIG, METRICS, CHECKPOINTS, MODEL = "config.json", "metrics.jsonl", "checkpoints", "model"


class State(NamedTuple):
    """A training as it is saved: where it stands, the best epoch so far, and what features are standardised with."""

    progress: Progress
    best: Best
    normalizer: Normalizer


def prepare_folder(folder: Path, record: dict[str, Any], *, resume: bool) -> None:
    """Makes the output folder and writes the configuration, or checks that it is the one of before.

    Args:
      folder: The output folder.
      record: What must be the same when a training goes on.
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
        before = json.loads(path.read_text())
        changed = [name for name in record if before.get(name) != record[name]]
        if changed:
            raise ValueError(f"{path}: was another training ({', '.join(changed)} differ); give the options of then")
    elif jax.process_index() == 0:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} is not empty; name a new folder with --out, or give --resume")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n")


def first_state(config: RunConfig, method: Method, seed: int) -> State:
    """Everything before the first step; its normaliser changes nothing."""
    init_key, key = jax.random.split(jax.random.key(seed))
    params = jax.jit(method.init)(init_key, example_batch(config.model))
    size = (2**config.model.num_modalities - 1, config.model.num_classes, config.model.num_classes)
    best = Best(params, jnp.asarray(-1.0), jnp.asarray(0), jnp.zeros(size, jnp.int32))
    filled = lambda value: {modality.name: jnp.full(modality.width, value) for modality in config.model.modalities}
    params, opt_state = replicate((params, make_tx(config.train).init(params)))
    progress = Progress(params, opt_state, key, 0, {"next_index": 0})
    return State(progress, jax.device_get(best), Normalizer(filled(0.0), filled(1.0)))


def save(folder: Path, state: State) -> None:
    """Writes a checkpoint."""
    save_progress(folder / CHECKPOINTS, state.progress.step, arrays_of(state), {"position": state.progress.position})


def restore(folder: Path, like: State) -> State:
    """Reads the newest checkpoint, and takes the metrics of later steps out of their file."""
    step, arrays, record = load_progress(folder / CHECKPOINTS, arrays_of(like))
    if jax.process_index() == 0:
        keep_lines(folder, step)
    params, opt_state = replicate((arrays["params"], arrays["opt_state"]))
    progress = Progress(params, opt_state, jax.random.wrap_key_data(arrays["key"]), step, record["position"])
    return State(progress, jax.device_get(arrays["best"]), arrays["normalizer"])


def arrays_of(state: State) -> dict[str, Any]:
    """What a checkpoint holds beside the step and the position."""
    params, opt_state, key, *_ = state.progress
    return {
        "params": params,
        "opt_state": opt_state,
        "key": jax.random.key_data(key),
        "best": state.best,
        "normalizer": state.normalizer,
    }


def write_line(folder: Path, line: dict[str, Any]) -> None:
    """Adds a line to the metrics; process 0 only."""
    if jax.process_index() == 0:
        with (folder / METRICS).open("a") as file:
            file.write(json.dumps(line) + "\n")


def keep_lines(folder: Path, step: int) -> None:
    """Takes the lines of later steps out of the metrics."""
    path = folder / METRICS
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
    path.write_text("".join(f"{line}\n" for line in lines))
