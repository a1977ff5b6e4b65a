"""`report.html`: one file without network requests, light and dark, for screens from a phone on."""

import html
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.drawing import DARK, LIGHT, NAMES, Figure, for_page
from experiments.report.figures import (
    conditions_figure,
    confusion_figure,
    differences_figure,
    learning_figure,
    rates_figure,
)
from experiments.report.figures_trust import (
    coverage_figure,
    map_figure,
    reconstruction_figure,
    reliability_figure,
    spread_figure,
)
from experiments.report.material import Material
from experiments.report.published import published_rows
from experiments.report.scores import (
    AVERAGE,
    CEILINGS,
    collect,
    counted,
    of_metric,
    run_notes,
    summarize,
    with_interval,
)
from experiments.report.text import headings
from experiments.results import METRICS

STYLE = (Path(__file__).parent / "page.css").read_text()
Cells = Sequence[Sequence[Any]]


def make_figures(material: Material) -> list[Figure]:
    """All figures that the folder has material for, in the order of the page."""
    made = [
        conditions_figure(material, "uar"),
        conditions_figure(material, "war"),
        differences_figure(material),
        rates_figure(material),
        confusion_figure(material),
        reliability_figure(material),
        coverage_figure(material),
        learning_figure(material),
        reconstruction_figure(material),
        spread_figure(material),
        map_figure(material),
    ]
    return [figure for figure in made if figure is not None]


def to_html(material: Material, figures: Sequence[Figure]) -> str:
    """The page."""
    title, notes = headings(material.config)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class='lead'>{text}</p>" for text in summary(material)),
        *(f"<p class='note'>{_inline(note)}</p>" for note in [*notes, *run_notes(material.rows)]),
        "<nav>"
        + " ".join(f"<a href='#{name}'>{html.escape(text)}</a>" for name, text in _contents(figures))
        + "</nav>",
        *(_scores_section(material, metric) for metric in METRICS),
    ]
    for figure in figures:
        sections.append(_figure_section(figure))
    sections.append(_how_section(material))
    variables = lambda theme: "".join(f"--{NAMES[key]}:{value};" for key, value in theme.items())
    theme = f":root{{{variables(LIGHT)}}}@media(prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    return (
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        "<meta name='color-scheme' content='light dark'>\n<link rel='icon' href='data:,'>\n"
        f"<title>{html.escape(title)}</title>\n<style>{theme}\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def summary(material: Material) -> list[str]:
    """The result first, then what was compared, then on what: three sentences, as HTML."""
    config, rows = material.config, material.trained()
    folds, seeds = counted(len(config["folds"]), "fold"), counted(len(config["seeds"]), "seed")
    sentences = [_result(material)]
    names = ", ".join(html.escape(material.label(name)) for name in rows)
    sentences.append(
        f"{counted(len(rows), 'method')} compared in {len(material.conditions) - 1} missing-modality conditions and on "
        f"complete data: {names}."
    )
    speakers = f", tested on {counted(material.num_speakers, 'speaker')}" if material.num_speakers else ""
    sentences.append(
        f"Data: {html.escape(config['data']['name'])}, {config['data']['utterances']} utterances{speakers} that no "
        "model "
        f"was trained on in its fold ({folds}, {seeds})."
    )
    return sentences


def _result(material: Material) -> str:
    """One sentence on the average UAR and on which differences are shown."""
    if material.main is None:
        return "No finished run has kept its outputs, so nothing can be compared."
    scores = collect(of_metric(material.rows, "uar"), "uar")
    found = summarize(scores[material.main][AVERAGE])
    low, high = material.intervals[material.main, "uar", AVERAGE][1:]
    around = "" if np.isnan(low) else f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    label = html.escape(material.label(material.main))
    score = f"<strong>{label} has a mean UAR of {100 * found.mean:.1f} %{around}</strong>"
    text = f"{score} over the missing-modality conditions"
    groups: dict[str, list[str]] = {"better than": [], "worse than": [], "no difference shown to": []}
    for one in (one for one in material.comparisons if one.metric == "uar"):
        mean, *_ = one.difference
        key = (
            "no difference shown to"
            if not one.difference.excludes_zero
            else "better than"
            if mean > 0
            else "worse than"
        )
        gain = "" if key.startswith("no") else f" ({100 * mean:+.1f})"
        groups[key].append(f"{html.escape(material.label(one.baseline))}{gain}")
    told = [f"{key} {', '.join(names)}" for key, names in groups.items() if names]
    return text + (": " + "; ".join(told) if told else "") + "."


def _contents(figures: Sequence[Figure]) -> list[tuple[str, str]]:
    return [
        *((f"table-{metric}", f"Table of {metric.upper()}") for metric in METRICS),
        *((figure.name, figure.title) for figure in figures),
        ("how", "How to repeat it"),
    ]


