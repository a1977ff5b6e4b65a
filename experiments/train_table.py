"""Trains what a table lacks, every method, fold and seed, and writes each run as it is finished."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cmarr_jax.config import RunConfig
from cmarr_jax.data.device import DeviceCorpus, to_device
from cmarr_jax.data.folds import Fold, stack_folds
from cmarr_jax.methods import hyperparameters_of
from cmarr_jax.training.disk import delete_partial
from cmarr_jax.training.processes import gather
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import DIVERGED, MISMATCH, STATUS
from cmarr_jax.training.slots import Kept
from cmarr_jax.training.state_file import delete_states, load_newest_state, save_state
from cmarr_jax.training.sweep import Runs, stack_runs
from experiments.compile_rows import Programs, compile_all
from experiments.inspection import inspect_run
from experiments.jax_setup import StartUp
from experiments.report.scores import counted, stopping_text
from experiments.results import Row, ValueRow, rows_from_counts
from experiments.results_folder import own_row
from experiments.skipped import skipped_text, with_utterances
from experiments.table import Table
from experiments.units import Unit, is_finished, state_path, write_classical_unit, write_unit

if TYPE_CHECKING:  # it takes scikit-learn along
    from experiments.classical import ClassicalResult

T = TypeVar("T")
Inspector = Callable[[int, RunResult], dict[str, np.ndarray]]


def train_table(folder: Path | None, table: Table, console: Console, start_up: StartUp) -> None:
    """Trains what the folder lacks, row by row, and writes each run once it is finished.

    Compilations, two at a time, go on in the background while classical models are fitted and earlier rows are trained.
    They are waited for outside of the main thread, so that Ctrl-C is answered at once. A row that another command is
    training is left to it.

    Args:
      folder: Where to write; `None` in processes that do not write.
      table: What to train.
      console: For the progress bar.
      start_up: Told when data and the first program are ready.
    """
    missing = {name: len(table.missing(folder, name)) for name in table.configs}
    if not sum(missing.values()):
        console.print("Nothing is left to train.")
        return
    classical = [name for name, config in table.configs.items() if not isinstance(config, RunConfig)]
    left = {name: count for name in classical if (count := missing.pop(name))}
    data = to_device(table.corpus, max_frames=table.max_frames)
    start_up.lap("data")
    stacked = stack_folds(table.splits)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("models,"),
        TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    compiler, runner = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    try:
        with Progress(*columns, console=console) as progress:
            log: Callable[[str], None] = lambda text: progress.print(text, soft_wrap=True)
            task = progress.add_task("", total=sum(missing.values()) + sum(left.values()))
            runs = {name: runs_of(table, stacked, name) for name, count in missing.items() if count}
            compiling = compile_all(compiler, data, stacked, table, runs, log)
            for name, count in left.items():
                progress.update(task, description=name)
                write_classical_row(folder, table, name, log)
                progress.advance(task, count)
                start_up.lap("classical models")
            for name in runs:
                progress.update(task, description=name)
                programs = compiling[name].result()
                if start_up.parts.get("compiling") is None:
                    start_up.lap("compiling")
                    log(start_up.text())
                done = 0
                for count in train_row(folder, table, name, programs, data, runs[name], runner, log):
                    progress.advance(task, count)
                    done += count
                progress.advance(task, missing[name] - done)  # another command has trained them meanwhile
    finally:  # without waiting: a compilation cannot be interrupted
        compiler.shutdown(wait=False, cancel_futures=True)
        runner.shutdown(wait=False, cancel_futures=True)


def write_classical_row(folder: Path | None, table: Table, name: str, log: Callable[[str], None]) -> None:
    """Fits the missing runs of a row of classical models; the process that writes does so, the others go on."""
    if folder is None:
        return
    from experiments.classical import ClassicalConfig, fit_fold, pooled

    config = table.configs[name]
    assert isinstance(config, ClassicalConfig)
    with own_row(folder, name) as mine:
        if not mine:
            log(f"{name}: another command is fitting it in this folder; run this one again when it has ended.")
            return
        delete_partial(folder / name)
        inputs = {modality: pooled(table.corpus, modality) for modality in table.corpus.modalities}
        num_runs = 0
        fitted: dict[int, ClassicalResult] = {}  # nothing is random: one fit serves all seeds with these rows
        for number in table.missing_here(folder, name):
            at, unit, split = table.split_number(number), table.unit(name, number), table.split_of(number)
            if at not in fitted:
                try:
                    fitted[at] = fit_fold(config, table.corpus, inputs, split)
                except (ValueError, np.linalg.LinAlgError) as error:
                    text = not_fitted_text(unit, len(split.train), error)
                    if table.label_share == 1:
                        raise ValueError(text) from error
                    log(f"{text}, so the tables lack this run; use a larger share of the labels")
                    continue
            write_classical_unit(folder, unit, config, fitted[at], table.corpus, split, table.label_share)
            num_runs += 1
        log(f"{name}: {counted(num_runs, 'run')} fitted")


def not_fitted_text(unit: Unit, num_labels: int, error: Exception) -> str:
    """What is said of a run that cannot be fitted; scikit-learn's reason is its first line."""
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{unit.path}: cannot be fitted to {counted(num_labels, 'labelled utterance')} ({reason})"


