"""HDF5 is read from one file: what lies in another file, or is only claimed, is refused before it is read."""

import h5py
import numpy as np
import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep.feature_files import FeatureFile
from data_prep.hdf5_inside import Inside, NotInFile
from data_prep.mmin_frames import check_usable, read_entries

FRAMES = np.arange(6.0, dtype=np.float32).reshape(2, 3)


def link(file, other):
    file["b"] = h5py.ExternalLink(str(other), "secret")


def soft_link_to_a_link(file, other):
    file["to_other"] = h5py.ExternalLink(str(other), "secret")
    file["b"] = h5py.SoftLink("/to_other")


def external(file, other):
    file.create_dataset("b", (2, 3), "f4", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(file, other):
    layout = h5py.VirtualLayout((2, 3), "f4")
    layout[...] = h5py.VirtualSource(str(other), "secret", shape=(2, 3))
    file.create_virtual_dataset("b", layout)


def claimed(file, other):
    file.create_dataset("b", (10**9, 3), "f4", chunks=(64, 3), compression="gzip")


CASES = {
    link: "is a link",
    soft_link_to_a_link: "is a link",
    external: "has its values in another file",
    virtual: "has its values in another file",
    claimed: "claims 12000000000 bytes of values where 0 are stored",
}


@pytest.fixture(params=CASES, ids=lambda make: make.__name__)
def spoilt(request, tmp_path):
    """A file with a whole entry `a` and one `b` that is not in it, and what is said of `b`."""
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = FRAMES + 100
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a"] = FRAMES
        request.param(file, tmp_path / "other.h5")
    return tmp_path / "f.h5", CASES[request.param]


def test_what_is_not_in_the_file_is_refused(spoilt):
    path, sentence = spoilt
    with h5py.File(path) as file:
        inside = Inside(file)
        np.testing.assert_array_equal(inside["a"][()], FRAMES)
        assert "b" in inside
        with pytest.raises(NotInFile, match=sentence):
            inside["b"]


def test_the_readers_name_it(spoilt):
    path, sentence = spoilt
    with pytest.raises(ArchiveError, match=rf"f\.h5: .*{sentence}"):
        FeatureFile(path).read(["a", "b"])
    entries = read_entries(path, ["a", "b"])
    with pytest.raises(ArchiveError, match=rf"f\.h5: cannot use 1 of 2 .*'b': it {sentence}"):
        check_usable(path, entries, allow_missing=False)


def test_groups_and_compressed_values_are_read(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x/y"] = FRAMES
        file.create_dataset("zeros", (1000, 3000), "f4", chunks=True, compression="gzip", data=np.zeros((1000, 3000)))
        inside = Inside(file)
        np.testing.assert_array_equal(inside["x/y"][()], FRAMES)
        np.testing.assert_array_equal(inside["x"]["y"][()], FRAMES)
        assert inside["zeros"].shape == (1000, 3000)
        assert list(inside) == ["x", "zeros"]
        for name in ("no", "x/no", "x/y/no"):
            assert name not in inside
            with pytest.raises(KeyError):
                inside[name]
