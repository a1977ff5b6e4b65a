"""Scores of the rows of a table: means over folds and seeds, and how the runs ended.

Seeds of one fold share their test data, so they are averaged first: a mean is over folds, of the means over seeds.
Intervals are over speakers and seeds (`experiments.comparison.cell_intervals`); where a row has kept no outputs,
as an exact ceiling, Student's over the folds, with a single fold over the seeds.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy import stats

from cmarr_jax.metrics import uar, war
from cmarr_jax.training.schedule import BUDGET, DIVERGED, STATUS
from experiments import rows as table_rows
from experiments.results import METRICS, Row, ValueRow
from experiments.statistics import Interval

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
AnyRow = TypeVar("AnyRow", bound=Row | ValueRow)
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


def collect(rows: Sequence[Row | ValueRow], metric: str) -> Scores:
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


BOLD = "the largest number of a column (not of ceilings or rows that lack folds); it need not differ from the others"


def best_means(scores: Scores) -> dict[str, float]:
    """The largest mean of each condition, without ceilings and rows that lack folds; nan where no row has one."""
    best = {}
    for name in next(iter(scores.values())):
        trained = [cells[name] for row, cells in scores.items() if row not in CEILINGS]
        folds = [np.sum(~np.isnan(values).all(1)) for values in trained]
        means = [summarize(values).mean for values, n in zip(trained, folds, strict=True) if n == max(folds) > 0]
        best[name] = max(means, default=np.nan)
    return best


def over_text(num_seeds: int) -> str:
    """What an interval is over: with one seed, nothing is known of the variation between trainings."""
    return "over speakers (bootstrap)" + (" and seeds" if num_seeds > 1 else "")


Intervals = Mapping[tuple[str, str, str], Interval]
"""By method, metric and condition (with `average`)."""


def with_interval(summary: Summary, interval: Interval | None) -> Summary:
    """The summary with another interval, if there is one."""
    return summary if interval is None else summary._replace(ci_low=interval.low, ci_high=interval.high)


Cells = Mapping[str, Mapping[str, Summary]]
"""By method and condition (with `average`)."""


def summarize_cells(rows: Sequence[Row | ValueRow], metric: str, intervals: Intervals) -> Cells:
    """Of each row and condition: means over folds and seeds, with an interval over speakers where there is one."""
    return {
        method: {
            name: with_interval(summarize(values), intervals.get((method, metric, name)))
            for name, values in cells.items()
        }
        for method, cells in collect(rows, metric).items()
    }


def to_csv(rows: Sequence[Row | ValueRow], intervals: Intervals | None = None, metrics: Sequence[str] = METRICS) -> str:
    """`method,condition,metric,mean,std,ci_low,ci_high,n`, not in per cent; empty where there is too little for one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "condition", "metric", *Summary._fields[:-1]])
    for metric in metrics:
        for method, found in summarize_cells(of_metric(rows, metric), metric, intervals or {}).items():
            for condition, (*numbers, n, _) in found.items():
                writer.writerow([method, condition, metric, *("" if np.isnan(x) else f"{x:.6f}" for x in numbers), n])
    return out.getvalue()


def ending_notes(rows: list[Row]) -> list[str]:
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


def run_notes(rows: list[Row]) -> list[str]:
    """`ending_notes`, and a sentence on rows that have fewer runs with a score than the table."""
    runs: dict[str, set[tuple[str, int]]] = {}
    for row in (row for row in rows if row.method not in CEILINGS):
        runs.setdefault(row.method, set())
        if row.status != STATUS[DIVERGED]:
            runs[row.method].add((row.fold, row.seed))
    every: set[tuple[str, int]] = set().union(*runs.values())
    fewer = [f"{LABELS.get(row, row)} ({len(found)})" for row, found in runs.items() if found != every]
    most = counted(len(every), "run")
    told = f"**The table has {most} of a row. These rows have fewer with a score: {', '.join(fewer)}.**"
    return ending_notes(rows) + ([told] if fewer else [])


def counted(number: int, noun: str) -> str:
    """`1 fold`, `2 folds`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def stopping_text(statuses: list[str]) -> str:
    """How runs ended, for example `5 converged, 1 stopped by the budget`; a diverged run has no score."""
    counts = Counter(statuses)
    return ", ".join(f"{counts[status]} {status}" for status in STATUS if counts[status])


def pooled(rows: list[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    """WAR and UAR of one confusion matrix over all test folds and seeds, by method and condition."""
    pooled: dict[str, dict[str, np.ndarray]] = {}
    for row in (row for row in rows if row.method not in CEILINGS):
        cells = pooled.setdefault(row.method, {})
        cells[row.condition] = cells.get(row.condition, 0) + np.asarray(row.counts)
    return {
        method: {name: (float(war(counts)), float(uar(counts))) for name, counts in cells.items()}
        for method, cells in pooled.items()
    }


def of_metric(rows: Sequence[AnyRow], metric: str) -> list[AnyRow]:
    """The rows of one metric: exact ceilings belong to one."""
    return [row for row in rows if CEILINGS.get(row.method, metric) == metric]
