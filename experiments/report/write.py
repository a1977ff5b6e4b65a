"""From the folders of the runs of a table to all of its outputs."""

from pathlib import Path

from cmarr_jax.training.disk import write_texts
from experiments.report.drawing import for_file
from experiments.report.latex import to_latex
from experiments.report.material import Material
from experiments.report.page import make_figures, to_html
from experiments.report.published import published_rows
from experiments.report.regression import VALUE_FILES, is_regression, write_value_tables
from experiments.report.scores import AVERAGE, to_csv
from experiments.report.text import headings, to_markdown
from experiments.results import FILE, rows_text
from experiments.results_folder import own_report

OUTPUT_FILES = ("report.html", "table.md", "table.csv", "table.tex", FILE, "figures")


def output_files(folder: Path) -> tuple[str, ...]:
    """What `write_report` writes."""
    return VALUE_FILES if is_regression(folder) else OUTPUT_FILES


def write_report(folder: Path) -> str:
    """Writes tables, figures and the page from the runs of a folder and returns the tables as Markdown.

    Of a regression, tables only (`experiments.report.regression`).

    Raises:
      FileNotFoundError: if the folder holds no finished run.
      ValueError: if a record cannot be read.
    """
    with own_report(folder):
        return _write_report(folder)


def _write_report(folder: Path) -> str:
    material = Material(folder)
    rows = material.rows
    if not rows:
        raise FileNotFoundError(f"{folder} holds no finished run; train some with experiments.reproduce --out {folder}")
    if is_regression(folder):
        return write_value_tables(material)
    title, notes = headings(material.config, material.folds_text, material.seeds_text)
    conditions = (*material.conditions[:-1], AVERAGE, material.conditions[-1])
    published = published_rows(material.config, len(rows[0].counts), conditions)
    figures = make_figures(material)
    markdown = to_markdown(rows, title, notes, material.comparisons, published, rates=_rates(figures))
    write_texts(folder, {
        FILE: rows_text(rows),
        "table.csv": to_csv(rows, material.intervals),
        "table.md": markdown,
        "table.tex": to_latex(rows, title, material.intervals, material.comparisons, published, material.over),
        "report.html": to_html(material, figures),
        **{f"figures/{figure.name}.svg": for_file(figure.svg) for figure in figures},
    })  # fmt: skip
    return markdown


def _rates(figures):
    return next((figure for figure in figures if figure.name == "rates"), None)
