"""Trains one method on a data set larger than memory. See `python -m experiments.train_streamed --help`."""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from cmarr_jax.config import RunConfig
from cmarr_jax.data.availability import condition_names
from cmarr_jax.data.normalizer import fit_normalizer_streamed, identity_normalizer
from cmarr_jax.data.streamed import Batches, DataSet, open_data_set, read_ahead, read_text
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method
from cmarr_jax.metrics import uar
from cmarr_jax.training.checkpoint import save_run
from cmarr_jax.training.parallel import make_parallel_eval_step, make_parallel_train_step, split_batch
from cmarr_jax.training.processes import is_first
from cmarr_jax.training.schedule import DIVERGED, RUNNING, STATUS, total_epochs, used_stages
from cmarr_jax.training.streamed_loop import (
    Progress,
    first_progress,
    make_end_epoch,
    next_epoch,
    on_devices,
    on_raw_features,
    train_steps,
    validate,
)
from experiments.jax_setup import StartOptions, StartUp, end_process, set_up_jax, user_errors_as_messages
from experiments.presets import PRESETS, Preset, default_preset
from experiments.streamed_folder import METRICS, MODEL, prepare_folder, restore, save, write_line


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains one method on a prepared tfds data set, read while the step computes; resident memory stays flat.

    The epoch is chosen on the held-out speakers, so their scores are validation scores, not test scores.
    """

    data: Path
    """Folder of the data set, down to its version, for example tfds/iemocap/iemocap/1.0.0."""
    held_out: tuple[str, ...]
    """Speakers that validate; all others train."""
    out: Path
    """Output folder: metrics.jsonl, config.json, checkpoints, and at the end the model."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Goes on from the newest checkpoint in the output folder; give the other options as before."""
    method: str = "cm_arr"
    """One of the rows of the table, see experiments/presets.py."""
    modalities: tuple[str, ...] = ()
    """Which modalities, in which order; by default what the data set names."""
    seed: int = 0
    """Of initial parameters, order and noise."""
    complete_epochs: int | None = None
    """Budget of epochs of stage 1, on complete data. This and the following: by default, what the preset has."""
    missing_epochs: int | None = None
    """Budget of epochs of stage 2, with modalities hidden."""
    patience: int | None = None
    """Epochs without improvement on validation that end a stage; 0: every stage uses its whole budget."""
    min_epoch_steps: int | None = None
    """Steps between two validations, at least: a small corpus is read several times in an epoch."""
    batch_size: int | None = None
    """Utterances per step, over all processes and devices."""
    learning_rate: float | None = None
    """Learning rate of Adam."""
    embedding: int | None = None
    """Width of the embeddings and of the LSTMs."""
    max_frames: int | None = None
    """Frames of every sequence, needed if there are any: longer ones are averaged down, shorter ones padded."""
    log_every: int = 100
    """Steps per line of metrics."""
    save_every: int = 1000
    """Steps between checkpoints; one is also written after each epoch."""
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


