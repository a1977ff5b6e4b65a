"""The classifier with scikit-learn's habits: on arrays, with missing modalities, saved, loaded, cloned."""

import copy
import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest
import sklearn.base
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score

from cmarr_jax.config import TrainConfig
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.modalities import Modalities
from cmarr_jax.estimator import MissingModalityClassifier, _to_corpus
from cmarr_jax.estimator_base import BaseEstimator, ClassifierMixin
from cmarr_jax.predict import Predictor, normalize
from cmarr_jax.presets import Preset
from cmarr_jax.training import one_run
from cmarr_jax.training.one_run import train_once
from experiments.presets import PRESETS

QUICK = Preset(
    encoders={"embedding": 8},
    train=TrainConfig(complete_epochs=2, missing_epochs=20, decay=False, batch_size=16, eval_batch_size=32),
    learning_rate=1e-2,
    dropout=0.0,
)
NUM = 90


def make_data(seed=0):
    """Three classes that each of two vectors shows, and a sequence of noise; ten speakers."""
    rng = np.random.default_rng(seed)
    label = np.arange(NUM) % 3
    centre = 3 * np.eye(3)[label]
    features = {
        "face": centre + rng.normal(size=(NUM, 3)),
        "words": np.concatenate([centre, rng.normal(size=(NUM, 2))], axis=1),
    }
    return features, np.array(["calm", "angry", "sad"])[label], np.arange(NUM) // 9


@pytest.fixture(scope="module")
def fitted():
    features, y, groups = make_data()
    seen = []
    model = MissingModalityClassifier(
        "zero_fill", preset=QUICK, callback=lambda done, found: seen.append((done, found))
    )
    return model.fit(features, y, groups=groups), seen


def test_it_learns_and_answers_from_any_modality(fitted):
    model, seen = fitted
    features, y, groups = make_data(seed=1)
    assert model.classes_.tolist() == ["angry", "calm", "sad"]
    assert model.modalities_ == ("face", "words")
    assert model.score(features, y) > 0.9
    for missing in ({"face": None}, {}, {"face": np.full((NUM, 3), np.nan)}, {"face": [None] * NUM}):
        part = {"words": features["words"], **missing}
        assert model.score(part, y) > 0.9
        np.testing.assert_array_equal(model.predict_proba(part), model.predict_proba({"words": features["words"]}))
    np.testing.assert_allclose(model.predict_proba(features).sum(1), 1, rtol=1e-6)
    assert not set(groups[model.validation_]) & set(np.delete(groups, model.validation_))
    assert 0.1 < len(model.validation_) / NUM < 0.35
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] == sum(len(column["val_uar"]) for column in model.history_.values())
    assert np.isfinite(list(seen[-1][1].values())).any()


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(fitted):
    features, y, groups = make_data()
    again = MissingModalityClassifier("zero_fill", preset=QUICK).fit(features, y, groups=groups)
    np.testing.assert_array_equal(again.predict_proba(features), fitted[0].predict_proba(features))
    other = MissingModalityClassifier("zero_fill", preset=QUICK, random_state=1).fit(features, y, groups=groups)
    assert np.abs(other.predict_proba(features) - again.predict_proba(features)).max() > 1e-4


def test_the_numbers_are_those_of_a_run(fitted):
    model, _ = fitted
    features, y, groups = make_data()
    held_out = np.isin(np.arange(NUM), model.validation_)
    other = MissingModalityClassifier("zero_fill", preset=QUICK).fit(features, y, groups, validation=held_out)
    np.testing.assert_array_equal(other.predict_proba(features), model.predict_proba(features))
    [unit] = model.predictor_.units
    from cmarr_jax.data.modalities import as_modalities
    from cmarr_jax.estimator import _to_corpus

    corpus, _ = _to_corpus(as_modalities(features), y, groups)
    fold = FoldSplit("", np.flatnonzero(~held_out), model.validation_, model.validation_)
    result = train_once(corpus, fold, unit.config, 0)
    jax.tree.map(np.testing.assert_array_equal, result.params, unit.params)
    answers = model.predictor_.predict(list(Modalities(features)[model.validation_]))
    found = np.stack([answer.logits[0] for answer in answers])
    np.testing.assert_allclose(found, result.val_logits[-1][: len(found)], rtol=2e-5, atol=2e-5)


def assert_same_history(loaded, model):
    """Arrays of the same bits and types, nan included."""
    jax.tree.map(np.testing.assert_array_equal, loaded.history_, model.history_)
    assert jax.tree.map(lambda column: column.dtype, loaded.history_) == jax.tree.map(
        lambda column: column.dtype, model.history_
    )


