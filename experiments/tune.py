"""Chooses learning rate, dropout and loss weights of every fold on its own validation part. See `--help`."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optuna
import tyro
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console
from rich.progress import Progress

from cmarr_jax.config import RunConfig, check_choice
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.device import DeviceCorpus, modality_configs, to_device
from cmarr_jax.data.folds import Fold, FoldError, FoldSplit, make_folds, stack_folds
from cmarr_jax.data.json_object import read_object
from cmarr_jax.data.label_share import keep_labels
from cmarr_jax.methods import hyperparameters_of
from cmarr_jax.metrics import uar
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import DIVERGED, STATUS
from cmarr_jax.training.sweep import stack_runs
from cmarr_jax.training.sweep_memory import GIB, CompiledSweep, available_memory
from experiments.compile_rows import compile_method
from experiments.datasets import SYNTHETIC_NAME, load_data
from experiments.jax_setup import StartOptions, set_up_jax, user_errors_as_messages
from experiments.presets import Changes, Preset
from experiments.provenance import commit, versions
from experiments.results_folder import SHARE, first_difference
from experiments.rows import TABLE_ROWS, TABLES
from experiments.search_space import as_parameters, suggest
from experiments.tuned import FILE, Choice, tuned_config

SETTINGS, JOURNAL, TRIALS = "tune.json", "trials.log", "trials.jsonl"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Searches hyperparameters with the same number of trials for every method, and writes `tuned.json`.

    Over all folds every speaker is also a test speaker, so a choice is made for each fold by itself: by the UAR of its
    validation part, the missing-modality conditions pooled, at the epoch that the run chose. Trials never score a test
    utterance. The first trial is the preset. Then: `python -m experiments.reproduce --tuned OUT`.
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
      studies: Optuna's study of each fold.
      trials: Of each fold, in all.
    """

    row: str
    config: RunConfig
    splits: list[FoldSplit]
    folds: Fold
    studies: list[optuna.Study]
    trials: int

    def waiting(self) -> list[int]:
        """Per fold, how many trials are left."""
        return [self.trials - len(_ended(study)) for study in self.studies]


def main(arguments: Arguments) -> None:
    """Runs the search. Raises the errors that `run_command` turns into sentences."""
    if min(arguments.trials, arguments.at_once) < 1:
        raise ValueError(f"--trials and --at-once must be at least 1, found {arguments.trials}, {arguments.at_once}")
    if jax.process_count() > 1:
        raise ValueError(
            "experiments.tune runs as one process; give each method a process of its own, with other --out"
        )
    for name in arguments.methods:
        check_choice("method", name, TABLE_ROWS)
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
    settings = {
        "data": {"name": source.name, "sha256": source.digest},
        "preset": preset.to_dict(),
        SHARE: arguments.label_share,
        "folds": [fold.name for fold in splits],
        "versions": versions(),
        "commit": commit(),
    }
    open_folder(arguments.out, settings)
    data, folds = to_device(source.corpus, max_frames=preset.max_frames), without_test(stack_folds(splits))
    for name, config in configs.items():
        search = make_search(arguments.out, name, config, splits, folds, arguments.trials)
        run_search(search, data, preset, arguments, console)
        write_tuned(arguments.out, settings)
    console.print(f"Written: {arguments.out}/{FILE}, {TRIALS}", soft_wrap=True)


def open_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder, or raises ValueError if its trials were made in another way."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.is_file():
        before = {SHARE: 1.0} | read_object(path, "copy it again, or name another folder with --out")
        for key, now in json.loads(to_json(settings)).items():
            if difference := first_difference(before.get(key), now, key):
                raise ValueError(
                    f"{folder} holds trials of another setting: {difference}; name another folder with --out"
                )
    elif any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no trials; name another folder with --out")
    path.write_text(to_json(settings, indent=1) + "\n")


def without_test(folds: Fold) -> Fold:
    """The same shapes, with validation rows in place of test rows, none of which counts."""
    return folds._replace(
        test=jnp.broadcast_to(folds.val[:, :1], folds.test.shape), test_where=jnp.zeros_like(folds.test_where)
    )


