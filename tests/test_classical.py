"""Late fusion of classical models, against scikit-learn used by hand."""

import dataclasses

import numpy as np
import pytest
import scipy.special
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler
from tiny import make_corpus

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.folds import FoldSplit, make_folds
from experiments import classical
from experiments.classical import KINDS, ClassicalConfig, fit_fold, pooled


@pytest.fixture(scope="module")
def corpus():
    return make_corpus(sequences=("audio",), absent=0.2, per_speaker=24)


def fit(corpus, kind, fold):
    inputs = {name: pooled(corpus, name) for name in corpus.modalities}
    return fit_fold(ClassicalConfig(kind, corpus.num_classes), corpus, inputs, fold), inputs


def test_pooled_statistics(corpus):
    found = pooled(corpus, "audio")
    start = corpus.length["audio"][:5].sum()
    frames = corpus.features["audio"][start : start + corpus.length["audio"][5]]
    np.testing.assert_allclose(found[5], np.concatenate([frames.mean(0), frames.std(0)]), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(pooled(corpus, "video"), corpus.features["video"])


@pytest.mark.parametrize("kind", KINDS)
def test_each_modality_alone_is_the_model_of_scikit_learn(corpus, kind):
    fold = make_folds(corpus)[0]
    result, inputs = fit(corpus, kind, fold)
    for column, name in enumerate(corpus.modalities):
        rows = fold.train[corpus.present[fold.train, column]]
        scaler = StandardScaler().fit(inputs[name][rows])
        model = KINDS[kind][1](result.strength[name]).fit(scaler.transform(inputs[name][rows]), corpus.label[rows])
        has = corpus.present[fold.test, column]
        expected = model.decision_function(scaler.transform(inputs[name][fold.test[has]]))
        expected = scipy.special.log_softmax(expected / result.models["temperature"][column], axis=-1)
        np.testing.assert_allclose(result.test_logits[column, has], expected, rtol=1e-3, atol=1e-3)
        assert not result.test_logits[column, ~has].any()


def test_conditions_follow_the_product_rule(corpus):
    fold = make_folds(corpus)[1]
    result, _ = fit(corpus, "lda", fold)
    prior = np.bincount(corpus.label[fold.train]) / len(fold.train)
    np.testing.assert_allclose(result.models["log_prior"], np.log(prior), rtol=1e-5)
    for logits, rows in ((result.val_logits, fold.val), (result.test_logits, fold.test)):
        present = corpus.present[rows]
        for number, pattern in enumerate(availability_patterns(3)):
            available = present & pattern
            count = available.sum(1)
            singles = np.sum(np.where(available.T[..., None], logits[:3], 0.0), axis=0)
            expected = singles - (count - 1)[:, None] * np.log(prior)
            np.testing.assert_allclose(logits[number][count > 0], expected[count > 0], atol=1e-4)


def test_the_strength_is_chosen_on_validation_and_the_test_rows_choose_nothing(corpus):
    fold = make_folds(corpus)[0]
    result, inputs = fit(corpus, "lda", fold)
    changed = {name: values.copy() for name, values in inputs.items()}
    for values in changed.values():
        values[fold.test] = 7.0
    label = corpus.label.copy()
    label[fold.test] = 0
    other = fit_fold(ClassicalConfig("lda", 4), dataclasses.replace(corpus, label=label), changed, fold)
    assert other.strength == result.strength
    for name, value in result.models.items():
        np.testing.assert_array_equal(other.models[name], value)
    scores = {}
    rows, val = (part[corpus.present[part, 0]] for part in (fold.train, fold.val))
    scaler = StandardScaler().fit(inputs["audio"][rows])
    for strength in KINDS["lda"][0]:
        model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=strength)
        predicted = model.fit(scaler.transform(inputs["audio"][rows]), corpus.label[rows]).predict(
            scaler.transform(inputs["audio"][val])
        )
        scores[strength] = np.mean([np.mean(predicted[corpus.label[val] == k] == k) for k in range(4)])
    assert scores[result.strength["audio"]] == max(scores.values())


