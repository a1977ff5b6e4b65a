"""The runs of a folder -> `results.jsonl`, `table.csv`, `table.md`; `python -m experiments.report DIR` repeats it.

Seeds of one fold share their test data, so they are averaged first: a mean is over folds, of the means over seeds. The
95 % interval is Student's, over the folds; with a single fold it is over the seeds. Folds share most of their training
data, so the interval is approximate.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from scipy import stats

from cmarr_jax.metrics import uar, war
from cmarr_jax.training.schedule import BUDGET, STATUS
from experiments import rows as table_rows
from experiments.comparison import Comparison, compare
from experiments.datasets import SYNTHETIC_NAMES
from experiments.results import METRICS, Row, write_rows
from experiments.results_folder import CONFIG
from experiments.units import read_rows

AVERAGE = "average"
BAYES_WAR, BAYES_UAR = "bayes_war", "bayes_uar"
PRODUCT_WAR, PRODUCT_UAR = "late_fusion_exact_war", "late_fusion_exact_uar"
# Rows that are not trained, and belong to one metric only.
CEILINGS = {BAYES_WAR: "war", BAYES_UAR: "uar", PRODUCT_WAR: "war", PRODUCT_UAR: "uar"}
LABELS = {
    **dict.fromkeys((BAYES_WAR, BAYES_UAR), "Bayes ceiling (exact)"),
    **dict.fromkeys((PRODUCT_WAR, PRODUCT_UAR), "Late fusion of exact posteriors"),
    **table_rows.LABELS,
}
MOST_BY_BUDGET = 0.1  # share of runs that may be stopped by the budget before a warning is printed


class Summary(NamedTuple):
    """A cell: fractions. `std` is over all `n` runs. The interval, over `unit`, is nan where there is one run."""

    mean: float
    std: float
    ci_low: float
    ci_high: float
    n: int
    unit: str


Scores = dict[str, dict[str, np.ndarray]]
"""Per method and condition (with `average`), scores `[folds, seeds]`."""


def collect(rows: list[Row], metric: str) -> Scores:
    """Scores by method and condition; runs that are not finished, have diverged or have no such utterance are nan."""
    folds = list(dict.fromkeys(row.fold for row in rows))
    conditions = list(dict.fromkeys(row.condition for row in rows))
    seeds = sorted({row.seed for row in rows})
    scores: Scores = {}
    for method in dict.fromkeys(row.method for row in rows):
        cells = {name: np.full((len(folds), len(seeds)), np.nan) for name in conditions}
        for row in (row for row in rows if row.method == method):
            cells[row.condition][folds.index(row.fold), seeds.index(row.seed)] = getattr(row, metric)
        average = np.mean([cells[name] for name in conditions[:-1]], axis=0)
        scores[method] = {**dict(list(cells.items())[:-1]), AVERAGE: average, conditions[-1]: cells[conditions[-1]]}
    return scores


def summarize(scores: np.ndarray) -> Summary:
    """Mean, standard deviation and 95 % interval of scores `[folds, seeds]`; nan is left out."""
    finished = scores[~np.isnan(scores)]
    if finished.size == 0:
        return Summary(np.nan, np.nan, np.nan, np.nan, 0, "folds")
    std = float(finished.std(ddof=1)) if finished.size > 1 else np.nan
    by_fold = np.array([np.nanmean(fold) for fold in scores if not np.isnan(fold).all()])
    values, unit = (by_fold, "folds") if len(by_fold) > 1 else (finished, "seeds")
    mean, half = float(values.mean()), np.nan
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Summary(mean, std, mean - half, mean + half, int(finished.size), unit)


def to_csv(rows: list[Row]) -> str:
    """`method,condition,metric,mean,std,ci_low,ci_high,n`, fractions; empty where there is too little for a number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "condition", "metric", *Summary._fields[:-1]])
    for metric in METRICS:
        for method, cells in collect(_of_metric(rows, metric), metric).items():
            for condition, values in cells.items():
                *numbers, n, _ = summarize(values)
                writer.writerow([method, condition, metric, *("" if np.isnan(x) else f"{x:.6f}" for x in numbers), n])
    return out.getvalue()


def to_markdown(rows: list[Row], title: str, notes: list[str], comparisons: Sequence[Comparison] = ()) -> str:
    """Both metrics in per cent, the differences to the other rows, and the pooled scores."""
    parts = [f"# {title}", *notes, *run_notes(rows)]
    for metric in METRICS:
        scores = collect(_of_metric(rows, metric), metric)
        parts.append(f"## {metric.upper()}, per cent, mean ± standard deviation over folds and seeds")
        parts.append(_table(scores, lambda values: _cell(summarize(values))))
    if comparisons:
        parts.append(differences_text(comparisons, len({row.condition for row in rows}) - 1))
    parts.append("## Pooled: one confusion matrix over all test folds and seeds, WAR / UAR, per cent")
    parts.append(_table(_pooled(rows), lambda pair: f"{100 * pair[0]:.2f} / {100 * pair[1]:.2f}"))
    return "\n\n".join(parts) + "\n"


