"""Pickles of arrays are read as `pickle.load` reads them; whatever could run code or exhaust memory is refused."""

import contextlib
import copyreg
import io
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep.restricted_pickle import read_pickle

DATA = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),  # neither C nor Fortran order
    "big": np.arange(3, dtype=">i4"),
    "strided": np.arange(10)[::2],
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 5), np.float32),
    "zero_dim": np.array(7),
    "text": np.array(["a", "\u00fcber"]),
    "bytes": np.array([b"x", b"yz"]),
    "objects": np.array(["one", None, 2.5], object),
    "scalar": np.float64(1.5),
    "text_scalar": np.str_("word"),
    "list": [1, -2, 3.5, None, True, 2**70, b"", b"\xff\x00", "\u20ac", ("a", 1), [], {}],
    "same": [np.arange(3)] * 2,
}


def dumped(value, protocol, spelling="numpy._core"):
    data = pickle.dumps(value, protocol)
    old = b"numpy._core"
    if spelling != "numpy._core":  # as numpy 1 wrote it: the length before the name changes in protocol 4 and 5
        for module in (b"multiarray", b"numeric"):
            new = spelling.encode() + b"." + module
            now = old + b"." + module
            data = data.replace(b"\x8c" + bytes([len(now)]) + now, b"\x8c" + bytes([len(new)]) + new)
            data = data.replace(b"c" + now + b"\n", b"c" + new + b"\n")
        assert old not in data
    return data


def read(tmp_path, data):
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    return read_pickle(path)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert_same(one, two)
    else:
        np.testing.assert_array_equal(found, expected)
        assert np.asarray(found).dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("spelling", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_come_back(tmp_path, protocol, spelling):
    assert_same(read(tmp_path, dumped(DATA, protocol, spelling)), DATA)


def test_an_array_twice_stays_one(tmp_path):
    one, two = read(tmp_path, pickle.dumps([DATA["text"]] * 2))
    assert one is two


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols_of_plain_data(tmp_path, protocol):
    value = {"a": [1, 2.5, "b", None, True, 2**70], "c": (1, 2, 3, 4)}
    assert_same(read(tmp_path, pickle.dumps(value, protocol)), value)


def test_python_2(tmp_path):
    # by hand: what Python 2 writes for numpy.array([1.0, -2.0]) with protocol 2 has its bytes as a str
    values = struct.pack("<2d", 1, -2)
    data = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85U\x01b\x87Rq\x02"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87Rq\x03(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x10" + values + b"tb."
    )
    np.testing.assert_array_equal(read(tmp_path, data), [1.0, -2.0])


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "id" if value == "secret" else None


def persistent(protocol):
    file = io.BytesIO()
    Persistent(file, protocol).dump(["secret"])
    return file.getvalue()


def registered():
    copyreg.add_extension("builtins", "complex", 250)
    try:
        return pickle.dumps(complex, 2)
    finally:
        copyreg.remove_extension("builtins", "complex", 250)


