"""`report.html`: one file without network requests, light and dark, for screens from a phone on."""

import html
import itertools
import json
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.comparison import BETTER, INTERVAL_ONLY, NO_INTERVAL, SHOWN, WORSE
from experiments.datasets import SYNTHETIC_NAMES
from experiments.report.differences import difference_notes, p_text, signed_difference
from experiments.report.drawing import Figure
from experiments.report.figures import (
    conditions_figure,
    confusion_figure,
    differences_figure,
    learning_figure,
    rates_figure,
)
from experiments.report.figures_map import map_figure
from experiments.report.figures_trust import (
    coverage_figure,
    reconstruction_figure,
    reliability_figure,
    spread_figure,
)
from experiments.report.html_parts import contents, document, figure_section, html_table, inline
from experiments.report.material import Material
from experiments.report.published import published_rows
from experiments.report.scores import (
    AVERAGE,
    BOLD,
    CEILINGS,
    Scores,
    best_means,
    collect,
    counted,
    of_metric,
    run_notes,
    summarize,
    with_interval,
)
from experiments.report.text import headings
from experiments.results import METRICS
from experiments.rows import ABOUT, explanations

PAGE_METRICS = ("uar", "war")  # the one that epochs are chosen by first
OWN_SPLIT = "split"  # name of the fold that an archive brings itself (`cmarr_jax.data.folds`)


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
    title, notes = headings(material.config, material.folds_text, material.seeds_text)
    scores = {metric: _scores_section(material, metric) for metric in METRICS}
    drawn = {figure.name: figure_section(figure) for figure in figures}
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class='lead'>{text}</p>" for text in summary(material)),
        *(f"<p class='note'>{inline(note)}</p>" for note in [*notes, *run_notes(material.rows)]),
        contents(_contents(figures)),
        words_section(material),
        drawn.pop("differences", ""),
    ]
    for metric in PAGE_METRICS:
        sections += [scores[metric], drawn.pop(f"conditions-{metric}", "")]
    sections += drawn.values()
    sections.append(_how_section(material))
    return document(title, sections)


def summary(material: Material) -> list[str]:
    """The result first, then what was compared, then on what: three paragraphs, as HTML."""
    config, rows = material.config, material.trained()
    sentences = [_result(material)]
    sentences.append(
        f"{counted(len(rows), 'method')} compared in {len(material.conditions) - 1} missing-modality conditions and on "
        "complete data."
    )
    speakers = f", tested on {counted(material.num_speakers, 'speaker')}" if material.num_speakers else ""
    sentences.append(
        f"Data: {html.escape(config['data']['name'])}, {config['data']['utterances']} utterances{speakers} in "
        f"{material.folds_text}, {material.seeds_text}; {speakers_apart(config)}."
    )
    return sentences


def converged_text(config: dict[str, Any]) -> str:
    """What it means that a run has converged."""
    train = config["preset"].get("train", {})
    if not train.get("patience"):
        return "every stage had a fixed number of epochs, which says nothing of convergence"
    return (
        "the last stage, with modalities hidden, ended because the score on validation had not improved for "
        f"{train['patience']} epochs, not because it had its most, {train['missing_epochs']} epochs; models of "
        "scikit-learn have no epochs, count as converged, and are the same for every seed that has the same labels"
    )


def speakers_apart(config: dict[str, Any]) -> str:
    """What the folds say of speakers: an archive's own split promises nothing."""
    if [fold["name"] for fold in config["folds"]] == [OWN_SPLIT]:
        return "the parts are those of the data set's own split, in which a speaker may be in several"
    return "a speaker's utterances are tested by models that were not trained on that speaker"


def _one_speaker(material: Material) -> str:
    """Said of folds that test one speaker each."""
    alone = material.num_speakers == len(material.config["folds"]) > 1
    return ", here with one test speaker each" if alone else ""


def _result(material: Material) -> str:
    """The average UAR, and which differences are shown in each metric."""
    if material.main is None:
        return "No finished run has kept its outputs, so nothing can be compared."
    scores = collect(of_metric(material.rows, "uar"), "uar")
    found = summarize(scores[material.main][AVERAGE])
    low, high = material.intervals[material.main, "uar", AVERAGE][1:]
    around = "" if np.isnan(low) else f" (95 % interval {100 * low:.2f} to {100 * high:.2f})"
    label = html.escape(material.label(material.main))
    score = (
        f"{label} has a mean UAR (unweighted average recall) of {100 * found.mean:.2f} %{around} over the "
        "missing-modality conditions."
    )
    told = [text for metric in PAGE_METRICS if (text := differences_sentence(material, metric))]
    first, rest = " ".join([score, *told[:1]]), [*told[1:], *_place(material, scores, found.mean)]
    rest += map(html.escape, difference_notes(material.comparisons, material.rows))
    return " ".join([f"<strong>{first}</strong>", *rest])


