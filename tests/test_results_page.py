"""The overview of experiments/RESULTS.md holds the numbers of the tables below it."""

from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "experiments" / "RESULTS.md").read_text()
SECTIONS = {  # of the overview
    "synthetic": "Synthetic data, all methods, tuned",
    "synthetic, harder": "Synthetic data, the harder set, all methods, tuned",
    "CREMA-D votes": "CREMA-D rater votes, two views, all methods, tuned",
    "CMU-MOSI": "CMU-MOSI, utterance level, all methods, tuned",
    "RAVDESS, not tuned": "RAVDESS, real acted speech",
    "digits": "Digits in three views, all methods, tuned",
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def between(text: str, begin: str, end: str) -> str:
    """From the end of `begin` to the next `end`, or to the end of the text."""
    return text[text.index(begin) + len(begin) :].split(end)[0]


def overview() -> dict[str, list[str]]:
    """Cells of each set by the first one, its name."""
    rows = map(cells, between(PAGE, "|---|---|---|---|---|---|---|\n", "\n\n").splitlines())
    return {row[0]: row[1:] for row in rows}


def test_every_section_is_in_the_overview():
    assert list(overview()) == list(SECTIONS)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_overview_has_the_numbers_of_its_section(name):
    section = between(PAGE, f"## {SECTIONS[name]}\n", "\n## ")
    header, _, *rows = between(section, "### UAR, per cent", "\n### ").split("\n\n")[1].splitlines()
    average = cells(header).index("average")
    mean = {row[0]: row[average].split()[0] for row in map(cells, rows)}
    lines = map(cells, between(section, "### CM-ARR minus each other row", "\n## ").splitlines())
    difference = {row[0]: row[2] for row in lines if row[1:2] == ["UAR"]}
    ours, zero_fill, minus_zero_fill, best_row, minus_best, _ = overview()[name]
    assert (ours, zero_fill, minus_zero_fill) == (mean["CM-ARR"], mean["Zero-fill"], difference["Zero-fill"])
    largest = max((mean[row] for row in difference), key=float)
    best = [row for row in difference if f"{row}, {largest}".lower() == best_row.lower()]
    assert [minus_best] == [difference[row] for row in best]
