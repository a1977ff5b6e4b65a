"""Files that appear whole or not at all."""

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
    for left in (".table.md.12.partial", "figures/.war.svg.12.partial"):
        (tmp_path / left).write_text("ha")
    write_texts(tmp_path, {"table.md": "whole", "figures/war.svg": "<svg/>"})
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"table.md", "figures/war.svg"}


def test_hidden_files_do_not_make_a_folder_used(tmp_path):
    assert is_unused(tmp_path / "absent")
    (tmp_path / ".locks").mkdir()
    assert is_unused(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not is_unused(tmp_path)
    assert not is_unused(tmp_path / "notes.txt")
