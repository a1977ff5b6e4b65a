"""Trains the methods of the table on every fold and seed, and prints the table. See `--help`."""

import dataclasses
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.markdown import Markdown

from cmarr_jax.config import REGRESSION_TASK, RunConfig, check_choice
from cmarr_jax.data.corpus import PARTS, ArchiveError
from cmarr_jax.data.device import modality_configs
from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds
from cmarr_jax.data.label_share import check_share
from cmarr_jax.task import check_targets
from cmarr_jax.training.processes import end_process, first_process_first, is_first
from cmarr_jax.training.schedule import DIVERGED, STATUS
from experiments.ceilings import write_ceiling
from experiments.datasets import SYNTHETIC_NAME, Source, load_data
from experiments.jax_setup import StartOptions, StartUp, check_memory, set_up_jax, user_errors_as_messages
from experiments.label_shares import SHARES, check_root, labels_text, same_labels, share_name
from experiments.presets import Changes, Preset
from experiments.provenance import commit, device_text, versions
from experiments.report.labels import LABEL_FILES, write_label_report
from experiments.report.scores import counted
from experiments.report.write import output_files, write_report
from experiments.results_folder import SHARE, new_name, open_folder
from experiments.rows import CLASSES_ONLY, TABLES
from experiments.table import Table
from experiments.train_table import train_table
from experiments.tuned import read_tuned, search_settings
from experiments.units import read_rows

STOPPED = 130  # exit code after Ctrl-C


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Trains CM-ARR and its baselines on every fold and prints the table of conditions.

    Conditions are named by what is available: `a v t av at vt` and complete data, `avt`. What is finished is kept when
    you stop with Ctrl-C. Results, tables, settings and the trained models are in the output folder.
    """

    data: str = SYNTHETIC_NAME
    """`synthetic` or `synthetic_hard` (made on first use); `iemocap` or `msp_improv` (the archive of this name in this
    folder, with the preset of that corpus); or a feature archive, FILE.npz."""
    preset: str | None = None
    """Sizes, schedule and rates, a name in experiments/presets.py; by default the one for the kind of data."""
    task: Literal["classification", "regression"] = "classification"
    """Classes; or the archive's `target`: the table then has the concordance correlation (CCC) and mean absolute error
    (MAE), and no figures. Methods that know classes only are left out."""
    table: Literal["main", "conditions", "ablations", "rates", "all", "labels"] = "main"
    """Which rows to train: CM-ARR and three baselines (`main`, also for `rates`), all methods for labelled
    utterances (`conditions`), the ablations of CM-ARR, or both (`all`). Whatever is trained, all tables that it allows
    are written. `labels` trains the rows that use unlabelled utterances and their baselines with several shares of the
    labels, each in a folder of its own, such as `labels_010` for 10 %."""
    label_share: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Share of the training and validation labels that is used, above 0 and at most 1; each seed has a subset of its
    own. The other training utterances are unlabelled."""
    label_shares: Annotated[tuple[float, ...], tyro.conf.arg(metavar="SHARE")] = SHARES
    """The shares of `--table labels`."""
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
    tuned: tuple[Path, ...] | None = None
    """What `experiments.tune` wrote: its choices replace learning rate, dropout and loss weights of each fold. Several,
    if they tuned different rows. With `--table labels`, each is a folder that holds one search for each share, by the
    names of the table's folders."""
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
    if arguments.task == REGRESSION_TASK:
        check_targets(source.corpus, folds)
    for name in arguments.folds_only:
        check_choice("--folds-only", name, [fold.name for fold in folds])
    tables = [make_table(arguments, preset, source, folds, share) for share in shares(arguments)]
    for text in same_labels(tables):
        console.print(text, soft_wrap=True)
    root = (arguments.out or new_name(source.name)) if is_first() else None
    folders = open_tables(root, arguments, preset, source, tables)
    code = 0
    for folder, table in zip(folders, tables, strict=True):
        text = f"{len(source.corpus)} utterances, {counted(len(folds), 'fold')}, {counted(arguments.seeds, 'seed')}"
        if table.label_share < 1:
            text += f", {labels_text(table)}"
        console.print(f"{source.name}: {text} -> {folder}", soft_wrap=True)
        code = max(code, fill_table(folder, root, table, console, start_up))
        if code == STOPPED:
            break
    if root is not None and arguments.table == "labels" and any(read_rows(folder) for folder in folders if folder):
        print_report(console, write_label_report(root), root, LABEL_FILES)
    if root is not None and code:
        raise SystemExit(code)


def shares(arguments: Arguments) -> tuple[float, ...]:
    """The shares of the labels that are trained with, the smallest first."""
    return tuple(sorted(set(arguments.label_shares))) if arguments.table == "labels" else (arguments.label_share,)


def open_tables(
    root: Path | None, arguments: Arguments, preset: Preset, source: Source, tables: list[Table]
) -> Sequence[Path | None]:
    """Makes the folders of the tables, or checks that they can be added to; none in processes that do not write."""
    if root is None:
        return [None] * len(tables)
    folders = [root]
    if arguments.table == "labels":
        check_root(root, settings(arguments, preset, source, tables[0]))
        folders = [root / share_name(table.label_share) for table in tables]
    for folder, table in zip(folders, tables, strict=True):
        open_folder(folder, settings(arguments, preset, source, table))
        write_ceiling(folder, source, table.folds)
    return folders


