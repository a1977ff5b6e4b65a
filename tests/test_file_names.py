"""Any name becomes the name of one file in its folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cmarr_jax.data.names import as_file_name

NAMES = [
    "", ".", "..", "a", "A.b", "a b", " ", "a/b", "a\\b", "/etc/passwd", "../../x", "..\\x", "a\0b", "\n", "CON:", "~",
    "%2F", "\udc80", "é" * 100, "n" * 300, "n" * 299 + "m", "../" * 100, "%" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_one_file_in_its_folder(tmp_path, name):
    folder = tmp_path / "in"
    for path in (folder / as_file_name(name), folder / f"{as_file_name(name)}_seed0"):
        path.mkdir(parents=True)
        assert path.resolve().parent == folder
        assert path.name in os.listdir(folder)
    assert os.listdir(tmp_path) == ["in"]
    assert len(as_file_name(name)) <= 120


def test_different_names_are_different_files():
    files = [as_file_name(name) for name in NAMES]
    again = [as_file_name(name) for name in files if name not in NAMES]  # a file name may itself be a name
    assert len({*files, *again}) == len(files) + len(again)
    assert as_file_name("01F") == "01F"
    assert as_file_name("Ses01F_impro01_F000") == "Ses01F_impro01_F000"


def test_file_names_and_archives_load_neither_jax_nor_orbax():
    code = (
        "import sys, cmarr_jax.data.archive, cmarr_jax.data.names, data_prep.extractors.run; "
        "sys.exit(any(name in sys.modules for name in ('jax', 'flax', 'orbax', 'grain', 'tensorflow_datasets')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
