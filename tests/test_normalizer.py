"""Standardised features: fitted to the given rows only, the same in memory and streamed, columns in their order."""

import dataclasses
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_device import ALL, ROWS, frames_of, poisoned
from tiny import MODALITIES, make_batch, make_corpus

from cmarr_jax.data.batching import example_batch, take
from cmarr_jax.data.device import DeviceCorpus, to_device
from cmarr_jax.data.folds import FoldSplit, stack_folds
from cmarr_jax.data.normalizer import fit_normalizer, fit_normalizer_streamed, inverse_spread, normalize


@pytest.mark.parametrize("transform", [lambda f, **_: f, jax.jit], ids=["eager", "jit"])
def test_modalities_keep_their_order(transform):
    # JAX sorts the keys of a dict, and `text` comes before `video`: columns of `present` would be another modality's.
    corpus = make_corpus()
    data = to_device(corpus)
    assert tuple(data.features) == corpus.modalities == ("audio", "video", "text")
    assert tuple(jax.tree.map(lambda x: x, data).features) == corpus.modalities
    batch = transform(lambda rows: normalize(fit_normalizer(data, rows, ALL), take(data, rows, ALL)))(ROWS)
    assert tuple(batch.features) == corpus.modalities


@pytest.mark.parametrize("sequences", [("audio", "video", "text"), ("video",), ()])
@pytest.mark.parametrize("chunk", [256, 2])
def test_normalizer_equals_numpy(sequences, chunk):
    corpus = make_corpus(sequences=sequences, absent=0.4)
    fit = jax.jit(lambda data: fit_normalizer(data, ROWS, ALL, chunk=chunk))
    normalizer = fit(to_device(poisoned(corpus)))  # what absent entries hold does not matter
    for name in corpus.modalities:
        frames = frames_of(corpus, name, np.asarray(ROWS))
        np.testing.assert_allclose(normalizer.mean[name], frames.mean(0), atol=1e-5)
        np.testing.assert_allclose(1 / normalizer.inverse_std[name], frames.std(0), rtol=1e-4)


def test_normalizer_of_large_offsets():
    # One pass in float32 would lose the spread of 1 beside a mean of 1000.
    corpus = make_corpus()
    shifted = {name: 1000 + values for name, values in corpus.features.items()}
    normalizer = fit_normalizer(to_device(dataclasses.replace(corpus, features=shifted)), ROWS, ALL)
    for name in corpus.modalities:
        frames = frames_of(corpus, name, np.asarray(ROWS))
        np.testing.assert_allclose(1 / normalizer.inverse_std[name], frames.std(0), rtol=1e-3)


def test_normalizer_reads_its_rows_only():
    corpus = make_corpus(absent=0.4)
    data = to_device(corpus)
    others = jnp.ones(len(corpus), bool).at[ROWS].set(False)
    poison = lambda x: jnp.where(others.reshape((-1,) + (1,) * (x.ndim - 1)), jnp.nan, x)
    poisoned_data = data._replace(features=jax.tree.map(poison, data.features))
    chex.assert_trees_all_equal(fit_normalizer(poisoned_data, ROWS, ALL), fit_normalizer(data, ROWS, ALL))


def test_rows_that_fill_up_a_fold_do_not_count():
    corpus = make_corpus(absent=0.4)
    data = to_device(corpus)
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
    data = to_device(corpus)
    normalizer = fit_normalizer(data, ROWS, ALL)
    assert normalizer.inverse_std["audio"][1] == 1.0
    scaled = normalize(normalizer, take(data, ROWS, ALL)).features["audio"][..., 1]
    np.testing.assert_allclose(scaled, 0.0, atol=1e-5)


def test_a_modality_that_no_row_has_stays_finite():
    corpus = make_corpus()
    data = to_device(corpus)._replace(present=jnp.asarray(corpus.present).at[:, 1].set(False))
    normalizer = fit_normalizer(data, ROWS, ALL)
    chex.assert_tree_all_finite(normalizer)
    assert not normalize(normalizer, take(data, ROWS, ALL)).features["video"].any()


