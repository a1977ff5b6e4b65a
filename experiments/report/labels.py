"""The report of a folder with a table for each of several shares of the labels."""

import csv
import html
import io
from pathlib import Path

import numpy as np

from cmarr_jax.training.disk import write_texts
from experiments.comparison import LEVEL
from experiments.report.differences import speakers_note
from experiments.report.drawing import Figure, for_file
from experiments.report.html_parts import contents, document, figure_section, html_table, inline
from experiments.report.label_curves import LabelCurves
from experiments.report.label_equivalence import equivalence_text, needed_text
from experiments.report.label_figure import label_figure
from experiments.report.latex import FIRST_LINE, escape, latex_table
from experiments.report.page import words_section
from experiments.report.scores import AVERAGE, Summary
from experiments.report.text import SEED_0, headings, plain_table
from experiments.results import METRICS
from experiments.results_folder import SHARE, own_report

LABEL_FILES = ("report.html", "labels.md", "labels.csv", "labels.tex", "figures")


def write_label_report(root: Path) -> str:
    """Writes tables, figures and the page of several shares of the labels, and returns the tables as Markdown.

    Raises:
      FileNotFoundError: if the folder holds no finished run.
      ValueError: if a record cannot be read.
    """
    with own_report(root):
        return _write_label_report(root)


def _write_label_report(root: Path) -> str:
    curves = LabelCurves(root)
    title, notes = label_headings(curves)
    figures = [label_figure(curves, condition) for condition in curves.conditions]
    markdown = to_markdown(curves, title, notes)
    write_texts(root, {
        "labels.csv": to_csv(curves),
        "labels.md": markdown,
        "labels.tex": to_latex(curves, title),
        "report.html": to_html(curves, title, notes, figures),
        **{f"figures/{figure.name}.svg": for_file(figure.svg) for figure in figures},
    })  # fmt: skip
    return markdown


def label_headings(curves: LabelCurves) -> tuple[str, list[str]]:
    """Title and notes."""
    title, notes = headings(curves.last.config | {SHARE: 1.0}, curves.last.folds_text, curves.seeds_text)
    if any(material.config["tuned"] and material.config.get(SHARE, 1.0) < 1 for material in curves.materials):
        notes.append(f"Learning rate, dropout and loss weights are those of each share. {SEED_0}")
    notes.append(
        "Each seed has its own subset of the labels, and a smaller share keeps a part of what a larger one keeps. The "
        "other training utterances are unlabelled. The test part is whole."
    )
    return f"{title}: scores against the number of labels", [*notes, *curves.notes()]


def needed_texts(curves: LabelCurves) -> tuple[str, str]:
    """Title and note of the table of the labels that other rows need."""
    label = "" if curves.method is None else curves.last.label(curves.method)
    several = any(len({one.baseline for one in found}) > 1 for found in curves.comparisons)
    corrected = ", corrected after Holm for the number of rows," if several else ""
    note = (
        f"Mean UAR over the missing-modality conditions. Header: the labels of {label}. Below: with how many labels a "
        f"method has the score that {label} has with these, read off its line (straight over the logarithm of the "
        "number; the first time that it reaches the score). In brackets: with equal labels no difference between the "
        f"two is shown, as the 95 % interval includes zero, or p{corrected} is at least {LEVEL:g}."
    )
    if any(one.compared is None for found in curves.equivalences.values() for one in found):
        note += " With a star: the method was not trained with these labels."
    limits = dict.fromkeys(text for found in curves.comparisons if (text := speakers_note(found)))
    return f"Labels that a method needs for the score of {label}", " ".join([note, *limits])


def sentences(curves: LabelCurves) -> list[str]:
    """What the compared row saves in labels: what is compared, and a sentence for each share."""
    if curves.method is None or curves.baseline is None:
        return []
    names = curves.last.label(curves.method), curves.last.label(curves.baseline)
    told = [equivalence_text(*names, one) for one in curves.equivalences[curves.baseline]]
    what = (
        f"Compared by the UAR, {_condition_text(curves, AVERAGE)}; numbers are labelled training utterances of a fold:"
    )
    return [what, *dict.fromkeys(told)]


