"""Trains the methods of the table on every fold and seed, and prints the table. See `--help`."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cmarr_jax.batching import make_plan
from cmarr_jax.checkpoint import save_run
from cmarr_jax.config import RunConfig
from cmarr_jax.corpus import ArchiveError, Corpus
from cmarr_jax.folds import Fold, FoldError, FoldSplit, make_folds, stack_folds
from cmarr_jax.input import Data, modality_configs, to_data
from cmarr_jax.objectives import make_method
from cmarr_jax.parallel import replicate
from cmarr_jax.plan import GIB, SweepPlan, available_memory, plan_sweep
from cmarr_jax.processes import first_then_others, is_first, smallest
from cmarr_jax.sweep import Runs, stack_runs
from cmarr_jax.train import RunResult, make_train_run
from experiments.report import write_tables
from experiments.results import Row, append_rows, read_rows, rows_from_counts
from experiments.settings import METHODS, SEQUENCES, SMOKE, SYNTHETIC, VECTORS, Settings
from experiments.sources import SYNTHETIC_NAME, Source, load_archive, load_synthetic
from experiments.startup import QUICK_COMPILE, StartOptions, StartUp, set_up_jax, told_in_a_sentence

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "distrax",
    "tfp-nightly",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains CM-ARR, its ablations and the zero-fill baseline on every fold and prints the table of conditions.

    Conditions are named by what is available: `a v t av at vt` and complete data, `avt`. What is finished is kept when
    you stop with Ctrl-C. Results, tables, settings and the trained models are in the output folder.
    """

    data: str = SYNTHETIC_NAME
    """`synthetic` (made on first use), or a feature archive, FILE.npz."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which rows of the table to train."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Seeds per fold: 0 to N - 1."""
    folds: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Groups of speakers. Not used where every session has two speakers (one fold per speaker) or the archive has its
    own split."""
    out: Path | None = None
    """Output folder, new or empty; by default a new one in `runs/`."""
    complete_epochs: int | None = None
    """Epochs of stage 1, on complete data. This and the following: by default, what `experiments/settings.py` has for
    the data set."""
    missing_epochs: int | None = None
    """Epochs of stage 2, with modalities hidden."""
    batch_size: int | None = None
    """Utterances per step."""
    learning_rate: float | None = None
    """Learning rate of Adam, for every method."""
    embedding: int | None = None
    """Width of the embeddings and of the LSTMs."""
    encoder_dtype: Literal["float32", "bfloat16"] | None = None
    """Of the products inside the LSTMs and convolutions."""
    max_frames: int | None = None
    """Longer sequences are averaged down to this many frames."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The smallest run that touches everything, in about a minute; its numbers mean nothing."""
    memory: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """GiB of one accelerator, or of a machine without one: no more models are trained at once than fit in it. By
    default, what is free."""
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


def main(arguments: Arguments, start_up: StartUp | None = None) -> None:
    """Runs the table. Raises the errors that `run_command` turns into sentences."""
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, found {arguments.seeds}")
    if arguments.memory is not None and arguments.memory <= 0:
        raise ValueError(f"--memory must be above 0, found {arguments.memory}")
    start_up = start_up or StartUp()
    console = Console(quiet=not is_first())
    settings, source = first_then_others(lambda: load(arguments))
    folds = make_folds(source.corpus, num_folds=arguments.folds)
    modalities = modality_configs(source.corpus)
    configs = {
        name: settings.run_config(name, modalities, source.corpus.num_classes)
        for name in dict.fromkeys(arguments.methods)
    }
    folder, title, notes = None, *headings(source, folds, arguments)
    if is_first():
        folder = make_folder(arguments.out, source.name)
        write_config(folder, title, notes, arguments, settings, source, folds, configs)
    console.print(f"{title}. {len(source.corpus)} utterances, {len(folds)} folds, {arguments.seeds} seeds -> {folder}")
    stopped = False
    try:
        if folder is not None and source.oracle is not None:
            append_rows(folder, ceiling_rows(source.corpus, source.oracle, folds))
        data = replicate(to_data(source.corpus, max_frames=settings.max_frames), jax.local_devices())
        start_up.lap("data")
        train_all(folder, data, folds, configs, settings, arguments, console, start_up)
    except KeyboardInterrupt:
        stopped = True
        console.print("Stopped; what was finished is kept.")
    if folder is None:
        return
    if not (folder / "results.jsonl").exists():
        raise SystemExit(130)
    markdown = write_tables(folder, title, notes)
    console.print(Markdown(markdown) if console.is_terminal else markdown, markup=False, soft_wrap=True)
    console.print(f"Written: {folder}/table.md, table.csv, results.jsonl, config.json", soft_wrap=True)
    if stopped and jax.process_count() > 1:
        raise SystemExit(0)  # at once: the others wait for this one's part of the work