def test_trainings_that_differ_in_numbers_share_a_program(fitted):
    features, y, groups = make_data()
    before = one_run._compiled.cache_info()
    other = MissingModalityClassifier("zero_fill", preset=QUICK, dropout=0.1, learning_rate=0.01)
    other.fit(features, y, groups=groups)
    after = one_run._compiled.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    assert np.abs(other.predict_proba(features) - fitted[0].predict_proba(features)).max() > 1e-4


def test_the_program_of_a_prediction_is_compiled_once(fitted, monkeypatch):
    """Python runs the function of a compiled program only where it is traced."""
    features, y, _ = make_data(seed=1)
    traced = []
    monkeypatch.setattr("cmarr_jax.predict.normalize", lambda *args: traced.append(1) or normalize(*args))
    model = copy.deepcopy(fitted[0])  # with no program yet
    for _ in range(2):
        model.predict_proba(features)
        model.predict(features)
        model.score(features, y)
    assert len(traced) == 1


def test_it_can_be_pickled_after_it_predicted(fitted):
    model = copy.copy(fitted[0]).set_params(callback=None)
    features, _, _ = make_data(seed=1)
    before = model.predict_proba(features)
    [answer] = model.predictor_.predict([{"face": features["face"][0]}])
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        np.testing.assert_array_equal(again.predict_proba(features), before)
        assert again.predictor_.num_samples == model.predictor_.num_samples
        [other] = again.predictor_.predict([{"face": features["face"][0]}])
        np.testing.assert_array_equal(other.probabilities, answer.probabilities)


def test_saved_and_loaded_it_answers_the_same(fitted, tmp_path):
    model = copy.copy(fitted[0])
    model.history_ = model.history_ | {"late": {"nll": np.array([np.nan, 0.1], np.float32)}}  # JSON has no nan
    features, _, _ = make_data(seed=2)
    model.save(tmp_path / "model")
    loaded = MissingModalityClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(features), model.predict_proba(features))
    np.testing.assert_array_equal(loaded.predict(features), model.predict(features))
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.get_params() == model.get_params() | {"callback": None}
    assert (loaded.status_, loaded.modalities_) == (model.status_, model.modalities_)
    np.testing.assert_array_equal(loaded.unlabelled_, model.unlabelled_)
    assert_same_history(loaded, model)
    loaded.save(tmp_path / "again")
    own, again = ((tmp_path / folder / "run.json").read_text() for folder in ("model", "again"))
    assert own == again  # the hash of the parameters is in it
    with np.load(tmp_path / "model/outputs.npz") as one, np.load(tmp_path / "again/outputs.npz") as other:
        assert {name: values.tolist() for name, values in one.items()} == {
            name: values.tolist() for name, values in other.items()
        }
    predictor = Predictor.load(tmp_path / "model")
    [answer] = predictor.predict([{"words": features["words"][0]}])
    np.testing.assert_allclose(
        answer.probabilities, model.predict_proba({"words": features["words"][:1]})[0], rtol=1e-5
    )
    with pytest.raises(FileExistsError, match="exists; name another folder"):
        model.save(tmp_path / "model")
    with pytest.raises(ArchiveError, match="holds no finished unit"):
        MissingModalityClassifier.load(tmp_path)
    record = json.loads((tmp_path / "model/run.json").read_text())
    del record["estimator"]["parameters"]
    (tmp_path / "model/run.json").write_text(json.dumps(record))
    with pytest.raises(ArchiveError, match=r"model: is damaged \(estimator: 'parameters'\); copy it again or fit it"):
        MissingModalityClassifier.load(tmp_path / "model")


def test_a_preset_of_the_experiments_can_be_saved(fitted, tmp_path):
    model = copy.copy(fitted[0])
    model.preset = PRESETS["synthetic"]  # has fields of its own
    model.save(tmp_path / "model")
    preset = MissingModalityClassifier.load(tmp_path / "model").preset
    assert {name: getattr(model.preset, name) for name in vars(preset)} == vars(preset)


def test_scikit_learn_can_clone_search_and_validate_it():
    features, y, groups = make_data()
    model = MissingModalityClassifier("zero_fill", preset=dataclasses.replace(QUICK), random_state=3)
    copy = sklearn.base.clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(dropout=0.25).dropout == 0.25
    scores = cross_val_score(model, Modalities(features), y, groups=groups, cv=GroupKFold(3))
    assert scores.min() > 0.8
    search = GridSearchCV(model, {"learning_rate": [1e-2, 1e-6]}, cv=GroupKFold(2))
    search.fit(Modalities(features), y, groups=groups)
    assert search.best_params_ == {"learning_rate": 1e-2}


