"""Evaluates a saved run again: `python -m experiments.score_saved RUN_FOLDER`. See `--help`."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from cmarr_jax.config import REGRESSION_TASK
from cmarr_jax.data.batching import plan_batches
from cmarr_jax.data.device import to_device
from cmarr_jax.data.folds import make_folds, stack_folds
from cmarr_jax.methods import make_method
from cmarr_jax.training.checkpoint import load_run
from cmarr_jax.training.evaluation import evaluate
from experiments.datasets import load_again
from experiments.jax_setup import keep_compiled_programs
from experiments.results import Row, ValueRow, rows_from_counts
from experiments.results_folder import read_config
from experiments.units import counts_by_speaker, outputs_of


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Loads a trained model, scores it on its test fold in every condition, and compares with what was saved."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN_FOLDER")]
    """Folder of one model, for example runs/synthetic-.../cm_arr/01F_seed0."""
    data: str | None = None
    """The feature archive, if it has moved since; `synthetic` data are made again."""
    compilation_cache: bool = True
    """Keep compiled programs on disk: a second start compiles nothing."""


def main(arguments: Arguments) -> bool:
    """Prints the scores; returns whether the counts are those that were saved."""
    saved = load_run(arguments.run)
    table_config = read_config(arguments.run.resolve().parent.parent)
    preset, source = load_again(table_config, arguments.data)
    folds = make_folds(source.corpus, num_folds=max(len(table_config["folds"]), 3))
    names = [fold.name for fold in folds]
    if saved.record["fold"] not in names:
        raise ValueError(
            f"{arguments.run} is a run of fold {saved.record['fold']}, which these data have not; they have "
            f"{', '.join(names)}"
        )
    number = names.index(saved.record["fold"])
    stacked = stack_folds(folds)
    fold = jax.tree.map(lambda part: part[number], stacked)
    data = to_device(source.corpus, max_frames=preset.max_frames)
    plan = plan_batches(data, stacked, saved.config.train).test
    method = make_method(saved.config)
    score = lambda data: evaluate(method, saved.params, saved.normalizer, data, fold.test, fold.test_where, plan)[0]
    evaluation = jax.device_get(jax.jit(score)(data))
    counts, before = evaluation.counts, np.asarray(saved.record["test_counts"])
    is_regression = saved.config.task == REGRESSION_TASK
    if is_regression:  # sums in the unit of the target, as they were saved
        outputs = outputs_of(source.corpus, folds[number], "test", evaluation.logits)
        counts = counts_by_speaker(outputs, np.unique(outputs.speaker)).sum(0)
    name, fold_name, seed = (saved.record[key] for key in ("name", "fold", "seed"))
    heads = ("CCC", "MAE") if is_regression else ("WAR, %", "UAR, %")
    table = Table("condition", *heads, title=f"{name}, fold {fold_name}, seed {seed}")
    for row in rows_from_counts(name, fold_name, seed, source.corpus.modalities, counts):
        table.add_row(row.condition, *_scores(row))
    console = Console()
    console.print(table)
    same = np.array_equal(counts, before)
    moved = f"{np.abs(counts - before).sum() // 2} decisions differ from the saved ones."
    if is_regression:
        moved = f"The sums differ from the saved ones by up to {np.abs(counts - before).max():.1e}."
    console.print(f"The same {'sums' if is_regression else 'counts'} as saved." if same else moved)
    return same


def _scores(row: Row | ValueRow) -> tuple[str, str]:
    if isinstance(row, ValueRow):
        return f"{row.ccc:.3f}", f"{row.mae:.3f}"
    return f"{100 * row.war:.2f}", f"{100 * row.uar:.2f}"


def run_command() -> None:
    """The command line: exit code 0 if the counts are the saved ones, 1 if not, 2 for what a user can mend."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.score_saved")
    if arguments.compilation_cache:
        keep_compiled_programs()
    try:
        same = main(arguments)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    run_command()
