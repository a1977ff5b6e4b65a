"""The regressor with scikit-learn's habits: on arrays, with missing modalities and numbers, saved, loaded, cloned."""

import dataclasses

import numpy as np
import pytest
import sklearn.base
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_score
from test_estimator import QUICK, assert_same_history

from cmarr_jax.config import REGRESSION_TASK
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.modalities import Modalities
from cmarr_jax.estimator import MissingModalityClassifier
from cmarr_jax.metrics import agreement_sums, ccc, mae
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_value import ValuePrediction
from cmarr_jax.regressor import MissingModalityRegressor, _halves
from cmarr_jax.training.one_run import train_once

NUM = 90


def make_data(seed=0):
    """A number between 40 and 60 that each of two vectors shows; ten speakers."""
    rng = np.random.default_rng(seed)
    number = rng.uniform(-1, 1, NUM)
    seen = lambda width: np.concatenate(
        [number[:, None] + 0.1 * rng.normal(size=(NUM, 2)), rng.normal(size=(NUM, width))], axis=1
    )
    return {"face": seen(1), "words": seen(3)}, 50 + 10 * number, np.arange(NUM) // 9


@pytest.fixture(scope="module")
def fitted():
    features, y, groups = make_data()
    return MissingModalityRegressor("zero_fill", preset=QUICK).fit(features, y, groups=groups)


def test_it_learns_and_answers_from_any_modality(fitted):
    features, y, groups = make_data(seed=1)
    assert fitted.modalities_ == ("face", "words")
    for part in (features, {"words": features["words"]}, {"face": features["face"], "words": None}):
        predicted = fitted.predict(part)
        sums = agreement_sums(y, predicted, np.ones(NUM, bool))
        assert ccc(sums) > 0.9
        assert mae(sums) < 2.5
        assert fitted.score(part, y) == pytest.approx(r2_score(y, predicted))
    assert not set(groups[fitted.validation_]) & set(np.delete(groups, fitted.validation_))
    assert max(fitted.history_["missing"]["val_ccc"]) > 0.9
    assert not hasattr(fitted, "classes_")


def test_scores_are_ccc_and_mae(fitted):
    features, y, _ = make_data(seed=1)
    for part in (features, {"words": features["words"]}):
        predicted = fitted.predict(part)
        by_definition = (  # Lin 1989, moments divided by n
            2 * np.cov(y, predicted, bias=True)[0, 1] / (y.var() + predicted.var() + (y.mean() - predicted.mean()) ** 2)
        )
        expected = {"ccc": by_definition, "mae": np.abs(y - predicted).mean()}
        assert fitted.scores(part, y) == pytest.approx(expected, rel=1e-9)
        assert fitted.scores(Modalities(part), y.tolist()) == fitted.scores(part, y)
    counted = np.arange(NUM) % 3 > 0
    found = fitted.scores(features, np.where(counted, y, np.nan))
    assert found == pytest.approx(fitted.scores(Modalities(features)[counted], y[counted]), rel=1e-9)
    assert {type(value) for value in found.values()} == {float}
    assert np.isnan([*fitted.scores(features, np.full(NUM, np.nan)).values()]).all()


def test_faults_of_scores_are_sentences(fitted):
    features, y, _ = make_data()
    for wrong, sentence in (
        (y[:2], r"one number per utterance, \[90\], found shape \[2\]"),
        (["a"] * NUM, "y must be numbers"),
        (np.where(np.arange(NUM) == 3, np.inf, y), "y of utterance 3 is inf"),
    ):
        with pytest.raises(ValueError, match=sentence):
            fitted.scores(features, wrong)
    with pytest.raises(ValueError, match="utterance 0: no modality is there"):
        fitted.scores({"words": [None]}, [1.0])
    with pytest.raises(ValueError, match="X has no utterance; give one or more"):
        fitted.predict({"words": np.zeros((0, 5))})
    with pytest.raises(ValueError, match="this regressor is not fitted"):
        MissingModalityRegressor().scores(features, y)


def test_the_predictor_gives_a_value_and_no_class(fitted):
    features, _, _ = make_data()
    [answer] = fitted.predictor_.predict([{"words": features["words"][0]}])
    assert isinstance(answer, ValuePrediction)
    assert answer.value == fitted.predict({"words": features["words"][:1]})[0]
    assert (answer.modalities, answer.std, answer.spread) == (("words",), None, None)
    [unit] = fitted.predictor_.units
    other = unit._replace(params={**unit.params, "classifier": {**unit.params["classifier"]}})
    other.params["classifier"]["logits"] = {**other.params["classifier"]["logits"], "bias": np.ones(1, np.float32)}
    [both] = Predictor((unit, other)).predict([{"words": features["words"][0]}])
    np.testing.assert_allclose(both.value, both.values.mean())
    np.testing.assert_allclose(both.std, np.abs(both.values[1] - both.values[0]) / 2, rtol=1e-4)
    assert both.std > 1


def test_gaussians_say_how_sure_it_is():
    features, y, groups = make_data()
    sizes = {"flow_layers": 2, "flow_hidden": 8, "projection": 4}
    short = dataclasses.replace(QUICK, train=dataclasses.replace(QUICK.train, missing_epochs=2))
    y[::3] = np.nan
    model = MissingModalityRegressor("cm_arr", options=sizes, preset=short).fit(features, y, groups=groups)
    assert len(model.unlabelled_) > 10
    assert np.isnan(y[model.unlabelled_]).all()
    assert not set(groups[model.unlabelled_]) & set(groups[model.validation_])
    [answer] = model.predictor_.predict([{"words": features["words"][0]}])
    assert answer.std > 0
    assert np.isfinite(answer.spread)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(fitted):
    features, y, groups = make_data()
    again = MissingModalityRegressor("zero_fill", preset=QUICK).fit(features, y, groups=groups)
    np.testing.assert_array_equal(again.predict(features), fitted.predict(features))
    other = MissingModalityRegressor("zero_fill", preset=QUICK, random_state=1).fit(features, y, groups=groups)
    assert np.abs(other.predict(features) - again.predict(features)).max() > 1e-3


