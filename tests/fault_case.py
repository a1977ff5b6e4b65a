"""One fault of a user's files: how it is made, and what a command says to it."""

import contextlib
import csv
import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One fault.

    Attributes:
      text: What is wrong.
      command: Module of the package.
      argv: Makes the files in a folder and returns the command line.
      says: Start of the line on stdout, for a case that goes on ({folder}: where the files are); empty: it stops.
      package: Of the command.
      column: Column of `p.csv` that holds the sentence, where a prediction goes on with the other utterances.
    """

    text: str
    command: str
    argv: Callable[[Path], list[str]]
    says: str = ""
    package: str = "data_prep"
    column: str = ""


class Outcome(NamedTuple):
    """Exit code, what was printed, and the sentence (without the folder) that the table shows."""

    code: int
    stdout: str
    stderr: str
    sentence: str


def run(case: Case, folder: Path) -> Outcome:
    """Runs a case in an empty folder."""
    argv = case.argv(folder)
    out, err = io.StringIO(), io.StringIO()
    module = importlib.import_module(f"{case.package}.{case.command}")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = module.main(argv)
    stdout, stderr = out.getvalue(), err.getvalue()
    sentence = next(iter(_sentences(case, folder, stdout, stderr)), "")
    return Outcome(code, stdout, stderr, sentence.replace(f"{folder}/", "").replace(str(folder), "DIR"))


def _sentences(case: Case, folder: Path, stdout: str, stderr: str) -> list[str]:
    if case.column:
        with (folder / "p.csv").open(newline="") as file:
            return [row[case.column] for row in csv.DictReader(file) if row[case.column]]
    says = case.says.replace("{folder}", str(folder))
    return [line for line in stdout.splitlines() if line.startswith(says)] if says else [stderr.strip()]
