"""Rows of results -> the table, as `table.csv` and `table.md`. `python -m experiments.report DIR` makes it again.

Mean and standard deviation are over all folds and seeds. The 95 % interval is Student's, over the folds: seeds of one
fold share their test data, so they are averaged first. With a single fold it is over the seeds.
"""

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from scipy import stats

from cmarr_jax.metrics import uar, war
from experiments.results import METRICS, Row, read_rows

AVERAGE = "average"
LABELS = {
    "bayes_ceiling": "Bayes ceiling (oracle)",
    "zero_fill": "Zero-fill",
    "cm_arr": "CM-ARR",
    "cm_arr_no_alignment": "CM-ARR, no alignment",
    "cm_arr_no_flow": "CM-ARR, no flow (zeros)",
    "cm_arr_no_refinement": "CM-ARR, no refinement",
}


class Summary(NamedTuple):
    """A cell: fractions; the interval is nan where there is one fold and one seed."""

    mean: float
    std: float
    ci_low: float
    ci_high: float
    n: int


Scores = dict[str, dict[str, np.ndarray]]
"""Per method and condition (with `average`), scores `[folds, seeds]`."""


def collect(rows: list[Row], metric: str) -> Scores:
    """Scores by method and condition; folds or seeds that a method has not finished are nan."""
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
    """Mean, standard deviation and 95 % interval of scores `[folds, seeds]`; unfinished runs (nan) are left out."""
    finished = scores[~np.isnan(scores)]
    if finished.size == 0:
        return Summary(np.nan, np.nan, np.nan, np.nan, 0)
    std = float(finished.std(ddof=1)) if finished.size > 1 else np.nan
    by_fold = np.array([np.nanmean(fold) for fold in scores if not np.isnan(fold).all()])
    units = by_fold if len(by_fold) > 1 else finished
    half = np.nan
    if len(units) > 1:
        half = float(stats.t.ppf(0.975, len(units) - 1) * units.std(ddof=1) / np.sqrt(len(units)))
    mean = float(finished.mean())
    return Summary(mean, std, float(units.mean() - half), float(units.mean() + half), int(finished.size))


def paired_difference(scores: Scores, method: str, baseline: str, condition: str = AVERAGE) -> Summary:
    """Summary of method minus baseline, fold by fold and seed by seed."""
    return summarize(scores[method][condition] - scores[baseline][condition])


def to_csv(rows: list[Row]) -> str:
    """`method,condition,metric,mean,std,ci_low,ci_high,n`, fractions; empty where there is too little for a number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["method", "condition", "metric", *Summary._fields])
    for metric in METRICS:
        for method, cells in collect(rows, metric).items():
            for condition, values in cells.items():
                *numbers, n = summarize(values)
                writer.writerow([method, condition, metric, *("" if np.isnan(x) else f"{x:.6f}" for x in numbers), n])
    return out.getvalue()


def to_markdown(rows: list[Row], title: str, notes: list[str]) -> str:
    """Both metrics in per cent, the gain over zero-fill, and the pooled scores."""
    parts = [f"# {title}", *notes]
    for metric in METRICS:
        scores = collect(rows, metric)
        parts.append(f"## {metric.upper()}, per cent, mean ± standard deviation over folds and seeds")
        parts.append(_table(scores, lambda values: _cell(summarize(values))))
        if "cm_arr" in scores and "zero_fill" in scores:
            parts.append(difference_sentence(scores, metric))
    parts.append("## Pooled: one confusion matrix over all test folds and seeds, WAR / UAR, per cent")
    parts.append(_table(_pooled(rows), lambda pair: f"{100 * pair[0]:.2f} / {100 * pair[1]:.2f}"))
    return "\n\n".join(parts) + "\n"


def difference_sentence(scores: Scores, metric: str) -> str:
    """CM-ARR minus zero-fill on the average of the missing-modality conditions, with its interval."""
    gain = paired_difference(scores, "cm_arr", "zero_fill")
    num_conditions = len(scores["cm_arr"]) - 2
    text = f"CM-ARR minus zero-fill, average of the {num_conditions} missing-modality conditions, {metric.upper()}: "
    text += f"{100 * gain.mean:+.2f} points"
    if np.isnan(gain.ci_low):
        return text + f" ({gain.n} run of each; no interval)."
    unit = "folds" if len(scores["cm_arr"][AVERAGE]) > 1 else "seeds"
    return text + f" (95 % interval over {unit}, paired: {100 * gain.ci_low:+.2f} to {100 * gain.ci_high:+.2f})."


def write_tables(folder: Path, title: str, notes: list[str]) -> str:
    """Writes `table.csv` and `table.md` from the results of a folder and returns the Markdown."""
    rows = read_rows(folder)
    (folder / "table.csv").write_text(to_csv(rows))
    markdown = to_markdown(rows, title, notes)
    (folder / "table.md").write_text(markdown)
    return markdown


def _pooled(rows: list[Row]) -> dict[str, dict[str, tuple[float, float]]]:
    pooled: dict[str, dict[str, np.ndarray]] = {}
    for row in rows:
        cells = pooled.setdefault(row.method, {})
        cells[row.condition] = cells.get(row.condition, 0) + np.asarray(row.counts)
    # The ceiling is two decision rules, one per metric, and so has no single matrix to pool.
    return {
        method: {name: (float(war(counts)), float(uar(counts))) for name, counts in cells.items()}
        for method, cells in pooled.items()
        if method != "bayes_ceiling"
    }


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
    import json

    config = json.loads((folder / "config.json").read_text())
    print(write_tables(folder, config["title"], config["notes"]))


if __name__ == "__main__":
    tyro.cli(main)