def test_sequences_are_lists_of_arrays():
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    frames = [rng.normal(size=(rng.integers(2, 7), 3)) + 4 * value for value in label]
    frames[5] = None
    vectors = rng.normal(size=(40, 2))
    model = MissingModalityClassifier("zero_fill", preset=QUICK).fit({"audio": frames, "face": vectors}, label)
    assert model.score({"audio": [item for item in frames if item is not None]}, np.delete(label, 5)) > 0.9
    assert model.predict({"audio": [np.zeros((50, 3))]}).shape == (1,)  # longer than any that was seen


def test_modalities_are_indexed_as_an_array_is():
    data = Modalities({"a": np.arange(8.0).reshape(4, 2), "b": [None, [1.0], [2.0], None], "c": None})
    assert (len(data), data.shape) == (4, (4,))
    assert [sorted(row) for row in data[1:3]] == [["a", "b"], ["a", "b"]]
    assert [sorted(row) for row in data[[0, 3]]] == [["a"], ["a"]]
    np.testing.assert_array_equal([row["a"] for row in data[np.array([False, True, False, True])]], [[2, 3], [6, 7]])
    with pytest.raises(TypeError, match="several numbers"):
        data[0]


TWO = {"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}


@pytest.mark.parametrize(
    ("features", "y", "options", "sentence"),
    [
        ({"a": np.zeros((3, 2)), "b": np.zeros((4, 2))}, [0, 1, 0], {}, "same number of utterances, found a 3, b 4"),
        ({"a": None}, [0], {}, "no modality has features"),
        ({"a": np.zeros((4, 2))}, [0, 1, 0, 1], {}, "at least two modalities are needed"),
        ({"a": np.zeros((4, 2)), "b": [None] * 4}, [0, 1, 0, 1], {}, "b: no utterance has it; leave it out"),
        (
            {"a": np.zeros((4, 2)), "b": np.zeros((4, 2))},
            [0, 1],
            {},
            r"one label per utterance, \[4\], found shape \[2\]",
        ),
        (TWO, [1, 1, 1, 1], {}, r"two classes or more, found \[1\]"),
        ({"a": [[1.0, np.nan]] * 4, "b": np.zeros((4, 2))}, [0, 1] * 2, {}, "a: utterance 0 has nan in some"),
        (
            {"a": [[1.0], [1.0, 2.0]] * 2, "b": np.zeros((4, 2))},
            [0, 1] * 2,
            {},
            r"of one width, found \[\(1, 1\), \(1, 2",
        ),
        ({"a": ["x"] * 4, "b": np.zeros((4, 2))}, [0, 1] * 2, {}, "a: utterance 0 is no array of numbers"),
        (TWO, [0, 1] * 2, {"method": "x"}, "the method 'x' is none of"),
        (TWO, [0, 1] * 2, {"validation_fraction": 2}, "between 0 and 1"),
        (TWO, [0, 1] * 2, {"validation_fraction": None}, "between 0 and 1, found None"),
        (TWO, [0, 1] * 2, {"method": None}, "the method None is none of cm_arr"),
        (TWO, [0, 1] * 2, {"preset": "vectors"}, "preset must be a cmarr_jax.presets.Preset, .* found 'vectors'"),
        (TWO, [0, 1] * 2, {"options": ["x"]}, r"options must be a dict, found \['x'\]"),
        (TWO, [0, 1] * 2, {"method": "mmin", "weights": {"imagination": "a"}}, "must be a finite number .* found 'a'"),
    ],
)
def test_faults_are_sentences(features, y, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        MissingModalityClassifier(**{"method": "zero_fill", "preset": QUICK, **options}).fit(features, y)


def test_faults_at_prediction(fitted):
    model, _ = fitted
    with pytest.raises(ValueError, match=r"utterance 1: words: has shape \[4\] where \[5\], one vector, is expected"):
        model.predict_proba({"words": [np.zeros(5), np.zeros(4)]})
    with pytest.raises(ValueError, match="utterance 0: no modality is there"):
        model.predict_proba({"words": [None], "face": [None]})
    with pytest.raises(ValueError, match="there is no modality 'smell'"):
        model.predict_proba({"smell": np.zeros((1, 5))})
    with pytest.raises(ValueError, match="X has no utterance; give one or more"):
        model.predict_proba({"words": np.zeros((0, 5))})
    with pytest.raises(ValueError, match="is not fitted"):
        MissingModalityClassifier().predict({"words": np.zeros((1, 5))})


def test_without_scikit_learn_the_parameters_work():
    class Model(ClassifierMixin, BaseEstimator):
        def __init__(self, a=1, b=2):
            self.a, self.b = a, b

    model = Model(b=3)
    assert model.get_params() == {"a": 1, "b": 3}
    assert model.set_params(a=4).a == 4
    assert repr(model) == "Model(a=4, b=3)"
    with pytest.raises(ValueError, match="no parameter 'c'; there are a, b"):
        model.set_params(c=1)


def with_unlabelled(y, share=3):
    """Every class of every speaker keeps labels; the others are -1, among text too."""
    y = y.astype(object)
    y[np.arange(NUM) % (3 * share) < 3 * (share - 1)] = -1
    return y


def test_it_learns_from_unlabelled_utterances(monkeypatch):
    """Those of a validation speaker are in no part; the labels that y does not give are not read."""
    features, y, groups = make_data()
    folds = []
    monkeypatch.setattr("cmarr_jax.estimator_shared.train_once", lambda *args: folds.append(args) or train_once(*args))
    sizes = {"options": {"flow_layers": 2, "flow_hidden": 8, "projection": 4}, "preset": QUICK}
    model = MissingModalityClassifier("cm_arr", **sizes).fit(features, with_unlabelled(y), groups=groups)
    [(corpus, fold, *_)] = folds
    assert model.classes_.tolist() == ["angry", "calm", "sad"]
    given = with_unlabelled(y) != -1
    assert given[fold.train].all()
    assert given[model.validation_].all()
    assert not given[model.unlabelled_].any()
    assert not set(groups[model.unlabelled_]) & set(groups[model.validation_])
    assert len(fold.train) + len(model.unlabelled_) == NUM - 9 * len(set(groups[model.validation_]))
    assert (corpus.label[fold.unlabelled] == -1).all()
    assert model.score(*make_data(seed=1)[:2]) > 0.8


@pytest.mark.parametrize("y", [[0, 1, -1], ["a", "b", -1], [0.0, 1.0, -1.0], np.array(["a", "b", -1], object)])
def test_minus_one_is_no_class(y):
    features = {"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}
    corpus, classes = _to_corpus(Modalities(features), y, None)
    assert len(classes) == 2
    np.testing.assert_array_equal(corpus.label, [0, 1, -1])


def test_two_classes_of_which_one_is_called_minus_one():
    with pytest.raises(ValueError, match="found \\[1\\], and 2 times -1, which says that an utterance is unlabelled"):
        _to_corpus(Modalities({"a": np.zeros((3, 2)), "b": np.zeros((3, 2))}), [1, -1, -1], None)


def test_a_training_that_diverges_names_utterances_and_keeps_the_model_that_was_fitted(fitted):
    features, y, groups = make_data()
    model = copy.copy(fitted[0]).set_params(learning_rate=1e30)
    before = dict(vars(model))
    sentence = (
        r"diverged: \d+ updates were not finite, the last one in epoch \d+ with the utterances (\d+, ){8}\.\.\.; "
    )
    with pytest.raises(ValueError, match=sentence):
        model.fit(features, np.where(y == "sad", "calm", y), groups=groups)
    assert vars(model).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(model).items())


def test_after_a_first_fit_that_failed_it_is_not_fitted(monkeypatch):
    def fails(*args):
        raise MemoryError

    monkeypatch.setattr("cmarr_jax.estimator_shared.train_once", fails)
    features, y, groups = make_data()
    model = MissingModalityClassifier("zero_fill", preset=QUICK)
    before = vars(model).keys() | set()
    with pytest.raises(MemoryError):
        model.fit(features, y, groups=groups)
    assert vars(model).keys() == before


def test_the_score_does_not_count_unlabelled_utterances(fitted):
    model, _ = fitted
    features, y, _ = make_data(seed=1)
    known = np.arange(NUM) % 2 == 0
    partly, weight = np.where(known, y, "-1"), np.linspace(0, 1, NUM)
    hit = model.predict(features) == y
    assert 0 < hit[known].mean() < 1 or hit[known].all()
    assert model.score(features, partly) == pytest.approx(hit[known].mean())
    assert model.score(features, np.where(known, y.astype(object), -1)) == model.score(features, partly)
    found = model.score(features, partly, sample_weight=weight)
    assert found == pytest.approx(np.average(hit[known], weights=weight[known]))
    with pytest.raises(ValueError, match="no utterance of y is labelled"):
        model.score(features, np.full(NUM, "-1"))
    with pytest.raises(ValueError, match=r"y must have one label per utterance, \[90\], found shape \[3\]"):
        model.score(features, y[:3])