def main(arguments: Arguments, start_up: StartUp | None = None) -> None:
    """Trains. Raises the errors that `run_command` turns into sentences, and SystemExit(1) if the training diverged."""
    if min(arguments.log_every, arguments.save_every) < 1:
        found = f"{arguments.log_every} and {arguments.save_every}"
        raise ValueError(f"--log-every and --save-every must be positive, found {found}")
    start_up = start_up or StartUp()
    log = print if is_first() else lambda *_: None
    data_set = open_data_set(arguments.data, modalities=arguments.modalities or None)
    train_rows, val_rows = split_rows(read_text(data_set, "speaker"), arguments.held_out)
    preset = choose_preset(arguments, data_set)
    config = preset.run_config(arguments.method, data_set.modalities, len(data_set.class_names))
    method = make_method(config)
    make_batches = functools.partial(Batches, data_set, max_frames=preset.max_frames or 1)
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    eval_size = -(-config.train.eval_batch_size // jax.process_count()) * jax.process_count()
    passes = config.train.passes(-(-len(train_rows) // config.train.batch_size))
    batches = make_batches(
        train_rows,
        config.train.batch_size,
        num_epochs=passes * total_epochs(method),
        seed=arguments.seed,
        **share,
    )
    val_batches = make_batches(val_rows, eval_size, **share)
    kept = {name: getattr(arguments, name) for name in ("method", "modalities", "held_out", "seed")}
    kept |= {"max_frames": preset.max_frames, "utterances": len(data_set)}
    prepare_folder(arguments.out, kept | config.to_dict(), resume=arguments.resume)
    log(f"{arguments.data}: {len(train_rows)} utterances train, {len(val_rows)} validate; at most {len(batches)} steps")
    normalizer = identity_normalizer(data_set.modalities)  # a restored run has its own
    if not arguments.resume:
        start = time.perf_counter()
        # Every process reads all utterances, so that all have the same numbers.
        every_batch = make_batches(train_rows, eval_size)
        normalizer = fit_normalizer_streamed(read_ahead(every_batch, place=lambda batch: batch))
        log(f"Normaliser: one pass in {time.perf_counter() - start:.1f} s.")
    progress = first_progress(config, method, normalizer, arguments.seed)
    number = 0
    if arguments.resume:
        number, progress = restore(arguments.out, progress)
        log(f"Goes on after step {number}.")
    start_up.lap("data")
    epoch_steps = passes * batches.steps_per_epoch
    progress = train(config, method, progress, number, epoch_steps, batches, val_batches, arguments, start_up, log)
    run = progress.run
    best, status, epochs = jax.device_get(run.best), STATUS[int(run.status)], int(run.done)
    if run.status == DIVERGED:
        log(f"The training {status} in epoch {epochs - 1}: a loss or a prediction is not finite; no model is written.")
        raise SystemExit(1)
    record = {
        "name": arguments.method,
        "held_out": list(arguments.held_out),
        "status": status,
        "best_epoch": best.epoch,
        "val_counts": best.counts,
    }
    if is_first():
        save_run(arguments.out / MODEL, config, best.params, run.normalizer, record)
    log(f"{status.capitalize()} after {epochs} epochs. Written: {arguments.out}/{METRICS}, config.json, {MODEL}")


def train(
    config: RunConfig,
    method: Method,
    progress: Progress,
    number: int,
    epoch_steps: int,
    batches: Batches,
    val_batches: Batches,
    arguments: Arguments,
    start_up: StartUp,
    log: Callable[..., None],
) -> Progress:
    """Trains, validates after each epoch, and returns where the run ended; `number` steps are done."""
    raw = on_raw_features(method, progress.run.normalizer)
    train_step = make_parallel_train_step(raw, config.train)
    eval_step = make_parallel_eval_step(raw)
    finish_epoch = make_end_epoch(method, config.train)
    place = lambda batch: split_batch(batch, jax.local_device_count())
    iterator = read_ahead(batches, place=place)
    iterator.set_state(progress.position)
    compiled, progress = False, on_devices(progress)
    while progress.run.status == RUNNING:
        stage, epoch = used_stages(method)[int(progress.run.stage)], int(progress.run.done)
        stops = [(number // every + 1) * every for every in (arguments.log_every, arguments.save_every)]
        stop = min(*stops, number + epoch_steps - progress.step) if compiled else number + 1
        progress, aux, timing = train_steps(
            train_step, raw, progress, iterator, num_steps=stop - number, steps_per_epoch=epoch_steps
        )
        line = {"step": stop, "epoch": epoch, "stage": stage.name}
        line |= {name: float(np.mean(value)) for name, value in aux.items()} | {"resident_mib": resident_mib()}
        if compiled:
            line["waited"] = timing.waited / timing.seconds
            line["utterances_per_s"] = (stop - number) * batches.batch_size / timing.seconds
        else:
            start_up.lap("compiling")
            log(start_up.text())
        compiled, number = True, stop
        write_line(arguments.out, line)
        log(train_text(line))
        ends_epoch = progress.step == epoch_steps
        if ends_epoch:
            evaluation, diagnostics = validate(eval_step, progress, read_ahead(val_batches, place=place))
            progress = next_epoch(finish_epoch, progress, evaluation, diagnostics)
            progress = on_devices(progress)
            scores = val_scores(config, np.asarray(evaluation.counts))
            write_line(arguments.out, {"step": stop, "epoch": epoch, "val_uar": scores})
            log(f"epoch {epoch}, validation UAR: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        if ends_epoch or stop % arguments.save_every == 0:
            save(arguments.out, stop, progress)
    return progress


def val_scores(config: RunConfig, counts: np.ndarray) -> dict[str, float]:
    """UAR by condition, fractions."""
    names = condition_names([modality.name for modality in config.encoders.modalities])
    return dict(zip(names, uar(counts).tolist(), strict=True))


def split_rows(speaker: np.ndarray, held_out: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that train and rows that validate. Raises ValueError if a speaker is unknown or a part is empty."""
    known = np.unique(speaker)
    unknown = [name for name in held_out if name not in known]
    if unknown or not held_out or set(held_out) >= set(known.tolist()):
        shown = ", ".join(known[:10].tolist()) + (", ..." if len(known) > 10 else "")
        raise ValueError(
            f"--held-out must name some, not all, of the {len(known)} speakers ({shown}); "
            f"found {', '.join(held_out) or 'none'}"
        )
    validates = np.isin(speaker, held_out)
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def choose_preset(arguments: Arguments, data_set: DataSet) -> Preset:
    """The preset for sequences or for vectors, with what the command line changes.

    Raises:
      ValueError: for sequences without a number of frames to pad them to.
    """
    sequences = any(modality.encoder != "vector" for modality in data_set.modalities)
    preset = PRESETS[default_preset(synthetic=False, sequences=sequences)].with_options(vars(arguments))
    if sequences and preset.max_frames is None:
        raise ValueError(
            "--max-frames is needed: streamed sequences are padded to one number of frames, and longer ones averaged "
            "down to it; give the length of the longest to keep all frames"
        )
    return preset


def train_text(line: dict[str, Any]) -> str:
    """A line of metrics to read."""
    text = f"step {line['step']}, {line['stage']}: loss {line['loss']:.4f}, {line['resident_mib']:.0f} MiB resident"
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


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    start_up = StartUp()
    arguments = tyro.cli(Arguments, prog="python -m experiments.train_streamed")
    with user_errors_as_messages(OSError, ImportError, ValueError):
        try:
            set_up_jax(arguments.start, one_cpu_device_per_core=False)
            main(arguments, start_up)
        except KeyboardInterrupt:
            print(f"Stopped; go on with --resume --out {arguments.out}", file=sys.stderr)
            end_process(130)


if __name__ == "__main__":
    run_command()
