"""Trains the methods of the table on every fold and seed, and prints the table. See `--help`."""

import contextlib
import dataclasses
import datetime
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown

from cmarr_jax.config import RunConfig, check_choice
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.device import modality_configs
from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds
from cmarr_jax.training.processes import first_process_first, is_first
from cmarr_jax.training.schedule import DIVERGED, STATUS
from experiments.datasets import SYNTHETIC_NAME, Source, load_data
from experiments.jax_setup import StartOptions, StartUp, end_process, set_up_jax, user_errors_as_messages
from experiments.presets import Changes, Preset
from experiments.provenance import commit, device_text, versions
from experiments.report.scores import BAYES_UAR, BAYES_WAR, PRODUCT_UAR, PRODUCT_WAR, counted
from experiments.report.write import OUTPUT_FILES, write_report
from experiments.results_folder import new_name, open_folder
from experiments.rows import TABLES
from experiments.table import Table
from experiments.train_table import train_table
from experiments.tuned import read_tuned
from experiments.units import Unit, is_finished, read_rows, write_counts


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains CM-ARR and its baselines on every fold and prints the table of conditions.

    Conditions are named by what is available: `a v t av at vt` and complete data, `avt`. What is finished is kept when
    you stop with Ctrl-C. Results, tables, settings and the trained models are in the output folder.
    """

    data: str = SYNTHETIC_NAME
    """`synthetic` or `synthetic_hard` (made on first use), or a feature archive, FILE.npz."""
    preset: str | None = None
    """Sizes, schedule and rates, a name in experiments/presets.py; by default the one for the kind of data."""
    table: Literal["main", "conditions", "ablations", "rates", "all"] = "main"
    """Which rows to train: CM-ARR and three baselines (`main`, also for `rates`), all methods (`conditions`), the
    ablations of CM-ARR, or all of them. Whatever is trained, all tables that it allows are written."""
    methods: tuple[str, ...] = ()
    """Rows to train instead of those of a table; all are in experiments/rows.py."""
    seeds: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Seeds per fold: 0 to N - 1."""
    only: tuple[str, ...] = ("*",)
    """Train only the runs whose ROW/FOLD_seedN one of these patterns matches, such as `cm_arr/01F_seed*`."""
    folds_only: tuple[str, ...] = ()
    """Train only the runs of these folds, by name."""
    folds: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Groups of speakers. Not used where every session has two speakers (one fold per speaker) or the archive has its
    own split."""
    out: Path | None = None
    """Output folder; by default a new one in `runs/`. If it holds a table, what it lacks is trained: rows, seeds, and
    runs that were interrupted. Everything else must be as it was."""
    tuned: Path | None = None
    """What `experiments.tune` wrote: its choices replace learning rate, dropout and loss weights of each fold."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The smallest run that touches everything, in about a minute; its numbers mean nothing."""
    memory: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """GiB of one accelerator, or of a machine without one: no more models are trained at once than fit in it. By
    default, what is free."""
    keep_every: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 300.0
    """How often the states of unfinished runs are kept in the output folder, from which the same command goes on."""
    debug: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Check every operation of the steps (checkify), which is slower: stop at the first nan or division by zero, and
    say which operation it was, where in the code, and which utterances the batch had."""
    changes: tyro.conf.OmitArgPrefixes[Changes] = dataclasses.field(default_factory=Changes)
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


def main(arguments: Arguments, start_up: StartUp | None = None) -> None:
    """Runs the table. Raises the errors that `run_command` turns into sentences.

    Raises:
      SystemExit: with code 130 after Ctrl-C, 1 if a run diverged; tables of what was finished are written before.
    """
    check(arguments)
    start_up = start_up or StartUp()
    console = Console(quiet=not is_first())
    preset, source = first_process_first(
        lambda: load_data(arguments.data, arguments.preset, smoke=arguments.smoke, changes=arguments.changes)
    )
    folds = make_folds(source.corpus, num_folds=arguments.folds)
    for name in arguments.folds_only:
        check_choice("--folds-only", name, [fold.name for fold in folds])
    table = make_table(arguments, preset, source, folds)
    folder = None
    if is_first():
        folder = arguments.out or new_name(source.name)
        open_folder(folder, settings(arguments, preset, source, table))
        write_ceiling(folder, source, folds)
    text = f"{len(source.corpus)} utterances, {counted(len(folds), 'fold')}, {counted(arguments.seeds, 'seed')}"
    console.print(f"{source.name}: {text} -> {folder}", soft_wrap=True)
    stopped = False
    try:
        train_table(folder, table, console, start_up)
    except KeyboardInterrupt:
        stopped = True
        console.print(f"Stopped; what was finished is kept. Go on with --out {folder}", soft_wrap=True)
    if folder is None:
        return
    finished = read_rows(folder)
    if finished:
        markdown = write_report(folder)
        console.print(Markdown(markdown) if console.is_terminal else markdown, markup=False, soft_wrap=True)
        console.print(f"Written: {folder}/{', '.join(OUTPUT_FILES)}", soft_wrap=True)
    if stopped:
        raise SystemExit(130)
    if any(row.status == STATUS[DIVERGED] for row in finished):
        raise SystemExit(1)


def make_table(arguments: Arguments, preset: Preset, source: Source, folds: list[FoldSplit]) -> Table:
    """What the command line asks for. Raises ValueError for what is unknown."""
    modalities = modality_configs(source.corpus)
    rows = dict.fromkeys(arguments.methods or TABLES[arguments.table])
    configs = {name: preset.row_config(name, modalities, source.corpus.num_classes) for name in rows}
    tuned = {}
    if arguments.tuned is not None:
        trained = [name for name, config in configs.items() if isinstance(config, RunConfig)]
        tuned = read_tuned(arguments.tuned, source.digest, trained, [fold.name for fold in folds])
    return Table(
        source.corpus,
        folds,
        configs,
        tuned,
        arguments.seeds,
        preset.max_frames,
        preset.cpu_compile,
        arguments.memory,
        arguments.only,
        arguments.folds_only,
        arguments.keep_every,
        arguments.debug,
        source.extractors,
    )


def check(arguments: Arguments) -> None:
    """Raises ValueError for an option out of its range."""
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, found {arguments.seeds}")
    if arguments.memory is not None and arguments.memory <= 0:
        raise ValueError(f"--memory must be above 0, found {arguments.memory}")


def write_ceiling(folder: Path, source: Source, folds: list[FoldSplit]) -> None:
    """Scores exact rules on the test utterances of each fold, where the data set knows them, unless they are there.

    Bayes' rule, and the product rule on exact posteriors of single modalities. Each metric has its own best decision,
    hence two rows of each: the most probable class for WAR, the likeliest class for UAR.
    """
    if source.oracle is None:
        return
    from data_prep.synthetic.posterior import oracle_counts, product_rule

    bayes, log_prior = source.oracle
    product = product_rule(bayes, len(source.corpus.modalities))
    for name, log_likelihood, prior in (
        (BAYES_WAR, bayes, log_prior),
        (BAYES_UAR, bayes, None),
        (PRODUCT_WAR, product, log_prior),
        (PRODUCT_UAR, product, None),
    ):
        for fold in folds:
            unit = Unit(name, fold.name, 0)
            if not is_finished(folder, unit):
                counts = oracle_counts(source.corpus.label[fold.test], log_likelihood[fold.test], prior)
                with contextlib.suppress(FileExistsError):  # another command has just written it
                    write_counts(folder, unit, source.corpus.modalities, counts)


def settings(arguments: Arguments, preset: Preset, source: Source, table: Table) -> dict[str, Any]:
    """How the numbers are made: command, data, folds, preset, configurations, versions, commit."""
    return {
        "command": [sys.executable, "-m", "experiments.reproduce", *sys.argv[1:]],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "smoke": arguments.smoke,
        "data": {
            "name": source.name,
            "path": arguments.data,
            "sha256": source.digest,
            "utterances": len(source.corpus),
            "class_names": list(source.corpus.class_names),
            "modalities": list(source.corpus.modalities),
        },
        "folds": [
            {"name": f.name, **{part: len(getattr(f, part)) for part in ("train", "val", "test")}} for f in table.folds
        ],
        "seeds": list(range(arguments.seeds)),
        "preset": preset.to_dict(),
        "methods": {name: config.to_dict() for name, config in table.configs.items()},
        "tuned": table.tuned,
        "versions": versions(),
        "devices": device_text(),
        "commit": commit(),
    }


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    start_up = StartUp()
    arguments = tyro.cli(Arguments, prog="python -m experiments.reproduce")
    code = 0
    try:
        with user_errors_as_messages(ArchiveError, FoldError, OSError, ImportError, ValueError):
            set_up_jax(arguments.start, one_cpu_device_per_core=True)  # a CPU runs one model per core
            main(arguments, start_up)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    if code:
        end_process(code)
    if is_first():
        print(f"Took {start_up.seconds() / 60:.1f} minutes.")


if __name__ == "__main__":
    run_command()