def to_csv(curves: LabelCurves) -> str:
    """A line for each share, row, condition and metric; fractions, empty where there is too little for a number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ["share", "labels", "val_labels", "unlabelled"]
    writer.writerow([*parts, "method", "condition", "metric", *Summary._fields[:-1]])
    conditions = [*curves.last.conditions[:-1], *curves.conditions]
    for metric in METRICS:
        for row in curves.rows:
            for condition in conditions:
                for point, found in zip(curves.points, curves.line(row, metric, condition), strict=True):
                    *numbers, n, _ = found
                    texts = ["" if np.isnan(x) else f"{x:.6f}" for x in numbers]
                    writer.writerow([*(f"{x:g}" for x in point), row, condition, metric, *texts, n])
    return out.getvalue()


def to_markdown(curves: LabelCurves, title: str, notes: list[str]) -> str:
    """The sentences, the labels of each share, both metrics in per cent, and what other rows need."""
    parts = [f"# {title}", *notes]
    if told := sentences(curves):
        parts += [told[0], "\n".join(f"- {text}" for text in told[1:])]
    parts += ["## Labels, mean over the folds", plain_table(*_labels_table(curves))]
    for metric in ("uar", "war"):
        for condition in curves.conditions:
            parts.append(f"## {metric.upper()}, {_condition_text(curves, condition)}, per cent (95 % interval)")
            parts.append(plain_table(*_scores_table(curves, metric, condition)))
    if curves.equivalences:
        title, note = needed_texts(curves)
        parts += [f"## {title}", note, plain_table(*_needed_table(curves))]
    return "\n\n".join(parts) + "\n"


def to_latex(curves: LabelCurves, title: str) -> str:
    """A table for each metric and condition, and one of the labels that other rows need."""
    parts = [FIRST_LINE]
    shown = [
        (f"{metric.upper()} in per cent, {_condition_text(curves, condition)}, with 95 % intervals {curves.over}, "
         "by the number of labelled training utterances and their share.",
         _scores_table(curves, metric, condition))
        for metric in ("uar", "war") for condition in curves.conditions
    ]  # fmt: skip
    if curves.equivalences:
        shown.append((". ".join(needed_texts(curves)), _needed_table(curves)))
    for caption, (header, cells) in shown:
        lines = [" & ".join(map(escape, row)) + r" \\" for row in cells]
        columns = "l" + "r" * (len(header) - 1)
        parts.append(latex_table(escape(f"{title}. {caption}"), columns, list(map(escape, header)), lines))
    return "\n\n".join(parts) + "\n"


def to_html(curves: LabelCurves, title: str, notes: list[str], figures: list[Figure]) -> str:
    """The page."""
    tables = [
        (f"{metric}-{number}", f"{metric.upper()}, {_condition_text(curves, condition)}, per cent (95 % interval)", "",
         _scores_table(curves, metric, condition))
        for metric in ("uar", "war") for number, condition in enumerate(curves.conditions)
    ]  # fmt: skip
    if curves.equivalences:
        tables.insert(0, ("needed", *needed_texts(curves), _needed_table(curves)))
    tables.append(("points", "Labels, mean over the folds", "", _labels_table(curves)))
    links = ", ".join(
        f"<a href='{html.escape(material.folder.name)}/report.html'>{point.text}</a>"
        for point, material in zip(curves.points, curves.materials, strict=True)
    )
    return document(title, [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class='lead'>{html.escape(text)}</p>" for text in sentences(curves)),
        *(f"<p class='note'>{inline(note)}</p>" for note in notes),
        f"<p class='note'>The page of each share, with its settings: {links}.</p>",
        contents([("words", "What is compared"), *((figure.name, figure.title) for figure in figures),
                  *((name, heading) for name, heading, *_ in tables)]),
        words_section(curves.last),
        *map(figure_section, figures),
        *(f"<section id='{name}'><h2>{html.escape(heading)}</h2><p>{html.escape(note)}</p>"
          f"<div class='scroll'>{html_table(*table)}</div></section>" for name, heading, note, table in tables),
    ])  # fmt: skip


def _condition_text(curves: LabelCurves, condition: str) -> str:
    if condition != AVERAGE:
        return "complete data"
    return f"average of the {len(curves.last.conditions) - 1} missing-modality conditions"


def _header(curves: LabelCurves) -> list[str]:
    return ["method", *(f"{point.train:.4g} ({point.text})" for point in curves.points)]


def _scores_table(curves: LabelCurves, metric: str, condition: str) -> tuple[list[str], list[list[str]]]:
    cells = [[curves.last.label(row), *map(_cell, curves.line(row, metric, condition))] for row in curves.rows]
    return _header(curves), cells


def _needed_table(curves: LabelCurves) -> tuple[list[str], list[list[str]]]:
    cells = []
    for row, found in curves.equivalences.items():
        by_labels = {one.labels: one for one in found}
        cells.append([curves.last.label(row), *(needed_text(by_labels.get(number)) for number in curves.labels)])
    return _header(curves), cells


def _labels_table(curves: LabelCurves) -> tuple[list[str], list[list[str]]]:
    header = ["share", "labelled training utterances", "labelled validation utterances", "unlabelled"]
    return header, [[point.text, *(f"{x:.6g}" for x in point[1:])] for point in curves.points]


def _cell(found: Summary) -> str:
    if not found.n:
        return ""
    around = "" if np.isnan(found.ci_low) else f" ({100 * found.ci_low:.1f} to {100 * found.ci_high:.1f})"
    return f"{100 * found.mean:.2f}{around}"
