"""A corpus as device arrays: padding, shorter sequences, the rows of a batch."""

import dataclasses

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.batching import take
from cmarr_jax.data.device import modality_configs, shorten, to_device

ROWS = jnp.array([3, 0, 7, 18, 40, 21, 5])  # row 18 lacks audio, 3 video, 21 text
ALL = jnp.ones(7, bool)


def frames_of(corpus, name, rows):
    """Frames (or vectors) of these rows where the modality is present, `[n, D]`, float64, by numpy."""
    column = corpus.modalities.index(name)
    length = corpus.length.get(name, np.ones(len(corpus), int))
    ends = np.cumsum(length)
    parts = [corpus.features[name][ends[row] - length[row] : ends[row]] for row in rows if corpus.present[row, column]]
    return np.concatenate(parts).astype(np.float64)


def poisoned(corpus):
    """The same corpus with NaN in the entries of absent modalities."""
    features = {}
    for column, name in enumerate(corpus.modalities):
        features[name] = corpus.features[name].copy()
        features[name][np.repeat(~corpus.present[:, column], corpus.length.get(name, 1))] = np.nan
    return dataclasses.replace(corpus, features=features)


def test_the_corpus_of_the_tests_lacks_every_modality_somewhere():
    present = make_corpus(absent=0.4).present
    assert (~present[np.asarray(ROWS)]).any(axis=0).all()
    assert present.any(axis=1).all()


def test_take_gives_the_rows():
    corpus = make_corpus(sequences=("audio",), absent=0.4)
    batch = take(to_device(corpus), ROWS, ALL.at[0].set(False))
    rows = np.asarray(ROWS)
    np.testing.assert_array_equal(batch.label, corpus.label[rows])
    np.testing.assert_array_equal(batch.present, corpus.present[rows])
    np.testing.assert_array_equal(batch.where, [False] + [True] * 6)
    np.testing.assert_array_equal(batch.features["text"], corpus.features["text"][rows])
    np.testing.assert_array_equal(batch.length["audio"], corpus.length["audio"][rows])
    assert list(batch.length) == ["audio"]
    chex.assert_type([*batch.features.values(), batch.label], [jnp.float32] * 3 + [jnp.int32])


def test_padding_is_zeros_after_the_length():
    corpus = make_corpus()
    data = to_device(corpus)
    assert data.features["audio"].shape == (48, corpus.length["audio"].max(), 5)
    for row in range(48):
        frames = int(corpus.length["audio"][row])
        np.testing.assert_array_equal(data.features["audio"][row, :frames], frames_of(corpus, "audio", [row]))
        assert not data.features["audio"][row, frames:].any()


def one_sequence(length, max_frames):
    corpus = make_corpus(sequences=("audio",), per_speaker=4, sessions=1)
    frames = np.arange(8 * length, dtype=np.float16)[:, None] ** 2
    corpus = dataclasses.replace(
        corpus,
        features={"audio": frames, "text": corpus.features["text"]},
        length={"audio": np.full(8, length, np.int32)},
        present=corpus.present[:, :2],
    )
    return to_device(corpus, max_frames=max_frames)


def test_longer_sequences_are_averaged_by_hand():
    # Five frames 0 1 4 9 16 in two: the first two and the last three, as floor(i * 5 / 2) = 0, 2 says.
    data = one_sequence(5, max_frames=2)
    np.testing.assert_allclose(data.features["audio"][0, :, 0], [0.5, 29 / 3], rtol=1e-6)
    np.testing.assert_array_equal(data.length["audio"], 2)
    chex.assert_type(data.features["audio"], jnp.float32)


@pytest.mark.parametrize("max_frames", [None, 5, 50])
def test_sequences_that_fit_stay_as_they_are(max_frames):
    data = one_sequence(5, max_frames)
    np.testing.assert_array_equal(data.features["audio"][0, :, 0], [0, 1, 4, 9, 16])
    np.testing.assert_array_equal(data.length["audio"], 5)


@pytest.mark.parametrize("max_frames", [0, -1])
def test_max_frames_is_at_least_one(max_frames):
    message = f"max_frames must be a whole number of at least 1, a frame for every utterance; found {max_frames}"
    with pytest.raises(ValueError, match=message):
        one_sequence(5, max_frames)
    with pytest.raises(ValueError, match=message):  # also where no modality is a sequence
        to_device(make_corpus(sequences=()), max_frames=max_frames)
    with pytest.raises(ValueError, match=message):
        shorten(np.ones((5, 2)), max_frames)


def test_an_absent_sequence_may_be_empty():
    data = one_sequence(0, max_frames=3)
    assert data.features["audio"].shape == (8, 1, 1)
    assert not data.features["audio"].any()


def test_encoders_by_name_and_kind():
    configs = modality_configs(make_corpus(sequences=("audio", "text")))
    assert [(c.name, c.width, c.encoder) for c in configs] == [
        ("audio", 5, "lstm"),
        ("video", 3, "vector"),
        ("text", 6, "conv"),
    ]
