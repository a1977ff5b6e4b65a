"""Sentences of docs/troubleshooting.md on folders and checkpoints are those of the source. Imports no JAX."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
SECTION = re.search(r"^## Folders, checkpoints and disks\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
ROWS = [line.split(" | ") for line in SECTION.splitlines() if line.startswith("| `")]
SENTENCES = [sentence for row in ROWS for sentence in re.findall("`(.*?)`", row[0])]


@functools.cache
def texts() -> list[str]:
    """Strings of the source, `...` in place of values; no docstrings."""
    found = []
    for folder in ("cmarr_jax", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(), str(path))
            docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            found += [text(node) for node in ast.walk(tree) if id(node) not in docs]
    return [one for one in found if one]


def text(node: ast.AST) -> str:
    """Of a string; empty for other code."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) or "..." for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_source_says_this(sentence):
    parts = [part for part in sentence.split("...") if part.strip(" ;:()")]
    assert parts
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    assert any(pattern.search(one) for one in texts()), sentence


def test_rows_are_whole_and_each_sentence_is_there_once():
    assert len(ROWS) >= 40
    assert all(len(row) == 3 for row in ROWS)
    assert len({*SENTENCES}) == len(SENTENCES)