def runs_of(table: Table, stacked: Fold, name: str) -> Runs:
    """The arguments of all runs of a row. Those that are finished are among them: programs are planned for all."""
    fold_index, seeds = (list(column) for column in zip(*table.units, strict=True))
    hypers = [hyperparameters_of(table.config(name, number)) for number in range(len(seeds))]
    runs = stack_runs(stacked, fold_index, seeds, hypers)  # keys of fold and seed: the same with few labels
    places = np.array([table.split_number(number) for number in range(len(seeds))])
    return runs._replace(fold=jax.tree.map(lambda part: part[places], stacked))


def train_row(
    folder: Path | None,
    table: Table,
    name: str,
    programs: Programs,
    data: DeviceCorpus,
    runs: Runs,
    runner: Executor,
    log: Callable[[str], None],
) -> Iterator[int]:
    """Trains the runs of a row that are missing, and yields how many were finished, each time some are."""
    with contextlib.nullcontext(True) if folder is None else own_row(folder, name) as mine:
        mine = bool(gather(np.array([mine]))[0])
        if mine and folder is not None:
            delete_partial(folder / name)
            for unit in (table.unit(name, number) for number in range(len(table.units))):
                if is_finished(folder, unit):  # a kill between the end of a run and this left its state
                    delete_states(state_path(folder, unit))
        numbers = table.missing(folder, name) if mine else np.zeros(0, int)
        if not mine:
            log(f"{name}: another command is training it in this folder; run this one again when it has ended.")
        rows: list[Row] = []
        if len(numbers):
            chosen = jax.tree.map(lambda x: x[numbers], runs)
            inspector = make_inspector(table, programs, data, runs) if folder is not None else None
            kept = None if folder is None or jax.process_count() > 1 else kept_states(folder, table, name, numbers, log)
            ended = programs.sweep.run(data, chosen, kept)
            for places, result in _in_thread(runner, with_utterances(ended, name, table.corpus)):
                for row, place in enumerate(places):
                    one = jax.tree.map(lambda x, row=row: x[row], result)
                    rows += write_run(folder, table, name, int(numbers[place]), one, inspector)
                    if one.skipped.total:
                        log(skipped_text(table.unit(name, int(numbers[place])), one, table.corpus))
                yield len(places)
        if rows:
            log(f"{name}: {_row_text(rows)}")


def make_inspector(table: Table, programs: Programs, data: DeviceCorpus, runs: Runs) -> Inspector | None:
    """`(number of the run, result) -> arrays` of a row; the first run has the embeddings before training, too."""
    sweep, inspect = programs
    if inspect is None:
        return None

    def of_run(number: int, result: RunResult) -> dict[str, np.ndarray]:
        fold = jax.tree.map(lambda x: x[number], runs.fold)
        initial = sweep.initial_params(data, runs, number) if number == 0 else None
        num_rows = len(table.split_of(number).test)
        return inspect_run(inspect, result.params, result.normalizer, fold, num_rows, initial)

    return of_run


def kept_states(folder: Path, table: Table, name: str, numbers: np.ndarray, log: Callable[[str], None]) -> Kept:
    """States of unfinished runs, beside the folders that they will have; with one process only."""
    path = lambda place: state_path(folder, table.unit(name, int(numbers[place])))
    load = lambda place, like: load_newest_state(path(place), like, log)
    return Kept(load, lambda place, state: save_state(path(place), state), table.keep_every)


def write_run(
    folder: Path | None,
    table: Table,
    name: str,
    number: int,
    result: RunResult,
    inspector: Inspector | None = None,
) -> list[Row]:
    """Writes one finished run, and returns its rows.

    Args:
      folder: Of the table; `None`: nothing is written.
      table: What is trained.
      name: Row of the table.
      number: Of the run, in `Table.units`.
      result: Of this run, numpy arrays.
      inspector: From `make_inspector`.

    Raises:
      ValueError: if the fold has longer utterances than the batches were planned for.
    """
    config, unit, split = table.config(name, number), table.unit(name, number), table.split_of(number)
    if result.status == MISMATCH:
        raise ValueError(f"fold {unit.fold} {STATUS[MISMATCH]}; plan the batches with this fold")
    if folder is not None:
        inspection = inspector(number, result) if inspector and result.status != DIVERGED else None
        write_unit(folder, unit, config, result, table.corpus, split, inspection, table.input_record, table.label_share)
        delete_states(state_path(folder, unit))
    status = STATUS[int(result.status)]
    return rows_from_counts(name, unit.fold, unit.seed, table.corpus.modalities, result.test_counts, status)


def _row_text(rows: list[Row] | list[ValueRow]) -> str:
    """How the runs of a row went, to read while the others are trained."""
    regression = isinstance(rows[0], ValueRow)
    scores = np.array([getattr(row, "ccc" if regression else "uar") for row in rows])
    runs = {(row.fold, row.seed): row.status for row in rows}
    text = f"{len(runs)} models"
    if np.isfinite(scores).any():
        mean = np.nanmean(scores)
        score = f"CCC over all conditions {mean:.3f}" if regression else f"UAR over all conditions {100 * mean:.1f} %"
        text += f", mean test {score}"
    return f"{text}; {stopping_text(list(runs.values()))}"


def _in_thread(runner: Executor, items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each computed in a thread: waiting for a thread can be interrupted, XLA cannot."""
    while (item := runner.submit(next, items, None).result()) is not None:
        yield item