def test_unlabelled_rows_standardise_and_do_nothing_else(corpus):
    fold = make_folds(corpus)[0]
    fewer = fold._replace(train=fold.train[:48], unlabelled=fold.train[48:])
    unlabelled = dataclasses.replace(corpus, label=corpus.label.copy())
    unlabelled.label[fewer.unlabelled] = -1
    result, inputs = fit(unlabelled, "lda", fewer)
    np.testing.assert_array_equal(result.test_logits, fit(corpus, "lda", fewer)[0].test_logits)  # labels are not read
    rows = fewer.train[corpus.present[fewer.train, 1]]
    scaler = StandardScaler().fit(inputs["video"][fold.train[corpus.present[fold.train, 1]]])
    model = KINDS["lda"][1](result.strength["video"]).fit(scaler.transform(inputs["video"][rows]), corpus.label[rows])
    expected = model.coef_.T / scaler.scale_[:, None]
    np.testing.assert_allclose(result.models["video_kernel"], expected, rtol=1e-6)


def third_unlabelled(corpus):
    """Every third utterance of a training speaker loses its label."""
    label = np.where(np.arange(len(corpus)) % 3 == 0, -1, corpus.label)
    corpus = dataclasses.replace(corpus, label=label.astype(np.int32))
    return corpus, make_folds(corpus)[0]


def test_self_training_fits_again_to_the_fused_classes(corpus, monkeypatch):
    """All rows count as sure, once; the last of what was tried is taken."""
    corpus, fold = third_unlabelled(corpus)
    plain, inputs = fit(corpus, "lda", fold)
    monkeypatch.setattr(classical, "THRESHOLDS", (0.0,))
    monkeypatch.setattr(classical, "ROUNDS", 1)
    order = iter(range(2))
    monkeypatch.setattr(classical, "_validation_uar", lambda *_: next(order))
    found = fit_fold(ClassicalConfig("lda", corpus.num_classes, self_training=True), corpus, inputs, fold)
    rows, present, log_prior = fold.unlabelled, corpus.present[fold.unlabelled], plain.models["log_prior"]
    fused = -(present.sum(1, keepdims=True) - 1) * log_prior
    for column, name in enumerate(corpus.modalities):
        logits = inputs[name][rows] @ plain.models[f"{name}_kernel"] + plain.models[f"{name}_bias"]
        posterior = scipy.special.log_softmax(logits / plain.models["temperature"][column], axis=-1)
        fused += np.where(present[:, [column]], posterior, 0.0)
    label = corpus.label.copy()
    label[rows] = fused.argmax(-1)
    for column, name in enumerate(corpus.modalities):
        train = np.concatenate([fold.train, rows])
        train = train[corpus.present[train, column]]
        scaler = StandardScaler().fit(inputs[name][train])
        model = KINDS["lda"][1](found.strength[name]).fit(scaler.transform(inputs[name][train]), label[train])
        np.testing.assert_allclose(found.models[f"{name}_kernel"], model.coef_.T / scaler.scale_[:, None], rtol=1e-6)
        assert not np.allclose(found.models[f"{name}_kernel"], plain.models[f"{name}_kernel"])


def test_the_product_rule_divides_by_the_prior_that_its_models_have(corpus, monkeypatch):
    """Pseudo-labels of one class alone: shares of the labelled rows would count this class once per modality."""
    fold = make_folds(corpus)[0]
    half, others = np.split(fold.train, 2)
    fold = fold._replace(train=half, unlabelled=others[corpus.label[others] == 0])
    monkeypatch.setattr(classical, "_pseudo_labelled", lambda *_: corpus.label)
    order = iter(range(1 + len(classical.THRESHOLDS)))
    monkeypatch.setattr(classical, "_validation_uar", lambda *_: next(order))
    inputs = {name: pooled(corpus, name) for name in corpus.modalities}
    found = fit_fold(ClassicalConfig("lda", corpus.num_classes, self_training=True), corpus, inputs, fold)
    fitted = corpus.label[np.concatenate([fold.train, fold.unlabelled])]
    shares = np.bincount(fitted) / len(fitted)
    assert shares[0] > 0.35
    np.testing.assert_allclose(np.exp(found.models["log_prior"]), shares, rtol=1e-5)


