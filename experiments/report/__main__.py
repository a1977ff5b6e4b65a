"""`python -m experiments.report FOLDER`."""

from pathlib import Path

import tyro

from experiments.label_shares import share_folders
from experiments.report.labels import write_label_report
from experiments.report.write import write_report
from experiments.results_folder import CONFIG


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Makes the tables, figures and the page of a results folder again, and prints the tables.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote, with `--table labels`, too.
    """
    several = not (folder / CONFIG).is_file() and share_folders(folder)
    print(write_label_report(folder) if several else write_report(folder))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.report")