def _scores_section(material: Material, metric: str) -> str:
    scores = collect(of_metric(material.rows, metric), metric)
    header = ["method", *next(iter(scores.values()))]
    best = [max((summarize(cells[name]).mean for row, cells in scores.items() if row not in CEILINGS), default=np.nan)
            for name in header[1:]]  # fmt: skip
    lines = []
    for row, cells in scores.items():
        line = [f"<th scope='row'>{html.escape(material.label(row))}</th>"]
        for name, top in zip(header[1:], best, strict=True):
            found = with_interval(summarize(cells[name]), material.intervals.get((row, metric, name)))
            text = "" if not found.n else f"{100 * found.mean:.2f}"
            if row not in CEILINGS and found.n and np.isclose(found.mean, top):
                text = f"<strong>{text}</strong>"
            if found.n and row not in CEILINGS and not np.isnan(found.ci_low):
                text += f"<small>{100 * found.ci_low:.1f} to {100 * found.ci_high:.1f}</small>"
            line.append(f"<td>{text}</td>")
        kind = " class='exact'" if row in CEILINGS else ""
        lines.append(f"<tr{kind}>{''.join(line)}</tr>")
    for one in published_rows(
        material.config["data"]["name"], len(material.class_names), tuple(name for name in header[1:])
    ):
        if one.metric == metric:
            given = "".join(f"<td>{'' if score is None else f'{score:.2f}'}</td>" for score in one.scores)
            text = f"{html.escape(one.method)} <em>published</em><small>{html.escape(one.source)}</small>"
            lines.append(f"<tr class='published'><th scope='row'>{text}</th>{given}</tr>")
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in header)
    return (
        f"<section id='table-{metric}'><h2>{metric.upper()}, per cent</h2><p>Columns: the modalities that are "
        "available; "
        "average: of the missing-modality conditions. Mean over folds of the mean over seeds; below it the 95 % "
        "interval "
        "of a bootstrap over speakers. Bold: the largest number of a column, which does not mean that it differs "
        "from the "
        "others.</p><div "
        f"class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "</section>"
    )


def _figure_section(figure: Figure) -> str:
    return (
        f"<section id='{figure.name}'><h2>{html.escape(figure.title)}</h2><figure><div class='scroll'>"
        "<div class='drawing' role='img' "
        f"aria-label='{html.escape(figure.alt, quote=True)}'>{for_page(figure.svg)}</div>"
        f"</div><figcaption>{html.escape(figure.caption)}</figcaption></figure><details><summary>Numbers</summary>"
        f"<div class='scroll'>{_table(figure.header, figure.numbers)}</div></details></section>"
    )


def _how_section(material: Material) -> str:
    config = material.config
    facts = [
        ("started", config["started"]),
        ("commit", config["commit"]),
        ("devices", config["devices"]),
        ("data, SHA-256", config["data"]["sha256"]),
        (
            "folds",
            ", ".join(f"{fold['name']} ({fold['train']} / {fold['val']} / {fold['test']})" for fold in config["folds"]),
        ),
        ("seeds", ", ".join(map(str, config["seeds"]))),
        ("tuned", ", ".join(config.get("tuned", {})) or "no: all rows have the preset's values"),
        *sorted(config["versions"].items()),
    ]
    command = " ".join(shlex.quote(word) for word in ["python", *config["command"][1:]])
    settings = json.dumps(
        {"preset": config["preset"], "methods": config["methods"], "tuned": config.get("tuned", {})}, indent=1
    )
    return (
        "<section id='how'><h2>How to repeat it</h2><p>The command that made it, with the data at the same place:</p>"
        f"<pre>{html.escape(command)}</pre><p>This page, from the folder of the results:</p>"
        "<pre>python -m experiments.report FOLDER</pre><p>An utterance of a fold is in its training, validation or "
        "test "
        "part (their sizes follow in brackets). The epoch is chosen on the validation part by the UAR of the "
        "missing-modality conditions pooled; test parts are scored once.</p>"
        f"<div class='facts'>{_table(['', ''], facts)}</div><details><summary>Configuration</summary>"
        f"<pre>{html.escape(settings)}</pre></details></section>"
    )


def _table(header: Sequence[str], cells: Cells) -> str:
    head = "".join(f"<th scope='col'>{html.escape(str(text))}</th>" for text in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>" for row in cells)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _inline(text: str) -> str:
    """A note with its code and strong marks as HTML."""
    text = html.escape(text)
    for mark, tag in (("**", "strong"), ("`", "code")):
        parts = text.split(mark)
        text = "".join(part if place % 2 == 0 else f"<{tag}>{part}</{tag}>" for place, part in enumerate(parts))
    return text
