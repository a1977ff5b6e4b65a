"""Files that are damaged, cannot be opened or are no archive: one clear sentence, never another exception."""

import io
import re
import zipfile

import numpy as np
import pytest
from archives import assert_equal, make_arrays, read_from

from cmarr_jax.data import archive as archive_lib
from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.corpus import ArchiveError


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("empty.npz", b"", "empty.npz: is an empty file; write the archive again"),
        ("text.npz", b"id,label\n", "text.npz: is not an .npz archive; write it with"),
        (
            "manifest.csv",
            b"id,label\n",
            "manifest.csv: is not an .npz archive; if it is a manifest, make an archive of it",
        ),
        ("array.npz", b"\x93NUMPY\x01\x00", "array.npz: is not an .npz archive"),
        ("cut.npz", b"PK\x03\x04", "cut.npz: is truncated or damaged ("),
    ],
)
def test_what_is_no_archive(tmp_path, name, content, phrase):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveError, match=re.escape(phrase)):
        read_archive(tmp_path / name)


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    with pytest.raises(ArchiveError, match=r"no\.npz: cannot be read \(No such file or directory\); give the path"):
        read_archive(tmp_path / "no.npz")
    with pytest.raises(ArchiveError, match=r"cannot be read \(Is a directory\); give the path"):
        read_archive(tmp_path)
    corpus = read_from(tmp_path, make_arrays())
    with pytest.raises(ArchiveError, match=r"b\.npz: cannot be written \(No such file or directory\); choose another"):
        write_archive(tmp_path / "no" / "b.npz", corpus)
    with pytest.raises(ArchiveError, match=r"cannot be written \(Is a directory\)"):
        write_archive(tmp_path, corpus)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(archive_lib, "open", refuse, raising=False)
    with pytest.raises(ArchiveError, match=r"a\.npz: cannot be read \(Permission denied\); give the path"):
        read_archive(tmp_path / "a.npz")


def rewrite(path, change) -> None:
    """Writes the valid archive with the raw bytes of its entries changed; checksums are right."""
    source = io.BytesIO()
    np.savez(source, **make_arrays())
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            for other, content in change(name, old.read(name)):
                new.writestr(other, content)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(6, 4)", b"(5, 4)"),  # fewer rows than bytes
        (b"(6, 4)", b"(9**9, 4)"),  # no shape
        (b"(6, 4), }     ", b"(60000000, 40)"),  # no end, and far too large
        (b"(6, 4), }      ", b"(600000000000, 4), }"),  # 10 TB
        (b"<f4", b"<f2"),
        (b"<f4", b"<q9"),
        (b"\x93NUMPY\x01", b"\x93NUMPY\x03"),
        (b"\x93NUMPY", b"\x93NUMPI"),
    ],
)
def test_odd_headers_are_damage(tmp_path, old, new):
    def change(name, content):
        yield name, content.replace(old, new, 1) if name == "text.npy" else content

    rewrite(tmp_path / "a.npz", change)
    with pytest.raises(ArchiveError, match=r"a\.npz: key 'text': is truncated or damaged \(.*copy or write the file"):
        read_archive(tmp_path / "a.npz")


def test_text_that_is_no_text_is_damage(tmp_path):
    def change(name, content):
        yield name, content[:-4] + b"\xff\xff\xff\x7f" if name == "speaker.npy" else content

    rewrite(tmp_path / "a.npz", change)
    with pytest.raises(ArchiveError, match="key 'speaker': is truncated or damaged"):
        read_archive(tmp_path / "a.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile warns while the test writes the fault
def test_an_entry_twice_or_of_another_kind(tmp_path):
    def twice(name, content):
        yield from [(name, content)] * (1 + (name == "label.npy"))

    rewrite(tmp_path / "a.npz", twice)
    with pytest.raises(ArchiveError, match="key 'label': is in the file twice; write it again"):
        read_archive(tmp_path / "a.npz")

    def other(name, content):
        yield from [(name, content)] + [("notes.txt", b"hello")] * (name == "label.npy")

    rewrite(tmp_path / "a.npz", other)
    with pytest.raises(ArchiveError, match=r"key 'notes\.txt': is not a key of the format"):
        read_archive(tmp_path / "a.npz")


def test_memory_is_named(tmp_path, monkeypatch):
    corpus = read_from(tmp_path, make_arrays())
    write_archive(tmp_path / "b.npz", corpus)

    def exhausted(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(np.lib.format, "read_array", exhausted)
    with pytest.raises(ArchiveError, match="key 'modalities': does not fit into memory; use a larger machine"):
        read_archive(tmp_path / "b.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_bytes_give_an_archive_error_or_the_same_corpus(tmp_path, compressed):
    split = np.array(["train", "val", "test"] * 2)
    corpus = read_from(tmp_path, make_arrays(np.float16) | {"split": split})
    path = tmp_path / "b.npz"
    write_archive(path, corpus, compressed=compressed)
    valid = path.read_bytes()
    rng = np.random.default_rng(0)
    errors = 0
    for trial in range(400):
        damaged = bytearray(valid)
        if trial % 4 == 0:
            damaged = damaged[: rng.integers(len(valid))]
        else:
            start = len(valid) // 2 * (trial % 2)  # half of them in the second half, where the directory is
            damaged[rng.integers(start, len(valid))] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            assert_equal(read_archive(path), corpus)
        except ArchiveError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            errors += 1
    assert errors > 200


@pytest.mark.parametrize("dtype", ["u1", "u8", ">i8", "i2"])
def test_lengths_of_any_integer_type_are_read(tmp_path, dtype):
    arrays = make_arrays()
    expected = read_from(tmp_path, arrays)
    found = read_from(tmp_path, arrays | {"audio_length": arrays["audio_length"].astype(dtype)})
    assert_equal(found, expected)


def test_a_swallowed_entry_does_not_pass(tmp_path):
    """A comment length that spans the next directory entry would make an optional key vanish."""
    corpus = read_from(tmp_path, make_arrays())
    path = tmp_path / "b.npz"
    write_archive(path, corpus)
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 1)
    third = content.index(b"PK\x01\x02", second + 1)
    content[first + 32] = third - second
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"b\.npz: is damaged \(an entry has a comment\)"):
        read_archive(path)