@pytest.mark.parametrize("sequences", [("audio", "video", "text"), ("video",)])
def test_normalized_features_and_zeros_elsewhere(sequences):
    corpus = make_corpus(sequences=sequences, absent=0.4)
    data = to_device(poisoned(corpus))
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


CONSTANTS = np.array([33.3, 123.4, 1000.1, 0.1, 0.3, 7.0, -2.7, 0.0, 1e-8, 1e5 / 3, 1e12 / 7], np.float32)
OFFSETS, SCALES = [0, 1000, 1e4, -2e4, 0, 0, 0.1], [1, 1, 1, 1, 1e-7, 1e8, 1e-4]


@pytest.fixture(scope="module")
def large():
    """20,000 utterances with a vector, and 200,000 frames: constant columns, then noise at several offsets and scales.

    float32 sums of most of these constants are rounded. Means of 33.3, 123.4 or 1000.1 are then off by one unit in the
    last place, so that their computed variance is above any absolute floor. In `audio`, a third of the frames are off
    by a unit in the last place too, as after a float32 computation; 0 becomes the smallest float32 number.
    """
    rng, num, frames = np.random.default_rng(0), 20_000, 10
    noise = rng.normal(size=(num, frames, len(SCALES))) * SCALES + OFFSETS
    values = np.concatenate([np.broadcast_to(CONSTANTS, (num, frames, len(CONSTANTS))), noise], axis=-1)
    audio = values.astype(np.float32)
    audio[..., : len(CONSTANTS)][rng.random((num, frames)) < 1 / 3] = np.nextafter(CONSTANTS, np.float32(np.inf))
    features = OrderedDict(audio=jnp.asarray(audio), text=jnp.asarray(values[:, 0], jnp.float32))
    length = {"audio": jnp.full(num, frames, jnp.int32)}
    return DeviceCorpus(features, length, jnp.ones((num, 2), bool), jnp.zeros(num, jnp.int32))


def in_memory(data, chunk=256):
    rows = jnp.arange(len(data.label))
    return jax.jit(lambda data: fit_normalizer(data, rows, rows >= 0, chunk=chunk))(data)


def streamed(data, size=500):
    rows = jnp.arange(len(data.label))
    parts = [slice(start, start + size) for start in range(0, len(rows), size)]
    return fit_normalizer_streamed(jax.device_get(take(data, rows[part], rows[part] >= 0)) for part in parts)


@pytest.mark.parametrize("fit", [in_memory, lambda data: in_memory(data, 20_000), streamed])
def test_constants_keep_their_scale_and_others_get_unit_variance(large, fit):
    normalizer, num = fit(large), len(CONSTANTS)
    for name, values in large.features.items():
        values = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        np.testing.assert_array_equal(normalizer.inverse_std[name][:num], 1.0)
        np.testing.assert_allclose(normalizer.mean[name][:num], CONSTANTS, rtol=2e-7, atol=1e-38)
        np.testing.assert_allclose(normalizer.inverse_std[name][num:], 1 / values.std(0)[num:], rtol=1e-4)
        difference = np.abs(normalizer.mean[name] - values.mean(0))[num:]
        assert (difference <= 1e-4 * values.std(0)[num:] + 1e-7 * np.abs(values.mean(0)[num:])).all()


@pytest.mark.parametrize("array", [np.array, jnp.array], ids=["numpy", "jax"])
def test_the_limit_between_constant_and_varying_by_hand(array):
    mean, std = [0.0, 0.0, 0.0, 1.0, 1.0, -1e3, 1e3], [0.0, 1e-25, 1e-12, 0.9e-5, 1.1e-5, 0.9e-2, 1.1e-2]
    inverse = inverse_spread(array(mean), array(std) ** 2)
    np.testing.assert_allclose(inverse, [1, 1, 1e12, 1, 1 / 1.1e-5, 1, 1 / 1.1e-2], rtol=1e-5)
    np.testing.assert_array_equal(inverse_spread(array([3.0]), array([-1e-9])), 1.0)  # negative by rounding


