"""The tables of a regression: concordance correlation and mean absolute error, as Markdown, CSV and LaTeX."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cmarr_jax.training.disk import write_texts
from experiments.comparison import Comparison
from experiments.report.differences import difference_notes, judged_text, p_text, signed_difference
from experiments.report.latex import FIRST_LINE, escape, latex_table
from experiments.report.material import Material
from experiments.report.scores import (
    AVERAGE,
    Cells,
    Summary,
    run_notes,
    summarize_cells,
    to_csv,
)
from experiments.report.text import headings, plain_table
from experiments.results import FILE, VALUE_METRICS, rows_text
from experiments.results_folder import read_config

VALUE_FILES = ("table.md", "table.csv", "table.tex", FILE)
TITLES = {
    "ccc": "CCC, concordance correlation, -1 to 1, larger is better",
    "mae": "MAE, mean absolute error in the unit of the target, smaller is better",
}
LEFT_OUT = (
    "Of a regression there are tables only: no page, no figures, no scores by missing rate, no pooled scores. Epochs "
    "were chosen by the CCC of the missing-modality conditions pooled, on validation."
)


def is_regression(folder: Path) -> bool:
    """Whether the folder of a table is that of a regression."""
    return read_config(folder, ()).get("task") == "regression"


def write_value_tables(material: Material) -> str:
    """Writes the tables from the runs of a folder, and returns them as Markdown."""
    title, notes = headings(material.config, material.folds_text, material.seeds_text)
    cells = {metric: summarize_cells(material.rows, metric, material.intervals) for metric in VALUE_METRICS}
    markdown = _markdown(material, title, [*notes, LEFT_OUT], cells)
    write_texts(material.folder, {
        FILE: rows_text(material.rows),
        "table.csv": to_csv(material.rows, material.intervals, VALUE_METRICS),
        "table.md": markdown,
        "table.tex": _latex(material, title, cells),
    })  # fmt: skip
    return markdown


def _markdown(material: Material, title: str, notes: list[str], cells: Mapping[str, Cells]) -> str:
    parts = [f"# {title}", *notes, *run_notes(material.rows)]
    for metric, table in cells.items():
        parts.append(f"## {TITLES[metric]}; mean ± standard deviation over folds and seeds")
        header = ["method", *(name if name == AVERAGE else f"`{name}`" for name in next(iter(table.values())))]
        lines = [[material.label(row), *map(_text, found.values())] for row, found in table.items()]
        parts.append(plain_table(header, lines))
    if material.comparisons:
        parts += _differences(material)
    return "\n\n".join(parts) + "\n"


def _differences(material: Material) -> list[str]:
    ours = material.label(material.comparisons[0].method)
    conditions = len(material.conditions) - 1
    return [
        f"## {ours} minus each other row, average of the {conditions} missing-modality conditions",
        f"{judged_text(material.comparisons)} A smaller MAE is better.",
        *difference_notes(material.comparisons, material.rows),
        plain_table(
            ["minus", "metric", "difference", "p", ""], [_difference(material, one) for one in material.comparisons]
        ),
    ]


def _difference(material: Material, one: Comparison) -> list[str]:
    mean, around = signed_difference(one.difference, 1, 3)
    difference = f"{mean} ({around})" if around else mean
    return [material.label(one.baseline), one.metric.upper(), difference, p_text(one.p), one.verdict]


def _text(found: Summary) -> str:
    if found.n == 0:
        return ""
    return f"{found.mean:.3f}" + ("" if np.isnan(found.std) else f" ± {found.std:.3f}")


def _latex(material: Material, title: str, cells: Mapping[str, Cells]) -> str:
    parts = [FIRST_LINE]
    for metric, table in cells.items():
        header = list(next(iter(table.values())))
        names = [name if name == AVERAGE else f"\\texttt{{{escape(name)}}}" for name in header]
        lines = [
            " & ".join([escape(material.label(row)), *map(_latex_text, found.values())]) + r" \\"
            for row, found in table.items()
        ]
        caption = (
            f"{escape(title)}: {escape(TITLES[metric])}. Mean over folds of the mean over seeds, with 95\\,\\% "
            f"intervals {material.over}."
        )
        parts.append(latex_table(caption, "l" + "r" * len(header), ["method", *names], lines))
    return "\n\n".join(parts) + "\n"


def _latex_text(found: Summary) -> str:
    if found.n == 0:
        return ""
    around = "" if np.isnan(found.ci_low) else f" {{\\tiny [{found.ci_low:.3f}, {found.ci_high:.3f}]}}"
    return f"{found.mean:.3f}{around}"
