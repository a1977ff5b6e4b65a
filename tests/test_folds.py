"""Folds: the laws of the published protocol, and padding that never names a row of another part."""

import numpy as np
import pytest

from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds, stack_folds


def make_corpus(counts: dict[str, int], session=lambda speaker: speaker, split=None, present=None) -> Corpus:
    """`counts` utterances per speaker, shuffled, three classes in turn."""
    speaker = np.repeat(list(counts), list(counts.values()))
    label = np.arange(len(speaker), dtype=np.int32) % 3
    order = np.random.default_rng(0).permutation(len(speaker))
    num = len(speaker)
    return Corpus(
        utterance_id=np.array([f"u{row}" for row in range(num)]),
        speaker=speaker[order],
        session=np.array([session(name) for name in speaker[order]]),
        label=label[order],
        class_names=("angry", "happy", "sad"),
        features={"audio": np.zeros((num, 2), np.float32), "text": np.zeros((num, 2), np.float32)},
        length={},
        present=np.ones((num, 2), bool) if present is None else present,
        split=split,
    )


def speakers(corpus, rows):
    return set(corpus.speaker[rows].tolist())


def assert_laws(corpus, folds):
    """Parts are disjoint in rows and speakers and cover the corpus; every utterance is tested once."""
    for fold in folds:
        rows = np.concatenate(fold[1:4])
        np.testing.assert_array_equal(np.sort(rows), np.arange(len(corpus)))
        parts = [speakers(corpus, part) for part in fold[1:4]]
        assert all(parts)
        assert sum(map(len, parts)) == len(set().union(*parts))
        for part in fold[1:4]:
            assert np.all(np.diff(part) > 0)
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    np.testing.assert_array_equal(tested, np.arange(len(corpus)))


@pytest.mark.parametrize("num_sessions", [5, 6])  # IEMOCAP has 10 speakers, MSP-IMPROV 12
def test_leave_one_speaker_out_with_the_partner_as_validation(num_sessions):
    names = [f"{session:02d}{sex}" for session in range(1, num_sessions + 1) for sex in "FM"]
    corpus = make_corpus({name: 7 + index for index, name in enumerate(names)}, session=lambda name: name[:2])
    folds = make_folds(corpus)
    assert [fold.name for fold in folds] == names
    assert_laws(corpus, folds)
    for fold in folds:
        partner = fold.name[:2] + {"F": "M", "M": "F"}[fold.name[2]]
        assert speakers(corpus, fold.test) == {fold.name}
        assert speakers(corpus, fold.val) == {partner}
        assert speakers(corpus, fold.train) == set(names) - {fold.name, partner}


@pytest.mark.parametrize("num_folds", [3, 5, 7])
def test_groups_of_speakers(num_folds):
    counts = {f"s{index:02d}": 5 + 3 * (index % 4) for index in range(17)}
    corpus = make_corpus(counts)
    folds = make_folds(corpus, num_folds=num_folds)
    assert [fold.name for fold in folds] == [f"group{index + 1}" for index in range(num_folds)]
    assert_laws(corpus, folds)
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        np.testing.assert_array_equal(fold.val, following.test)
    sizes = [len(fold.test) for fold in folds]
    assert max(sizes) - min(sizes) <= max(counts.values())


def test_groups_by_hand():
    """Sizes 9 6 6 4 3: a -> 1, b -> 2, c -> 3, then d to the first of the smallest (2), e to 3."""
    corpus = make_corpus({"d": 4, "b": 6, "a": 9, "e": 3, "c": 6})
    folds = make_folds(corpus, num_folds=3)
    assert [speakers(corpus, fold.test) for fold in folds] == [{"a"}, {"b", "d"}, {"c", "e"}]
    assert [speakers(corpus, fold.val) for fold in folds] == [{"b", "d"}, {"c", "e"}, {"a"}]


def test_groups_do_not_depend_on_the_order_of_utterances():
    corpus = make_corpus({f"s{index}": 4 + index % 3 for index in range(9)})
    backwards = Corpus(**{**vars(corpus), "speaker": corpus.speaker[::-1], "label": corpus.label[::-1]})
    for fold, other in zip(make_folds(corpus), make_folds(backwards), strict=True):
        assert speakers(corpus, fold.test) == speakers(backwards, other.test)


