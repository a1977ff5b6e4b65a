"""The tables as Markdown."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.comparison import Comparison
from experiments.datasets import SYNTHETIC_NAMES
from experiments.presets import tuned_text
from experiments.report.differences import difference_notes, judged_text, p_text, signed_difference
from experiments.report.drawing import Figure
from experiments.report.material import compared_row
from experiments.report.published import CONDITIONS, Published
from experiments.report.scores import (
    AVERAGE,
    LABELS,
    Summary,
    collect,
    of_metric,
    pooled,
    run_notes,
    summarize,
)
from experiments.results import METRICS, Row
from experiments.results_folder import SHARE
from experiments.rows import CLASSICAL_ROWS, TABLE_ROWS, TRICKS
from experiments.tuned import tuned_row


def to_markdown(
    rows: list[Row],
    title: str,
    notes: list[str],
    comparisons: Sequence[Comparison] = (),
    published: Sequence[Published] = (),
    rates: Figure | None = None,
) -> str:
    """Both metrics in per cent, the differences to the other rows, scores by missing rate, and pooled scores."""
    parts = [f"# {title}", *notes, *run_notes(rows)]
    for metric in METRICS:
        scores = collect(of_metric(rows, metric), metric)
        parts.append(f"## {metric.upper()}, per cent, mean ± standard deviation over folds and seeds")
        parts.append(_table(scores, lambda values: _cell(summarize(values))))
        if given := [one for one in published if one.metric == metric]:
            parts += [f"### Published {metric.upper()}, not measured here", _published_table(given)]
    if comparisons:
        parts.append(differences_text(comparisons, rows))
    if rates is not None:
        parts += [f"## {rates.title}, per cent", rates.caption, plain_table(rates.header, rates.numbers)]
    if cells := pooled(rows):  # there are none where only ceilings are known yet
        parts.append("## Pooled: one confusion matrix over all test folds and seeds, WAR / UAR, per cent")
        parts.append(_table(cells, lambda pair: f"{100 * pair[0]:.2f} / {100 * pair[1]:.2f}"))
    return "\n\n".join(parts) + "\n"


def differences_text(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    """What a row gains over each other one, with intervals; a difference whose interval has zero in it is not shown."""
    label = LABELS.get(comparisons[0].method, comparisons[0].method)
    num_conditions = len({row.condition for row in rows}) - 1
    lines = [
        f"## {label} minus each other row, average of the {num_conditions} missing-modality conditions, points",
        judged_text(comparisons),
        *difference_notes(comparisons, rows),
    ]
    table = ["| minus | metric | difference | p | |", "|---|---|---|---|---|"]
    for one in comparisons:
        mean, around = signed_difference(one.difference)
        difference = f"{mean} ({around})" if around else mean
        baseline = LABELS.get(one.baseline, one.baseline)
        table.append(f"| {baseline} | {one.metric.upper()} | {difference} | {p_text(one.p)} | {one.verdict} |")
    return "\n\n".join([*lines, "\n".join(table)])


def plain_table(header: Sequence[str], cells: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in cells)])


def _published_table(rows: Sequence[Published]) -> str:
    score = lambda value: "" if value is None else f"{value:.2f}"
    cells = [[one.method, *map(score, one.scores), one.source] for one in rows]
    return plain_table(["method", *CONDITIONS, "source"], cells)


def headings(config: dict[str, Any], folds: str, seeds: str) -> tuple[str, list[str]]:
    """Title and notes of the table, from its `config.json` and texts on the numbers of its folds and seeds."""
    data, notes = config["data"], []
    synthetic = data["name"] in SYNTHETIC_NAMES
    if synthetic:
        notes.append(
            "Synthetic data, drawn once, with the speakers, sessions and class shares of IEMOCAP; not a corpus, and no "
            "evidence on real emotion. The best decision for WAR is the most probable class; for UAR it is the most "
            "probable one after the probabilities were divided by the class shares. The Bayes ceiling uses the first "
            "for WAR and the second for UAR. Methods use the first for both, which is a part of their distance to the "
            "ceiling in UAR."
        )
    if config["smoke"]:
        notes.append("Smoke run: a few steps on a few utterances; these numbers mean nothing.")
    notes.append(
        f"Data: `{data['name']}`, SHA-256 `{data['sha256'][:16]}...`; {folds}, "
        f"{seeds}; {config['devices']}; commit `{config['commit']}`."
    )
    notes.append(tuning_text(config))
    what = "CM-ARR on" if compared_row(config["methods"]) else "Missing modalities:"
    title = f"{what} {'synthetic data' if synthetic else data['name']}"
    if (share := config.get(SHARE, 1.0)) < 1:
        title += f", {100 * share:g} % of the labels"
        notes.append(
            "Of each class, this share of the training and of the validation utterances keeps its label; each seed has "
            "a subset of its own. The other training utterances are unlabelled. The test part is whole."
        )
    return title, notes


SEED_0 = "They were chosen with the labels of seed 0, whichever seed a run has."


def tuning_text(config: dict[str, Any]) -> str:
    """How learning rate, dropout and loss weights of the networks were chosen, sentences."""
    networks, tuned = [row for row in config["methods"] if row not in CLASSICAL_ROWS], config["tuned"]
    classical = ""
    if len(networks) < len(config["methods"]):
        classical = " Models of scikit-learn choose their strength on validation."
    if not tuned:
        text = "Learning rate, dropout and loss weights are the preset's, not tuned for this table."
        of_preset = tuned_text(config["preset"]) if config["data"]["name"] in SYNTHETIC_NAMES else ""
        sentences = [text, of_preset, *_chosen_texts(networks)]
        return " ".join(sentence for sentence in sentences if sentence) + classical
    trials = sorted({choice.get("trials", 1) for row in tuned.values() for choice in row.values()})
    number = " to ".join(map(str, dict.fromkeys((trials[0], trials[-1]))))
    text = (
        f"Learning rate, dropout and loss weights are the best of {number} trials on validation, for each fold and "
        "network by itself. Trials are not counted as runs."
    )
    if config.get(SHARE, 1.0) < 1:
        text += f" {SEED_0}"
    others = lambda row: {name: choices for name, choices in tuned.items() if name != row}
    if like := [row for row in networks if row in tuned and tuned[row] == tuned.get(tuned_row(row, others(row)))]:
        text += f" Not tuned by themselves, with the choices of the method that they change: {_names(like)}."
    preset = [row for row in networks if row not in tuned]
    text += "".join(f" {sentence}" for sentence in _chosen_texts(networks))
    return text + classical + (f" Not tuned, with the preset's values: {_names(preset)}." if preset else "")


def _chosen_texts(networks: Sequence[str]) -> list[str]:
    """Which loss weights rows set themselves, after they were tried: a sentence for each trick."""
    used = dict.fromkeys(name for row in networks if row in TABLE_ROWS for name in TABLE_ROWS[row].tricks)
    tricks = [TRICKS[name] for name in used]
    return [f"The loss weights of '{trick.label}' were chosen {trick.chosen}." for trick in tricks if trick.chosen]


def _names(rows: Sequence[str]) -> str:
    return ", ".join(LABELS.get(row, row) for row in rows)


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
