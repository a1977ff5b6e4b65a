"""Trains one method on a data set larger than memory. See `python -m experiments.train_streamed --help`."""

import dataclasses
import functools
import sys
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cmarr_jax.config import RunConfig, check_choice
from cmarr_jax.data.availability import condition_names
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer_streamed, identity_normalizer
from cmarr_jax.data.streamed import Batches, DataSet, Overview, open_data_set, read_ahead, read_overview
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method
from cmarr_jax.metrics import uar
from cmarr_jax.training.checkpoint import LAST_GOOD, save_run
from cmarr_jax.training.parallel import make_parallel_eval_step, make_parallel_train_step, split_batch
from cmarr_jax.training.processes import end_process, is_first
from cmarr_jax.training.schedule import DIVERGED, RUNNING, STATUS, RunState, total_epochs, used_stages
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
from experiments.jax_setup import StartOptions, StartUp, set_up_jax, user_errors_as_messages
from experiments.own_folder import own_folder
from experiments.presets import PRESETS, Changes, Preset, default_preset
from experiments.provenance import commit, versions
from experiments.streamed_folder import (
    CHECKPOINTS,
    METRICS,
    MODEL,
    data_digest,
    prepare_folder,
    restore,
    save,
    write_line,
)
from experiments.streamed_lines import last_not_finite, line_means, resident_mib, train_text, utterances_of


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains one method on a prepared tfds data set, read while the step computes; resident memory stays flat.

    Utterances without a label are left out; `experiments.reproduce` trains on them.
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
    """A row of experiments/rows.py that is a network, but none that is aligned within speakers."""
    preset: str | None = None
    """Sizes, schedule and rate; by default `vectors`, or `iemocap` for sequences."""
    modalities: tuple[str, ...] = ()
    """Which modalities, in which order; by default what the data set names."""
    seed: int = 0
    """Of initial parameters, order and noise."""
    log_every: int = 100
    """Steps per line of metrics."""
    save_every: int = 1000
    """Steps between checkpoints; one is also written after each epoch."""
    changes: tyro.conf.OmitArgPrefixes[Changes] = dataclasses.field(default_factory=Changes)
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


class Input(NamedTuple):
    """What is read: training batches of the whole budget, validation batches, and the steps between two validations."""

    train: Batches
    val: Batches
    epoch_steps: int


def main(arguments: Arguments, start_up: StartUp | None = None) -> None:
    """Trains. Raises the errors that `run_command` turns into sentences, and SystemExit(1) if the training diverged."""
    if min(arguments.log_every, arguments.save_every) < 1:
        found = f"{arguments.log_every} and {arguments.save_every}"
        raise ValueError(f"--log-every and --save-every must be positive, found {found}")
    start_up = start_up or StartUp()
    data_set = open_data_set(arguments.data, modalities=arguments.modalities or None)
    overview = read_overview(data_set)
    if not overview.labelled.any():
        raise ValueError(f"{arguments.data}: no utterance is labelled; give a data set with labels")
    parts = split_rows(overview.speaker, overview.labelled, arguments.held_out)
    check_training_part(data_set, overview, parts[0])
    preset = choose_preset(arguments, data_set)
    config = preset.run_config(arguments.method, data_set.modalities, len(data_set.class_names))
    method = make_method(config)
    source = make_input(data_set, parts, config, method, preset.max_frames, arguments.seed)
    kept = {name: getattr(arguments, name) for name in ("modalities", "held_out", "seed")}
    kept |= {"row": arguments.method}  # the configuration's `method` is that of the row
    kept |= {"max_frames": preset.max_frames, "utterances": len(data_set)}
    kept |= {"data": {"sha256": data_digest(arguments.data)}, "versions": versions(), "commit": commit()}
    text = f"{len(parts[0])} utterances train, {len(parts[1])} validate; at most {len(source.train)} steps"
    arguments.out.mkdir(parents=True, exist_ok=True)
    with own_folder(arguments.out):
        prepare_folder(arguments.out, kept | config.to_dict(), resume=arguments.resume)
        log(f"{arguments.data}: {text}")
        if num_unlabelled := np.count_nonzero(~overview.labelled):
            log(f"{num_unlabelled} utterances without a label are left out: experiments.reproduce uses them.")
        try:
            run_to_the_end(arguments, config, method, source, start_up)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(after_a_stop(arguments.out)) from None


def after_a_stop(out: Path) -> str:
    """What to do after a training was stopped."""
    kept = out / CHECKPOINTS
    if kept.is_dir() and any(kept.iterdir()):
        return f"go on with --resume --out {out}"
    return f"there is no checkpoint yet, so delete {out} before you start again"