def test_self_training_keeps_what_validation_prefers(corpus):
    corpus, fold = third_unlabelled(corpus)
    plain, inputs = fit(corpus, "lda", fold)
    config = ClassicalConfig("lda", corpus.num_classes, self_training=True)
    score = lambda result: classical._validation_uar(result, corpus, fold)
    found = fit_fold(config, corpus, inputs, fold)
    assert score(found) >= score(plain)
    labelled = fold._replace(unlabelled=fold.unlabelled[:0])
    same = fit_fold(config, corpus, inputs, labelled)
    expected = fit_fold(dataclasses.replace(config, self_training=False), corpus, inputs, labelled)
    np.testing.assert_array_equal(same.test_logits, expected.test_logits)
    assert (config.to_dict()["method"], KINDS.keys()) == ("classical_lda_self", {"lda", "logistic"})


def test_self_training_reads_no_label_of_an_unlabelled_row(corpus, monkeypatch):
    """The guesses of the first models as true labels, or any others, give the logits that no labels give."""
    blank, fold = third_unlabelled(corpus)
    plain, inputs = fit(blank, "lda", fold)
    known = blank.label
    guessed = classical._pseudo_labelled(known, blank, inputs, fold, plain.models, 0.0)
    assert (known[fold.unlabelled] == -1).all()
    assert (guessed >= 0)[fold.unlabelled].all()
    monkeypatch.setattr(classical, "THRESHOLDS", (0.0,))  # all rows are sure

    def logits(label):
        order = iter(range(2))
        monkeypatch.setattr(classical, "_validation_uar", lambda *_: next(order))  # the last one is taken
        config = ClassicalConfig("lda", corpus.num_classes, self_training=True)
        return fit_fold(config, dataclasses.replace(blank, label=label), inputs, fold).test_logits

    expected = logits(known)
    assert not np.array_equal(expected, plain.test_logits)
    for label in (guessed, corpus.label, np.where(known < 0, 2, known)):
        np.testing.assert_array_equal(logits(label), expected)


def test_validation_counts_the_decisions_that_there_are():
    """By hand, of two modalities and classes: row 0 lacks the second one, where logits of zero would say class 0.

    In `a` row 0 is wrong and row 1 right, in `v` only row 1 counts and is right: recalls 0 of 1 and 2 of 2.
    """
    corpus = make_corpus(sequences=(), sessions=3)
    present = np.array([[True, False], [True, True]])
    features = {name: np.zeros((2, 3), np.float32) for name in ("audio", "video")}
    names = {name: getattr(corpus, name)[:2] for name in ("utterance_id", "speaker", "session")}
    corpus = dataclasses.replace(
        corpus, **names, label=np.array([0, 1], np.int32), class_names=("a", "b"), features=features, present=present
    )
    fold = FoldSplit("fold", np.zeros(0, int), np.arange(2), np.zeros(0, int))
    logits = np.array([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    result = classical.ClassicalResult({}, {}, logits, logits)
    assert classical._validation_uar(result, corpus, fold) == 0.5


def test_two_classes_and_a_class_without_a_modality():
    corpus = make_corpus(sequences=(), per_speaker=24)
    two = dataclasses.replace(corpus, label=(corpus.label > 1).astype(np.int32), class_names=("calm", "excited"))
    for kind in KINDS:
        result, _ = fit(two, kind, make_folds(two)[0])
        assert result.test_logits.shape == (7, 24, 2)
        assert np.mean(result.test_logits[-1].argmax(-1) == two.label[make_folds(two)[0].test]) > 0.8
    lacking = corpus.present.copy()
    lacking[corpus.label == 3, 0] = False
    result, _ = fit(dataclasses.replace(corpus, present=lacking), "lda", make_folds(corpus)[0])
    assert not (result.test_logits[0].argmax(-1) == 3).any()
    assert np.isfinite(result.test_logits).all()


def test_a_class_without_training_utterance_is_an_error(corpus):
    fold = make_folds(corpus)[0]
    fold = fold._replace(train=fold.train[corpus.label[fold.train] != 2])
    with pytest.raises(ValueError, match=r"has no training utterance of class neutral; classical models need one"):
        fit(corpus, "lda", fold)
