"""Streamed batches: all utterances, in an order by seed, over any number of processes, from any position."""

import json
import shutil
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from streamed_data import ROWS, make_batches, make_data_set
from tiny import CLASSES, make_batch

from cmarr_jax.data.batching import take
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.normalizer import fit_normalizer, fit_normalizer_streamed, normalize
from cmarr_jax.data.streamed import DataSetError, open_data_set, read_ahead, read_batch, read_overview, read_text


def rows_read(batches, epoch=0):
    """Rows that count, of all batches of an epoch."""
    numbers = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    return np.concatenate([rows[where] for rows, where in map(batches.rows_of, numbers)]).tolist()


def test_a_data_set_says_what_is_in_it(made, data_set):
    corpus, _ = made
    assert data_set.modalities == modality_configs(corpus)
    assert data_set.class_names == CLASSES
    assert len(data_set) == len(corpus)
    np.testing.assert_array_equal(read_text(data_set, "speaker"), corpus.speaker)
    overview = read_overview(data_set)
    for key in ("speaker", "label", "present"):
        np.testing.assert_array_equal(getattr(overview, key), getattr(corpus, key))
    assert overview.labelled.all()


def test_a_label_of_minus_one_is_streamed_as_it_is(tmp_path):
    corpus, path = make_data_set(tmp_path, unlabelled=(0, 7))
    data_set = open_data_set(path)
    np.testing.assert_array_equal(read_overview(data_set).labelled, corpus.labelled)
    rows = np.arange(8)
    assert read_batch(data_set, rows, rows >= 0, max_frames=4).label.tolist() == [-1, 1, 2, 3, 0, 1, 2, -1]


def test_every_utterance_once_an_epoch_in_an_order_by_seed_and_epoch(data_set):
    batches = make_batches(data_set)
    assert (batches.steps_per_epoch, len(batches)) == (3, 6)
    orders = [rows_read(batches, 0), rows_read(batches, 1), rows_read(make_batches(data_set, seed=1))]
    assert all(sorted(order) == sorted(ROWS) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] == rows_read(make_batches(data_set), 0)
    assert rows_read(make_batches(data_set, seed=None), 1) == ROWS.tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shares_of_the_processes_are_the_batch(data_set, count):
    whole = make_batches(data_set)
    shares = [make_batches(data_set, process_index=index, process_count=count) for index in range(count)]
    assert all(len(share) == len(whole) for share in shares)  # also where a share of the last batch is empty
    for number in range(len(whole)):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *[share[number] for share in shares])
        chex.assert_trees_all_equal(joined, whole[number])


@pytest.mark.parametrize("max_frames", [4, 9])
def test_a_batch_is_that_of_the_data_in_memory(made, data_set, max_frames):
    data = to_device(made[0], max_frames=max_frames)  # 7 frames at most: averaged down to 4, or padded to 9
    batches = make_batches(data_set, max_frames=max_frames)
    for number in (0, 2):
        batch = batches[number]
        rows, where = map(jnp.asarray, batches.rows_of(number))
        expected = take(data, rows, where)
        chex.assert_trees_all_equal(
            batch._replace(features={name: x[:, :7] if x.ndim == 3 else x for name, x in batch.features.items()}),
            jax.device_get(expected)._replace(features=dict(expected.features), speaker=None),  # not streamed
        )
        assert tuple(batch.features) == made[0].modalities
        assert batch.features["audio"].shape == (6, max_frames, 5)
        assert batch.label.dtype == np.int32


def test_the_normaliser_is_that_of_the_data_in_memory(made, data_set):
    expected = fit_normalizer(to_device(made[0], max_frames=4), jnp.asarray(ROWS), jnp.ones(len(ROWS), bool))
    batches = make_batches(data_set, seed=None, num_epochs=1)
    found = fit_normalizer_streamed(read_ahead(batches, place=lambda batch: batch))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)
    batch = jax.device_put(batches[0])
    chex.assert_trees_all_close(normalize(found, batch), normalize(expected, batch), atol=1e-5)


def test_the_normaliser_of_large_offsets_and_of_a_constant():
    batch = jax.device_get(make_batch(size=50))
    video = 1e4 + batch.features["video"]
    video[:, 1] = 7.0
    found = fit_normalizer_streamed([batch._replace(features=OrderedDict(batch.features, video=video))])
    expected = video[:, [0, 2]].astype(float).std(0)
    np.testing.assert_allclose(1 / np.asarray(found.inverse_std["video"])[[0, 2]], expected, rtol=1e-5)
    assert found.inverse_std["video"][1] == 1.0


@pytest.mark.parametrize("done", [0, 2, 3, 5])
def test_a_position_goes_through_json_and_the_iterator_goes_on(data_set, done):
    whole = list(read_ahead(make_batches(data_set)))
    first = read_ahead(make_batches(data_set))
    for _ in range(done):
        next(first)
    second = read_ahead(make_batches(data_set), num_threads=2, ahead=1)
    next(second)
    second.set_state(json.loads(json.dumps(first.get_state())))
    rest = list(second)
    assert len(rest) == len(whole) - done
    chex.assert_trees_all_equal(rest, whole[done:])


def test_faults_are_sentences(made, data_set, tmp_path):
    _, path = made
    with pytest.raises(DataSetError, match="is no prepared tfds data set; give its folder down to the version"):
        open_data_set(tmp_path)
    with pytest.raises(DataSetError, match="is no prepared tfds data set"):
        open_data_set(path.parent)
    with pytest.raises(DataSetError, match="there is no split 'train'; it has utterances"):
        open_data_set(path, split="train")
    with pytest.raises(DataSetError, match=r"'voice' is no float tensor .* it has audio, text, video"):
        open_data_set(path, modalities=("voice", "text"))
    with pytest.raises(DataSetError, match="needs two modalities"):
        open_data_set(path, modalities=("text",))
    with pytest.raises(DataSetError, match="no text 'label'"):
        read_text(data_set, "label")
    damaged = tmp_path / "1.0.0"
    shutil.copytree(path, damaged)
    for file in damaged.glob("*.array_record*"):
        file.write_bytes(b"")
    with pytest.raises(DataSetError, match="records are missing or damaged"):
        open_data_set(damaged)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rows": ROWS[:0]}, "there is no utterance to read"),
        ({"process_count": 4}, "batch_size a multiple of process_count"),
        ({"process_index": 1}, r"process_index must be in \[0, process_count\)"),
        ({"max_frames": 0}, "must be positive"),
    ],
    ids=["no rows", "uneven", "index", "frames"],
)
def test_wrong_batches_are_refused(data_set, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_batches(data_set, **changes)
