"""Why a file cannot be read: one sentence for each cause."""

import builtins
import errno
import subprocess
import sys

import h5py
import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep.mmin_files import read_npy
from data_prep.mmin_frames import open_features
from data_prep.unreadable import check_readable, hdf5_reason


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"/annex/objects/MD5E-s1--0.h5\n", "is a git-annex pointer"),
        (b"\xef\xbb\xbf\r\n <!DOCTYPE html><html>", "is a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page"),
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"\x1f\x8brest", "is compressed with gzip"),
    ],
)
@pytest.mark.parametrize("read", [read_npy, lambda path: open_features(path).__enter__()], ids=["npy", "hdf5"])
def test_what_stands_in_for_a_file(tmp_path, data, sentence, read):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(ArchiveError, match=sentence):
        read(tmp_path / "x")


def test_no_file(tmp_path, monkeypatch):
    with pytest.raises(ArchiveError, match="is missing; copy it"):
        check_readable(tmp_path / "x", "copy it")
    with pytest.raises(ArchiveError, match="is a folder"):
        check_readable(tmp_path, "copy it")
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match=r"cannot be read \(Not a directory\); copy it"):
        check_readable(tmp_path / "file/x", "copy it")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ArchiveError, match="is a link to nowhere, which is not there"):
        check_readable(tmp_path / "link", "copy it")


def test_no_permission(tmp_path, monkeypatch):
    def denied(*args):  # root may read everything
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(builtins, "open", denied)
    with pytest.raises(ArchiveError, match=r"may not be read \(permission denied\)"):
        check_readable(tmp_path / "x", "copy it")


def test_a_file_that_another_program_has_open(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = 1.0
    code = f"import h5py; file = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ArchiveError, match="is locked by a program"), open_features(path):
            pass
        other.communicate(b"\n")
    with open_features(path) as file:
        assert list(file) == ["a"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOLCK, "(unable to lock file, errno = 37)"), "without locks"),
        (OSError("(file is already open for write (may use <h5clear file> to clear)"), "was not closed"),
        (OSError("(truncated file: eof = 1, stored_eof = 2)"), "is truncated"),
        (OSError("(file signature not found)"), "is no HDF5 file"),
        (OSError("(bad object header)"), "is damaged ((bad object header))"),
    ],
)
def test_reasons_of_hdf5(error, sentence):
    assert sentence in hdf5_reason(error)
