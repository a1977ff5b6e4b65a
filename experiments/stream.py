"""Trains one method on a data set larger than memory. See `python -m experiments.stream --help`."""

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from cmarr_jax.checkpoint import save_run
from cmarr_jax.config import Hyperparameters, RunConfig
from cmarr_jax.method import Method, Stage
from cmarr_jax.metrics import uar
from cmarr_jax.missing import condition_names
from cmarr_jax.objectives import make_method
from cmarr_jax.parallel import make_parallel_eval_step, make_parallel_train_step, split_batch
from cmarr_jax.processes import is_first
from cmarr_jax.stream import Batches, DataSet, fit_normalizer, open_data_set, read_ahead, read_text
from cmarr_jax.stream_train import Progress, on_raw_features, stage_of, train_steps
from cmarr_jax.train import Best, make_tx, with_decay
from experiments.settings import SEQUENCES, VECTORS, Settings
from experiments.startup import StartOptions, StartUp, set_up_jax, told_in_a_sentence
from experiments.stream_state import METRICS, MODEL, State, first_state, prepare_folder, restore, save, write_line


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
    """One of the rows of the table, see experiments/settings.py."""
    modalities: tuple[str, ...] = ()
    """Which modalities, in which order; by default what the data set names."""
    seed: int = 0
    """Of initial parameters, order and noise."""
    complete_epochs: int | None = None
    """Epochs of stage 1, on complete data. This and the following: by default, what experiments/settings.py has."""
    missing_epochs: int | None = None
    """Epochs of stage 2, with modalities hidden."""
    batch_size: int | None = None
    """Utterances per step, over all processes and devices."""
    learning_rate: float | None = None
    """Learning rate of Adam."""
    embedding: int | None = None
    """Width of the embeddings and of the LSTMs."""
    max_frames: int | None = None
    """Frames of every sequence: longer ones are averaged down to these, shorter ones padded."""
    log_every: int = 100
    """Steps per line of metrics."""
    save_every: int = 1000
    """Steps between checkpoints; one is also written after each epoch."""
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


