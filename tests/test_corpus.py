"""The feature archive: lossless round trip, one clear sentence for every fault, never another exception."""

import dataclasses
import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cmarr_jax.data import archive as archive_lib
from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus, check_corpus
from cmarr_jax.data.names import as_file_name

LENGTH = [3, 1, 2, 0, 4, 2]


def make_arrays(dtype=np.float32):
    """Six utterances of three speakers: `audio` as frames (absent in row 3), `text` as vectors (absent in row 1)."""
    rng = np.random.default_rng(0)
    return {
        "utterance_id": np.array([f"u{row}" for row in range(6)]),
        "speaker": np.array(["ann", "ann", "bob", "bob", "cy", "cy"]),
        "session": np.array(["s1", "s1", "s1", "s1", "s2", "s2"]),
        "label": np.array([0, 1, 0, 1, 2, 2]),
        "class_names": np.array(["angry", "happy", "sad"]),
        "modalities": np.array(["audio", "text"]),
        "audio": rng.normal(size=(12, 3)).astype(dtype),
        "audio_length": np.array(LENGTH),
        "audio_present": np.array([True, True, True, False, True, True]),
        "text": rng.normal(size=(6, 4)).astype(dtype),
        "text_present": np.array([True, False, True, True, True, True]),
    }


def read_from(tmp_path, arrays) -> Corpus:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    return read_archive(path)