def test_both_fits_agree(large):
    one, other = in_memory(large), streamed(large)
    chex.assert_trees_all_close(one.inverse_std, other.inverse_std, rtol=1e-4)
    for name in large.features:
        difference = np.abs(one.mean[name] - other.mean[name]) * np.asarray(other.inverse_std[name])
        assert (difference <= 1e-4 + 2e-7 * np.abs(other.mean[name]) * np.asarray(other.inverse_std[name])).all()


def test_a_constant_in_training_stays_small_in_another_speaker(large):
    normalizer = in_memory(large)
    other = large._replace(features=jax.tree.map(lambda x: x[:4] + 1, large.features), length={"audio": ROWS[:4]})
    scaled = normalize(normalizer, take(other, jnp.arange(4), jnp.ones(4, bool))).features["text"][:, : len(CONSTANTS)]
    assert np.abs(scaled).max() <= 1.01  # shifted by 1, and not divided by the rounding of a mean


CALLS = {
    "take": lambda data, batch, normalizer: take(data, ROWS, ALL),
    "fit_normalizer": lambda data, batch, normalizer: fit_normalizer(data, ROWS, ALL),
    "normalize": lambda data, batch, normalizer: normalize(normalizer, batch),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_plain_dict_of_features_is_refused(name, transform):
    data = to_device(make_corpus())
    batch, normalizer = take(data, ROWS, ALL), fit_normalizer(data, ROWS, ALL)
    transform(CALLS[name])(data, batch, normalizer)
    data, batch = (part._replace(features=dict(part.features)) for part in (data, batch))
    message = r"features must be a collections.OrderedDict in the order .*, found a dict; JAX sorts the keys"
    with pytest.raises(TypeError, match=message):
        transform(CALLS[name])(data, batch, normalizer)
    with pytest.raises(TypeError, match=message):
        fit_normalizer_streamed([jax.device_get(batch)])


def absent_video(batch):
    """The batch with one utterance that lacks video and one that lacks text."""
    return batch._replace(present=batch.present.at[0, 1].set(False).at[1, 2].set(False))


def check_masks(batch):
    """Zeros for what `absent_video` takes away, and for nothing else."""
    has = np.array([[np.any(np.asarray(values[row]) != 0) for values in batch.features.values()] for row in range(3)])
    np.testing.assert_array_equal(has, [[True, False, True], [True, True, False], [True, True, True]])


def test_a_jitted_normalise_gives_each_modality_its_own_mask():
    # With a plain dict JAX would sort `text` before `video`, and video's column of `present` would blank text.
    data = to_device(make_corpus())
    normalizer = fit_normalizer(data, ROWS, ALL)
    batch = absent_video(take(data, jnp.arange(3), jnp.ones(3, bool)))
    check_masks(jax.jit(normalize)(normalizer, batch))
    check_masks(jax.jit(lambda data: normalize(normalizer, absent_video(take(data, jnp.arange(3), ALL[:3]))))(data))
    widths = {modality.name: modality.width for modality in MODALITIES}
    shift = normalizer._replace(mean={name: jnp.full(width, -1.0) for name, width in widths.items()})
    check_masks(jax.jit(normalize)(shift, absent_video(example_batch(MODALITIES, size=3))))
    check_masks(jax.jit(normalize)(shift, absent_video(make_batch(size=3))))


def test_the_streamed_fit_counts_what_is_present():
    batch = absent_video(make_batch(size=3))
    found = fit_normalizer_streamed([jax.device_get(batch)])
    video = np.asarray(batch.features["video"], np.float64)[1:]
    text = np.concatenate([np.asarray(batch.features["text"][row, : batch.length["text"][row]]) for row in (0, 2)])
    np.testing.assert_allclose(found.mean["video"], video.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.mean["text"], text.mean(0), rtol=1e-5, atol=1e-7)