def load(arguments: Arguments) -> tuple[Settings, Source]:
    """The data set and its settings."""
    archive = None if arguments.data == SYNTHETIC_NAME else load_archive(Path(arguments.data))
    settings = choose_settings(arguments, archive and archive.corpus)
    return settings, archive or load_synthetic(settings)


def choose_settings(arguments: Arguments, corpus: Corpus | None) -> Settings:
    """The settings of a data set (`corpus` is None for the synthetic one), with what the command line changes."""
    if arguments.smoke:
        settings = SMOKE
    elif corpus is None:
        settings = SYNTHETIC
    else:
        settings = SEQUENCES if corpus.length else VECTORS
    return settings.with_options(vars(arguments))


def train_all(
    folder: Path | None,
    data: Data,
    folds: list[FoldSplit],
    configs: dict[str, RunConfig],
    settings: Settings,
    arguments: Arguments,
    console: Console,
    start_up: StartUp,
) -> None:
    """Trains every method, fold and seed, as many at a time as is planned, and writes each chunk once it is finished.

    Every process takes part; the one that writes has a folder.
    """
    units = [(fold, seed) for seed in range(arguments.seeds) for fold in range(len(folds))]
    fold_index, seeds = (list(column) for column in zip(*units, strict=True))
    stacked = stack_folds(folds)
    runs = {name: stack_runs(stacked, fold_index, seeds, [c.hyper] * len(units)) for name, c in configs.items()}
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("models,"),
        TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(2) as compiler:
        say = lambda text: progress.print(text, soft_wrap=True)
        task = progress.add_task("", total=len(units) * len(configs))
        compiling = compile_all(compiler, data, stacked, configs, runs, settings, arguments, say)
        try:
            for name in configs:
                progress.update(task, description=name)
                plan = compiling[name].result()
                if start_up.parts.get("compiling") is None:
                    start_up.lap("compiling")
                    say(start_up.text())
                for numbers, result in plan.run(data, runs[name]):
                    if folder is not None:
                        for row, number in enumerate(numbers):
                            fold, seed = units[number]
                            one = jax.tree.map(lambda x, row=row: x[row], result)
                            write_run(folder, name, folds[fold].name, seed, configs[name], one)
                    progress.advance(task, len(numbers))
                if folder is not None:
                    uars = [row.uar for row in read_rows(folder) if row.method == name]
                    say(f"{name}: {len(units)} models, mean test UAR over all conditions {100 * np.mean(uars):.1f} %")
        finally:
            compiler.shutdown(wait=False, cancel_futures=True)


def compile_all(
    compiler: Executor,
    data: Data,
    folds: Fold,
    configs: dict[str, RunConfig],
    runs: dict[str, Runs],
    settings: Settings,
    arguments: Arguments,
    say: Callable[[str], None],
) -> dict[str, Future[SweepPlan]]:
    """The program of each method, compiled in the background in their order, two at a time, while those before are run.

    Methods that differ in numbers only share one.
    """
    device = jax.local_devices()[0]
    memory = arguments.memory * GIB if arguments.memory else smallest(available_memory(device))
    quick = settings.quick_compile and device.platform == "cpu"

    def compile_one(config: RunConfig, runs: Runs) -> SweepPlan:
        method = make_method(config.method, config.model, config.train)
        batches = make_plan(data, folds, config.train)
        train_run = make_train_run(method, config.train, config.model.num_classes, batches)
        options = QUICK_COMPILE if quick else None
        return plan_sweep(train_run, data, runs, memory=memory, compiler_options=options, say=say)

    compiling: dict[str, Future[SweepPlan]] = {}
    for name, config in configs.items():
        program = json.dumps({**config.to_dict(), "hyper": None})
        if program not in compiling:
            compiling[program] = compiler.submit(compile_one, config, runs[name])
        compiling[name] = compiling[program]
    return {name: compiling[name] for name in configs}