def test_utterances_without_number_are_in_no_labelled_part(monkeypatch):
    features, y, groups = make_data()
    y[::3] = np.nan
    seen = []
    monkeypatch.setattr("cmarr_jax.estimator_shared.train_once", lambda *args: seen.append(args) or train_once(*args))
    MissingModalityRegressor("zero_fill", preset=QUICK).fit(features, y, groups=groups)
    [(corpus, fold, config, *_)] = seen
    assert np.isfinite(y[np.r_[fold.train, fold.val]]).all()
    np.testing.assert_array_equal(corpus.label < 0, np.isnan(y))
    assert config.task == REGRESSION_TASK


def test_saved_and_loaded_it_answers_the_same(fitted, tmp_path):
    features, _, _ = make_data(seed=2)
    fitted.save(tmp_path / "model")
    loaded = MissingModalityRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(features), fitted.predict(features))
    assert loaded.get_params() == fitted.get_params() | {"callback": None}
    np.testing.assert_array_equal(loaded.validation_, fitted.validation_)
    assert_same_history(loaded, fitted)
    [answer] = Predictor.load(tmp_path / "model").predict([{"words": features["words"][0]}])
    np.testing.assert_allclose(answer.value, fitted.predict({"words": features["words"][:1]})[0], rtol=1e-6)
    with pytest.raises(ArchiveError, match="is a saved regressor, not a classifier; read it with the class of the reg"):
        MissingModalityClassifier.load(tmp_path / "model")


def test_scikit_learn_can_clone_and_validate_it():
    features, y, groups = make_data()
    model = MissingModalityRegressor("zero_fill", preset=dataclasses.replace(QUICK), random_state=3)
    copy = sklearn.base.clone(model)
    assert copy.get_params() == model.get_params()
    assert sklearn.base.is_regressor(model)
    scores = cross_val_score(model, Modalities(features), y, groups=groups, cv=GroupKFold(3))
    assert scores.min() > 0.8


TWO = {"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}


@pytest.mark.parametrize(
    ("y", "options", "sentence"),
    [
        ([1, 2, 3], {}, r"one number per utterance, \[4\], found shape \[3\]"),
        ([1.5, 1.5, np.nan, 1.5], {}, r"two different numbers or more, found \[1.5\]"),
        ([np.nan] * 4, {}, r"two different numbers or more, found \[\]"),
        (
            [1.7e9, 1.7e9 + 100, 1.7e9 + 200, 1.7e9 + 130],
            {},
            r"^y is rounded by up to 56 as float32, where the standard deviation is [\d.]+; subtract a constant",
        ),
        ([1, 2, np.inf, 3], {}, r"y of utterance 2 is inf, beyond 1e\+18"),
        ([1, 2, 3, -1e300], {}, r"y of utterance 3 is -1e\+300, beyond 1e\+18"),
        (["a", "b", "c", "d"], {}, "y must be numbers"),
        ([1, 2, 3, 4], {"validation_fraction": 2}, "between 0 and 1"),
        ([1, 2, np.nan, np.nan], {}, "the validation part has no utterance with a number; give more utterances"),
        ([1, 1, 2, 2], {"method": "dicmor"}, "method dicmor is for classes only"),
    ],
)
def test_faults_are_sentences(y, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        MissingModalityRegressor(**{"method": "zero_fill", "preset": QUICK, **options}).fit(TWO, y)


def test_a_validation_part_of_one_number_is_refused():
    mask = np.array([False, False, True, True])
    with pytest.raises(ValueError, match=r"every validation utterance has the target 5\.0"):
        MissingModalityRegressor("zero_fill", preset=QUICK).fit(TWO, [1, 2, 5, 5], validation=mask)
    with pytest.raises(ValueError, match=r"every training utterance has the target 1\.0"):
        MissingModalityRegressor("zero_fill", preset=QUICK).fit(TWO, [1, 1, 2, 5], validation=mask)
    with pytest.raises(ValueError, match="this regressor is not fitted"):
        MissingModalityRegressor().predict(TWO)


def test_both_halves_have_an_utterance():
    for numbers, expected in (
        ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1]),
        ([1.0, 0.0, 1.0, np.nan, 1.0], [1, 0, 1, -1, 1]),
        ([0.0, 0.0, 0.0, 7.0], [0, 0, 0, 1]),
    ):
        np.testing.assert_array_equal(_halves(np.array(numbers), np.array(numbers)), expected)


def test_no_number_of_the_validation_part_moves_what_training_reads(monkeypatch):
    given = []
    monkeypatch.setattr(MissingModalityRegressor, "_train", lambda self, corpus, fold: given.append((corpus, fold)))
    X, held_out = {"a": np.zeros((6, 2)), "b": np.ones((6, 2))}, np.arange(6) > 3
    for last in (6.0, 0.0):
        MissingModalityRegressor().fit(X, np.array([1.0, 2.0, 3.0, 4.0, 5.0, last]), validation=held_out)
    (one, fold), (two, _) = given
    np.testing.assert_array_equal(one.label[fold.train], [0, 0, 1, 1])  # about the median of 1 to 4
    np.testing.assert_array_equal(one.label[fold.train], two.label[fold.train])