def make_search(folder: Path, row: str, config: RunConfig, splits: list[FoldSplit], folds: Fold, trials: int) -> Search:
    """The studies of a row, with the trials that the folder holds."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    studies = []
    for number, split in enumerate(splits):
        sampler = optuna.samplers.TPESampler(seed=number, n_startup_trials=6, multivariate=True, constant_liar=True)
        name = f"{row}/{split.name}"
        study = optuna.create_study(
            storage=storage, sampler=sampler, study_name=name, direction="maximize", load_if_exists=True
        )
        if not study.trials:
            study.enqueue_trial(as_parameters(row, choice_of(config)))
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):  # of a command that was stopped
            study.enqueue_trial(trial.params)
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        studies.append(study)
    return Search(row, config, splits, folds, studies, trials)


def run_search(search: Search, data: DeviceCorpus, preset: Preset, arguments: Arguments, console: Console) -> None:
    """Runs the trials that are left, as many of each fold at once as wanted, each round as one sweep."""
    sweep: CompiledSweep | None = None
    memory = arguments.memory * GIB if arguments.memory else available_memory(jax.local_devices()[0])
    with Progress(console=console) as progress:
        task = progress.add_task(search.row, total=sum(search.waiting()))
        while any(waiting := search.waiting()):
            asked: list[tuple[int, optuna.Trial, RunConfig]] = []
            for number, (study, left) in enumerate(zip(search.studies, waiting, strict=True)):
                for _ in range(min(left, arguments.at_once)):
                    trial = study.ask()
                    choice = suggest(trial, search.row, search.config.learning_rate)
                    asked.append((number, trial, tuned_config(search.row, search.config, choice)))
            hypers = [hyperparameters_of(config) for *_, config in asked]
            runs = stack_runs(search.folds, [number for number, *_ in asked], [0] * len(asked), hypers)
            if sweep is None:
                sweep = compile_method(
                    search.config, data, search.folds, runs, memory, preset.cpu_compile, progress.print
                )
            for numbers, result in sweep.run(data, runs):
                for row, place in enumerate(numbers):
                    fold, trial, _ = asked[place]
                    tell(search.studies[fold], trial, jax.tree.map(lambda x, row=row: x[row], result))
                progress.advance(task, len(numbers))
    best = [study.best_value for study in search.studies]
    first = [_ended(study)[0].value for study in search.studies]
    gain = 100 * float(np.mean(best) - np.mean([value or 0.0 for value in first]))
    console.print(f"{search.row}: best validation UAR {100 * np.mean(best):.2f} %, {gain:+.2f} points over the preset")


def tell(study: optuna.Study, trial: optuna.Trial, result: RunResult) -> None:
    """Reports the validation score of a run; a run that diverged has the worst."""
    diverged = result.status == DIVERGED
    score = 0.0 if diverged else float(uar(result.val_counts[:-1].sum(0)))
    trial.set_user_attr("status", STATUS[int(result.status)])
    trial.set_user_attr("epochs", int(result.num_epochs))
    study.tell(trial, score)


def choice_of(config: RunConfig) -> Choice:
    """What a configuration has of a choice."""
    hyper = hyperparameters_of(config)
    return {"learning_rate": hyper.learning_rate, "dropout": hyper.dropout, "weights": dict(hyper.weights)}


def write_tuned(folder: Path, settings: dict[str, Any]) -> None:
    """Writes the best choice of each row and fold, and all trials as lines, from the studies of the folder."""
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
    chosen: dict[str, dict[str, Choice]] = {}
    lines = []
    for name in sorted(optuna.get_all_study_names(storage)):
        row, fold = name.split("/", 1)
        study = optuna.load_study(study_name=name, storage=storage)
        for trial in _ended(study):
            lines.append({"row": row, "fold": fold, "trial": trial.number, "val_uar": trial.value} | trial.params
                         | trial.user_attrs)  # fmt: skip
        if not _ended(study):
            continue
        params = dict(study.best_params)
        choice = {key: params.pop(key) for key in ("learning_rate", "dropout")}
        chosen.setdefault(row, {})[fold] = {
            **choice, "weights": params, "val_uar": study.best_value, "trials": len(_ended(study))
        }  # fmt: skip
    (folder / TRIALS).write_text("".join(to_json(line) + "\n" for line in lines))
    (folder / FILE).write_text(to_json({**settings, "command": sys.argv, "chosen": chosen}, indent=1) + "\n")


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


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