def run_to_the_end(arguments: Arguments, config: RunConfig, method: Method, source: Input, start_up: StartUp) -> None:
    """Trains from the start or the newest checkpoint, and writes the model. Raises SystemExit(1) if it diverged."""
    if arguments.resume:
        identity = identity_normalizer(source.train.data_set.modalities)  # a restored run has its own
        number, progress = restore(arguments.out, first_progress(config, method, identity, arguments.seed))
        log(f"Goes on after step {number}.")
    else:
        number, progress = 0, first_progress(config, method, fit(source), arguments.seed)
    start_up.lap("data")
    run = train(config, method, progress, number, source, arguments, start_up).run
    status, epochs = STATUS[int(run.status)], int(run.done)
    if is_first():
        save_model(arguments, config, run)
    if run.status == DIVERGED:
        log(
            f"The training {status} after {epochs} whole epochs: losses, gradients or predictions are not finite. Its "
            f"parameters after the last update are in {arguments.out / LAST_GOOD}; no other model is written."
        )
        raise SystemExit(1)
    log(f"{status.capitalize()} after {epochs} epochs. Written: {arguments.out}/{METRICS}, config.json, {MODEL}")


def make_input(
    data_set: DataSet,
    parts: tuple[np.ndarray, np.ndarray],
    config: RunConfig,
    method: Method,
    max_frames: int | None,
    seed: int,
) -> Input:
    """The batches of the rows that train and of those that validate, this process's share of each."""
    train_rows, val_rows = parts
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    make_batches = functools.partial(Batches, data_set, max_frames=max_frames or 1)
    eval_size = -(-config.train.eval_batch_size // jax.process_count()) * jax.process_count()
    passes = config.train.passes(-(-len(train_rows) // config.train.batch_size))
    num_epochs = passes * total_epochs(method)
    train_batches = make_batches(train_rows, config.train.batch_size, num_epochs=num_epochs, seed=seed, **share)
    return Input(train_batches, make_batches(val_rows, eval_size, **share), passes * train_batches.steps_per_epoch)


def fit(source: Input) -> Normalizer:
    """The normaliser of the training rows; every process reads all of them, so that all have the same numbers."""
    start = time.perf_counter()
    every_batch = dataclasses.replace(
        source.train, batch_size=source.val.batch_size, num_epochs=1, seed=None, process_index=0, process_count=1
    )
    normalizer = fit_normalizer_streamed(read_ahead(every_batch, place=lambda batch: batch))
    log(f"Normaliser: one pass in {time.perf_counter() - start:.1f} s.")
    return normalizer


def train(
    config: RunConfig,
    method: Method,
    progress: Progress,
    number: int,
    source: Input,
    arguments: Arguments,
    start_up: StartUp,
) -> Progress:
    """Trains, validates after each epoch, and returns where the run ended; `number` steps are done."""
    raw = on_raw_features(method, progress.run.normalizer)
    train_step = make_parallel_train_step(raw, config.train)
    eval_step = make_parallel_eval_step(raw)
    finish_epoch = make_end_epoch(method, config.train)
    place = lambda batch: split_batch(batch, jax.local_device_count())
    iterator = read_ahead(source.train, place=place)
    iterator.set_state(progress.position)
    compiled, progress = False, on_devices(progress)
    while progress.run.status == RUNNING:
        stage, epoch = used_stages(method)[int(progress.run.stage)], int(progress.run.done)
        in_row = int(progress.run.model.skipped)
        stops = [(number // every + 1) * every for every in (arguments.log_every, arguments.save_every)]
        stop = min(*stops, number + source.epoch_steps - progress.step) if compiled else number + 1
        progress, aux, timing = train_steps(
            train_step, raw, progress, iterator, num_steps=stop - number, steps_per_epoch=source.epoch_steps
        )
        line = {"step": stop, "epoch": epoch, "stage": stage.name}
        line |= line_means(aux) | {"resident_mib": resident_mib()}
        if compiled:
            line["waited"] = timing.waited / timing.seconds
            line["utterances_per_s"] = (stop - number) * source.train.batch_size / timing.seconds
        else:
            start_up.lap("compiling")
            log(start_up.text())
        at, in_row = last_not_finite(aux["skipped"], in_row, config.train.max_skipped)
        if at is not None:
            line["skipped_utterances"] = utterances_of(source.train, number + at)
        compiled, number = True, stop
        write_line(arguments.out, line)
        log(train_text(line))
        if in_row >= config.train.max_skipped:
            return progress._replace(run=progress.run._replace(status=jnp.int32(DIVERGED)))
        ends_epoch = progress.step == source.epoch_steps
        if ends_epoch:
            evaluation, diagnostics = validate(eval_step, progress, read_ahead(source.val, place=place))
            progress = on_devices(next_epoch(finish_epoch, progress, evaluation, diagnostics))
            scores = val_scores(config, np.asarray(evaluation.counts))
            log_scores(arguments.out, stop, epoch, scores, {name: float(x) for name, x in diagnostics.items()})
        diverged = progress.run.status == DIVERGED  # its state is not kept: --resume begins before
        if (ends_epoch or stop % arguments.save_every == 0) and not diverged:
            save(arguments.out, stop, progress)
    return progress


def log(text: str) -> None:
    """Prints, in the first process only."""
    if is_first():
        print(text)


def log_scores(out: Path, step: int, epoch: int, scores: dict[str, float], diagnostics: dict[str, float]) -> None:
    """Prints the validation scores of an epoch and adds them, and the method's diagnostics, to the metrics."""
    write_line(out, {"step": step, "epoch": epoch, "val_uar": scores, "diagnostics": diagnostics})
    log(f"epoch {epoch}, validation UAR: " + ", ".join(f"{name} {score:.3f}" for name, score in scores.items()))


def save_model(arguments: Arguments, config: RunConfig, run: RunState) -> None:
    """Writes the model of the chosen epoch, or of a training that diverged the parameters after its last update."""
    best = jax.device_get(run.best)
    record = {
        "name": arguments.method,
        "held_out": list(arguments.held_out),
        "status": STATUS[int(run.status)],
        "best_epoch": best.epoch,
        "val_counts": best.evaluation.counts,
    }
    if run.status == DIVERGED:
        last = jax.device_get(run.model.params)
        save_run(arguments.out / LAST_GOOD, config, last, run.normalizer, record, name=LAST_GOOD)
    else:
        save_run(arguments.out / MODEL, config, best.params, run.normalizer, record)


def val_scores(config: RunConfig, counts: np.ndarray) -> dict[str, float]:
    """UAR by condition, fractions."""
    names = condition_names([modality.name for modality in config.encoders.modalities])
    return dict(zip(names, uar(counts).tolist(), strict=True))


def split_rows(speaker: np.ndarray, labelled: np.ndarray, held_out: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Labelled rows that train and that validate. Raises ValueError if a speaker is unknown or a part is empty."""
    known = np.unique(speaker[labelled])
    unknown = [name for name in held_out if name not in known]
    if unknown or not held_out or set(held_out) >= set(known.tolist()):
        shown = ", ".join(known[:10].tolist()) + (", ..." if len(known) > 10 else "")
        raise ValueError(
            f"--held-out must name some, not all, of the {len(known)} speakers with labels ({shown}); "
            f"found {', '.join(held_out) or 'none'}"
        )
    validates = np.isin(speaker, held_out)
    return np.flatnonzero(labelled & ~validates), np.flatnonzero(labelled & validates)


def check_training_part(data_set: DataSet, overview: Overview, rows: np.ndarray) -> None:
    """Raises ValueError if a class or a modality is in no utterance that trains."""
    counts = np.bincount(overview.label[rows], minlength=len(data_set.class_names))
    names = [modality.name for modality in data_set.modalities]
    for what, found, has, advice in (
        ("of class", data_set.class_names, counts > 0, "make the data set without the class"),
        ("with modality", names, overview.present[rows].any(axis=0), "leave it out of --modalities"),
    ):
        if not has.all():
            raise ValueError(
                f"no utterance {what} {found[int(np.argmin(has))]!r} trains; change --held-out, or {advice}"
            )


def choose_preset(arguments: Arguments, data_set: DataSet) -> Preset:
    """The preset that is named, or that for sequences or for vectors, with what the command line changes.

    Raises:
      ValueError: for an unknown preset, or for sequences without a number of frames to pad them to.
    """
    sequences = any(modality.encoder != "vector" for modality in data_set.modalities)
    if arguments.preset is not None:
        check_choice("--preset", arguments.preset, PRESETS)
    preset = PRESETS[arguments.preset or default_preset(sequences=sequences)].changed(arguments.changes)
    if sequences and preset.max_frames is None:
        raise ValueError(
            "--max-frames is needed: streamed sequences are padded to one number of frames, and longer ones averaged "
            "down to it; give the length of the longest to keep all frames"
        )
    return preset


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    start_up = StartUp()
    arguments = tyro.cli(Arguments, prog="python -m experiments.train_streamed")
    with user_errors_as_messages(OSError, ImportError, ValueError):
        try:
            set_up_jax(arguments.start, one_cpu_device_per_core=False)
            main(arguments, start_up)
        except KeyboardInterrupt as stop:
            print(f"Stopped; {str(stop) or 'nothing was written'}", file=sys.stderr)
            end_process(130)


if __name__ == "__main__":
    run_command()