def main(arguments: Arguments, start_up: StartUp | None = None) -> None:
    """Trains. Raises the errors that `run_command` turns into sentences."""
    if min(arguments.log_every, arguments.save_every) < 1:
        found = f"{arguments.log_every} and {arguments.save_every}"
        raise ValueError(f"--log-every and --save-every must be positive, found {found}")
    start_up = start_up or StartUp()
    say = print if is_first() else lambda *_: None
    data_set = open_data_set(arguments.data, modalities=arguments.modalities or None)
    train_rows, val_rows = split_rows(read_text(data_set, "speaker"), arguments.held_out)
    settings = choose_settings(arguments, data_set)
    config = settings.run_config(arguments.method, data_set.modalities, len(data_set.class_names))
    method = make_method(config.method, config.model, config.train)
    num_epochs = sum(stage.epochs for stage in method.stages)
    make_batches = functools.partial(Batches, data_set, max_frames=settings.max_frames or 1)
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    eval_size = -(-config.train.eval_batch_size // jax.process_count()) * jax.process_count()
    batches = make_batches(train_rows, config.train.batch_size, num_epochs=num_epochs, seed=arguments.seed, **share)
    val_batches = make_batches(val_rows, eval_size, **share)
    kept = {name: getattr(arguments, name) for name in ("method", "modalities", "held_out", "seed")}
    kept |= {"max_frames": settings.max_frames, "utterances": len(data_set)}
    prepare_folder(arguments.out, kept | config.to_dict(), resume=arguments.resume)
    say(f"{arguments.data}: {len(train_rows)} utterances train, {len(val_rows)} validate; {len(batches)} steps")
    state = first_state(config, method, arguments.seed)
    if arguments.resume:
        state = restore(arguments.out, state)
        say(f"Goes on after step {state.progress.step}.")
    else:  # every process reads all utterances, so that all have the same numbers
        start = time.perf_counter()
        normalizer = fit_normalizer(read_ahead(make_batches(train_rows, eval_size), place=lambda batch: batch))
        state = state._replace(normalizer=normalizer)
        say(f"Normaliser: one pass in {time.perf_counter() - start:.1f} s.")
    start_up.lap("data")
    best = train(config, method, state, batches, val_batches, arguments, start_up, say)
    record = {"held_out": list(arguments.held_out), "best_epoch": best.epoch, "val_counts": best.counts}
    if is_first():
        save_run(arguments.out / MODEL, config, best.params, state.normalizer, record)
    say(f"Written: {arguments.out}/{METRICS}, config.json, {MODEL}")


def train(
    config: RunConfig,
    method: Method,
    state: State,
    batches: Batches,
    val_batches: Batches,
    arguments: Arguments,
    start_up: StartUp,
    say: Callable[..., None],
) -> Best:
    """Trains and validates after each epoch; returns the best epoch of the last stage."""
    method = on_raw_features(method, state.normalizer)
    tx = make_tx(config.train)
    train_step = make_parallel_train_step(method.loss, tx, config.train)
    eval_step = make_parallel_eval_step(method, config.model.num_classes, config.model.num_modalities)
    place = lambda batch: split_batch(batch, jax.local_device_count())
    iterator = read_ahead(batches, place=place)
    iterator.set_state(state.progress.position)
    per_epoch, compiled = batches.steps_per_epoch, False
    while state.progress.step < len(batches):
        step = state.progress.step
        number, end = stage_of(method.stages, step, per_epoch)
        every = (per_epoch, arguments.log_every, arguments.save_every)
        stop = min((step // steps + 1) * steps for steps in every) if compiled else step + 1
        stage, last = method.stages[number], number == len(method.stages) - 1
        progress, aux, timing = train_steps(
            train_step,
            state.progress,
            iterator,
            num_steps=stop - step,
            hide=stage.hide,
            hyper=functools.partial(step_hyper, config.hyper, stage, last, end, per_epoch),
        )
        state = state._replace(progress=progress)
        line = {"step": stop, "epoch": step // per_epoch, "stage": stage.name}
        line |= {name: float(np.mean(value)) for name, value in aux.items()} | {"resident_mib": resident_mib()}
        if compiled:
            line["waited"] = timing.waited / timing.seconds
            line["utterances_per_s"] = (stop - step) * batches.batch_size / timing.seconds
        else:
            start_up.lap("compiling")
            say(start_up.text())
        compiled = True
        write_line(arguments.out, line)
        say(train_text(line))
        if stop % per_epoch == 0:
            counts = np.sum([eval_step(progress.params, batch) for batch in read_ahead(val_batches, place=place)], 0)
            state = state._replace(best=better(state.best, progress, counts, step // per_epoch) if last else state.best)
            scores = val_scores(config, counts)
            write_line(arguments.out, {"step": stop, "epoch": step // per_epoch, "val_uar": scores})
            say(f"epoch {step // per_epoch}, validation UAR: " + ", ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        if stop % per_epoch == 0 or stop % arguments.save_every == 0:
            save(arguments.out, state)
    return state.best


def step_hyper(
    hyper: Hyperparameters, stage: Stage, last: bool, end: int, per_epoch: int, step: int
) -> Hyperparameters:
    """The hyperparameters of a step of a stage that ends before the step `end`."""
    done = 1 - (end - step) / (stage.epochs * per_epoch)
    return with_decay(stage.weights(hyper), done, last)


def better(best: Best, progress: Progress, counts: np.ndarray, epoch: int) -> Best:
    """The best epoch so far by UAR, all missing-modality conditions pooled, as in `cmarr_jax.train`."""
    score = uar(counts[:-1].sum(0))
    return (
        jax.device_get(Best(progress.params, score, jnp.asarray(epoch), jnp.asarray(counts)))
        if score > best.score
        else best
    )


def val_scores(config: RunConfig, counts: np.ndarray) -> dict[str, float]:
    """UAR by condition, fractions."""
    names = condition_names([modality.name for modality in config.model.modalities])
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


def choose_settings(arguments: Arguments, data_set: DataSet) -> Settings:
    """The settings for sequences or for vectors, with what the command line changes."""
    sequences = any(modality.encoder != "vector" for modality in data_set.modalities)
    settings = SEQUENCES if sequences else VECTORS
    return settings.with_options(vars(arguments))


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
    arguments = tyro.cli(Arguments, prog="python -m experiments.stream")
    with told_in_a_sentence(FileExistsError, FileNotFoundError, ValueError):
        try:
            set_up_jax(arguments.start, a_device_a_core=False)
            main(arguments, start_up)
        except KeyboardInterrupt:
            print(f"Stopped; go on with --resume --out {arguments.out}", file=sys.stderr)
            raise SystemExit(130) from None


if __name__ == "__main__":
    run_command()
