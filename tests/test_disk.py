"""Files that appear whole or not at all."""

import subprocess
import sys

import pytest

from cmarr_jax.training.disk import is_unused, whole_file, whole_folder, write_text, write_texts

UNWRITABLE = "new \ud800"  # half of a surrogate pair: the encoder fails after the file was opened


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "part" / "table.md"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, UNWRITABLE)
    assert path.read_text() == "old"
    assert [one.name for one in path.parent.iterdir()] == ["table.md"]


def test_a_stop_leaves_nothing_half_written(tmp_path):
    def stopped(whole):
        with whole(tmp_path / "new") as partial:
            (partial / "part" if whole is whole_folder else partial).write_text("half")
            raise KeyboardInterrupt

    for whole in (whole_file, whole_folder):
        with pytest.raises(KeyboardInterrupt):
            stopped(whole)
        assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_deleted(tmp_path):
    (tmp_path / "figures").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        lefts = f".table.md.{process.pid}.partial", f"figures/.war.svg.{process.pid}.partial"
        for left in lefts:
            (tmp_path / left).write_text("ha")
        write_texts(tmp_path, {"table.md": "whole"})
        assert (tmp_path / lefts[0]).exists()  # it is still being written
    write_texts(tmp_path, {"table.md": "whole", "figures/war.svg": "<svg/>"})
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"table.md", "figures/war.svg"}


def test_of_two_that_write_a_folder_the_second_is_told(tmp_path):
    def write():
        with whole_folder(tmp_path / "unit") as partial:
            (partial / "run.json").write_text("second")
            (tmp_path / "unit").mkdir()  # another command ends first
            (tmp_path / "unit" / "run.json").write_text("first")

    with pytest.raises(FileExistsError, match=r"unit exists; another command has just written it"):
        write()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["unit", "unit/run.json"]
    assert (tmp_path / "unit" / "run.json").read_text() == "first"


def test_hidden_files_do_not_make_a_folder_used(tmp_path):
    assert is_unused(tmp_path / "absent")
    (tmp_path / ".locks").mkdir()
    assert is_unused(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_unused(tmp_path)
    assert not is_unused(tmp_path / "notes.txt")