def write_run(folder: Path, name: str, fold: str, seed: int, config: RunConfig, result: RunResult) -> None:
    """Saves one finished run and adds its rows to the results."""
    modalities = [modality.name for modality in config.model.modalities]
    rows = rows_from_counts(name, fold, seed, modalities, result.test_counts)
    record = {
        "name": name,
        "fold": fold,
        "seed": seed,
        "best_epoch": result.best_epoch,
        "test_counts": result.test_counts,
        "val_counts": result.val_counts,
        "history": result.history,
    }
    save_run(folder / name / f"{fold}_seed{seed}", config, result.params, result.normalizer, record)
    append_rows(folder, rows)


def ceiling_rows(corpus: Corpus, oracle: tuple[np.ndarray, np.ndarray], folds: list[FoldSplit]) -> list[Row]:
    """Rows of Bayes' rule on the test utterances of each fold.

    Each metric has its own best rule: the most probable class for WAR (its counts are in the row), the likeliest class
    for UAR.
    """
    from data_prep.synthetic.generative import oracle_counts

    log_likelihood, log_prior = oracle
    rows = []
    for fold in folds:
        label, likelihood = corpus.label[fold.test], log_likelihood[fold.test]
        for_war, for_uar = (
            rows_from_counts("bayes_ceiling", fold.name, 0, corpus.modalities, oracle_counts(label, likelihood, prior))
            for prior in (log_prior, None)
        )
        rows += [a._replace(uar=b.uar) for a, b in zip(for_war, for_uar, strict=True)]
    return rows


def make_folder(out: Path | None, name: str) -> Path:
    """The output folder, made if needed. Raises FileExistsError if it holds something."""
    folder = out or Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; name a new folder with --out, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def headings(source: Source, folds: list[FoldSplit], arguments: Arguments) -> tuple[str, list[str]]:
    """Title and notes of the table."""
    title = "CM-ARR on synthetic data" if source.oracle is not None else f"CM-ARR on {source.name}"
    notes = []
    if source.oracle is not None:
        notes.append(
            "Synthetic data shaped like IEMOCAP, not a corpus. The ceiling is the Bayes oracle's score on the same "
            "test utterances, by the optimal rule of each metric."
        )
    if arguments.smoke:
        notes.append("Smoke run: a few steps on a few utterances; these numbers mean nothing.")
    notes.append(
        f"Data: `{source.name}`, SHA-256 `{source.digest[:16]}`; {len(folds)} folds, {arguments.seeds} "
        f"{'seed' if arguments.seeds == 1 else 'seeds'}; {device_text()}; commit `{commit()}`."
    )
    return title, notes


def write_config(
    folder: Path,
    title: str,
    notes: list[str],
    arguments: Arguments,
    settings: Settings,
    source: Source,
    folds: list[FoldSplit],
    configs: dict[str, RunConfig],
) -> None:
    """Writes everything that tells how the numbers were made."""
    config = {
        "title": title,
        "notes": notes,
        "command": [sys.executable, "-m", "experiments.reproduce", *sys.argv[1:]],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "data": {
            "name": source.name,
            "path": arguments.data,
            "sha256": source.digest,
            "utterances": len(source.corpus),
        },
        "folds": [
            {"name": f.name, **{part: len(getattr(f, part)) for part in ("train", "val", "test")}} for f in folds
        ],
        "seeds": list(range(arguments.seeds)),
        "settings": settings.to_dict(),
        "methods": {name: config.to_dict() for name, config in configs.items()},
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "devices": device_text(),
        "commit": commit(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str) + "\n")


def device_text() -> str:
    """Kind and number of devices, for example `2 x cpu`, and of processes if there are several."""
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{jax.device_count()} x {jax.local_devices()[0].device_kind}{processes}"


def commit() -> str:
    """The commit of this checkout, `-dirty` with changes; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    start_up = StartUp()
    arguments = tyro.cli(Arguments, prog="python -m experiments.reproduce")
    errors = ArchiveError, FoldError, FileExistsError, FileNotFoundError, ValueError
    with told_in_a_sentence(*errors):
        set_up_jax(arguments.start, a_device_a_core=True)  # a CPU runs one model per core
        main(arguments, start_up)
    if is_first():
        print(f"Took {start_up.seconds() / 60:.1f} minutes.")


if __name__ == "__main__":
    run_command()
