"""The feature archive: lossless round trip, and what is written and read."""

import dataclasses
import os
import re

import numpy as np
import pytest
from archives import assert_equal, make_arrays, read_from

from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, check_corpus


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("split", [None, np.array(["train", "val", "test"] * 2)])
def test_round_trip_is_bit_exact(tmp_path, dtype, compressed, split):
    arrays = make_arrays(dtype)
    tiny = np.finfo(dtype).smallest_subnormal
    arrays["audio"][0] = [-0.0, tiny, min(1e18, float(np.finfo(dtype).max))]
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


@pytest.mark.parametrize("dtype", [np.int8, np.int64])
def test_unlabelled_utterances_are_kept(tmp_path, dtype):
    corpus = read_from(tmp_path, make_arrays() | {"label": np.array([0, -1, 1, -1, 2, -1], dtype)})
    write_archive(tmp_path / "b.npz", corpus)
    again = read_archive(tmp_path / "b.npz")
    assert_equal(corpus, again)
    assert again.label.tolist() == [0, -1, 1, -1, 2, -1]
    assert again.labelled.tolist() == [True, False] * 3


def test_presence_is_optional(tmp_path):
    arrays = make_arrays()
    del arrays["text_present"]
    assert read_from(tmp_path, arrays).present[:, 1].all()


def test_equal_corpora_give_equal_bytes(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    by_columns = {name: np.asfortranarray(features) for name, features in corpus.features.items()}
    wide = {name: getattr(corpus, name).astype("U40") for name in ("utterance_id", "speaker", "session")}
    write_archive(tmp_path / "b.npz", corpus)
    write_archive(tmp_path / "c.npz", dataclasses.replace(corpus, features=by_columns, **wide))
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


def test_check_corpus_names_the_corpus(tmp_path):
    corpus = read_from(tmp_path, make_arrays())
    check_corpus(corpus)
    with pytest.raises(ArchiveError, match=re.escape("corpus: key 'present': must be bool [6, 2], found bool [6, 1]")):
        check_corpus(dataclasses.replace(corpus, present=corpus.present[:, :1]))
    with pytest.raises(ArchiveError, match="corpus: key 'video_length': there is no modality 'video'"):
        check_corpus(dataclasses.replace(corpus, length=corpus.length | {"video": corpus.length["audio"]}))
