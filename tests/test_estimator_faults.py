"""What classifier and regressor refuse before they train, each with its sentence, and the parts of a training."""

import re

import numpy as np
import pandas as pd
import pytest
import sklearn.exceptions
import sklearn.metrics

from cmarr_jax import estimator_base
from cmarr_jax.data.modalities import Modalities
from cmarr_jax.estimator import MissingModalityClassifier, NotFittedError, _to_corpus
from cmarr_jax.estimator_data import make_parts, read_features
from cmarr_jax.regressor import MissingModalityRegressor

NAN = float("nan")
TWO = {"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}
EIGHT = {"a": np.zeros((8, 2)), "b": np.zeros((8, 2))}
LABEL = [0, 1] * 4
NUMBER = np.arange(8.0)
LATE = np.arange(8) > 5  # the last two are held out
MORE = "give more utterances or groups, or another validation mask"


def refuses(sentence, call):
    """The call raises ValueError with exactly this sentence."""
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call()


@pytest.mark.parametrize(
    ("y", "found"),
    [
        ([0.0, 1.0, NAN, 1.0], "nan"),
        (["a", "b", NAN, "a"], "nan"),
        (["a", "b", None, "a"], "None"),
        (pd.Series(["a", "b", NAN, "a"], dtype=object), "nan"),
        (pd.Series(["a", "b", None, "a"], dtype="str"), "nan"),
        (pd.Series([0, 1, pd.NA, 1], dtype="Int64"), "<NA>"),
        (pd.Series(["a", "b", None, "a"], dtype="category"), "nan"),
        (pd.to_datetime(["2020", "2021", None, "2020"]), "NaT"),
        (np.ma.array([0, 1, 2, 1], mask=[False, False, True, False]), "masked"),
    ],
)
def test_a_missing_label_is_no_class(y, found):
    refuses(
        f"y of utterance 2 is {found}; write -1 where nobody has labelled",
        lambda: MissingModalityClassifier().fit(TWO, y),
    )


def test_labels_that_numpy_cannot_sort():
    y = np.array([0, "a", -1, 0], object)
    with pytest.raises(ValueError, match=r"^y must be all text or all numbers, except -1 "):
        MissingModalityClassifier().fit(TWO, y)
    assert _to_corpus(Modalities(TWO), ["nan", "a", -1, "a"], None)[1].tolist() == ["a", "nan"]  # text is a name


@pytest.mark.parametrize("model", [MissingModalityClassifier(), MissingModalityRegressor()])
@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([0.0, NAN, NAN, 1.0], "the group of utterance 1 is nan; write a name"),
        (["x", None, None, "y"], "the group of utterance 1 is None; write a name"),
        (["x", "y", NAN, "y"], "the group of utterance 2 is nan; write a name"),
        (
            np.ma.array([0, 1, 2, 3], mask=[True, False, False, False]),
            "the group of utterance 0 is masked; write a name",
        ),
        ("x", r"groups must have one entry per utterance, \[4\], found \[\]"),
        ([["x", "y"]] * 4, r"groups must have one entry per utterance, \[4\], found \[4, 2\]"),
    ],
)
def test_every_utterance_has_a_group(model, groups, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        model.fit(TWO, [0, 1, 0, 1], groups=groups)


def test_a_modality_must_be_in_the_training_part():
    part = {"a": np.zeros((8, 2)), "b": [None] * 7 + [np.ones(2)]}
    for model, y, kind in (
        (MissingModalityClassifier(), LABEL, "label"),
        (MissingModalityRegressor(), NUMBER, "number"),
    ):
        sentence = f"modality 'b' is in no utterance with a {kind} of the training part; {MORE}, or leave it out"
        refuses(sentence, lambda model=model, y=y: model.fit(part, y, validation=LATE))


@pytest.mark.parametrize("seed", range(3))
def test_a_group_that_alone_has_a_modality_cannot_be_held_out(seed):
    """The seed holds one of two groups out: it is refused for the one, and trained with for the other."""
    groups, sentences = np.array([0, 0, 1, 1]), []
    for group in (0, 1):
        part = {"a": np.zeros((4, 2)), "b": [np.ones(2) if other == group else None for other in groups]}
        corpus, _ = _to_corpus(Modalities(part), [0, 1, 0, 1], groups)
        try:
            fold = make_parts(corpus, None, 0.5, by_group=True, seed=seed)
        except ValueError as error:
            sentences.append(str(error))
        else:
            assert set(groups[fold.train]) == {group}
    [sentence] = sentences
    assert sentence.startswith("modality 'b' is in no utterance with a label of the training part; ")


@pytest.mark.parametrize("seed", range(8))
def test_a_large_group_is_not_held_out(seed):
    """Each group is more than twice the share; the smallest one validates, whatever the seed."""
    groups = [0] * 6 + [1] * 2
    corpus, _ = _to_corpus(Modalities(EIGHT), LABEL, groups)
    np.testing.assert_array_equal(make_parts(corpus, None, 0.1, by_group=True, seed=seed).val, [6, 7])


@pytest.mark.parametrize("fraction", [0.2, 0.3, 0.5])
def test_groups_are_held_out_up_to_the_share(fraction):
    groups = np.repeat(np.arange(10), 4)
    corpus, _ = _to_corpus(Modalities({"a": np.zeros((40, 2)), "b": np.ones((40, 2))}), [0, 1] * 20, groups)
    fold = make_parts(corpus, None, fraction, by_group=True, seed=3)
    assert len(fold.val) == fraction * 40


def test_without_groups_a_share_of_each_class_is_held_out():
    label = [0] * 24 + [1] * 16
    corpus, _ = _to_corpus(Modalities({"a": np.zeros((40, 2)), "b": np.ones((40, 2))}), label, None)
    fold = make_parts(corpus, None, 0.25, by_group=False, seed=0)
    assert np.bincount(corpus.label[fold.val]).tolist() == [6, 4]


DATES = np.full((4, 2), "2026-01-01", "datetime64[D]")


def test_an_empty_label_is_a_fault_of_y():
    refuses(
        "y of utterance 2 is an empty text; write -1 where nobody has labelled",
        lambda: MissingModalityClassifier().fit(TWO, ["a", "b", "", "b"]),
    )


def test_loading_what_is_no_folder_is_told(tmp_path):
    (tmp_path / "old.pkl").write_bytes(b"x")
    for name in ("old.pkl", "nothing"):
        refuses(
            f"{tmp_path / name}: is no folder; give the one that save wrote",
            lambda name=name: MissingModalityClassifier.load(tmp_path / name),
        )


@pytest.mark.parametrize("kind", ["list", "text", "objects", "bytes"])
def test_minus_one_among_text_is_no_class(kind):
    """A column of a CSV file has the text "-1", a list may have the number."""
    text = ["a", "b", "-1", "b"]
    y = {
        "list": ["a", "b", -1, "b"],
        "text": np.array(text),
        "objects": np.array(text, object),
        "bytes": np.array(text, "S"),
    }[kind]
    corpus, classes = _to_corpus(Modalities(TWO), y, None)
    assert classes.tolist() == ["a", "b"]
    assert corpus.label.tolist() == [0, 1, -1, 1]
    assert corpus.class_names == ("a", "b")


def test_sentences_speak_of_the_arguments():
    nothing = {"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}
    for values in nothing.values():
        values[3] = NAN
    refuses(
        "X: utterance 3 has no modality; leave it out", lambda: MissingModalityClassifier().fit(nothing, [0, 1, 0, 1])
    )
    infinite = TWO | {"a": np.array([[0, 0], [0, np.inf], [0, 0], [0, 0]])}
    sentence = "a: utterance 1 has a number beyond 1e+18; correct it, or scale the features"
    refuses(sentence, lambda: MissingModalityClassifier().fit(infinite, [0, 1, 0, 1]))
    for values, dtype in (([["1", "2"]] * 4, "<U1"), (np.ones((4, 2), complex), "complex128"), (DATES, "datetime64")):
        sentence = f"a: utterance 0 is no array of numbers (holds {dtype}"
        with pytest.raises(ValueError, match=re.escape(sentence)):
            MissingModalityClassifier().fit(TWO | {"a": values}, [0, 1, 0, 1])
    sentence = "a: is 1.5 where an array or a list with one entry per utterance is expected"
    refuses(sentence, lambda: MissingModalityClassifier().fit(TWO | {"a": 1.5}, [0, 1, 0, 1]))
    sentence = "groups: all utterances with a label are of 'group x'; give two groups or more, or none"
    refuses(sentence, lambda: MissingModalityClassifier().fit(TWO, [0, 1, 0, 1], groups=["x"] * 4))


def test_a_class_must_be_in_the_training_part():
    y = np.where(LATE, ["new"] * 8, ["old", "older"] * 4)
    sentence = f"class 'new' is not in the training part; {MORE}"
    refuses(sentence, lambda: MissingModalityClassifier().fit(EIGHT, y, validation=LATE))
    with pytest.raises(ValueError, match=r"^class '(new|old)' is not in the training part; "):  # by the seed
        MissingModalityClassifier().fit(EIGHT, y, groups=[0] * 6 + [1] * 2)


def test_both_parts_have_a_label():
    refuses(
        f"the validation part has no utterance with a label; {MORE}",
        lambda: MissingModalityClassifier().fit(TWO, [0, 1, 2, 3]),
    )
    half = np.arange(8) < 4
    for held_out, part in ((half, "training"), (~half, "validation")):
        y, number = np.where(half, LABEL, -1), np.where(half, NUMBER, NAN)
        sentence = f"the {part} part has no utterance with a {{}}; {MORE}"
        fit = lambda model, y, held_out=held_out: model.fit(EIGHT, y, validation=held_out)
        refuses(sentence.format("label"), lambda fit=fit, y=y: fit(MissingModalityClassifier(), y))
        refuses(sentence.format("number"), lambda fit=fit, y=number: fit(MissingModalityRegressor(), y))


def test_no_group_is_in_both_parts_of_a_given_mask():
    groups = ["x", "x", "y", "y", "z", "z", "z", "q"]
    sentence = "group z is in training and in validation; give a validation mask of whole groups"
    for model, y in ((MissingModalityClassifier(), LABEL), (MissingModalityRegressor(), NUMBER)):
        refuses(sentence, lambda model=model, y=y: model.fit(EIGHT, y, groups=groups, validation=LATE))


def test_unlabelled_utterances_of_a_validation_speaker_are_in_no_part():
    """As in `make_folds`: by hand, from the labels, groups and mask below."""
    groups = ["x", "x", "x", "y", "y", "z", "z", "q"]
    held_out = np.array([False, False, True, True, False, False, True, False])
    y = [0, 1, -1, 1, -1, -1, -1, 0]
    corpus, _ = _to_corpus(Modalities(EIGHT), y, groups)
    fold = make_parts(corpus, held_out, 0.2, by_group=True, seed=0)
    assert fold.train.tolist() == [0, 1, 7]
    assert fold.val.tolist() == fold.test.tolist() == [3]
    assert fold.unlabelled.tolist() == [5]  # 2 and 6 are in the mask, and 4 is of the validation speaker y


@pytest.mark.parametrize("model", [MissingModalityClassifier, MissingModalityRegressor])
def test_the_seed_is_a_number(model):
    for seed in (None, -1, 2**32, 0.5, np.random.RandomState(0)):
        with pytest.raises(ValueError, match=r"^random_state must be a whole number from 0 to 4294967295, found "):
            model(random_state=seed).fit(TWO, [0, 1, 0, 1])
    corpus, _ = _to_corpus(Modalities(EIGHT), LABEL, None)
    folds = [make_parts(corpus, None, 0.5, by_group=False, seed=seed) for seed in (3, np.int64(3))]
    np.testing.assert_array_equal(folds[0].val, folds[1].val)
    make_parts(corpus, None, 0.5, by_group=False, seed=2**32 - 1)


@pytest.mark.parametrize("model", [MissingModalityClassifier, MissingModalityRegressor])
def test_the_budget_of_epochs_is_a_number(model):
    for epochs in (0, -1, 2.0, "3"):
        refuses(
            f"max_epochs must be a whole number of at least 1, found {epochs!r}",
            lambda epochs=epochs: model(max_epochs=epochs).fit(
                TWO, [0, 1, 0, 1], validation=[False, False, True, True]
            ),
        )
    assert MissingModalityClassifier(max_epochs=np.int64(3))._preset(sequences=False).train.missing_epochs == 3


def test_the_number_of_frames_is_a_number():
    for frames in (0, 50.0, 2.5, "8"):
        refuses(
            f"max_frames must be a whole number of at least 1, found {frames!r}",
            lambda frames=frames: MissingModalityClassifier(max_frames=frames).fit(
                TWO, [0, 1, 0, 1], validation=[False, False, True, True]
            ),
        )
    assert type(MissingModalityClassifier(max_frames=np.int64(3))._preset(sequences=True).max_frames) is int


class Answers(MissingModalityClassifier):
    """Whose answers are known."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.classes_ = answers, np.unique(answers)

    def predict(self, X):
        return np.array(self.answers)


@pytest.mark.parametrize(
    ("y", "sentence"),
    [
        (["a", "b", None, None], "y of utterance 2 is None; write -1 where"),
        (["a", "b", float("nan"), "b"], "y of utterance 2 is nan; write -1 where"),
        (pd.Categorical(["a", None, "a", "b"]), "y of utterance 1 is nan; write -1 where"),
        (np.ma.array(["a", "b", "a", "b"], mask=[0, 0, 1, 1]), "y of utterance 2 is masked; write -1 where"),
        ([0, 1, 0, 1], "y holds .*0.* where classes are .'a', 'b'.; give those"),
    ],
)
def test_the_score_reads_labels_as_fit_does(y, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        Answers(["a", "b", "a", "b"]).score(TWO, y)


def test_the_score_by_hand():
    model = Answers(["a", "b", "a", "b"])
    assert model.score(TWO, ["a", "b", "b", "b"]) == 0.75
    assert model.score(TWO, np.array(["a", "b", "b", -1], object)) == 2 / 3
    assert model.score(TWO, ["a", "b", "b", "b"], sample_weight=[1, 0, 1, 2]) == 0.75
    for weights, sentence in (
        ([1, 1], "must be one finite number of at least 0 per utterance"),
        ([1, 1, 1, -1], "must be one finite number of at least 0 per utterance"),
        ([1, 1, 1, np.nan], "must be one finite number of at least 0 per utterance"),
        ([0, 0, 0, 0], "is 0 for every labelled utterance"),
    ):
        with pytest.raises(ValueError, match=f"^sample_weight {sentence}"):
            model.score(TWO, ["a", "b", "b", "b"], sample_weight=weights)


@pytest.mark.parametrize(
    ("y", "found"),
    [
        (np.array(["2020-01-01"] * 4, "datetime64[D]"), "datetime64"),
        (np.array([b"a", b"b", b"a", b"b"], object), "b'a'"),
        ([0.0, 1.0, np.inf, 1.0], "(np.float64.)?inf"),
        ([1j, 0, 1j, 0], "(np.complex128.)?1j"),
    ],
)
def test_labels_are_what_save_can_write(y, found):
    with pytest.raises(ValueError, match=f"^y of utterance . is .*{found}.*; a label is text, a finite number, or"):
        MissingModalityClassifier().fit(TWO, y)


def test_text_of_any_length_may_hold_minus_one():
    given = np.array(["a", "b", "-1", "b"], np.dtypes.StringDType())
    corpus, classes = _to_corpus(Modalities(TWO), given, None)
    assert classes.tolist() == ["a", "b"]
    assert corpus.label.tolist() == [0, 1, -1, 1]


def test_a_number_among_text_in_a_list_stays_one():
    corpus, classes = _to_corpus(Modalities(TWO), ["a", "b", -1.0, "b"], None)
    assert classes.tolist() == ["a", "b"]
    assert corpus.label.tolist() == [0, 1, -1, 1]


def test_r2_without_scikit_learn():
    class Known(estimator_base.RegressorMixin):
        def predict(self, X):
            return np.array([1.0, 2.0, 4.0])

    y, weights = [1.0, 3.0, 4.0], [1.0, 2.0, 0.5]
    assert Known().score(None, y) == pytest.approx(sklearn.metrics.r2_score(y, [1, 2, 4]))
    expected = sklearn.metrics.r2_score(y, [1, 2, 4], sample_weight=weights)
    assert Known().score(None, y, sample_weight=weights) == pytest.approx(expected)
    assert Known().score(None, [5.0, 5.0, 5.0]) == sklearn.metrics.r2_score([5.0] * 3, [1, 2, 4]) == 0
    for wrong, said in (
        ([[1.0], [3.0], [4.0]], r", found shape \[3, 1\]"),
        ([1.0], r", found shape \[1\]"),
        ([1.0, np.nan, 4.0], "; row 1 is masked, or not finite: nan"),
        (np.ma.array(y, mask=[1, 0, 0]), "; row 0 is masked, or not finite"),
    ):
        with pytest.raises(ValueError, match=f"^y must be 3 finite numbers{said}"):
            Known().score(None, wrong)


def test_rows_of_a_data_frame_are_utterances():
    frame = pd.DataFrame({"u": [1.0, 2.0, 3.0], "v": [4, 5, 6]}, index=[7, 8, 9])
    gaps = pd.DataFrame({"u": pd.array([1, None, 3], "Int64"), "v": pd.array([4.5, None, 6.5], "Float64")})
    features = read_features({"whole": frame, "gaps": gaps, "list": [frame, None, frame], "none": None})
    assert [row.tolist() for row in features.entries["whole"]] == [[1, 4], [2, 5], [3, 6]]
    assert features.entries["gaps"][1] is None
    assert read_features({"joined": [np.ones(2), float("nan")], "other": np.ones((2, 1))}).entries["joined"][1] is None
    assert [features.entries["gaps"][row].tolist() for row in (0, 2)] == [[1, 4.5], [3, 6.5]]
    assert features.entries["list"][2].tolist() == [[1, 4], [2, 5], [3, 6]]  # frames of one utterance
    assert sorted(features.entries) == ["gaps", "list", "whole"]
    mixed = pd.DataFrame({"u": pd.Series([1, None, True], dtype=object), "v": [1.0, np.nan, 2.0]})
    assert [None if row is None else row.tolist() for row in read_features({"a": mixed}).entries["a"]] == [
        [1, 1],
        None,
        [1, 2],
    ]


@pytest.mark.parametrize(
    ("column", "found"),
    [
        ("x", "'x'"),
        ("1.5", "'1.5'"),
        (pd.Timestamp("2020-01-01"), "datetime64"),
        (pd.Timedelta(1, "s"), "timedelta64"),
        (1j, "complex128"),
    ],
)
def test_a_column_of_other_things_is_no_feature(column, found):
    frame = pd.DataFrame({"u": [1.0, 2.0, 3.0]}).assign(name=column)
    with pytest.raises(ValueError, match=f"^a: column 'name' of the data frame holds {found}.*; select columns of num"):
        read_features({"a": frame})
    if isinstance(column, str):
        with pytest.raises(ValueError, match=f"a: utterance 0 is no array of numbers .holds {found}"):
            read_features({"a": frame.to_numpy(object)})


def test_masked_numbers_are_not_read():
    masked = np.ma.array(np.zeros((4, 2)), mask=[[False, False]] * 3 + [[False, True]])
    sentence = "a: utterance 3 has masked numbers; fill them, or make all of them nan where it is absent"
    for value in (masked, list(masked), np.ma.array(np.zeros((4, 1, 2)), mask=masked.mask[:, None])):
        refuses(sentence, lambda value=value: read_features({"a": value}))
    assert len(read_features({"a": np.ma.array(np.zeros((4, 2)))})) == 4  # nothing is masked
    hidden = [False, False, True, False]
    refuses(
        "y has masked numbers; write nan where there is none",
        lambda: MissingModalityRegressor().fit(TWO, np.ma.array([1.0, 2.0, 3.0, 4.0], mask=hidden)),
    )
    with pytest.raises(ValueError, match=r"^validation must be a mask"):
        MissingModalityClassifier().fit(TWO, [0, 1] * 2, validation=np.ma.array(hidden, mask=hidden))


def test_x_is_a_dict_of_one_utterance_or_more():
    sentence = (
        "X must be a dict from the names of the modalities to their features, or Modalities of one, found ndarray"
    )
    refuses(sentence, lambda: MissingModalityClassifier().fit(np.zeros((4, 2)), [0, 1] * 2))
    none = {"a": np.zeros((0, 2)), "b": np.zeros((0, 2))}
    for features in (none, Modalities(TWO)[:0]):
        for model in (MissingModalityClassifier(), MissingModalityRegressor()):
            refuses("X has no utterance; give one or more", lambda model=model, X=features: model.fit(X, []))


def test_numbers_that_are_equal_in_float32():
    y = [1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3]  # float32 steps by 64 there
    sentence = "y must have two different numbers or more, found [1000000000.0]"
    refuses(sentence, lambda: MissingModalityRegressor().fit(TWO, y))


def test_not_fitted_is_scikit_learns_error():
    for model in (MissingModalityClassifier(), MissingModalityRegressor()):
        with pytest.raises(sklearn.exceptions.NotFittedError, match="is not fitted; call fit first"):
            model.predict(TWO)
    assert NotFittedError is sklearn.exceptions.NotFittedError
    assert estimator_base.NotFittedError.__bases__ == (ValueError, AttributeError)  # without scikit-learn
