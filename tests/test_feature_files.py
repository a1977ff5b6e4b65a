"""Files of finished features: every kind gives the same arrays, every fault one sentence."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep import feature_files, sources
from data_prep.feature_files import FeatureFile, NoneFoundError

FRAMES = {name: np.arange(6 * (row + 1), dtype=np.float64).reshape(-1, 3) for row, name in enumerate(("a", "b/c", "d"))}
VECTORS = {name: array[0] for name, array in FRAMES.items()}


def write_table(path, arrays, kind):
    rows = [(name, *frame) for name, array in arrays.items() for frame in np.atleast_2d(array).tolist()]
    if kind == ".csv":
        path.write_text("utterance_id,x,y,z\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
        return
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra corpora")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table(dict(zip(("utterance_id", "x", "y", "z"), zip(*rows, strict=True), strict=True))), path
    )


@pytest.mark.parametrize("arrays", [FRAMES, VECTORS], ids=["frames", "vectors"])
@pytest.mark.parametrize("kind", [".npz", ".h5", ".csv", ".parquet"])
def test_all_kinds_give_the_same_arrays(tmp_path, kind, arrays):
    path = tmp_path / f"f{kind}"
    if kind == ".npz":
        np.savez(path, **arrays)
    elif kind == ".h5":
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    else:
        write_table(path, arrays, kind)
    found, reasons = FeatureFile(path).read(["d", "b/c", "no"])
    assert list(found) == ["d", "b/c"]
    for name, array in found.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, arrays[name])
    assert reasons == {"no": f"f{kind}: has no 'no'"}


@pytest.mark.parametrize("as_bytes", [False, True])
def test_one_row_each_under_a_key(tmp_path, as_bytes):
    names, rows = np.array(["b", "a"]), np.arange(4).reshape(2, 2)
    np.savez(tmp_path / "f.npz", clip=names.astype("S") if as_bytes else names, units=rows)
    found, _ = FeatureFile(tmp_path / "f.npz", "clip", "units").read(["a", "b"])
    np.testing.assert_array_equal(np.stack(list(found.values())), [[2, 3], [0, 1]])
    np.savez(tmp_path / "g.npz", utterance_id=names, features=rows)
    found, _ = FeatureFile(tmp_path / "g.npz").read(["a"])
    np.testing.assert_array_equal(found["a"], [2, 3])


def test_faults_of_one_entry_are_named_and_the_others_stay(tmp_path):
    bad = {"nan": [[1.0, np.nan, 0]], "huge": [[1e300, 0, 0]], "empty": np.zeros((0, 3)), "wide": np.zeros((2, 4))}
    bad |= {"vector": np.zeros(3), "text": np.array(["x"]), "cube": np.zeros((1, 2, 3))}
    np.savez(tmp_path / "f.npz", **FRAMES, **bad)
    found, reasons = FeatureFile(tmp_path / "f.npz").read([*bad, *FRAMES])
    assert list(found) == list(FRAMES)
    assert reasons == {
        "nan": "f.npz: 'nan' holds nan or infinity (as float32)",
        "huge": "f.npz: 'huge' holds nan or infinity (as float32)",
        "empty": "f.npz: 'empty' has shape [0, 3], nothing in it",
        "wide": "f.npz: 'wide' has shape [2, 4] where most have [T, 3]",
        "vector": "f.npz: 'vector' has shape [3] where most have [T, 3]",
        "text": "f.npz: 'text' must be [T, D] or [D] of numbers, found <U1 [1]",
        "cube": "f.npz: 'cube' must be [T, D] or [D] of numbers, found float64 [1, 2, 3]",
    }


def test_pickled_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "f.npz", a=np.array([print], dtype=object))
    with pytest.raises(ArchiveError, match=r"f\.npz: is damaged or no \.npz file \(Object arrays cannot be loaded"):
        FeatureFile(tmp_path / "f.npz").read(["a"])


@pytest.mark.parametrize(
    ("name", "data", "key", "sentence"),
    [
        ("f.txt", b"x", "", r"features are read from \.h5, \.hdf5, \.npz, \.csv, \.parquet; convert the file"),
        ("f.npz", b"PK\3\4", "", r"is damaged or no \.npz file"),
        ("f.h5", b"<html>", "", r"is damaged or no \.h5 file"),
        ("f.parquet", b"PAR1", "", "is damaged or no Parquet file"),
        ("f.csv", b"id,x\na,1\n", "", "has no column 'utterance_id'; it has id, x; give key=COLUMN"),
        ("f.csv", b",utterance_id,x\n0,a,1\n", "", "column '' is the row number that pandas and R write; it would"),
        ("f.csv", b"Unnamed: 0,id,x\n0,a,1\n", "id", "column 'Unnamed: 0' is the row number that pandas and R write"),
        ("f.csv", b"index,id,x\n0,a,1\n", "id", "column 'index' is the row number that pandas and R write"),
        (
            "f.csv",
            b"id,Label,x\na,1,2\n",
            "id",
            "column 'Label' has a name of a manifest's column; it",
        ),
        ("f.csv", b"id,x\na,1_000\n", "id", "row 2, column 'x': '1_000' is no number"),
        ("f.csv", b"id,x,y,x\na,1,2,3\n", "id", "column 'x' is there 2 times; keep one"),
        ("f.csv", b"id,x\na,one\n", "id", "row 2, column 'x': 'one' is no number"),
        ("f.csv", b"id,x\na,1,2\n", "id", "row 2 has 3 values where the first line names 2 columns"),
        ("f.csv", b"id,x\nb,1\n", "id", "has features of none of the 1 names; f.csv: has no 'a' but 'b' ...; if a col"),
    ],
)
def test_faults_of_a_file(tmp_path, name, data, key, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArchiveError, match=sentence):
        FeatureFile(tmp_path / name, key).read(["a"])


def test_a_name_twice_or_a_key_that_is_missing(tmp_path):
    np.savez(tmp_path / "f.npz", clip=np.array(["a", "a"]), units=np.zeros((2, 2)))
    with pytest.raises(ArchiveError, match="row 1 names 'a', which is already in row 0"):
        FeatureFile(tmp_path / "f.npz", "clip", "units").read(["a"])
    with pytest.raises(ArchiveError, match="has no key 'ids'; it has clip, units"):
        FeatureFile(tmp_path / "f.npz", "ids", "units").read(["a"])
    np.savez(tmp_path / "f.npz", clip=np.array(["a"]), units=np.zeros((2, 2)))
    with pytest.raises(ArchiveError, match=r"key 'clip' has shape \[1\] where 'units' has \[2, 2\]"):
        FeatureFile(tmp_path / "f.npz", "clip", "units").read(["a"])


TABLE = "utterance_id,x\nu1,1\nu1,2\nu2,3\n,4\n,5\n"  # two rows without a name
ONE_ROW_EACH = "utterance_id,x\nu1,1\nu2,3\n,4\n,5\n"


@pytest.mark.parametrize(
    ("text", "frames", "expected"),
    [
        (TABLE, None, {"u1": [[1], [2]], "u2": [[3]]}),
        (TABLE, True, {"u1": [[1], [2]], "u2": [[3]]}),
        (TABLE, False, {"u1": [[1], [2]], "u2": [3]}),
        (ONE_ROW_EACH, None, {"u1": [1], "u2": [3]}),
        (ONE_ROW_EACH, True, {"u1": [[1]], "u2": [[3]]}),
        (ONE_ROW_EACH, False, {"u1": [1], "u2": [3]}),
    ],
)
def test_a_name_of_a_table_has_the_same_shape_whatever_else_is_read(tmp_path, text, frames, expected):
    (tmp_path / "f.csv").write_text(text)
    file = FeatureFile(tmp_path / "f.csv", frames=frames)
    for name in expected:
        np.testing.assert_array_equal(file.read([name])[0][name], expected[name])
    if frames is not False:
        assert {name: array.tolist() for name, array in file.read(["u1", "u2"])[0].items()} == expected


@pytest.mark.parametrize(
    ("counts", "note"),
    [
        ({"a": 1, "b": 1, "c": 1}, ""),
        ({"a": 2, "b": 3}, "a table of frames: 2 of 2 names have several rows"),
        ({"a": 1, "b": 3}, "a table of frames: 1 of 2 names have several rows"),
        (
            {"a": 1, "b": 2, "c": 1},
            "a table of frames: 1 of 3 names have several rows ('b' first); a repeated id may be a mistake",
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_a_table_of_frames_says_so(tmp_path, counts, note, kind):
    write_table(tmp_path / f"f{kind}", {name: np.ones((count, 3)) for name, count in counts.items()}, kind)
    assert FeatureFile(tmp_path / f"f{kind}").note() == note
    assert FeatureFile(tmp_path / f"f{kind}", frames=True).note() == ""  # the model that is asked knows it
    np.savez(tmp_path / "f.npz", a=np.ones((2, 3)), b=np.ones((1, 3)))
    assert FeatureFile(tmp_path / "f.npz").note() == ""


def test_a_table_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "f.csv").write_text(TABLE)
    file = FeatureFile(tmp_path / "f.csv")
    found, _ = file.read(["u1"])
    monkeypatch.setattr(feature_files, "read_table", None)
    np.testing.assert_array_equal(file.read(["u1"])[0]["u1"], found["u1"])
    assert file.read(["u2"])[0]["u2"].shape == (1, 1)


def test_a_cell_that_is_no_number_is_a_fault_of_its_name_alone(tmp_path):
    (tmp_path / "f.csv").write_text("utterance_id,x,y\na,1,2\nb,3,?\nb,!,4\n")
    file = FeatureFile(tmp_path / "f.csv")
    np.testing.assert_array_equal(file.read(["a"])[0]["a"], [[1, 2]])
    for _ in range(2):
        with pytest.raises(ArchiveError, match=r"f\.csv: row 3, column 'y': '\?' is no number; remove the column or"):
            file.read(["a", "b"])


@pytest.mark.parametrize("kind", [".npz", ".h5", ".csv"])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_file_of_other_names_shows_some_of_its_own(tmp_path, kind, keyed):
    path, names = tmp_path / f"f{kind}", ["p", "q", "r", "s"]
    arrays = {"utterance_id": np.array(names, "S1"), "features": np.ones((4, 2))}
    arrays = arrays if keyed else dict.fromkeys(names, np.ones(2))
    if kind == ".csv":
        write_table(path, {name: np.ones(3) for name in names}, kind)
    elif kind == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    with pytest.raises(NoneFoundError, match=r"has no 'a' but 'p', 'q', 'r' \.\.\.; if a column .* add id=COLUMN$"):
        FeatureFile(path).read(["a"])


def test_none_of_the_names_has_a_reason_for_each(tmp_path):
    np.savez(tmp_path / "f.npz", a=np.array([np.nan]), c=np.ones(3))
    with pytest.raises(NoneFoundError, match=r"has features of none of the 2 names; f\.npz: has no 'b'") as caught:
        FeatureFile(tmp_path / "f.npz").read(["a", "b"])
    assert caught.value.reasons == {
        "b": "f.npz: has no 'b'",
        "a": "f.npz: 'a' holds nan or infinity (as float32)",
    }


def test_texts_and_empty_entries_of_hdf5_do_not_stop_the_others(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a"] = FRAMES["a"]
        file["text"] = "made by hand"
        file["bytes"] = np.bytes_("abc")
        file["number"] = 1.5
        file["nothing"] = h5py.Empty("f4")
        file.create_group("group")
    found, reasons = FeatureFile(tmp_path / "f.h5").read(["a", "text", "bytes", "number", "nothing", "group"])
    np.testing.assert_array_equal(found["a"], FRAMES["a"])
    assert reasons == {
        "text": "f.h5: 'text' must be [T, D] or [D] of numbers, found |S12 []",
        "bytes": "f.h5: 'bytes' must be [T, D] or [D] of numbers, found |S3 []",
        "number": "f.h5: 'number' must be [T, D] or [D] of numbers, found float64 []",
        "nothing": "f.h5: 'nothing' has shape [0, 0], nothing in it",
        "group": "f.h5: 'group' has shape [0, 0], nothing in it",
    }


def test_one_number_is_not_one_row_each(tmp_path):
    np.savez(tmp_path / "f.npz", clip=np.array(["a"]), units=1.5)
    with pytest.raises(ArchiveError, match=r"key 'clip' has shape \[1\] where 'units' has \[\]; one name per row"):
        FeatureFile(tmp_path / "f.npz", "clip", "units").read(["a"])


def test_frames_is_no_option_of_a_command_line():
    with pytest.raises(ArchiveError, match=r"--audio: has an option that is unknown; write features:FILE,key=NAME"):
        sources.make_source(sources.parse_spec("--audio", "features:f.csv,frames=1"))


def test_a_path_may_have_commas():
    values = sources.parse_spec("--audio", "features:set 1, old,raw.npz,key=clip,values=units").values
    assert values == {"path": Path("set 1, old,raw.npz"), "key": "clip", "values": "units"}
