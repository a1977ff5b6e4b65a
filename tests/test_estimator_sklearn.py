"""The classifier inside scikit-learn's tools: a pipeline, and groups that reach `fit` by metadata routing."""

import numpy as np
import pytest
import sklearn
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from test_estimator import NUM, QUICK, make_data

from cmarr_jax.data.modalities import Modalities
from cmarr_jax.estimator import MissingModalityClassifier


def halved(X: Modalities) -> dict[str, list]:
    return {
        name: [None if value is None else value / 2 for value in entries] for name, entries in X.entries.items()
    }  # fmt: skip


def make_model() -> MissingModalityClassifier:
    return MissingModalityClassifier("zero_fill", preset=QUICK)


def make_pipeline() -> Pipeline:
    return Pipeline([("half", FunctionTransformer(halved)), ("model", make_model())])


def with_gaps():
    """Every seventh face is missing."""
    features, y, groups = make_data()
    features["face"][::7] = np.nan
    return Modalities(features), y, groups


def shared_groups(model: MissingModalityClassifier, groups: np.ndarray) -> set:
    """Groups that are in the validation part and in the training part; `groups` are those that `fit` has seen."""
    return {*groups[model.validation_]} & {*np.delete(groups, model.validation_)}


def test_a_pipeline_fits_and_predicts():
    X, y, groups = with_gaps()
    pipeline = make_pipeline().fit(X, y, model__groups=groups)
    assert not shared_groups(pipeline["model"], groups)
    alone = make_model().fit(halved(X), y, groups=groups)
    np.testing.assert_array_equal(pipeline.predict_proba(X), alone.predict_proba(halved(X)))
    assert pipeline.classes_.tolist() == ["angry", "calm", "sad"]
    words = Modalities({"words": make_data(seed=1)[0]["words"]})
    assert pipeline.score(words, y) > 0.9
    scores = cross_val_score(make_pipeline(), X, y, groups=groups, cv=GroupKFold(2))
    assert scores.min() > 0.8


@pytest.mark.parametrize(("make", "step"), [(make_model, None), (make_pipeline, "model")])
def test_routed_groups_are_respected_by_the_validation_part(make, step):
    X, y, groups = with_gaps()
    cv, kept = GroupKFold(2), {"return_estimator": True, "return_indices": True}

    def shared(found):
        models = [model if step is None else model[step] for model in found["estimator"]]
        return [
            shared_groups(model, groups[rows]) for model, rows in zip(models, found["indices"]["train"], strict=True)
        ]

    without = cross_validate(make(), X, y, groups=groups, cv=cv, **kept)
    assert all(shared(without))  # `fit` has not seen the groups
    with sklearn.config_context(enable_metadata_routing=True):
        model = make()
        (model if step is None else model[step]).set_fit_request(groups=True)
        found = cross_validate(model, X, y, params={"groups": groups}, cv=cv, **kept)
        assert not any(shared(found))
        scores = cross_val_score(model, X, y, params={"groups": groups}, cv=cv)
        np.testing.assert_array_equal(scores, found["test_score"])
        name = "random_state" if step is None else f"{step}__random_state"
        search = GridSearchCV(model, {name: [0]}, cv=cv).fit(X, y, groups=groups)
        best = search.best_estimator_ if step is None else search.best_estimator_[step]
        assert len(best.validation_) < NUM / 2
        assert not shared_groups(best, groups)
        with pytest.raises(UnsetMetadataPassedError, match="set_fit_request"):
            cross_val_score(make_model(), X, y, params={"groups": groups}, cv=cv)
