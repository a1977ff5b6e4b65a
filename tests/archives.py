"""The arrays of a small archive that has every kind of entry, and how the tests read and compare it."""

import numpy as np

from cmarr_jax.data.archive import read_archive
from cmarr_jax.data.corpus import Corpus

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