@pytest.mark.parametrize(
    "session",
    [
        {"a": "1", "b": "1", "c": "1", "d": "2", "e": "2", "f": "2"},  # three speakers in a session
        {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3", "f": "4"},  # sessions with one speaker
    ],
)
def test_other_sessions_give_groups(session):
    corpus = make_corpus(dict.fromkeys("abcdef", 6), session=session.get)
    assert [fold.name for fold in make_folds(corpus, num_folds=3)] == ["group1", "group2", "group3"]


def test_a_speaker_in_two_sessions_gives_groups():
    corpus = make_corpus(dict.fromkeys("abc", 6))
    session = np.where(corpus.speaker == "a", "1", "2")
    session[np.flatnonzero(corpus.speaker == "b")[0]] = "1"  # sessions {a, b} and {b, c}
    assert len(make_folds(Corpus(**{**vars(corpus), "session": session}), num_folds=3)) == 3


def test_own_split():
    split = np.array(["train", "train", "val", "test"] * 6)
    corpus = make_corpus({"a": 12, "b": 12}, split=split)  # two speakers, in all parts
    (fold,) = make_folds(corpus)
    assert fold.name == "split"
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(fold, part), np.flatnonzero(split == part))


def test_too_few_speakers_or_folds():
    with pytest.raises(
        FoldError, match="5 folds need 5 speakers or more, found 4; ask for 4 folds, in the commands with --folds 4"
    ):
        make_folds(make_corpus(dict.fromkeys("abcd", 6)))
    with pytest.raises(FoldError, match="found 2; give more speakers or a split"):
        make_folds(make_corpus(dict.fromkeys("ab", 6)), num_folds=3)
    with pytest.raises(FoldError, match="found 2; give more speakers or a split"):  # one session of two
        make_folds(make_corpus(dict.fromkeys("ab", 6), session=lambda name: "s"), num_folds=3)
    with pytest.raises(FoldError, match=r"at least three folds are needed .*, found 2"):
        make_folds(make_corpus(dict.fromkeys("abcd", 6)), num_folds=2)


def test_training_part_that_lacks_a_class_or_a_modality():
    corpus = make_corpus(dict.fromkeys("abc", 6))
    label = np.where(corpus.speaker == "a", 2, corpus.label % 2).astype(np.int32)
    with pytest.raises(FoldError, match="fold 'group1': no training utterance of class 'sad'; use other folds"):
        make_folds(Corpus(**{**vars(corpus), "label": label}), num_folds=3)
    present = np.stack([np.ones(18, bool), corpus.speaker == "b"], axis=1)
    with pytest.raises(FoldError, match="fold 'group1': no training utterance has modality 'text'"):
        make_folds(Corpus(**{**vars(corpus), "present": present}), num_folds=3)


def test_a_test_or_validation_part_may_lack_a_class_or_a_modality():
    corpus = make_corpus(dict.fromkeys("abcd", 6))
    present = np.stack([np.ones(24, bool), corpus.speaker != "a"], axis=1)  # speaker a has no text at all
    label = np.where(corpus.speaker == "a", 0, corpus.label).astype(np.int32)  # and one class only
    folds = make_folds(Corpus(**{**vars(corpus), "present": present, "label": label}), num_folds=4)
    assert [speakers(corpus, fold.test) for fold in folds] == [{"a"}, {"b"}, {"c"}, {"d"}]
    assert_laws(corpus, folds)
    assert not present[folds[0].test, 1].any()
    assert stack_folds(folds).test_where.sum() == 24


def test_stacked_folds_pad_with_rows_of_the_same_part():
    corpus = make_corpus({f"s{index:02d}": 5 + 4 * (index % 3) for index in range(11)})
    folds = make_folds(corpus, num_folds=4)
    stacked = stack_folds(folds)
    for part in ("train", "val", "test"):
        rows, where = getattr(stacked, part), getattr(stacked, f"{part}_where")
        assert rows.dtype == np.int32
        assert where.dtype == np.bool_
        assert rows.shape == where.shape == (4, max(len(getattr(fold, part)) for fold in folds))
        for index, fold in enumerate(folds):
            own = getattr(fold, part)
            np.testing.assert_array_equal(rows[index][where[index]], own)
            np.testing.assert_array_equal(rows[index][~where[index]], own[0])
            assert set(rows[index].tolist()) == set(own.tolist())
    assert any(not where.all() for where in (stacked.train_where, stacked.val_where, stacked.test_where))


def test_stack_needs_folds_and_rows():
    with pytest.raises(FoldError, match="at least one fold is needed"):
        stack_folds([])
    with pytest.raises(FoldError, match="fold 'x': the val part is empty"):
        stack_folds([FoldSplit("x", np.arange(2), np.arange(0), np.arange(2, 3))])
