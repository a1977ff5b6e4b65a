"""`python -m experiments.report FOLDER`."""

from pathlib import Path

import tyro

from experiments.report.write import write_report


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Makes the tables, figures and the page of a results folder again, and prints the tables.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote.
    """
    print(write_report(folder))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.report")
