"""Chooses learning rate, dropout and loss weights of every fold on its own validation part. See `--help`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import tyro
from rich.console import Console
from rich.progress import Progress

from cmarr_jax.config import RunConfig
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.device import DeviceCorpus, modality_configs, to_device
from cmarr_jax.data.folds import Fold, FoldError, FoldSplit, make_folds, stack_folds
from cmarr_jax.data.json_object import read_object
from cmarr_jax.data.label_share import keep_labels
from cmarr_jax.methods import hyperparameters_of
from cmarr_jax.metrics import uar
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.disk import delete_partial, is_unused, write_text
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import DIVERGED, STATUS
from cmarr_jax.training.sweep import Runs, stack_runs
from cmarr_jax.training.sweep_memory import GIB, CompiledSweep, available_memory
from experiments.compile_rows import compile_method
from experiments.datasets import SYNTHETIC_NAME, load_data
from experiments.jax_setup import StartOptions, check_memory, set_up_jax, user_errors_as_messages
from experiments.own_folder import own_folder
from experiments.presets import Changes, Preset
from experiments.provenance import commit, versions
from experiments.results import append_lines
from experiments.results_folder import SHARE, first_difference
from experiments.rows import TABLES, table_row
from experiments.search_space import as_parameters, random_parameters, suggest
from experiments.trials import TRIALS, Line, Lines, read_lines, write_tuned
from experiments.tuned import FILE, Choice, search_settings, tuned_config

SETTINGS = "tune.json"
RANDOM_TRIALS = 6  # of a fold, the preset among them, before the sampler learns from scores


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Searches hyperparameters with the same number of trials for every method, and writes `tuned.json`.

    Over all folds every speaker is also a test speaker, so a choice is made for each fold by itself: by the UAR of its
    validation part, the missing-modality conditions pooled, at the epoch that the run chose. Trials never score a test
    utterance. The first trial is the preset. Each ended trial is kept: after a stop, the same command goes on, and
    chooses what it would have chosen without. Then: `python -m experiments.reproduce --tuned OUT`.
    """

    out: Path
    """Output folder. If it holds trials of the same data and settings, the search goes on."""
    data: str = SYNTHETIC_NAME
    """As in experiments.reproduce, as the following options."""
    preset: str | None = None
    """Sizes, schedule and rates."""
    methods: tuple[str, ...] = TABLES["main"]
    """Rows to tune. A row that is not uses the choices of the unchanged method, an ablation those of the full model."""
    folds: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Groups of speakers."""
    label_share: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 1.0
    """Share of the training and validation labels that is used, as in experiments.reproduce: the subset of seed 0."""
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The smallest network on the smallest data."""
    trials: Annotated[int, tyro.conf.arg(metavar="N")] = 16
    """Trials of each method and fold."""
    at_once: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    """Trials of a fold that are asked for together; those of all folds are one sweep."""
    memory: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """GiB to plan for."""
    changes: tyro.conf.OmitArgPrefixes[Changes] = dataclasses.field(default_factory=Changes)
    start: tyro.conf.OmitArgPrefixes[StartOptions] = dataclasses.field(default_factory=StartOptions)


@dataclasses.dataclass(frozen=True)
class Search:
    """What the trials of one row are made of.

    Attributes:
      row: Of the table.
      config: With the preset's numbers.
      splits: The folds, with their names.
      folds: The folds, stacked, without test rows.
      studies: Optuna's study of each fold, in memory.
      trials: Of each fold, in all.
      at_once: Trials of a fold that are asked for together.
    """

    row: str
    config: RunConfig
    splits: list[FoldSplit]
    folds: Fold
    studies: list[optuna.Study]
    trials: int
    at_once: int

    @property
    def most_runs(self) -> int:
        """Of a round, in all folds."""
        return len(self.studies) * min(self.at_once, self.trials)

    def waiting(self) -> list[int]:
        """Per fold, how many trials are left."""
        return [self.trials - sum(trial.state.is_finished() for trial in study.trials) for study in self.studies]


