"""Which utterances keep their label: nested, of every class, from all speakers in turn, the same on every machine."""

import dataclasses
import itertools

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds
from cmarr_jax.data.label_share import keep_labels

SHARES = (0.001, 0.01, 0.05, 0.1, 0.25, 0.3, 0.5, 0.9)


@pytest.fixture(scope="module")
def corpus():
    """Six speakers with 27 utterances each: 6 or 7 of a class. Shuffled, so that no order helps."""
    return shuffled(make_corpus(sequences=(), per_speaker=27, absent=0.1), seed=0)


def shuffled(corpus, seed):
    order = np.random.default_rng(seed).permutation(len(corpus))
    fields = {name: getattr(corpus, name)[order] for name in ("utterance_id", "speaker", "session", "label", "present")}
    return dataclasses.replace(corpus, **fields, features={n: v[order] for n, v in corpus.features.items()})


def ids(corpus, rows):
    return set(corpus.utterance_id[rows].tolist())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_share_keeps_a_subset(corpus, seed):
    for fold in make_folds(corpus):
        kept = [keep_labels(corpus, fold, share, seed) for share in SHARES] + [fold]
        for small, large in itertools.pairwise(kept):
            assert set(small.train) <= set(large.train)
            assert set(small.val) <= set(large.val)


@pytest.mark.parametrize("share", SHARES)
def test_counts_of_each_class_and_parts(corpus, share):
    for fold in make_folds(corpus):
        kept = keep_labels(corpus, fold, share, seed=3)
        for part in ("train", "val"):
            rows, whole = getattr(kept, part), getattr(fold, part)
            assert np.all(np.diff(rows) > 0)
            expected = [max(1, round(share * n)) for n in np.bincount(corpus.label[whole], minlength=4)]
            assert np.bincount(corpus.label[rows], minlength=4).tolist() == expected
        np.testing.assert_array_equal(kept.test, fold.test)
        np.testing.assert_array_equal(np.sort(np.r_[kept.train, kept.unlabelled]), fold.train)
        assert not set(kept.unlabelled) & set(fold.val)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
def test_speakers_take_turns(corpus, share):
    for fold in make_folds(corpus):
        for seed in range(3):
            rows = keep_labels(corpus, fold, share, seed).train
            for number in range(4):
                of_class = rows[corpus.label[rows] == number]
                _, counts = np.unique(corpus.speaker[of_class], return_counts=True)
                assert counts.max() - counts.min() <= 1
                assert len(counts) == min(len(of_class), 4)  # speakers of the training part


def test_share_one_changes_nothing(corpus):
    fold = make_folds(corpus)[0]
    assert keep_labels(corpus, fold, 1.0, 0) is fold


def test_what_is_kept_depends_on_names_and_seed_only(corpus):
    fold = make_folds(corpus)[0]
    kept = keep_labels(corpus, fold, 0.1, 0)
    other = shuffled(corpus, seed=1)
    again = keep_labels(other, make_folds(other)[0], 0.1, 0)
    for part in ("train", "val", "unlabelled"):
        assert ids(corpus, getattr(kept, part)) == ids(other, getattr(again, part))
    shorter = fold._replace(val=fold.val[:9], test=fold.test[:3])
    np.testing.assert_array_equal(keep_labels(corpus, shorter, 0.1, 0).train, kept.train)
    assert set(keep_labels(corpus, fold, 0.1, 1).train) != set(kept.train)
    # From the first run of this test: another number of a hash would change every table.
    assert sorted(ids(corpus, keep_labels(corpus, fold, 0.01, 0).train)) == ["u105", "u106", "u60", "u87"]


def test_rows_that_were_unlabelled_before_stay_so(corpus):
    fold = make_folds(corpus)[0]
    before = fold._replace(train=fold.train[10:], unlabelled=fold.train[:10])
    kept = keep_labels(corpus, before, 0.5, 0)
    assert set(before.unlabelled) <= set(kept.unlabelled)
    np.testing.assert_array_equal(np.sort(np.r_[kept.train, kept.unlabelled]), fold.train)


def test_a_class_that_validation_lacks_is_left_out(corpus):
    fold = make_folds(corpus)[0]
    lacking = fold._replace(val=fold.val[corpus.label[fold.val] != 2])
    assert set(corpus.label[keep_labels(corpus, lacking, 0.1, 0).val]) == {0, 1, 3}


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(corpus, share):
    with pytest.raises(ValueError, match=r"a share of the labels must be above 0 and at most 1, found"):
        keep_labels(corpus, make_folds(corpus)[0], share, 0)


def test_a_modality_that_no_kept_utterance_has_is_named(corpus):
    fold = FoldSplit("f", *(np.flatnonzero(corpus.speaker == f"speaker{number}") for number in range(3)))
    present = np.ones_like(corpus.present)
    present[keep_labels(corpus, fold, 0.2, 5).train, 1] = False
    lacking = dataclasses.replace(corpus, present=present)
    with pytest.raises(FoldError, match=r"fold 'f', seed 5: of the 4 training utterances .* none has modality 'video'"):
        keep_labels(lacking, fold, 0.2, 5)
    assert len(keep_labels(lacking, fold, 0.9, 5).train) > 5