def _place(material: Material, scores: Scores, mean: float) -> list[str]:
    """How many of the other methods have a larger mean, as far as the table shows."""
    shown = lambda mean: round(100 * mean, 2)
    others = [summarize(scores[row][AVERAGE]).mean for row in material.trained() if row != material.main]
    larger = sum(shown(other) > shown(mean) for other in others)
    return (
        [f"By the mean UAR alone, {larger} of {counted(len(others), 'other method')} are above it."] if others else []
    )


def differences_sentence(material: Material, metric: str) -> str:
    """Which rows differ from the main one in a metric, and how often the interval alone leaves out zero."""
    comparisons = [one for one in material.comparisons if one.metric == metric]
    if not comparisons:
        return ""

    def listed(verdict: str) -> str:
        """`MMIN (+0.94 points, +0.65 to +1.22, p 0.045)` of all with this verdict."""
        told = []
        for one in (one for one in comparisons if one.verdict == verdict):
            mean, around = signed_difference(one.difference)
            label = html.escape(material.label(one.baseline))
            told.append(f"{label} ({mean} points, {around}, p {p_text(one.p)})")
        return ", ".join(told)

    label = html.escape(material.label(comparisons[0].method))
    parts = [f"{label} is {word} than {names}" for word in (BETTER, WORSE) if (names := listed(word))]
    if unjudged := [one for one in comparisons if one.verdict == NO_INTERVAL]:
        parts.append(f"{counted(len(unjudged), 'difference')} not judged, since there is too little for an interval")
    others = [one for one in comparisons if one.verdict not in (*SHOWN, NO_INTERVAL)]
    if others:
        all_of_them = "any other method" if len(others) == len(comparisons) else f"the other {len(others)}"
        parts.append(f"no difference is shown from {all_of_them}")
    if hints := [one for one in others if one.verdict == INTERVAL_ONLY]:
        below = sum(one.difference.mean < 0 for one in hints)
        parts[-1] += (
            f", though {counted(len(hints), 'interval')} of these differences "
            f"{'leaves' if len(hints) == 1 else 'leave'} out zero ({below} with {label} worse, {len(hints) - below} "
            "with it better)"
        )
    corrected = f", after the correction for {len(comparisons)} comparisons" if len(comparisons) > 1 else ""
    return f"{metric.upper()}{corrected}: {'; '.join(parts)}."


def _contents(figures: Sequence[Figure]) -> list[tuple[str, str]]:
    titles = {figure.name: figure.title for figure in figures}
    first = [("differences", titles.pop("differences"))] if "differences" in titles else []
    for metric in PAGE_METRICS:
        first.append((f"table-{metric}", f"Table of {metric.upper()}"))
        if title := titles.pop(f"conditions-{metric}", None):
            first.append((f"conditions-{metric}", title))
    return [
        ("words", "What is compared"),
        *first,
        *titles.items(),
        ("how", "How to repeat it"),
    ]


def words_section(material: Material) -> str:
    """Task, conditions, metrics and rows, for a reader who knows none of them."""
    data = material.config["data"]
    widths = data.get("widths", itertools.repeat(None))  # folders of earlier versions have none
    counts = material.class_counts()
    classes = ", ".join(f"{n} {html.escape(name)}" for name, n in zip(material.class_names, counts, strict=True))
    tested = f"tested: {classes}" if any(counts) else "no run has scores"
    letters = ", ".join(
        f"{html.escape(condition)}: {html.escape(name)}" + (f", {width} features" if width else "")
        for condition, name, width in zip(material.conditions, data["modalities"], widths, strict=False)
    )
    items = [
        ("Task", f"which of {len(material.class_names)} classes an utterance has; {tested}"),
        (
            "Conditions",
            f"named by what is available ({letters}); nothing is hidden in the last one, {material.conditions[-1]}. An "
            "utterance that lacks one of them by nature is answered from the others; one that has none is left out",
        ),
        ("UAR", "unweighted average recall: the mean of the recalls of the classes; per cent"),
        ("WAR", "weighted average recall: the share of right decisions; per cent"),
        ("Converged", converged_text(material.config)),
        (
            "Fold",
            f"a partition into training, validation and test utterances{_one_speaker(material)}; "
            f"{speakers_apart(material.config)}",
        ),
    ]  # fmt: skip
    rows = list(dict.fromkeys(row.method for row in material.rows))
    for name in [name for name in rows if name in CEILINGS]:
        items.append((material.label(name), html.escape(ABOUT[name.removesuffix("_war").removesuffix("_uar")])))
    told = explanations(name for name in rows if name not in CEILINGS)
    items += [(html.escape(label), html.escape(about)) for label, about in told.items()]
    listed = "".join(f"<dt>{term}</dt><dd>{text}.</dd>" for term, text in dict(items).items())
    return f"<section id='words'><h2>What is compared</h2><dl>{listed}</dl></section>"