def fill_table(folder: Path | None, root: Path | None, table: Table, console: Console, start_up: StartUp) -> int:
    """Trains what a folder lacks and writes its report; returns the exit code: 130 after Ctrl-C, 1 if a run diverged.

    The report of one of several shares is written, but not printed.
    """
    code = 0
    try:
        train_table(folder, table, console, start_up)
    except KeyboardInterrupt:
        code = STOPPED
        console.print(f"Stopped; what was finished is kept. Go on with --out {root}", soft_wrap=True)
    finished = read_rows(folder) if folder is not None else []
    if folder is not None and finished:
        markdown = write_report(folder)
        if folder == root:
            print_report(console, markdown, folder, output_files(folder))
    return max(code, int(any(row.status == STATUS[DIVERGED] for row in finished)))


def print_report(console: Console, markdown: str, folder: Path, files: Sequence[str]) -> None:
    """Prints the tables of a folder and the names of its files."""
    console.print(Markdown(markdown) if console.is_terminal else markdown, markup=False, soft_wrap=True)
    console.print(f"Written: {folder}/{', '.join(files)}", soft_wrap=True)


def make_table(
    arguments: Arguments, preset: Preset, source: Source, folds: list[FoldSplit], share: float = 1.0
) -> Table:
    """What the command line asks for, with a share of the labels. Raises ValueError for what is unknown."""
    modalities = modality_configs(source.corpus)
    left_out = CLASSES_ONLY if arguments.task == REGRESSION_TASK else ()
    rows = arguments.methods or [name for name in TABLES[arguments.table] if name not in left_out]
    num_classes = source.corpus.num_classes
    configs = {name: preset.row_config(name, modalities, num_classes, arguments.task) for name in dict.fromkeys(rows)}
    tuned = {}
    if arguments.tuned:
        trained = [name for name, config in configs.items() if isinstance(config, RunConfig)]
        paths = [path / share_name(share) if arguments.table == "labels" else path for path in arguments.tuned]
        tuned = read_tuned(paths, trained, search_settings(source.digest, preset, folds, share))
    table = Table(
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
        share,
    )
    table.check_only()
    return table


def check(arguments: Arguments) -> None:
    """Raises ValueError for an option out of its range."""
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, found {arguments.seeds}")
    check_memory(arguments.memory)
    if not arguments.keep_every > 0:
        raise ValueError(f"--keep-every must be above 0, found {arguments.keep_every}")
    if arguments.table == "labels" and arguments.label_share != 1:
        raise ValueError(
            f"--table labels trains several shares: give --label-shares {arguments.label_share:g} in place of "
            "--label-share"
        )
    if arguments.table != "labels" and arguments.label_shares != SHARES:
        raise ValueError("--label-shares needs --table labels; give --label-share for a table of one share")
    if not arguments.label_shares:
        raise ValueError("--label-shares needs a share, such as 0.1")
    for share in (arguments.label_share, *arguments.label_shares):
        check_share(share)
    if arguments.tuned == ():
        raise ValueError(
            "--tuned needs what experiments.tune wrote; leave the option out for a table that is not tuned"
        )
    if arguments.tuned and arguments.task == REGRESSION_TASK:
        raise ValueError("--tuned holds choices by UAR, which are for classes; leave it out with --task regression")
    if arguments.task == REGRESSION_TASK and (arguments.table == "labels" or arguments.label_share != 1):
        raise ValueError("shares of the labels are for classes; leave them out with --task regression")


def settings(arguments: Arguments, preset: Preset, source: Source, table: Table) -> dict[str, Any]:
    """How the numbers are made: command, data, folds, preset, configurations, versions, commit."""
    return {
        "commands": [[sys.executable, "-m", "experiments.reproduce", *sys.argv[1:]]],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "smoke": arguments.smoke,
        **({"task": arguments.task} if arguments.task == REGRESSION_TASK else {}),
        "data": {
            "name": source.name,
            "path": arguments.data,
            "sha256": source.digest,
            "utterances": len(source.corpus),
            "class_names": list(source.corpus.class_names),
            "modalities": list(source.corpus.modalities),
            "widths": list(source.corpus.widths.values()),
        },
        SHARE: table.label_share,
        "folds": [
            {"name": split.name} | {part: len(rows) for part, rows in parts_of(split).items()}
            for split in table.splits[: len(table.folds)]  # as many with every seed
        ],
        "seeds": list(range(arguments.seeds)),
        "preset": preset.to_dict(),
        "methods": {name: config.to_dict() for name, config in table.configs.items()},
        "tuned": table.tuned,
        "versions": versions(),
        "devices": device_text(),
        "commit": commit(),
    }


def parts_of(split: FoldSplit) -> dict[str, np.ndarray]:
    """The rows of a fold by part; `unlabelled` only where there are some, as in folders from before there were any."""
    found = {part: getattr(split, part) for part in (*PARTS, "unlabelled")}
    return {part: rows for part, rows in found.items() if part in PARTS or len(rows)}


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    start_up = StartUp()
    arguments = tyro.cli(Arguments, prog="python -m experiments.reproduce")
    code = 0
    try:
        with user_errors_as_messages(ArchiveError, FoldError, OSError, ImportError, ValueError):
            set_up_jax(arguments.start, one_cpu_device_per_core=True)  # a CPU runs one model per core
            main(arguments, start_up)
            if is_first():
                print(f"Took {start_up.seconds() / 60:.1f} minutes.")
    except KeyboardInterrupt:
        code = STOPPED
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    if code:
        end_process(code)


if __name__ == "__main__":
    run_command()
