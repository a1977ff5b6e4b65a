"""Every fault of `fault_cases` gives the sentence of docs/faults.md, and no traceback."""

import csv
from pathlib import Path

import pytest

from tests import fault_cases
from tests.fault_case import run

PAGE = (Path(__file__).parent.parent / "docs/faults.md").read_text()


@pytest.mark.parametrize("case", fault_cases.CASES, ids=lambda case: case.text)
def test_fault_gives_one_sentence(tmp_path, case):
    may_be_there = {"out.npz", "out_details.npz"} if case.command == "tfds_corpus" or "already" in case.text else set()
    outcome = run(case, tmp_path)
    assert outcome.sentence
    if case.column:
        assert outcome.code == 0
        assert "Traceback" not in outcome.stderr
        with (tmp_path / "p.csv").open(newline="") as file:
            answers = [row["class"] for row in csv.DictReader(file)]
        assert any(answers)
        assert case.column != "error" or outcome.sentence in outcome.stderr
    elif case.says:
        assert (outcome.code, outcome.stderr) == (0, "")
    else:
        assert outcome.code == 1
        assert outcome.stderr.count("\n") == 1
        assert "Traceback" not in outcome.stderr
        assert {path.name for path in tmp_path.glob("o*.npz")} <= may_be_there
    assert fault_cases.row(case, outcome) in PAGE.split("\n"), "paste what python -m tests.fault_cases prints"


def test_there_are_enough_of_them():
    assert len(fault_cases.CASES) >= 25
    assert len({case.text for case in fault_cases.CASES}) == len(fault_cases.CASES)
    rows = [line for line in PAGE.split("\n") if line.startswith("|")]
    assert len(rows) == 2 + len(fault_cases.CASES)  # no row is of a case that is gone
