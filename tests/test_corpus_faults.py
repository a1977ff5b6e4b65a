"""Archives with faulty arrays: one clear sentence for every fault."""

import dataclasses
import re

import numpy as np
import pytest
from archives import LENGTH, make_arrays, read_from

from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.corpus import ArchiveError


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
    "negative label": (
        {"label": np.array([0, 1, 2, -2, 2, 2])},
        "key 'label', row 3 (utterance 'u3'): -2 is not an index into the 3 class_names (0 to 2); correct it, or write "
        "-1 if nobody has labelled the utterance",
    ),
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
    "class with unlabelled utterances only": (
        {"label": np.array([0, -1, 0, -1, 2, 2])},
        "key 'label': no utterance has class 'happy' (label 1); take it out of class_names and renumber the labels",
    ),
    "nothing labelled": (
        {"label": np.full(6, -1)},
        "key 'label': no utterance is labelled, all are -1; label some utterances of every class",
    ),
    "single labelled speaker": (
        {"label": np.array([0, 1, -1, -1, -1, -1]), "class_names": np.array(["angry", "happy"])},
        "key 'speaker': all labelled utterances are of one speaker, 'ann'; give the speakers, or a split",
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
    "too large for a variance": (
        {"text": with_entry(ARRAYS["text"], (2, 3), 1e30)},
        "key 'text', row 2 (utterance 'u2'): column 3 is 1.0000000150474662e+30, beyond 1e+18, in an entry",
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
    "no labelled validation part": (
        {"split": np.array(["train", "test", "train", "val"] + ["train"] * 2), "label": np.array([0, 1, 0, -1, 2, 2])},
        "key 'split': no labelled utterance is in 'val'; fill all of train, val and test, or leave split out",
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
    ("field", "value", "sentence"),
    [
        ("speaker", ["a"], "key 'speaker': must be a NumPy array, found list; use numpy.asarray"),
        ("label", (0, 1), "key 'label': must be a NumPy array, found tuple; use numpy.asarray"),
        ("present", [[True]], "key 'present': must be a NumPy array, found list; use numpy.asarray"),
        ("split", ["train"], "key 'split': must be a NumPy array, found list; use numpy.asarray"),
        ("features", {"audio": [[1.0]], "text": [[1.0]]}, "key 'audio': must be a NumPy array, found list; use num"),
        ("length", {"audio": [1]}, "key 'audio_length': must be a NumPy array, found list; use numpy.asarray"),
        ("label", np.ma.array([0, 1, 0, 1, 2, 2]), "key 'label': must be a NumPy array, found MaskedArray; fill it"),
        ("length", None, "key 'length': must be a dict by modality, found NoneType"),
        ("features", [1.0], "key 'features': must be a dict by modality, found list"),
    ],
)
def test_other_types_than_arrays_are_refused(tmp_path, field, value, sentence):
    np.savez(tmp_path / "a.npz", **make_arrays())
    corpus = dataclasses.replace(read_archive(tmp_path / "a.npz"), **{field: value})
    with pytest.raises(ArchiveError, match=re.escape(sentence)):
        write_archive(tmp_path / "b.npz", corpus)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        (
            "speaker",
            np.array([*"abcde", "Fr\udcfchling"]),
            "key 'speaker', row 5: holds a character that is not Unicode",
        ),
        ("target", 1e9 + np.arange(6.0), "key 'target': is 1000000000.0 for every labelled utterance"),  # in float32
    ],
)
def test_what_cannot_be_read_again_is_not_written(tmp_path, field, value, sentence):
    corpus = dataclasses.replace(read_from(tmp_path, make_arrays()), **{field: value})
    with pytest.raises(ArchiveError, match=re.escape(sentence)):
        write_archive(tmp_path / "b.npz", corpus)
