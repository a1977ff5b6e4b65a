"""Unlabelled rows: whose they are, how they are drawn, what reads them and what does not."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from cmarr_jax.data.batching import fold_matches_plan, plain_plan, plan_batches, take
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import make_folds, stack_folds, unpaired_sessions
from cmarr_jax.data.normalizer import fit_normalizer
from cmarr_jax.data.train_batches import arrange_streams, draw_batches, take_batch, training_rows
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.methods.base import cross_entropy
from cmarr_jax.nn.blocks import time_first, unfold
from cmarr_jax.training.run import make_run

TRAIN = tiny.TrainConfig(complete_epochs=1, missing_epochs=2, batch_size=8, min_epoch_steps=3)


def make_corpus(share=0.5, **changes) -> Corpus:
    """A part of the rows is unlabelled, every class of every speaker keeps a row."""
    corpus = tiny.make_corpus(**changes)
    label = np.where((np.arange(len(corpus)) // 4) % round(1 / share) == 1, -1, corpus.label)
    return dataclasses.replace(corpus, label=label.astype(np.int32))


CORPUS = make_corpus(per_speaker=16)
DATA, FOLDS = to_device(CORPUS), stack_folds(make_folds(CORPUS))
PLAN = plan_batches(DATA, FOLDS, TRAIN)


def one(number, folds=FOLDS):
    return jax.tree.map(lambda part: part[number], folds)


def test_parts_are_labelled_and_unlabelled_rows_are_of_training_speakers():
    folds = make_folds(CORPUS)
    for fold in folds:
        assert (CORPUS.label[np.r_[fold.train, fold.val, fold.test]] >= 0).all()
        assert (CORPUS.label[fold.unlabelled] < 0).all()
        assert set(CORPUS.session[fold.unlabelled]) == set(CORPUS.session[fold.train])
        assert len(fold.unlabelled) == len(fold.train) == 32


def test_unlabelled_rows_change_no_other_part():
    """Also rows of a third speaker in a session of two, which would end leaving one speaker out."""
    corpus = dataclasses.replace(CORPUS, speaker=np.where(CORPUS.label < 0, "guest", CORPUS.speaker))
    for fold, usual in zip(make_folds(corpus), make_folds(CORPUS), strict=True):
        assert fold.name == usual.name
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(fold, part), getattr(usual, part))


def test_sessions_are_counted_by_their_labelled_speakers():
    """One of four pairs has no label of its second speaker, another an unlabelled guest: only the first is named."""
    corpus = make_corpus(sessions=4, per_speaker=16)
    label = np.where(corpus.speaker == "speaker1", -1, corpus.label).astype(np.int32)
    speaker = np.where((corpus.label < 0) & (corpus.session == "session2"), "guest", corpus.speaker)
    [text] = unpaired_sessions(dataclasses.replace(corpus, label=label, speaker=speaker))
    assert "every session has two speakers: session0 speaker0; add" in text


def test_groups_and_the_archives_own_split():
    speaker = np.array([f"s{row // 8}" for row in range(len(CORPUS))])
    groups = dataclasses.replace(CORPUS, speaker=speaker, session=np.full(len(CORPUS), "one"))
    for fold in make_folds(groups, num_folds=3):
        held_out = set(speaker[np.r_[fold.val, fold.test]])
        expected = (groups.label < 0) & ~np.isin(speaker, list(held_out))
        np.testing.assert_array_equal(fold.unlabelled, np.flatnonzero(expected))
    split = np.resize(
        ["train", "train", "train", "train", "val", "val", "val", "val", "test", "test", "test", "test"], 96
    )
    [fold] = make_folds(dataclasses.replace(CORPUS, split=split))
    np.testing.assert_array_equal(fold.unlabelled, np.flatnonzero((CORPUS.label < 0) & (split == "train")))


@pytest.mark.parametrize("session", ["another", "session1"], ids=["a session of its own", "the session of others"])
@pytest.mark.parametrize("row", [0, 4], ids=["the first row of its speaker", "a later one"])
def test_an_unlabelled_row_in_another_session_changes_no_part(row, session):
    """It is learnt from only where neither its speaker nor its session is held out."""
    corpus = dataclasses.replace(CORPUS, label=np.where(np.arange(96) == row, -1, CORPUS.label).astype(np.int32))
    usual = make_folds(corpus)
    moved = dataclasses.replace(corpus, session=np.where(np.arange(96) == row, session, corpus.session))
    learnt = []
    for fold, expected in zip(make_folds(moved), usual, strict=True):
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(getattr(fold, part), getattr(expected, part))
        held_out = np.r_[expected.val, expected.test]
        apart = corpus.speaker[row] not in corpus.speaker[held_out] and session not in corpus.session[held_out]
        assert (row in fold.unlabelled) == apart
        learnt.append(apart)
    assert 0 < sum(learnt) < len(learnt)


def test_folds_without_unlabelled_rows_are_padded_with_a_training_row():
    first, second, *_ = make_folds(CORPUS)
    stacked = stack_folds([first, second._replace(unlabelled=np.zeros(0, int))])
    assert stacked.unlabelled.shape == (2, 32)
    assert set(np.asarray(stacked.unlabelled[1])) == {second.train[0]}
    assert not stacked.unlabelled_where[1].any()
    assert stack_folds(make_folds(tiny.make_corpus())).unlabelled is None


@pytest.mark.parametrize("planned", [True, False])
def test_every_batch_has_both_streams(planned):
    fold, plan = one(1), PLAN if planned else plain_plan(FOLDS, TRAIN)
    streams = arrange_streams(DATA.length, fold, plan, unlabelled=True)
    rows, where = (np.asarray(x) for x in draw_batches(jax.random.key(0), streams, plan, 8))
    assert rows.shape == (8, 16)
    assert where.all()
    assert (CORPUS.label[rows[:, :8]] >= 0).all()
    assert (CORPUS.label[rows[:, 8:]] < 0).all()
    for part, expected in (
        (rows[:4, 8:], fold.unlabelled),
        (rows[4:, 8:], fold.unlabelled),
        (rows[:4, :8], fold.train),
    ):
        assert sorted(part.ravel()) == sorted(np.asarray(expected))  # a pass reads each row once


def test_a_label_that_is_not_to_be_read_is_not_in_the_batch():
    fold = one(0)._replace(unlabelled=one(0).train)  # their labels are known
    streams = arrange_streams(DATA.length, fold, PLAN, unlabelled=True)
    rows, where = draw_batches(jax.random.key(0), streams, PLAN, 1)
    batch = take_batch(DATA, rows[0], where[0], PLAN)
    np.testing.assert_array_equal(batch.label[:8], CORPUS.label[rows[0, :8]])
    np.testing.assert_array_equal(batch.label[8:], -1)


def test_a_plan_fits_its_folds_and_no_longer_utterances():
    assert fold_matches_plan(DATA.length, one(2), PLAN)
    length = {name: np.where(CORPUS.label < 0, 7, frames) for name, frames in CORPUS.length.items()}
    assert not fold_matches_plan(jax.tree.map(jnp.asarray, length), one(2), PLAN)


def test_the_normaliser_is_fitted_to_all_training_rows():
    fold = one(0)
    known = np.r_[fold.train, fold.unlabelled]
    expected = fit_normalizer(DATA, jnp.asarray(known), jnp.ones(len(known), bool))
    chex.assert_trees_all_close(fit_normalizer(DATA, *training_rows(fold)), expected, atol=1e-6)


def test_cross_entropy_counts_labelled_rows():
    batch = tiny.make_batch()
    logits = jax.random.normal(jax.random.key(0), (6, 4))
    half = batch._replace(label=batch.label.at[3:].set(-1))
    known = jax.tree.map(lambda x: x[:3], batch)
    np.testing.assert_allclose(cross_entropy(logits, half), cross_entropy(logits[:3], known), rtol=1e-6)
    gradient = jax.grad(lambda x: cross_entropy(x, half))(logits)
    assert (gradient[3:] == 0).all()
    assert (gradient[:3] != 0).all()


def train(method="cm_arr", data=DATA, **changes):
    config = tiny.run_config(modality_configs(CORPUS), method=method, train=TRAIN, **changes)
    run = make_run(make_method(config), config.train, PLAN)
    return run.whole(data, one(1), jax.random.key(0), hyperparameters_of(config))


@pytest.fixture(scope="module")
def trained():
    return train()


def test_cm_arr_learns_from_them(trained):
    alone = train(unlabelled=False)
    assert (alone.history["alignment"] != trained.history["alignment"])[1:].all()
    chex.assert_tree_all_finite((trained.params, trained.test_counts))
    assert trained.test_counts[-1].sum() == 8


def test_neither_their_labels_nor_rows_of_other_speakers_are_read(trained):
    fold = one(1)
    parts = (fold.train, fold.val, fold.test, fold.unlabelled)
    hidden = ~np.isin(np.arange(len(CORPUS)), np.concatenate(parts))
    assert hidden.any()  # unlabelled rows of the validation and test speakers
    spoil = lambda x: jnp.where(hidden.reshape((-1,) + (1,) * (x.ndim - 1)), jnp.nan, x)
    label = jnp.where(DATA.label < 0, 2, DATA.label)
    spoilt = DATA._replace(features=jax.tree.map(spoil, DATA.features), label=label)
    chex.assert_trees_all_equal(train(data=spoilt), trained)


@pytest.mark.parametrize("number", range(3))
def test_a_packed_batch_of_both_streams_holds_every_frame(number):
    rows, where = draw_batches(
        jax.random.key(number), arrange_streams(DATA.length, one(number), PLAN, unlabelled=True), PLAN, 8
    )
    for step in range(8):
        packed, padded = take_batch(DATA, rows[step], where[step], PLAN), take(DATA, rows[step], where[step])
        for name, frames in packed.features.items():
            whole = unfold(time_first(frames)).swapaxes(0, 1)
            expected = padded.features[name][frames.row]
            chex.assert_trees_all_equal(whole, expected[:, : whole.shape[1]])
            assert not expected[:, whole.shape[1] :].any()
