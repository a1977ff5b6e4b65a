"""The synthetic corpus: its shape, its closed-form ceiling against brute force, and its tfds data set."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import scipy.special
from scipy.stats import multivariate_normal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import check_corpus
from cmarr_jax.metrics import uar, war
from data_prep import known_counts
from data_prep.synthetic import generative, posterior
from data_prep.synthetic.hard import make_hard_parameters
from data_prep.synthetic.load import default_data_dir, load

SMALL = {"scale": 0.02, "frame_scale": 0.2}
PATTERNS = availability_patterns(3)
A, V, T = 0, 1, 2  # rows of PATTERNS with one modality


@pytest.fixture(scope="module")
def parameters():
    return generative.make_parameters()


@pytest.fixture(scope="module")
def full(parameters):
    """All 5,531 utterances, drawn as the default corpus is."""
    corpus = generative.sample(parameters)
    return corpus, posterior.log_likelihood(corpus, parameters)


@pytest.fixture(scope="module")
def large(parameters):
    """Five draws of all ten speakers, with short sequences."""
    corpus = generative.sample(parameters, seed=1, repeats=5, frame_scale=0.3)
    return corpus, posterior.log_likelihood(corpus, parameters)


def _unwarped(corpus, parameters, name, row):
    end = int(corpus.length[name][: row + 1].sum())
    frames = corpus.features[name][end - corpus.length[name][row] : end].astype(np.float64)
    return generative.unwarp(frames, skew=parameters.skew[name], tail=parameters.tail[name])


def _brute_force(corpus, parameters, row, pattern):
    """Log density per class of *all* available frames, stacked, from their full covariance (scipy)."""
    names = [name for name, available in zip(corpus.modalities, pattern, strict=True) if available]
    frames = {name: _unwarped(corpus, parameters, name, row) for name in names}
    stack = np.concatenate([np.tile(parameters.maps[name], (len(frames[name]), 1)) for name in names])
    noise = np.concatenate([np.full(frames[name].size, parameters.frame_std[name] ** 2) for name in names])
    latent = np.diag(parameters.speaker_std**2 + parameters.utterance_std**2)
    private = [np.tile(parameters.private[name], (len(frames[name]), 1)) for name in names]  # the same in all frames
    private = scipy.linalg.block_diag(*(block @ block.T for block in private))
    covariance = stack @ latent @ stack.T + private + np.diag(noise)
    observed = np.concatenate([frames[name].ravel() for name in names])
    centred = observed - parameters.mean @ stack.T  # of each class and component
    density = multivariate_normal.logpdf(centred, np.zeros(len(observed)), covariance)
    return scipy.special.logsumexp(density.reshape(parameters.mean.shape[:2]), axis=-1)


def test_speakers_sessions_and_counts_are_those_of_iemocap(full):
    corpus, _ = full
    assert len(corpus) == 5531
    # The published totals: angry, happy, neutral, sad.
    np.testing.assert_array_equal(np.bincount(corpus.label), [1103, 1636, 1708, 1084])
    for speaker, counts in known_counts.IEMOCAP.items():
        np.testing.assert_array_equal(np.bincount(corpus.label[corpus.speaker == speaker]), counts)
    sessions = {session: set(corpus.speaker[corpus.session == session]) for session in np.unique(corpus.session)}
    assert sessions == {f"0{i}": {f"0{i}F", f"0{i}M"} for i in range(1, 6)}
    assert corpus.utterance_id.tolist() == sorted(corpus.utterance_id)
    check_corpus(corpus, "synthetic")


def test_scaled_counts_are_rounded_and_at_least_two():
    counts = generative.class_counts(0.01)
    np.testing.assert_array_equal(counts["05M"], [2, 3, 2, 2])  # by hand from 92 283 163 113
    with pytest.raises(ValueError, match="scale must be above 0, found 0"):
        generative.class_counts(0)


def test_lengths_are_like_those_of_iemocap(full, parameters):
    length = full[0].length
    assert 40 < length["audio"].mean() < 45
    assert 230 < length["audio"].max() <= 300
    assert 30 < np.median(length["audio"]) < 40
    assert length["video"].max() == 50
    assert 11 < length["text"].mean() < 13
    assert length["text"].max() == 22
    assert min(n.min() for n in length.values()) >= 2
    short = generative.sample(parameters, frame_scale=0.1)
    assert short.length["audio"].max() <= 30
    assert min(n.min() for n in short.length.values()) == 1
    with pytest.raises(ValueError, match="frame_scale must be above 0"):
        generative.sample(parameters, frame_scale=0.0)


def test_same_seed_same_bytes_whatever_the_global_state(parameters):
    np.random.seed(1)  # noqa: NPY002  (the global state is the point)
    first = generative.sample(parameters, seed=3, **SMALL)
    np.random.seed(2)  # noqa: NPY002
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    again = generative.sample(parameters, seed=3, **SMALL)
    other = generative.sample(parameters, seed=4, **SMALL)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    for name in generative.MODALITIES:
        assert first.features[name].tobytes() == again.features[name].tobytes()
        assert first.features[name].tobytes() != other.features[name].tobytes()


@pytest.mark.parametrize("name", generative.MODALITIES)
def test_warp_round_trip(parameters, name):
    constants = {"skew": parameters.skew[name], "tail": parameters.tail[name]}
    values = np.linspace(-30.0, 30.0, 4001)
    warped = generative.warp(values, **constants)
    assert np.all(np.diff(warped) > 0)
    assert np.abs(warped - values).max() > 0.1  # it does something
    np.testing.assert_allclose(generative.unwarp(warped, **constants), values, rtol=1e-12, atol=1e-13)
    stored = generative.unwarp(warped.astype(np.float32).astype(np.float64), **constants)
    np.testing.assert_allclose(stored, values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        generative.make_parameters({"audio": 5, "video": 4, "text": 6}),
        make_hard_parameters({"audio": 36, "video": 66, "text": 126}),
    ],
    ids=["easy", "hard"],
)
def test_log_likelihood_equals_the_density_of_all_frames(parameters):
    corpus = generative.sample(parameters, scale=0.001, frame_scale=0.1, seed=5)
    found = posterior.log_likelihood(corpus, parameters)
    for row in range(0, len(corpus), 9 if parameters.mean.shape[1] == 1 else 40):
        for column, pattern in enumerate(PATTERNS):
            expected = _brute_force(corpus, parameters, row, pattern)
            np.testing.assert_allclose(np.diff(found[row, column]), np.diff(expected), rtol=1e-6, atol=1e-7)


def test_log_likelihood_ignores_what_is_absent_by_nature(parameters):
    corpus = generative.sample(parameters, seed=6, **SMALL)
    present = corpus.present & (np.arange(3) != V)
    found = posterior.log_likelihood(dataclasses.replace(corpus, present=present), parameters)
    expected = posterior.log_likelihood(corpus, parameters)
    np.testing.assert_allclose(found[:, V], 0.0, atol=1e-12)  # nothing known: all classes alike
    without_video = PATTERNS.tolist().index([True, False, True])
    np.testing.assert_allclose(found[:, -1], expected[:, without_video], rtol=1e-9)


def test_oracle_counts_by_hand():
    scores = np.array([[[0.0, 1.0], [2.0, 0.0]], [[0.0, 0.5], [0.0, 0.1]]])  # [N=2, P=2, K=2]
    label = np.array([0, 1])
    counts = posterior.oracle_counts(label, scores)
    np.testing.assert_array_equal(counts, [[[0, 1], [0, 1]], [[1, 0], [0, 1]]])
    counts = posterior.oracle_counts(label, scores, np.log([0.9, 0.1]))
    np.testing.assert_array_equal(counts, [[[1, 0], [1, 0]], [[1, 0], [1, 0]]])


def test_posterior_is_calibrated(large):
    """The mean posterior of the decision is its accuracy, per pattern and per bin of confidence."""
    corpus, likelihood = large
    log_joint = likelihood + np.log(np.bincount(corpus.label) / len(corpus))
    posterior = np.exp(log_joint - log_joint.max(-1, keepdims=True))
    posterior /= posterior.sum(-1, keepdims=True)
    right = posterior.argmax(-1) == corpus.label[:, None]
    confidence = posterior.max(-1)
    np.testing.assert_allclose(right.mean(0), confidence.mean(0), atol=0.01)  # standard error 0.003
    for low, high in ((0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        inside = (confidence > low) & (confidence <= high)
        assert inside.sum() > 3000
        assert abs(right[inside].mean() - confidence[inside].mean()) < 0.02


def test_ceiling_is_as_high_as_the_published_rows(large):
    corpus, likelihood = large
    fair = posterior.oracle_counts(corpus.label, likelihood)
    shares = posterior.oracle_counts(corpus.label, likelihood, np.log(np.bincount(corpus.label) / len(corpus)))
    np.testing.assert_allclose(uar(fair), [0.60, 0.52, 0.69, 0.67, 0.76, 0.75, 0.80], atol=0.015)
    assert np.all(war(shares) > war(fair))  # each rule is the best for its score
    assert np.all(uar(shares) < uar(fair))


def test_modalities_hide_different_classes(large):
    """Audio takes angry for happy; text does so rarely. Video alone is weak."""
    corpus, likelihood = large
    recall = posterior.oracle_counts(corpus.label, likelihood) / np.bincount(corpus.label)[:, None]
    angry, happy = 0, 1
    assert recall[A, angry, happy] > 0.25
    assert recall[A, happy, angry] > 0.2
    assert recall[T, angry, happy] + recall[T, happy, angry] < 0.2
    assert np.all(np.diagonal(recall[V]) > 0.25)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_linear_model_comes_near_the_ceiling(pooling, parameters):
    """Logistic regression on pooled warped frames, folds by session, in every condition."""
    corpus = generative.sample(parameters, scale=0.2, frame_scale=0.5, seed=1)
    ceiling = posterior.oracle_counts(corpus.label, posterior.log_likelihood(corpus, parameters))
    pooled = {}
    for name, frames in corpus.features.items():
        start = np.cumsum(corpus.length[name]) - corpus.length[name]
        reduced = {"mean": np.add, "max": np.maximum}[pooling].reduceat(frames, start, axis=0)
        pooled[name] = reduced / corpus.length[name][:, None] if pooling == "mean" else reduced
    gaps = []
    for pattern, best in zip(PATTERNS, uar(ceiling), strict=True):
        columns = [pooled[name] for name, available in zip(pooled, pattern, strict=True) if available]
        inputs = np.concatenate(columns, axis=1)
        counts = np.zeros((4, 4), int)
        for session in np.unique(corpus.session):
            test = corpus.session == session
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
            predicted = model.fit(inputs[~test], corpus.label[~test]).predict(inputs[test])
            np.add.at(counts, (corpus.label[test], predicted), 1)
        gaps.append(best - uar(counts))
    assert max(gaps) < 0.05
    assert np.mean(gaps) < 0.025


def test_data_set_equals_the_generator(tmp_path, parameters, capfd):
    loaded = load(data_dir=tmp_path, seed=2, **SMALL)
    drawn = generative.sample(parameters, seed=2, **SMALL)
    for key in ("utterance_id", "speaker", "session", "label", "present"):
        np.testing.assert_array_equal(getattr(loaded.corpus, key), getattr(drawn, key))
        assert getattr(loaded.corpus, key).dtype == getattr(drawn, key).dtype
    for name in generative.MODALITIES:
        assert loaded.corpus.features[name].dtype == np.float32
        assert loaded.corpus.features[name].tobytes() == drawn.features[name].tobytes()
        np.testing.assert_array_equal(loaded.corpus.length[name], drawn.length[name])
    np.testing.assert_array_equal(loaded.log_likelihood, posterior.log_likelihood(drawn, parameters))
    np.testing.assert_allclose(np.exp(loaded.log_prior), np.bincount(drawn.label) / len(drawn))
    check_corpus(loaded.corpus, "synthetic")
    assert capfd.readouterr() == ("", "")


def test_options_have_folders_of_their_own(tmp_path):
    for scale in (0.02, 0.03):
        corpus = load(data_dir=tmp_path, scale=scale, frame_scale=0.2).corpus
        assert len(corpus) == sum(counts.sum() for counts in generative.class_counts(scale).values())
    load(data_dir=tmp_path, seed=1, **SMALL)
    widths = {"audio": 4, "video": 5, "text": 6}
    assert load(data_dir=tmp_path, widths=widths, **SMALL).corpus.widths == widths
    assert len(list(tmp_path.glob("synthetic/*/1.0.0/dataset_info.json"))) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "no_records", "no_info", "cut_info"])
def test_damaged_data_are_drawn_again(tmp_path, damage):
    first = load(data_dir=tmp_path, **SMALL).corpus
    info = next(tmp_path.glob("synthetic/*/*/dataset_info.json"))
    records = next(tmp_path.glob("synthetic/*/*/*array_record*"))
    target = info if damage.endswith("info") else records
    if damage.startswith("no"):
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[: 0 if damage == "empty" else target.stat().st_size // 2])
    (info.parents[1] / "1.0.0.incompleteABCDEF").mkdir()  # what a killed process leaves behind
    again = load(data_dir=tmp_path, **SMALL).corpus
    np.testing.assert_array_equal(first.features["text"], again.features["text"])


def test_builder_says_that_it_is_synthetic(tmp_path):
    from data_prep.synthetic.synthetic_dataset_builder import Builder

    info = Builder(data_dir=tmp_path, file_format="array_record").info
    assert (info.name, info.features["audio"].shape) == ("synthetic", (None, 16))
    assert info.description.startswith("Synthetic, not IEMOCAP")
    assert "synthetic, not IEMOCAP" in info.citation
    assert info.features["label"].names == list(generative.CLASS_NAMES)


def test_faulty_options_are_named(tmp_path):
    with pytest.raises(ValueError, match="seed >= 0 are wanted"):
        load(data_dir=tmp_path, seed=-1)
    with pytest.raises(ValueError, match="at least 4"):
        load(data_dir=tmp_path, widths={"audio": 3, "video": 4, "text": 4})
    with pytest.raises(ValueError, match="widths are wanted for"):
        load(data_dir=tmp_path, widths={"audio": 8, "text": 8})
    assert not list(tmp_path.iterdir())


def test_default_folder_is_in_the_cache(monkeypatch):
    for home, expected in (("/somewhere", Path("/somewhere")), ("", Path.home() / ".cache")):
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        assert default_data_dir() == expected / "cmarr_jax/tfds"


def test_tensorflow_is_not_loaded(tmp_path):
    code = (
        "import sys; from data_prep.synthetic.load import load; "
        f"load(data_dir={str(tmp_path)!r}, scale=0.02, frame_scale=0.2); sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
