"""Data in device memory: padding, shorter sequences, batches, and a normaliser that reads its own rows only."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.folds import FoldSplit, stack_folds
from cmarr_jax.input import fit_normalizer, modality_configs, normalize, take, to_data

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


@pytest.mark.parametrize("transform", [lambda f, **_: f, jax.jit], ids=["eager", "jit"])
def test_modalities_keep_their_order(transform):
    # JAX sorts the keys of a dict, and `text` comes before `video`: columns of `present` would be another modality's.
    corpus = make_corpus()
    data = to_data(corpus)
    assert tuple(data.features) == corpus.modalities == ("audio", "video", "text")
    assert tuple(jax.tree.map(lambda x: x, data).features) == corpus.modalities
    batch = transform(lambda rows: normalize(fit_normalizer(data, rows, ALL), take(data, rows, ALL)))(ROWS)
    assert tuple(batch.features) == corpus.modalities


@pytest.mark.parametrize("sequences", [("audio", "video", "text"), ("video",), ()])
@pytest.mark.parametrize("chunk", [256, 2])
def test_normalizer_equals_numpy(sequences, chunk):
    corpus = make_corpus(sequences=sequences, absent=0.4)
    fit = jax.jit(lambda data: fit_normalizer(data, ROWS, ALL, chunk=chunk))
    normalizer = fit(to_data(poisoned(corpus)))  # what absent entries hold does not matter
    for name in corpus.modalities:
        frames = frames_of(corpus, name, np.asarray(ROWS))
        np.testing.assert_allclose(normalizer.mean[name], frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(1 / normalizer.inverse_std[name], frames.std(0), rtol=1e-4)


def test_normalizer_of_large_offsets():
    # One pass in float32 would lose the spread of 1 beside a mean of 1000.
    corpus = make_corpus()
    shifted = {name: 1000 + values for name, values in corpus.features.items()}
    normalizer = fit_normalizer(to_data(dataclasses.replace(corpus, features=shifted)), ROWS, ALL)
    for name in corpus.modalities:
        frames = frames_of(corpus, name, np.asarray(ROWS))
        np.testing.assert_allclose(1 / normalizer.inverse_std[name], frames.std(0), rtol=1e-3)


def test_normalizer_reads_its_rows_only():
    corpus = make_corpus(absent=0.4)
    data = to_data(corpus)
    others = jnp.ones(len(corpus), bool).at[ROWS].set(False)
    poison = lambda x: jnp.where(others.reshape((-1,) + (1,) * (x.ndim - 1)), jnp.nan, x)
    poisoned_data = data._replace(features=jax.tree.map(poison, data.features))
    chex.assert_trees_all_equal(fit_normalizer(poisoned_data, ROWS, ALL), fit_normalizer(data, ROWS, ALL))


def test_rows_that_fill_up_a_fold_do_not_count():
    corpus = make_corpus(absent=0.4)
    data = to_data(corpus)
    short, long = np.array([3, 0, 7]), np.asarray(ROWS)
    folds = stack_folds([FoldSplit(str(len(train)), train, np.array([1]), np.array([2])) for train in (short, long)])
    assert folds.train.shape == (2, 7)
    padded = fit_normalizer(data, folds.train[0], folds.train_where[0])
    for name in corpus.modalities:
        frames = frames_of(corpus, name, short)
        np.testing.assert_allclose(padded.mean[name], frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(1 / padded.inverse_std[name], frames.std(0), rtol=1e-4)


def test_a_constant_dimension_keeps_its_scale():
    corpus = make_corpus()
    constant = corpus.features["audio"].copy()
    constant[:, 1] = 7.0
    corpus = dataclasses.replace(corpus, features={**corpus.features, "audio": constant})
    data = to_data(corpus)
    normalizer = fit_normalizer(data, ROWS, ALL)
    assert normalizer.inverse_std["audio"][1] == 1.0
    scaled = normalize(normalizer, take(data, ROWS, ALL)).features["audio"][..., 1]
    np.testing.assert_allclose(scaled, 0.0, atol=1e-5)


def test_a_modality_that_no_row_has_stays_finite():
    corpus = make_corpus()
    data = to_data(corpus)._replace(present=jnp.asarray(corpus.present).at[:, 1].set(False))
    normalizer = fit_normalizer(data, ROWS, ALL)
    chex.assert_tree_all_finite(normalizer)
    assert not normalize(normalizer, take(data, ROWS, ALL)).features["video"].any()


@pytest.mark.parametrize("sequences", [("audio", "video", "text"), ("video",)])
def test_normalized_features_and_zeros_elsewhere(sequences):
    corpus = make_corpus(sequences=sequences, absent=0.4)
    data = to_data(poisoned(corpus))
    where = ALL.at[2].set(False)
    normalizer = fit_normalizer(data, ROWS, where)
    batch = jax.jit(normalize)(normalizer, take(data, ROWS, where))
    for column, (name, values) in enumerate(batch.features.items()):
        for place, row in enumerate(np.asarray(ROWS)):
            utterance = np.asarray(values[place])
            if place == 2 or not corpus.present[row, column]:
                assert not utterance.any()
                continue
            raw = frames_of(corpus, name, [row])
            expected = (raw - np.asarray(normalizer.mean[name])) * np.asarray(normalizer.inverse_std[name])
            utterance = utterance.reshape(-1, utterance.shape[-1])
            np.testing.assert_allclose(utterance[: len(raw)], expected, atol=1e-4)
            assert not utterance[len(raw) :].any()
    train = np.concatenate([np.asarray(batch.features["video"][place, : batch.length["video"][place]]) for place in
                            range(7) if place != 2 and batch.present[place, 1]])  # fmt: skip
    np.testing.assert_allclose(train.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1.0, atol=1e-4)


def test_take_gives_the_rows():
    corpus = make_corpus(sequences=("audio",), absent=0.4)
    batch = take(to_data(corpus), ROWS, ALL.at[0].set(False))
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
    data = to_data(corpus)
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
    return to_data(corpus, max_frames=max_frames)


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
