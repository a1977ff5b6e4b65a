"""Faults of a user's files, and the sentence that each one gives.

    python -m tests.fault_cases

prints the table of docs/faults.md. Each case makes a miniature corpus, damages it and runs a command on it. Most end
with exit code 1 and one sentence on stderr ("stops"); others print a sentence on stdout and continue ("goes on"). A
prediction writes the sentence into a column of that utterance. The cases are in `faults_*.py`, one file per kind of
input.
"""

import re
import tempfile
from pathlib import Path

from tests import faults_corpora, faults_extractors, faults_manifest, faults_mmin, faults_predict, faults_raw
from tests.fault_case import Case, Outcome, run

KINDS = (faults_manifest, faults_mmin, faults_raw, faults_extractors, faults_corpora, faults_predict)
CASES = tuple(case for kind in KINDS for case in kind.CASES)


def row(case: Case, outcome: Outcome) -> str:
    """A row of the Markdown table."""
    sentence = re.sub(r"\s+", " ", outcome.sentence).replace("|", "\\|").replace("<", "&lt;")
    kind = f"`{case.column}`" if case.column else "goes on" if case.says else "stops"
    return f"| {case.text} | {kind} | {sentence} |"


def table() -> str:
    """The Markdown table."""
    lines = ["| fault | | sentence |", "|---|---|---|"]
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            lines.append(row(case, run(case, Path(name))))
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