class Asked(NamedTuple):
    """A trial of a round.

    Attributes:
      number: Of the fold.
      trial: Of the study.
      choice: What it tries.
    """

    number: int
    trial: optuna.Trial
    choice: Choice


def main(arguments: Arguments) -> None:
    """Runs the search. Raises the errors that `run_command` turns into sentences."""
    check_memory(arguments.memory)
    if min(arguments.trials, arguments.at_once) < 1:
        raise ValueError(f"--trials and --at-once must be at least 1, found {arguments.trials}, {arguments.at_once}")
    if jax.process_count() > 1:
        raise ValueError(
            "experiments.tune runs as one process; give each method a process of its own, with other --out, and "
            "experiments.reproduce all of them: --tuned OUT1 OUT2"
        )
    for name in arguments.methods:
        table_row(name)
    console = Console()
    preset, source = load_data(arguments.data, arguments.preset, smoke=arguments.smoke, changes=arguments.changes)
    splits = [
        keep_labels(source.corpus, fold, arguments.label_share, seed=0)
        for fold in make_folds(source.corpus, num_folds=arguments.folds)
    ]
    modalities = modality_configs(source.corpus)
    configs = {
        name: preset.run_config(name, modalities, source.corpus.num_classes)
        for name in dict.fromkeys(arguments.methods)
    }
    for name, config in configs.items():
        as_parameters(name, choice_of(config))  # raises before the first search
    settings = search_settings(source.digest, preset, splits, arguments.label_share) | {
        "data": {"name": source.name, "sha256": source.digest},
        "at_once": arguments.at_once,
        "versions": versions(),
        "commit": commit(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    with own_folder(arguments.out):
        open_folder(arguments.out, settings)
        data, folds = to_device(source.corpus, max_frames=preset.max_frames), without_test(stack_folds(splits))
        for name, config in configs.items():
            search = make_search(name, config, splits, folds, arguments)
            run_search(search, data, preset, arguments, console)
            write_tuned(arguments.out, settings)
    console.print(f"Written: {arguments.out}/{FILE}, {TRIALS}", soft_wrap=True)


def open_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder, or raises ValueError if its trials were made in another way."""
    path = folder / SETTINGS
    if path.is_file():
        before = {SHARE: 1.0} | read_object(path, "copy it again, or name another folder with --out")
        for key, now in json.loads(to_json(settings)).items():
            if difference := first_difference(before.get(key), now, key):
                raise ValueError(
                    f"{folder} holds trials of another setting: {difference}; name another folder with --out"
                )
    elif not is_unused(folder):
        raise ValueError(f"{folder} is not empty and holds no trials; name another folder with --out")
    delete_partial(folder)
    write_text(path, to_json(settings, indent=1) + "\n")


def without_test(folds: Fold) -> Fold:
    """The same shapes, with validation rows in place of test rows, none of which counts."""
    return folds._replace(
        test=jnp.broadcast_to(folds.val[:, :1], folds.test.shape), test_where=jnp.zeros_like(folds.test_where)
    )


def make_search(row: str, config: RunConfig, splits: list[FoldSplit], folds: Fold, arguments: Arguments) -> Search:
    """The studies of a row, at their beginning."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    studies = []
    for number in range(len(splits)):
        sampler = optuna.samplers.TPESampler(
            seed=number, n_startup_trials=RANDOM_TRIALS, multivariate=True, constant_liar=True
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        study.enqueue_trial(as_parameters(row, choice_of(config)))
        for parameters in random_parameters(number, RANDOM_TRIALS - 1, config.learning_rate):
            study.enqueue_trial(parameters)  # the sampler draws the row's weights
        studies.append(study)
    return Search(row, config, splits, folds, studies, arguments.trials, arguments.at_once)


def run_search(search: Search, data: DeviceCorpus, preset: Preset, arguments: Arguments, console: Console) -> None:
    """Runs the search in rounds: asks for some trials of each fold, trains them as one sweep, tells their scores.

    A search begins at its first round, also where the folder holds ended trials: their scores are read, not trained
    again. So the sampler always draws the same numbers, and a search that was stopped ends as one that was not.
    """
    sweep: CompiledSweep | None = None
    memory = arguments.memory * GIB if arguments.memory else available_memory(jax.local_devices()[0])
    with Progress(console=console) as progress:
        task = progress.add_task(search.row, total=sum(search.waiting()))
        while any(waiting := search.waiting()):
            asked = ask(search, waiting)
            ended = read_lines(arguments.out)
            left = [one for one in asked if known_score(search, one, ended) is None]
            progress.advance(task, len(asked) - len(left))
            if left and sweep is None:
                shape = runs_of(search, [asked[0]] * search.most_runs)  # of a whole round, whatever is left of this one
                sweep = compile_method(
                    search.config, data, search.folds, shape, memory, preset.cpu_compile, progress.print
                )
            for places, result in sweep.run(data, runs_of(search, left)) if left and sweep else ():
                rows = [jax.tree.map(lambda x, row=row: x[row], result) for row in range(len(places))]
                lines = [to_line(search, left[place], one) for place, one in zip(places, rows, strict=True)]
                append_lines(arguments.out / TRIALS, lines)
                progress.advance(task, len(places))
            known = read_lines(arguments.out)
            for one in asked:  # in their order, whichever ended first
                search.studies[one.number].tell(one.trial, known_score(search, one, known))
    best = [study.best_value for study in search.studies]
    first = [study.trials[0].value for study in search.studies]
    gain = 100 * float(np.mean(best) - np.mean([value or 0.0 for value in first]))
    console.print(f"{search.row}: best validation UAR {100 * np.mean(best):.2f} %, {gain:+.2f} points over the preset")


def ask(search: Search, waiting: list[int]) -> list[Asked]:
    """The trials of the next round."""
    asked = []
    for number, (study, left) in enumerate(zip(search.studies, waiting, strict=True)):
        for _ in range(min(left, search.at_once)):
            trial = study.ask()
            asked.append(Asked(number, trial, suggest(trial, search.row, search.config.learning_rate)))
    return asked


def runs_of(search: Search, asked: list[Asked]) -> Runs:
    """The arguments of the runs of some trials."""
    configs = [tuned_config(search.row, search.config, one.choice) for one in asked]
    hypers = [hyperparameters_of(config) for config in configs]
    return stack_runs(search.folds, [one.number for one in asked], [0] * len(asked), hypers)


def known_score(search: Search, asked: Asked, lines: Lines) -> float | None:
    """The score of a trial that has ended; None if it has not, or if other parameters were tried then."""
    line = lines.get((search.row, search.splits[asked.number].name, asked.trial.number), {})
    same = all(line.get(name) == value for name, value in asked.trial.params.items())
    return line["val_uar"] if line and same else None


def to_line(search: Search, asked: Asked, result: RunResult) -> Line:
    """What is kept of a trial: its validation score above all; a run that diverged has the worst."""
    diverged = result.status == DIVERGED
    return {
        "row": search.row,
        "fold": search.splits[asked.number].name,
        "trial": asked.trial.number,
        "val_uar": 0.0 if diverged else float(uar(result.val_counts[:-1].sum(0))),
        **asked.trial.params,
        "status": STATUS[int(result.status)],
        "epochs": int(result.num_epochs),
    }


def choice_of(config: RunConfig) -> Choice:
    """What a configuration has of a choice."""
    hyper = hyperparameters_of(config)
    return {"learning_rate": hyper.learning_rate, "dropout": hyper.dropout, "weights": dict(hyper.weights)}


def run_command() -> None:
    """The command line: one sentence on standard error for what a user can mend, and exit code 2."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.tune")
    try:
        with user_errors_as_messages(ArchiveError, FoldError, OSError, ImportError, ValueError):
            set_up_jax(arguments.start, one_cpu_device_per_core=False)
            main(arguments)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run_command()
