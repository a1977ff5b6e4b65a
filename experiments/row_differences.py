"""One row against all others of a table: `python -m experiments.row_differences RESULTS_FOLDER ROW`.

The report compares the row `cm_arr`; this compares any. Of a table with shares of the labels, give the folder of one
share.
"""

from pathlib import Path

import tyro

from experiments.comparison import compare
from experiments.jax_setup import user_errors_as_messages
from experiments.report.differences import difference_notes, p_text, signed_difference
from experiments.report.material import Material
from experiments.report.regression import is_regression


def main(folder: tyro.conf.Positional[Path], row: tyro.conf.Positional[str]) -> None:
    """Prints a row minus each other one, average of the missing-modality conditions, with 95 % intervals.

    Intervals are over speakers (a bootstrap) and seeds, p is of a permutation test over speakers, corrected after Holm.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote.
      row: Such as `zero_fill`.
    """
    material = Material(folder)
    names = list(material.runs)
    if row not in names:
        raise ValueError(f"{folder} has no outputs of row {row}; it has those of {', '.join(names) or 'none'}")
    factor, digits, points = (1, 3, "") if is_regression(folder) else (100, 2, " points")
    comparisons = compare(folder, material.rows, row)
    for found in comparisons:
        mean, around = signed_difference(found.difference, factor, digits)
        difference = f"{mean}{points} ({around})" if around else f"{mean}{points}"
        print(
            f"{found.metric.upper()}, {row} minus {found.baseline}: {difference}, p {p_text(found.p)}: {found.verdict}"
        )
    for note in difference_notes(comparisons, material.rows):
        print(note)


if __name__ == "__main__":
    with user_errors_as_messages(OSError, ValueError):
        tyro.cli(main)