def differences_text(comparisons: Sequence[Comparison], num_conditions: int) -> str:
    """What a row gains over each other one, with intervals; a difference whose interval has zero in it is not shown."""
    label = LABELS.get(comparisons[0].method, comparisons[0].method)
    lines = [
        f"## {label} minus each other row, average of the {num_conditions} missing-modality conditions, points",
        "In brackets: 95 % interval of a bootstrap over speakers. p: paired permutation test over speakers, corrected "
        "after Holm for the number of rows.",
    ]
    table = ["| minus | metric | difference | p | |", "|---|---|---|---|---|"]
    for one in comparisons:
        mean, low, high = (100 * value for value in one.difference)
        shown = "" if one.difference.excludes_zero else "no difference shown"
        around = "" if np.isnan(low) else f" ({low:+.2f} to {high:+.2f})"
        baseline = LABELS.get(one.baseline, one.baseline)
        table.append(f"| {baseline} | {one.metric.upper()} | {mean:+.2f}{around} | {one.p:.3f} | {shown} |")
    return "\n\n".join([*lines, "\n".join(table)])


def run_notes(rows: list[Row]) -> list[str]:
    """Sentences on how the runs ended, and on conditions that some folds cannot be scored in."""
    trained = [row for row in rows if row.method not in CEILINGS]
    statuses = list({(row.method, row.fold, row.seed): row.status for row in trained}.values())
    notes = [f"Runs: {len(statuses)}; {stopping_text(statuses)}."] if statuses else []
    by_budget = sum(status == STATUS[BUDGET] for status in statuses)
    if by_budget > MOST_BY_BUDGET * len(statuses):
        notes.append(
            f"**Warning: {by_budget} of {len(statuses)} runs were stopped by the budget of epochs before they had "
            "converged. Differences between such methods may be differences in speed of training.** Give more epochs "
            "(`--complete-epochs`, `--missing-epochs`)."
        )
    folds = list(dict.fromkeys(row.fold for row in rows))
    for condition in dict.fromkeys(row.condition for row in rows):
        empty = {row.fold for row in trained if row.condition == condition and not np.sum(row.counts)}
        empty -= {row.fold for row in trained if row.condition == condition and np.sum(row.counts)}
        if empty:
            names = ", ".join(fold for fold in folds if fold in empty)
            notes.append(
                f"Condition `{condition}`: no score for fold {names} (no test utterance has these modalities, or all "
                f"runs diverged); its mean is over {len(folds) - len(empty)} of {len(folds)} folds, and the average "
                "leaves these folds out."
            )
    return notes


def headings(config: dict[str, Any]) -> tuple[str, list[str]]:
    """Title and notes of the table, from its `config.json`."""
    data, notes = config["data"], []
    synthetic = data["name"] in SYNTHETIC_NAMES
    if synthetic:
        notes.append(
            "Synthetic data shaped like IEMOCAP, not a corpus. The ceiling is the Bayes oracle's score on the same "
            "test utterances, by the optimal rule of each metric."
        )
    if config["smoke"]:
        notes.append("Smoke run: a few steps on a few utterances; these numbers mean nothing.")
    notes.append(
        f"Data: `{data['name']}`, SHA-256 `{data['sha256'][:16]}`; {counted(len(config['folds']), 'fold')}, "
        f"{counted(len(config['seeds']), 'seed')}; {config['devices']}; commit `{config['commit']}`."
    )
    return f"CM-ARR on {'synthetic data' if synthetic else data['name']}", notes


def counted(number: int, noun: str) -> str:
    """`1 fold`, `2 folds`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def stopping_text(statuses: list[str]) -> str:
    """How runs ended, for example `5 converged, 1 stopped by the budget`; a diverged run has no score."""
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in STATUS if counts[status])


def write_tables(folder: Path) -> str:
    """Writes `results.jsonl`, `table.csv` and `table.md` from the runs of a folder and returns the Markdown.

    Raises:
      FileNotFoundError: if the folder holds no finished run.
      ValueError: if a record cannot be read.
    """
    rows = read_rows(folder)
    if not rows:
        raise FileNotFoundError(f"{folder} holds no finished run; train some with experiments.reproduce --out {folder}")
    write_rows(folder, rows)
    title, notes = headings(json.loads((folder / CONFIG).read_text()))
    (folder / "table.csv").write_text(to_csv(rows))
    markdown = to_markdown(rows, title, notes, compare(folder, rows))
    (folder / "table.md").write_text(markdown)
    return markdown


def _pooled(rows: list[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    pooled: dict[str, dict[str, np.ndarray]] = {}
    for row in (row for row in rows if row.method not in CEILINGS):
        cells = pooled.setdefault(row.method, {})
        cells[row.condition] = cells.get(row.condition, 0) + np.asarray(row.counts)
    return {
        method: {name: (float(war(counts)), float(uar(counts))) for name, counts in cells.items()}
        for method, cells in pooled.items()
    }


def _of_metric(rows: list[Row], metric: str) -> list[Row]:
    return [row for row in rows if CEILINGS.get(row.method, metric) == metric]


def _table(cells: dict, text) -> str:
    header = list(next(iter(cells.values())))
    names = [name if name == AVERAGE else f"`{name}`" for name in header]
    lines = ["| method | " + " | ".join(names) + " |", "|---" * (len(header) + 1) + "|"]
    lines += [
        f"| {LABELS.get(method, method)} | " + " | ".join(map(text, row.values())) + " |"
        for method, row in cells.items()
    ]
    return "\n".join(lines)


def _cell(summary: Summary) -> str:
    if summary.n == 0:
        return ""
    return f"{100 * summary.mean:.2f}" + ("" if np.isnan(summary.std) else f" ± {100 * summary.std:.2f}")


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Writes the tables of a results folder again and prints them.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote.
    """
    print(write_tables(folder))


if __name__ == "__main__":
    tyro.cli(main)