def _scores_section(material: Material, metric: str) -> str:
    scores = collect(of_metric(material.rows, metric), metric)
    header = ["method", *next(iter(scores.values()))]
    best = best_means(scores)
    lines = []
    for row, cells in scores.items():
        line = [f"<th scope='row'>{html.escape(material.label(row))}</th>"]
        for name in header[1:]:
            found = with_interval(summarize(cells[name]), material.intervals.get((row, metric, name)))
            text = "" if not found.n else f"{100 * found.mean:.2f}"
            if row not in CEILINGS and found.n and np.isclose(found.mean, best[name]):
                text = f"<strong>{text}</strong>"
            if found.n and row not in CEILINGS and not np.isnan(found.ci_low):
                text += f"<small>{100 * found.ci_low:.1f} to {100 * found.ci_high:.1f}</small>"
            line.append(f"<td>{text}</td>")
        kind = " class='exact'" if row in CEILINGS else ""
        lines.append(f"<tr{kind}>{''.join(line)}</tr>")
    for one in published_rows(material.config, len(material.class_names), tuple(header[1:])):
        if one.metric == metric:
            given = "".join(f"<td>{'' if score is None else f'{score:.2f}'}</td>" for score in one.scores)
            text = f"{html.escape(one.method)} <em>published</em><small>{html.escape(one.source)}</small>"
            lines.append(f"<tr class='published'><th scope='row'>{text}</th>{given}</tr>")
    head = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in header)
    return (
        f"<section id='table-{metric}'><h2>{metric.upper()}, per cent</h2><p>Columns: the modalities that are "
        "available; "
        "average: of the missing-modality conditions. Mean over folds of the mean over seeds; below it the 95 % "
        f"interval {material.over}. Bold: {BOLD}.</p><div "
        f"class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "</section>"
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
            ", ".join(map(_sizes, config["folds"])),
        ),
        ("seeds", ", ".join(map(str, config["seeds"]))),
        *sorted(config["versions"].items()),
    ]
    made_here = config["data"]["name"] in SYNTHETIC_NAMES
    source = "data that the command makes itself" if made_here else f"the data in {html.escape(config['data']['path'])}"
    commands = [["python", *words[1:]] for words in config["commands"]]
    lines = "\n".join(" ".join(map(shlex.quote, words)) for words in commands)
    words = commands[-1]
    out = shlex.quote(words[words.index("--out") + 1]) if "--out" in words[:-1] else "FOLDER"
    where = "" if out != "FOLDER" else "The second to last command prints the folder that it writes to. "
    epochs = material.score_epochs
    averaged = "" if epochs == 1 else f", averaged over the last {epochs} epochs"
    settings = json.dumps(
        {"preset": config["preset"], "methods": config["methods"], "tuned": config.get("tuned", {})}, indent=1
    )
    return (
        "<section id='how'><h2>How to repeat it</h2><p>In a checkout of cmarr_jax at commit "
        f"{html.escape(config['commit'])}, with {source}; the first three commands make the environment, the "
        "last one makes this page again:</p><pre>python3 -m venv .venv\n. .venv/bin/activate\n"
        "pip install --constraint constraints.txt --editable '.[experiments]'\n"
        f"{html.escape(lines)}\npython -m experiments.report {out}</pre><p>{where}The epoch of a model is chosen on "
        f"the validation part of its fold by the UAR of the missing-modality conditions pooled{averaged}; the "
        "test part is scored once. Behind each fold below: the numbers of labelled training, validation and test "
        "utterances, and of unlabelled ones if there are any.</p><div "
        f"class='facts'>{html_table(['', ''], facts)}</div>"
        "<details><summary>Configuration; what is tuned replaces the values of the methods</summary>"
        f"<pre>{html.escape(settings)}</pre></details></section>"
    )


def _sizes(fold: dict[str, Any]) -> str:
    """`01F (440 / 110 / 55)`, with the number of unlabelled training utterances if there are any."""
    unlabelled = fold.get("unlabelled", 0)
    text = f"{fold['name']} ({fold['train']} / {fold['val']} / {fold['test']}"
    return text + (f"; {unlabelled} unlabelled)" if unlabelled else ")")
