"""`python -m experiments.report FOLDER`."""

from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.jax_setup import user_errors_as_messages
from experiments.label_shares import share_folders
from experiments.report.labels import write_label_report
from experiments.report.write import write_report
from experiments.results_folder import CONFIG
from experiments.units import read_records


def main(folder: tyro.conf.Positional[Path]) -> None:
    """Makes the tables, figures and the page of a results folder again, and prints the tables.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote, with `--table labels`, too.
    """
    several = {} if (folder / CONFIG).is_file() else share_folders(folder)
    for share_folder in several.values():
        if any(read_records(share_folder)):  # the page of all shares has links to these
            write_report(share_folder)
    print(write_label_report(folder) if several else write_report(folder))


def run_command(argv: Sequence[str] | None = None) -> None:
    """The command line; exit code 2 for what a user can mend."""
    with user_errors_as_messages(OSError, ValueError):
        tyro.cli(main, args=argv, prog="python -m experiments.report")


if __name__ == "__main__":
    run_command()
