"""`Predictor` gives the numbers of the evaluation, for any subset of modalities, and a sentence for each fault."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from predict_units import corpus_of, features_of, make_unit

from cmarr_jax.calibration import disagreement, fit_temperature, missing_decisions
from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.methods import REGISTRY
from cmarr_jax.nn.convolution import conv_direct, conv_one
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_batch import UtteranceError, cut_into_batches, num_frames
from cmarr_jax.predict_class import all_drawn
from experiments.units import Unit, read_outputs

PATTERNS = availability_patterns(3)


@pytest.fixture(scope="module")
def corpus():
    return corpus_of()


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """Two seeds of CM-ARR."""
    folder = tmp_path_factory.mktemp("units")
    return [make_unit(folder, "cm_arr", corpus, seed=seed)[0] for seed in range(2)]


@pytest.fixture(scope="module")
def predictor(made):
    return Predictor.load(made[0], embeddings=True)


def kept(folder, part="test"):
    record = json.loads((folder / "run.json").read_text())
    return read_outputs(folder.parent.parent, Unit(record["name"], record["fold"], record["seed"]), part)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_logits_are_those_of_the_evaluation(name, corpus, tmp_path):
    folder, fold = make_unit(tmp_path, name, corpus)
    outputs, predictor = kept(folder), Predictor.load(folder)
    asked = [(p, i) for p in range(len(PATTERNS)) for i in range(len(fold.test))]
    counted = [(p, i) for p, i in asked if (PATTERNS[p] & outputs.present[i]).any()]
    assert len(counted) > 0.9 * len(asked)
    answers = predictor.predict([features_of(corpus, fold.test[i], PATTERNS[p]) for p, i in counted])
    for (p, i), answer in zip(counted, answers, strict=True):
        np.testing.assert_allclose(answer.logits[0], outputs.logits[p, i], rtol=1e-6, atol=1e-6)
        assert answer.class_name == corpus.class_names[outputs.logits[p, i].argmax()]


def test_probabilities_have_the_temperature_of_the_report(made, predictor, corpus):
    validation = kept(made[0], "val")
    temperature = fit_temperature(missing_decisions(validation.logits, validation.label, validation.present))
    [answer] = predictor.predict([features_of(corpus, 0)])
    np.testing.assert_allclose(answer.probabilities, scipy.special.softmax(answer.logits[0] / temperature), rtol=1e-5)


def test_an_answer_does_not_depend_on_its_batch(predictor, corpus):
    rows = [features_of(corpus, row) for row in range(20)]
    together = predictor.predict(rows)
    for number in (0, 7, 19):
        [alone] = predictor.predict([rows[number]])
        other = together[number]
        assert alone.class_name == other.class_name
        assert alone.modalities == other.modalities
        for name in ("probabilities", "logits", "spread", "disagreement"):
            np.testing.assert_allclose(getattr(alone, name), getattr(other, name), rtol=1e-5, atol=1e-6)


def test_long_utterances_are_shortened_as_in_training(predictor):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(12, 5))
    halves = frames.reshape(6, 2, 5).mean(1)  # by hand: 12 frames become 6, each the mean of two
    long, short = predictor.predict([{"audio": frames}, {"audio": halves}])
    np.testing.assert_allclose(long.logits, short.logits, rtol=1e-6, atol=1e-6)


def test_shapes_are_few():
    assert [num_frames(n, None) for n in (1, 8, 9, 100)] == [8, 8, 16, 128]
    assert num_frames(100, 50) == 50
    assert len({num_frames(n, None) for n in range(1, 1025)}) == 8


def test_one_long_utterance_does_not_pad_all_others():
    modalities = (ModalityConfig("audio", 1024, "lstm"), ModalityConfig("text", 64, "vector"))
    short, long = {"audio": np.zeros((30, 1024), "f4")}, {"audio": np.zeros((30_000, 1024), "f4")}
    cut = lambda *rows: [(part.start, part.stop) for part in cut_into_batches(rows, modalities, None)]
    assert cut(*[short] * 300) == [(0, 256), (256, 300)]
    assert cut(*[short] * 16, long, short) == [(0, 16), (16, 17), (17, 18)]  # 16 long ones would be 2 GiB
    assert cut(long, long) == [(0, 1), (1, 2)]
    assert cut() == []
    assert [*cut_into_batches([long] * 20, modalities, 50)] == [slice(0, 20)]  # what is shortened is no longer long


def test_answers_of_several_batches_are_in_their_order(predictor, corpus, monkeypatch):
    rows = [features_of(corpus, row) for row in range(20)]
    expected = predictor.predict(rows)
    monkeypatch.setattr("cmarr_jax.predict_batch.MOST_NUMBERS", 600)
    assert len([*cut_into_batches(rows, predictor.modalities, predictor.units[0].input.max_frames)]) > 5
    for one, other in zip(predictor.predict(rows), expected, strict=True):
        np.testing.assert_allclose(one.logits, other.logits, rtol=1e-5, atol=1e-6)


def test_outputs_that_are_not_finite_are_no_answer(predictor, corpus):
    unit = predictor.units[0]
    broken = unit._replace(normalizer=jax.tree.map(lambda x: x * np.float32(np.nan), unit.normalizer))
    [answer] = Predictor((broken,)).predict([features_of(corpus, 0)])
    assert isinstance(answer, UtteranceError)
    assert str(answer).startswith("the outputs for it are not finite; see whether its features are made as those")


def test_abstains_by_the_coverage_of_the_validation_part(made, corpus):
    """On validation utterances with all modalities, the share that abstains is what was asked for."""
    outputs = kept(made[0], "val")
    row_of = {name: row for row, name in enumerate(corpus.utterance_id)}
    whole = [row_of[name] for name, has in zip(outputs.utterance_id, outputs.present, strict=True) if has.all()]
    for coverage in (1.0, 0.5):
        answers = Predictor.load(made[0], coverage=coverage).predict([features_of(corpus, row) for row in whole])
        share = np.mean([answer.abstains for answer in answers])
        assert abs(share - (1 - coverage)) <= 1 / len(whole)


def test_features_far_from_the_training_are_told_and_abstain(made, corpus):
    """A network is sure of anything there: without a word the answer would have a probability of 1."""
    predictor = Predictor.load(made[0], coverage=1.0)
    mean, inverse_std = predictor._scales["audio"]

    def at(deviations):
        features = features_of(corpus, 0)
        features["audio"] = np.array(features["audio"], np.float32)
        features["audio"][-1, 2] = mean[2] - deviations / inverse_std[2]
        return features

    near, far = at(99), at(101)
    one, other = predictor.predict([near, far])
    assert (one.far, one.abstains) == ("", False)
    value = f"{far['audio'][-1, 2]:.4g}"
    assert other.far.startswith(f"audio: column 2 is {value}, 101 standard deviations from the mean of the training; ")
    assert other.abstains


def test_the_threshold_of_several_units_is_the_mean_of_theirs(made):
    both = Predictor.load(*made)._threshold
    each = [Predictor.load(folder)._threshold for folder in made]
    for pattern, found in both.items():
        assert found == pytest.approx(np.mean([one[pattern] for one in each]))


def test_embeddings_are_recovered_where_a_modality_is_missing(predictor, corpus):
    row = int(np.flatnonzero(corpus.present.all(1))[0])
    whole, part = predictor.predict([features_of(corpus, row), features_of(corpus, row, (True, False, True))])
    assert list(part.embeddings) == ["audio", "video", "text"]
    np.testing.assert_allclose(whole.embeddings["audio"], part.embeddings["audio"], atol=1e-6)
    assert np.abs(whole.embeddings["video"] - part.embeddings["video"]).max() > 1e-3


def test_spread_is_the_mean_over_what_is_there(predictor, corpus):
    row = int(np.flatnonzero(corpus.present.all(1))[0])
    one, other, both = predictor.predict(
        [features_of(corpus, row, p) for p in ((True, False, False), (False, True, False), (True, True, False))]
    )
    np.testing.assert_allclose(both.spread, (one.spread + other.spread) / 2, rtol=1e-5)
    assert one.disagreement > 0


def test_disagreement_by_hand():
    d = 1e-4  # of predictions that differ by 2 d, float32 would leave nothing
    pairs = [[[1, 0], [0, 1]], [[0.3, 0.7], [0.3, 0.7]], [[0.5 + d, 0.5 - d], [0.5 - d, 0.5 + d]]]
    found = disagreement(np.array(pairs, np.float32).swapaxes(0, 1))
    np.testing.assert_allclose(found, [np.log(2), 0, 2 * d**2], rtol=1e-4, atol=1e-12)


def test_a_unit_that_draws_nothing_counts_as_often_as_the_others():
    draws, [none] = np.arange(6.0).reshape(3, 1, 2), np.full((1, 1, 1, 2), 9.0)
    np.testing.assert_array_equal(all_drawn([draws, none]), np.concatenate([draws, none, none, none]))
    np.testing.assert_array_equal(all_drawn([none, none]), np.concatenate([none, none]))


def test_an_ensemble_is_the_mean_of_the_probabilities(made, corpus):
    features = [features_of(corpus, row) for row in range(3)]
    singles = [Predictor.load(folder).predict(features) for folder in made]
    for number, answer in enumerate(Predictor.load(*made).predict(features)):
        mean = (singles[0][number].probabilities + singles[1][number].probabilities) / 2
        np.testing.assert_allclose(answer.probabilities, mean, atol=1e-6)
        assert answer.logits.shape == (2, 4)


GOOD = {"audio": np.ones((3, 5)), "video": np.ones(3), "text": np.ones((2, 6))}
FAULTS = {
    "a wrong width": (GOOD | {"audio": np.ones((3, 4))}, r"audio: has shape \[3, 4\] where \[T, 5\], T frames, is"),
    "frames for a vector": (GOOD | {"video": np.ones((2, 3))}, r"video: has shape \[2, 3\] where \[3\], one vector"),
    "no frame": (GOOD | {"text": np.ones((0, 6))}, "text: has no frame"),
    "an unknown modality": (GOOD | {"smell": np.ones(3)}, "there is no modality 'smell'; this model has audio, video"),
    "nan": (GOOD | {"text": np.full((2, 6), np.nan)}, "text: frame 0, column 0 is nan"),
    "infinity in float32": (GOOD | {"video": np.array([0, 1e300, 0])}, "video: column 1 is inf"),
    "masked numbers": (
        GOOD | {"video": np.ma.array(np.ones(3), mask=[True, False, False])},
        "video: has masked numbers; fill them or leave the modality out",
    ),
    "text": (GOOD | {"video": np.array(["a", "b", "c"])}, "video: holds <U1 where numbers"),
    "rows of two widths": (GOOD | {"video": [[1, 2], [3]]}, "video: is no array of numbers .* inhomogeneous shape"),
    "no dict": (None, "is a NoneType where a dict from modalities to features is expected"),
    "a number that no training has": (
        GOOD | {"video": [0, 3e38, 0]},
        r"video: column 1 is 3e\+38, beyond 1e\+18; corr",
    ),
    "nothing": ({"audio": None}, "no modality is there; give at least one of audio, video, text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_sentence_and_the_others_are_answered(predictor, name):
    features, sentence = FAULTS[name]
    first, wrong, last = predictor.predict([GOOD, features, GOOD])
    assert isinstance(wrong, UtteranceError)
    with pytest.raises(UtteranceError, match=sentence):
        raise wrong
    assert first.class_name == last.class_name


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "run.json").unlink(), "holds no finished unit"),
        (lambda folder: shutil.rmtree(folder / "params"), "holds no trained network with outputs"),
        (lambda folder: edit(folder, {"input": None}), "in version none, where 1 is read; train it again"),
        (lambda folder: edit(folder, {"input": {"version": 2}}), "in version 2, where 1 is read"),
        (lambda folder: (folder / "run.json").write_text("[" * 100_000), "holds no finished unit"),
        (lambda folder: (folder / "run.json").write_text("[1]"), "holds no finished unit"),
        (lambda folder: edit(folder, {"input": "x"}), r"is damaged \(input is 'x'\)"),
        (lambda folder: edit(folder, {"input": {"version": 1}}), r"is damaged \(.*input.class_names is missing\)"),
        (lambda folder: (folder / "outputs.npz").write_bytes(b"PK"), "is damaged"),
        (lambda folder: (folder / "params" / "_METADATA").write_bytes(b"{"), "is damaged"),
    ],
)
def test_a_folder_that_cannot_predict_is_named(made, tmp_path, spoil, sentence):
    shutil.copytree(made[0], tmp_path / "unit")
    spoil(tmp_path / "unit")
    with pytest.raises(ArchiveError, match=sentence) as caught:
        Predictor.load(tmp_path / "unit")
    assert str(tmp_path / "unit") in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(folder, change):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | change))


def test_units_of_different_input_do_not_answer_together(made, tmp_path):
    shutil.copytree(made[1], tmp_path / "unit")
    record = json.loads((made[1] / "run.json").read_text())
    edit(tmp_path / "unit", {"input": record["input"] | {"max_frames": 7}})
    with pytest.raises(ArchiveError, match="has other max_frames than"):
        Predictor.load(made[0], tmp_path / "unit")
    with pytest.raises(ArchiveError, match="coverage must be above 0 and at most 1, found 0"):
        Predictor.load(made[0], coverage=0)


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_the_convolution_of_one_row_is_the_direct_one(num_frames):
    rng = np.random.default_rng(0)
    frames = [jnp.asarray(rng.normal(size=(num_frames, 1, 6)), jnp.float32)]
    kernels = [jnp.asarray(rng.normal(size=(width, 4, 6)), jnp.float32) for width in (2, 3, 5)]
    [one], [direct] = conv_one(frames, kernels), conv_direct(frames, kernels)
    np.testing.assert_allclose(one, direct, rtol=1e-5, atol=1e-5)