HOSTILE = {
    "system": (pickle.dumps(Runs(os.system, "touch here")), "names posix.system, which is code"),
    "eval": (pickle.dumps(Runs(eval, "1")), "names builtins.eval"),
    "eval of Python 2": (b"c__builtin__\neval\n(S'1'\ntR.", "names __builtin__.eval"),
    "attribute of an allowed module": (pickle.dumps(Runs(np.load, "x.npy", None, True)), "names numpy.load"),
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.tofile__\x93.", "names numpy.ndarray.tofile__"),
    "nested": (pickle.dumps([{"a": (Runs(os.system, "touch here"),)}]), "names posix.system"),
    "class": (pickle.dumps(ValueError("x")), "names builtins.ValueError"),
    "many lines": (b"\x80\x04\x8c\x04a\nbb\x8c\x01c\x93.", "names a\\nbb.c"),
    "instance": (b"(ios\nsystem\n.", "instruction INST"),
    "new object": (pickle.dumps(Runs(copyreg.__newobj__, Runs)), "names"),
    "set": (pickle.dumps({1}), "instruction EMPTY_SET"),
    "persistent id 0": (persistent(0), "instruction PERSID"),
    "persistent id 4": (persistent(4), "instruction BINPERSID"),
    "extension": (registered(), "instruction EXT1"),
    "out of band": (pickle.dumps(np.arange(3), 5, buffer_callback=[].append), "instruction NEXT_BUFFER"),
    "objects": (pickle.dumps(np.array([{}, []], object)), "has an array of dict"),
    "arrays in an array": (pickle.dumps(np.array([np.ones(2), np.ones(3)], object)), "has an array of ndarray"),
    "records": (pickle.dumps(np.zeros(2, "i4,f4")), "has an array of dtype 'V8'"),
    "dates": (pickle.dumps(np.zeros(2, "M8[s]")), "has an array of dtype 'M8'"),
    "masked": (pickle.dumps(np.ma.ones(2)), "names numpy.ma"),
    "codec": (pickle.dumps(Runs(__import__("_codecs").encode, "x", "rot13")), "asks for the encoding 'rot13'"),
    "key": (pickle.dumps({(1, 2): 3}), "has a tuple as key of a dict"),
    "key that has no hash": (b"}]Ns.", "has a list as key of a dict"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    data, phrase = HOSTILE[case]
    with pytest.raises(ArchiveError) as error:
        read(tmp_path, data)
    assert "x.pkl: is refused, since it " in str(error.value)
    assert phrase in str(error.value)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]  # nothing ran


def array_of(shape, data, dtype="f8"):
    """A pickle of an array that claims a shape."""
    head = pickle.dumps(np.dtype(dtype), 4)[2:-1]
    head = head[9:] if head[:1] == b"\x95" else head
    shape = pickle.dumps(shape, 2)[2:-1]
    return (
        b"\x80\x04\x8c\x13numpy._core.numeric\x8c\x0b_frombuffer\x93("
        + b"B"
        + struct.pack("<I", len(data))
        + data
        + head
        + shape
        + b"\x8c\x01CtR."
    )


def test_array_of_is_right(tmp_path):
    np.testing.assert_array_equal(read(tmp_path, array_of((2,), struct.pack("<2d", 1, 2))), [1, 2])
    np.testing.assert_array_equal(read(tmp_path, UNFINISHED + STATE + b"b."), np.int8([7]))


UNFINISHED = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
INT8 = b"cnumpy\ndtype\n\x8c\x02i1\x85R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
STATE = b"(K\x01K\x01\x85" + INT8 + b"\x89C\x01\x07t"

DAMAGED = {
    "empty": b"",
    "text": b"hello world\n",
    "csv": b"a,b\n1,2\n",
    "zip": b"PK\x03\x04" + bytes(40),
    "stop only": b".",
    "two values": b"NN.",
    "mark left": b"(.",
    "tuple with a mark": b"(\x85.",
    "no memo": b"h\x05.",
    "append to a dict": b"}Na.",
    "reduce of text": b"\x8c\x01a)R.",
    "array is not made": b"cnumpy\nndarray\n)R.",
    "array without values": UNFINISHED + b".",
    "array with values twice": UNFINISHED + STATE + b"b" + STATE + b"b.",
    "copy of an array with values": UNFINISHED + b"2" + STATE + b"b0" + STATE + b"b.",
    "shape bomb": array_of((10**6, 10**6), bytes(8)),
    "shape beyond 64 bits": array_of((2**62, 4), b""),
    "negative shape": array_of((-1,), bytes(8)),
    "shape of text": array_of(("1",), bytes(8)),
    "bytes left over": array_of((1,), bytes(9)),
    "array of nothing": array_of((10**9,), b"", dtype="S0"),
    "too many axes": array_of((1,) * 70, bytes(8)),
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "huge frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"h",
    "huge integer": b"\x8b" + struct.pack("<i", 2**31 - 1) + b"1.",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged(tmp_path, case):
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match=r"x.pkl: is damaged or no pickle; download it again$"):
            read(tmp_path, DAMAGED[case])
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_truncated_anywhere(tmp_path, protocol):
    data = pickle.dumps({key: DATA[key] for key in ("float32", "text", "list", "scalar")}, protocol)
    for end in range(len(data)):
        with pytest.raises(ArchiveError, match=r"is damaged or no pickle|is refused"):
            read(tmp_path, data[:end])


def test_changed_bytes(tmp_path):
    rng = np.random.default_rng(0)
    for protocol in (2, 3, 4, 5) * 100:
        data = bytearray(pickle.dumps(DATA, protocol))
        for position in rng.integers(len(data), size=2):
            data[position] = rng.integers(256)
        with contextlib.suppress(ArchiveError):  # no other error
            read(tmp_path, data)


def test_one_text_encoded_many_times(tmp_path):
    call = b"c_codecs\nencode\nh\x00\x8c\x06latin1\x86R0"
    data = b"\x80\x04X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x00" + call * 5000 + b"."
    with pytest.raises(ArchiveError, match="unpacks to many times its size"):
        read(tmp_path, data)


def test_one_text_made_many_times_from_the_same_bytes(tmp_path):
    """Scalars of text, each as large as the bytes in the memo."""
    text = "a".encode("utf-32-le") * 25_000
    head = b"\x80\x04B" + struct.pack("<I", len(text)) + text + b"q\x000"
    state = b"R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = b"cnumpy\ndtype\n\x8c\x06U25000\x85" + state + b"q\x010cnumpy.core.multiarray\nscalar\nq\x020"
    call = b"h\x02h\x01h\x00\x86R"
    assert len(read(tmp_path, head + dtype + b"](" + call + b"e.")) == 1
    with pytest.raises(ArchiveError, match="unpacks to many times its size"):
        read(tmp_path, head + dtype + b"](" + call * 100 + b"e.")


def test_a_large_memo_index_takes_no_memory(tmp_path):
    tracemalloc.start()
    assert read(tmp_path, b"\x80\x04Nr\xff\xff\xff\xff.") is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_deep_nesting(tmp_path):
    assert len(read(tmp_path, b"]" + b"]" * 100_000 + b"a" * 100_000 + b".")) == 1
    value = read(tmp_path, b")" + b"\x85" * 100_000 + b".")
    assert type(value) is tuple
    with pytest.raises(ArchiveError, match="has a tuple as key"):
        read(tmp_path, b"})" + b"\x85" * 100_000 + b"Ns.")


def test_unreadable(tmp_path):
    with pytest.raises(ArchiveError, match=r"no.pkl: cannot be read \(No such file or directory\); check the path"):
        read_pickle(tmp_path / "no.pkl")
    with pytest.raises(ArchiveError, match="Is a directory"):
        read_pickle(tmp_path)
