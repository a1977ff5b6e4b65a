"""How much modalities share: data whose shared part is known."""

import dataclasses

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import make_folds
from experiments import shared_variance

WIDTH, SPEAKERS, EACH = 4, 150, 8


def corpus_sharing(what: str) -> Corpus:
    """Two modalities, each its noise and one shared number of the same variance, which is of `what`."""
    rng = np.random.default_rng(0)
    num = SPEAKERS * EACH
    speaker, label = np.arange(num) // EACH, np.arange(num) % 4
    shared = {
        "speaker": rng.normal(size=SPEAKERS)[speaker],
        "class": np.array([-1.5, -0.5, 0.5, 1.5])[label] / np.sqrt(1.25),
        "utterance": rng.normal(size=num),
    }[what]
    make = lambda: (shared[:, None] + rng.normal(size=(num, WIDTH))).astype(np.float32)
    return Corpus(
        utterance_id=np.array([f"u{row}" for row in range(num)]),
        speaker=np.array([f"s{one:03}" for one in speaker]),
        session=np.full(num, "one"),
        label=label.astype(np.int32),
        class_names=("a", "b", "c", "d"),
        features={"one": make(), "two": make()},
        length={},
        present=np.ones((num, 2), bool),
    )


EXPECTED = 0.4
"""Half of a column's variance is shared, and four noisy columns tell four fifths of it: 1/2 * 4 / (4 + 1)."""


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ("speaker", {"all", "within classes"}),
        ("class", {"all", "within speakers"}),
        ("utterance", set(shared_variance.CENTRINGS)),
    ],
)
def test_the_shared_part_is_found_and_named(what, kept):
    corpus = corpus_sharing(what)
    folds = make_folds(corpus, num_folds=3)
    for name, centring in shared_variance.CENTRINGS.items():
        found = shared_variance.shared_variance(corpus, folds, "one", "two", centring)
        assert found == pytest.approx(EXPECTED if name in kept else 0, abs=0.04), name


def test_both_are_taken_away_where_speakers_have_different_classes():
    """Seven of ten utterances of a speaker are of one class, and only the class is shared."""
    corpus = corpus_sharing("class")
    rng = np.random.default_rng(1)
    label = np.where(rng.random(len(corpus)) < 0.7, np.arange(len(corpus)) // EACH % 4, corpus.label).astype(np.int32)
    value = np.array([-1.5, -0.5, 0.5, 1.5])
    features = {
        name: (x + (value[label] - value[corpus.label])[:, None] / np.sqrt(1.25)).astype(np.float32)
        for name, x in corpus.features.items()
    }
    skewed = dataclasses.replace(corpus, label=label, features=features)
    folds = make_folds(skewed, num_folds=3)
    for centring in (("class",), ("speaker", "class")):
        found = shared_variance.shared_variance(skewed, folds, "one", "two", centring)
        assert found == pytest.approx(0, abs=0.04), centring


def test_what_is_absent_is_not_read(tmp_path):
    whole = corpus_sharing("utterance")
    present = whole.present.copy()
    present[::5, 0] = False
    features = {name: values.copy() for name, values in whole.features.items()}
    features["one"][::5] = 1e6
    folds = make_folds(whole, num_folds=3)
    clean, spoilt = (
        shared_variance.shared_variance(dataclasses.replace(whole, present=present, **more), folds, "one", "two", ())
        for more in ({}, {"features": features})
    )
    assert clean == spoilt == pytest.approx(EXPECTED, abs=0.04)


def test_frames_are_pooled(tmp_path, capsys):
    write_archive(tmp_path / "toy.npz", make_corpus(absent=0.2))
    shared_variance.main(tmp_path / "toy.npz", folds=3)
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "| from | to | all | within speakers | within classes | within both |"
    names = ("audio", "video", "text")
    assert [line.split(" | ")[:2] for line in lines] == [
        [f"| {one}", other] for one in names for other in names if one != other
    ]


def test_one_training_speaker_is_too_few():
    corpus = corpus_sharing("utterance")
    one = dataclasses.replace(corpus, speaker=np.full(len(corpus), "s000"))
    with pytest.raises(ValueError, match="fold group1 has 1 training speakers with both modalities; at least two"):
        shared_variance.shared_variance(one, make_folds(corpus, num_folds=3), "one", "two", ())
