"""Trains every method, fold and seed of a table and writes each run as it is finished."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cmarr_jax.config import RunConfig
from cmarr_jax.data.batching import plan_batches
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.device import DeviceCorpus, to_device
from cmarr_jax.data.folds import Fold, FoldSplit, stack_folds
from cmarr_jax.data.names import as_file_name
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.checkpoint import save_run
from cmarr_jax.training.processes import smallest
from cmarr_jax.training.run import RunResult, history_by_stage, make_train_run
from cmarr_jax.training.schedule import DIVERGED, MISMATCH, STATUS, used_stages
from cmarr_jax.training.sweep import Runs, stack_runs
from cmarr_jax.training.sweep_memory import GIB, CompiledSweep, available_memory, compile_sweep
from experiments.jax_setup import QUICK_COMPILE, StartUp
from experiments.report import stopping_text
from experiments.results import Row, append_rows, rows_from_counts

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Table:
    """What a table is made of.

    Attributes:
      corpus: The utterances.
      folds: The folds.
      configs: Configuration of each row, by name.
      seeds: Seeds of each fold and row: 0 to `seeds` - 1.
      max_frames: Longer sequences are averaged down to this many frames.
      quick_compile: Whether CPU programs are compiled in half the time, for slightly slower steps.
      memory: GiB to plan for; `None`: what is free.
    """

    corpus: Corpus
    folds: list[FoldSplit]
    configs: dict[str, RunConfig]
    seeds: int = 1
    max_frames: int | None = None
    quick_compile: bool = False
    memory: float | None = None

    @property
    def units(self) -> list[tuple[int, int]]:
        """Fold and seed of each run of a row."""
        return [(fold, seed) for seed in range(self.seeds) for fold in range(len(self.folds))]


def train_table(folder: Path | None, table: Table, console: Console, start_up: StartUp) -> None:
    """Trains all rows of a table and writes the runs of each call once it is finished.

    Compilations, two at a time, go on in the background while earlier rows are trained. Both are waited for outside of
    the main thread, so that Ctrl-C is answered at once.

    Args:
      folder: Where to write; `None` in processes that do not write.
      table: What to train.
      console: For the progress bar.
      start_up: Told when data and the first program are ready.
    """
    data = to_device(table.corpus, max_frames=table.max_frames)
    start_up.lap("data")
    fold_index, seeds = (list(column) for column in zip(*table.units, strict=True))
    stacked = stack_folds(table.folds)
    runs = {
        name: stack_runs(stacked, fold_index, seeds, [hyperparameters_of(config)] * len(seeds))
        for name, config in table.configs.items()
    }
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("models,"),
        TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    compiler, runner = ThreadPoolExecutor(2), ThreadPoolExecutor(1)
    try:
        with Progress(*columns, console=console) as progress:
            log = lambda text: progress.print(text, soft_wrap=True)
            task = progress.add_task("", total=len(seeds) * len(runs))
            compiling = compile_all(compiler, data, stacked, table, runs, log)
            for name in table.configs:
                progress.update(task, description=name)
                sweep = compiling[name].result()
                if start_up.parts.get("compiling") is None:
                    start_up.lap("compiling")
                    log(start_up.text())
                rows: list[Row] = []
                for numbers, result in _in_thread(runner, sweep.run(data, runs[name])):
                    for row, number in enumerate(numbers):
                        one = jax.tree.map(lambda x, row=row: x[row], result)
                        rows += write_run(folder, table, name, *table.units[number], one)
                    progress.advance(task, len(numbers))
                log(f"{name}: {_row_text(rows)}")
    finally:  # without waiting: a compilation cannot be interrupted
        compiler.shutdown(wait=False, cancel_futures=True)
        runner.shutdown(wait=False, cancel_futures=True)


def compile_all(
    compiler: Executor,
    data: DeviceCorpus,
    folds: Fold,
    table: Table,
    runs: dict[str, Runs],
    log: Callable[[str], None],
) -> dict[str, Future[CompiledSweep]]:
    """The compiled program of each row, in the background. Rows that differ in numbers only share one."""
    device = jax.local_devices()[0]
    memory = table.memory * GIB if table.memory else smallest(available_memory(device))
    options = QUICK_COMPILE if table.quick_compile and device.platform == "cpu" else None

    def compile_one(config: RunConfig, runs: Runs) -> CompiledSweep:
        plan = plan_batches(data, folds, config.train)
        train_run = make_train_run(make_method(config), config.train, plan)
        return compile_sweep(train_run, data, runs, memory=memory, compiler_options=options, log=log)

    compiling: dict[str, Future[CompiledSweep]] = {}
    for name, config in table.configs.items():
        program = json.dumps(config.to_dict() | {"weights": None, "learning_rate": None})
        if program not in compiling:
            compiling[program] = compiler.submit(compile_one, config, runs[name])
        compiling[name] = compiling[program]
    return {name: compiling[name] for name in table.configs}


def write_run(folder: Path | None, table: Table, name: str, fold: int, seed: int, result: RunResult) -> list[Row]:
    """Saves one finished run, unless it has diverged, and adds its rows to the results.

    Args:
      folder: Of the table; `None`: nothing is written.
      table: What is trained.
      name: Row of the table.
      fold: Number of the fold.
      seed: Seed.
      result: Of this run, numpy arrays.

    Raises:
      ValueError: if the fold has longer utterances than the batches were planned for.
    """
    if result.status == MISMATCH:
        raise ValueError(f"fold {table.folds[fold].name} {STATUS[MISMATCH]}; plan the batches with this fold")
    config, fold_name, status = table.configs[name], table.folds[fold].name, STATUS[int(result.status)]
    modalities = [modality.name for modality in config.encoders.modalities]
    rows = rows_from_counts(name, fold_name, seed, modalities, result.test_counts, status)
    if folder is None:
        return rows
    record = {
        "name": name,
        "fold": fold_name,
        "num_folds": len(table.folds),
        "seed": seed,
        "status": status,
        "best_epoch": result.best_epoch,
        "test_counts": result.test_counts,
        "val_counts": result.val_counts,
        "history": history_by_stage(result, [stage.name for stage in used_stages(make_method(config))]),
    }
    if result.status != DIVERGED:
        unit = folder / name / f"{as_file_name(fold_name)}_seed{seed}"
        save_run(unit, config, result.params, result.normalizer, record)
    append_rows(folder, rows)
    return rows


def _row_text(rows: list[Row]) -> str:
    """How the runs of a row went, to read while the others are trained."""
    scores = np.array([row.uar for row in rows])
    runs = {(row.fold, row.seed): row.status for row in rows}
    text = f"{len(runs)} models"
    if np.isfinite(scores).any():
        text += f", mean test UAR over all conditions {100 * np.nanmean(scores):.1f} %"
    return f"{text}; {stopping_text(list(runs.values()))}"


def _in_thread(runner: Executor, items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, each computed in a thread: waiting for a thread can be interrupted, XLA cannot."""
    while (item := runner.submit(next, items, None).result()) is not None:
        yield item