def assert_equal(a: Corpus, b: Corpus) -> None:
    for field in ("utterance_id", "speaker", "session", "label", "present"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert a.class_names == b.class_names
    assert a.modalities == b.modalities
    assert list(a.length) == list(b.length)
    for name in a.modalities:
        assert a.features[name].dtype == b.features[name].dtype
        assert a.features[name].tobytes() == b.features[name].tobytes()
    for name in a.length:
        np.testing.assert_array_equal(a.length[name], b.length[name])
    np.testing.assert_equal(a.split, b.split)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("split", [None, np.array(["train", "val", "test"] * 2)])
def test_round_trip_is_bit_exact(tmp_path, dtype, compressed, split):
    arrays = make_arrays(dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    arrays["audio"][0] = [-0.0, tiny, np.finfo(dtype).max]
    corpus = read_from(tmp_path, arrays if split is None else arrays | {"split": split})
    write_archive(tmp_path / "b.npz", corpus, compressed=compressed)
    again = read_archive(tmp_path / "b.npz")
    assert_equal(corpus, again)
    assert again.features["audio"].tobytes() == arrays["audio"].tobytes()


def test_corpus_properties_and_dtypes(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    assert len(corpus) == 6
    assert corpus.modalities == ("audio", "text")
    assert corpus.num_classes == 3
    assert corpus.widths == {"audio": 3, "text": 4}
    assert corpus.label.dtype == np.int32
    assert list(corpus.length) == ["audio"]
    assert corpus.length["audio"].dtype == np.int32
    assert corpus.split is None
    np.testing.assert_array_equal(corpus.present[[0, 1, 3]], [[True, True], [True, False], [False, True]])


def test_absent_values_may_be_nan_and_are_read_as_zeros(tmp_path):
    arrays = make_arrays()
    arrays["text"][1] = np.nan
    arrays["audio_length"] = np.array([3, 1, 2, 1, 3, 2])  # row 3 is absent and has one frame, frame 6
    arrays["audio"][6] = np.inf
    corpus = read_from(tmp_path, arrays)
    np.testing.assert_array_equal(corpus.features["text"][1], 0)
    np.testing.assert_array_equal(corpus.features["audio"][6], 0)
    rest = np.delete(corpus.features["audio"], 6, axis=0)
    np.testing.assert_array_equal(rest, np.delete(arrays["audio"], 6, axis=0))


def test_writing_blanks_absent_values_and_leaves_the_corpus_alone(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    corpus.features["text"][1] = np.nan
    write_archive(tmp_path / "b.npz", corpus)
    assert np.isnan(corpus.features["text"][1]).all()
    with np.load(tmp_path / "b.npz", allow_pickle=False) as written:
        np.testing.assert_array_equal(written["text"][1], 0)


def test_presence_is_optional(tmp_path):
    arrays = make_arrays()
    del arrays["text_present"]
    assert read_from(tmp_path, arrays).present[:, 1].all()


def test_equal_corpora_give_equal_bytes(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    for name in ("b.npz", "c.npz"):
        write_archive(tmp_path / name, corpus)
    assert sha256(tmp_path / "b.npz") == sha256(tmp_path / "c.npz")
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_writing_is_atomic(tmp_path, monkeypatch):
    corpus = read_from(tmp_path, make_arrays())
    before = (tmp_path / "a.npz").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    with pytest.raises(ArchiveError, match=r"a\.npz: cannot be written \(No space left on device\)"):
        write_archive(tmp_path / "a.npz", corpus)
    assert os.listdir(tmp_path) == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == before


def test_a_faulty_corpus_is_not_written(tmp_path):
    corpus = dataclasses.replace(read_from(tmp_path, make_arrays()), label=np.array([0, 1, 0, 1, 2, 7]))
    with pytest.raises(ArchiveError, match=r"b\.npz: key 'label', row 5 \(utterance 'u5'\): 7 is not an index"):
        write_archive(tmp_path / "b.npz", corpus)
    assert os.listdir(tmp_path) == ["a.npz"]


def with_entry(array, row, value):
    array = array.copy()
    array[row] = value
    return array


def text_with(array, row, value):
    return with_entry(array.astype("<U9"), row, value)


ARRAYS = make_arrays()
WIDE = np.ones((6, 4))
FAULTS = {
    # keys
    "missing key": ({"speaker": None}, "key 'speaker': is missing; write the archive with"),
    "missing modalities": ({"modalities": None}, "key 'modalities': is missing"),
    "missing modality": ({"text": None}, "key 'text': is missing though modalities names it; add it"),
    "typo in a key": (
        {"audio_lenght": ARRAYS["audio_length"]},
        "key 'audio_lenght': is not a key of the format with modalities ['audio', 'text']; correct or remove it",
    ),
    # text
    "objects": (
        {"speaker": np.array([*"abcdef"], dtype=object)},
        "key 'speaker': holds Python objects, which are never unpickled; convert it to text or numbers",
    ),
    "object features": ({"text": np.full((6, 4), None)}, "key 'text': holds Python objects, which are never unpickled"),
    "bytes": (
        {"utterance_id": ARRAYS["utterance_id"].astype(bytes)},
        "key 'utterance_id': must be text (dtype U), found |S2; convert it with .astype(str)",
    ),
    "integer speakers": ({"speaker": np.arange(6)}, "key 'speaker': must be text (dtype U), found int64; convert it"),
    "bytes class names": ({"class_names": np.array([b"a", b"b", b"c"])}, "key 'class_names': must be text"),
    "text of rank 2": ({"session": np.full((6, 1), "s")}, "key 'session': must be one-dimensional and not empty"),
    "no utterance": (
        {"utterance_id": np.array([], str)},
        "key 'utterance_id': must be one-dimensional and not empty, found shape (0,)",
    ),
    "duplicate id": (
        {"utterance_id": text_with(ARRAYS["utterance_id"], 4, "u1")},
        "key 'utterance_id', row 4: 'u1' is already in row 1; every entry must be given once",
    ),
    "empty id": (
        {"utterance_id": text_with(ARRAYS["utterance_id"], 2, "")},
        "key 'utterance_id', row 2: is an empty string; give every entry a name",
    ),
    "blank speaker": ({"speaker": text_with(ARRAYS["speaker"], 5, "  ")}, "key 'speaker', row 5: is an empty string"),
    "too few speakers": (
        {"speaker": ARRAYS["speaker"][:5]},
        "key 'speaker': must have one entry per utterance_id, 6, found shape (5,)",
    ),
    "single speaker": (
        {"speaker": np.full(6, "ann")},
        "key 'speaker': all utterances are of one speaker, 'ann'; give the speakers, or a split",
    ),
    # labels and classes
    "label too large": (
        {"label": np.array([0, 1, 3, 1, 2, 2])},
        "key 'label', row 2 (utterance 'u2'): 3 is not an index into the 3 class_names (0 to 2); correct it",
    ),
    "negative label": ({"label": np.array([0, 1, 2, -1, 2, 2])}, "key 'label', row 3 (utterance 'u3'): -1 is not an"),
    "huge label": ({"label": np.array([0, 1, 2, 2, 2, 2**64 - 1], np.uint64)}, "18446744073709551615 is not an index"),
    "float label": (
        {"label": np.array([0.0, 1, 0, 1, 2, 2])},
        "key 'label': must be integers, found float64; give the",
    ),
    "bool label": ({"label": np.array([True, False] * 3)}, "key 'label': must be integers, found bool"),
    "too many labels": ({"label": np.zeros(7, int)}, "key 'label': must have one entry per utterance_id, 6"),
    "label of rank 0": ({"label": np.array(1)}, "key 'label': must have one entry per utterance_id, 6, found shape ()"),
    "single class": (
        {"class_names": np.array(["angry"]), "label": np.zeros(6, int)},
        "key 'class_names': at least two classes are needed, found ['angry']",
    ),
    "class without utterance": (
        {"label": np.array([0, 0, 0, 0, 2, 2])},
        "key 'label': no utterance has class 'happy' (label 1); take it out of class_names and renumber the labels",
    ),
    "class twice": (
        {"class_names": np.array(["angry", "sad", "sad"])},
        "key 'class_names', row 2: 'sad' is already in row 1",
    ),
    # modalities
    "one modality": (
        {"modalities": np.array(["audio"]), "text": None, "text_present": None},
        "key 'modalities': at least two modalities are needed, found ['audio']",
    ),
    "modality twice": (
        {"modalities": np.array(["audio", "text", "text"])},
        "key 'modalities', row 2: 'text' is already in row 1",
    ),
    "modality with a dash": (
        {"modalities": np.array(["audio", "text-x"])},
        "key 'modalities', row 1: 'text-x' cannot name a modality; use letters, digits and underscores",
    ),
    "modality named as a key": ({"modalities": np.array(["audio", "label"])}, "row 1: 'label' cannot name a modality"),
    "modality with a suffix": (
        {"modalities": np.array(["audio", "audio_length"])},
        "key 'modalities', row 1: 'audio_length' cannot name a modality",
    ),
    # features
    "float64": ({"text": WIDE}, "key 'text': must be float16 or float32, found float64; convert it with .astype"),
    "integers": ({"text": WIDE.astype(int)}, "key 'text': must be float16 or float32, found int64; convert it with"),
    "other byte order": ({"text": WIDE.astype(">f4")}, "key 'text': must be float16 or float32, found >f4; convert it"),
    "rank 1": ({"text": np.ones(6, np.float32)}, "key 'text': must be [N, D], or [sum of T, D] with text_length, D >="),
    "rank 3": ({"text": np.ones((6, 2, 2), np.float32)}, "key 'text': must be [N, D], or [sum of T, D]"),
    "width 0": ({"text": np.ones((6, 0), np.float32)}, "D >= 1, found shape (6, 0)"),
    "too few rows": (
        {"text": ARRAYS["text"][:5]},
        "key 'text': has 5 rows for 6 utterances; give one row per utterance, or frames with text_length",
    ),
    "frames without lengths": ({"audio_length": None}, "key 'audio': has 12 rows for 6 utterances; give one row per"),
    "nan in a frame": (
        {"audio": with_entry(ARRAYS["audio"], (7, 2), np.nan)},  # by hand: rows 0 to 4 start at 0, 3, 4, 6, 6
        "key 'audio', row 4 (utterance 'u4'): frame 1, column 2 is nan in an entry that is present; correct it or set "
        "audio_present False",
    ),
    "nan in the first frame": (
        {"audio": with_entry(ARRAYS["audio"], (3, 0), np.nan)},
        "key 'audio', row 1 (utterance 'u1'): frame 0, column 0 is nan",
    ),
    "inf in a vector": (
        {"text": with_entry(ARRAYS["text"], (5, 1), -np.inf)},
        "key 'text', row 5 (utterance 'u5'): column 1 is -inf in an entry that is present",
    ),
    # lengths and presence
    "lengths too short": (
        {"audio_length": np.array([3, 1, 2, 0, 4, 1])},
        "key 'audio_length': the lengths add up to 11, but 'audio' has 12 rows; write both from the same utterances",
    ),
    "negative length": (
        {"audio_length": np.array([3, 1, -2, 0, 4, 6])},
        "key 'audio_length', row 2 (utterance 'u2'): -2 is negative; give the number of frames",
    ),
    "length larger than all": (
        {"audio_length": np.array([2**62, 2**62, 2**62, 2**62, 12, 0])},
        "key 'audio_length', row 0 (utterance 'u0'): 4611686018427387904 is more than the 12 rows of 'audio'",
    ),
    "length 0 but present": (
        {"audio_length": np.array([3, 0, 3, 0, 4, 2])},
        "key 'audio_length', row 1 (utterance 'u1'): 0 frames, but 'audio' is present; set audio_present False there",
    ),
    "float lengths": ({"audio_length": np.array(LENGTH, float)}, "key 'audio_length': must be integers, found float64"),
    "too few lengths": ({"audio_length": np.array(LENGTH[:5])}, "key 'audio_length': must have one entry per"),
    "presence as integers": (
        {"text_present": np.ones(6, int)},
        "key 'text_present': must be bool with one entry per utterance_id, 6, found int64 [6]",
    ),
    "presence too short": ({"text_present": np.ones(5, bool)}, "key 'text_present': must be bool with one entry per"),
    "nothing present": (
        {"text_present": np.array([True, True, True, False, True, True])},
        "key 'utterance_id', row 3 (utterance 'u3'): no modality is present; leave the utterance out",
    ),
    "modality never present": (
        {"text_present": np.zeros(6, bool), "audio_present": None, "audio_length": np.array([3, 1, 1, 1, 4, 2])},
        "key 'text_present': no utterance has 'text'; take it out of modalities",
    ),
    # split
    "unknown part": (
        {"split": np.array(["train", "val", "test", "dev", "train", "train"])},
        "key 'split', row 3 (utterance 'u3'): 'dev' must be one of train, val and test; correct it",
    ),
    "no validation part": (
        {"split": np.array(["train", "test"] * 3)},
        "key 'split': no utterance is in 'val'; fill all of train, val and test, or leave split out to get folds",
    ),
    "split too short": ({"split": np.array(["train", "val", "test"])}, "key 'split': must have one entry per"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_gives_one_sentence(tmp_path, name):
    change, phrase = FAULTS[name]
    arrays = {key: array for key, array in (make_arrays() | change).items() if array is not None}
    with pytest.raises(ArchiveError, match=re.escape(phrase)) as caught:
        read_from(tmp_path, arrays)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'a.npz'}: key ")
    assert "\n" not in message
    assert not re.search(r"\. ", message), "more than one sentence"


def test_single_speaker_is_allowed_with_a_split(tmp_path):
    arrays = make_arrays() | {"speaker": np.full(6, "ann"), "split": np.array(["train", "val", "test"] * 2)}
    assert len(read_from(tmp_path, arrays)) == 6


def test_nan_is_found_in_any_block(tmp_path, monkeypatch):
    monkeypatch.setattr("cmarr_jax.data.corpus._BLOCK", 7)  # three frames of width 3 at a time
    for frame, row in enumerate(np.repeat(np.arange(6), LENGTH)):
        arrays = make_arrays() | {"audio": with_entry(ARRAYS["audio"], (frame, 1), np.nan)}
        with pytest.raises(ArchiveError, match=rf"key 'audio', row {row} .* column 1 is nan"):
            read_from(tmp_path, arrays)


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("empty.npz", b"", "empty.npz: is an empty file; write the archive again"),
        ("text.npz", b"id,label\n", "text.npz: is not an .npz archive; write it with"),
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


def test_check_corpus_names_the_corpus(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    check_corpus(corpus)
    with pytest.raises(ArchiveError, match=re.escape("corpus: key 'present': must be bool [6, 2], found bool [6, 1]")):
        check_corpus(dataclasses.replace(corpus, present=corpus.present[:, :1]))
    with pytest.raises(ArchiveError, match="corpus: key 'video_length': there is no modality 'video'"):
        check_corpus(dataclasses.replace(corpus, length=corpus.length | {"video": corpus.length["audio"]}))


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
