"""A file that is written under a temporary name."""

import threading

import pytest

from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.whole_file import whole_file


def test_two_threads_do_not_write_into_one_file(tmp_path):
    both = threading.Barrier(2, timeout=60)

    def write(text):
        with whole_file(tmp_path / "a.txt") as temporary:
            temporary.write_text(text)
            both.wait()
            assert temporary.read_text() == text
            both.wait()

    threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.txt").read_text() in ("one", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_of_another_file_is_not_that_of_this_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), whole_file(tmp_path / "a.txt", "--out"):
        (tmp_path / "other.txt").read_text()
    for path in (tmp_path / "none" / "a.txt", tmp_path / ("a" * 300)):
        with pytest.raises(ArchiveError, match=r"^--out: .* cannot be written"), whole_file(path, "--out") as temporary:
            temporary.write_text("")
    with pytest.raises(ArchiveError, match=r"^--out: .*No space left"), whole_file(tmp_path / "a.txt", "--out"):
        raise OSError(28, "No space left on device")
    assert not [*tmp_path.iterdir()]
