"""How much modalities share: data whose shared part is known."""

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
        ("speaker", {"nothing", "classes"}),
        ("class", {"nothing", "speakers"}),
        ("utterance", set(shared_variance.CENTRINGS)),
    ],
)
def test_the_shared_part_is_found_and_named(what, kept):
    corpus = corpus_sharing(what)
    folds = make_folds(corpus, num_folds=3)
    for name, centring in shared_variance.CENTRINGS.items():
        found = shared_variance.shared_variance(corpus, folds, "one", "two", centring)
        assert found == pytest.approx(EXPECTED if name in kept else 0, abs=0.04), name


def test_frames_are_pooled_and_absent_modalities_left_out(tmp_path, capsys):
    write_archive(tmp_path / "toy.npz", make_corpus(absent=0.2))
    shared_variance.main(tmp_path / "toy.npz", folds=3)
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head.count("|") == 2 + 2 + len(shared_variance.CENTRINGS) - 1
    assert [line.split(" | ")[:2] for line in lines] == [
        [f"| {one}", other]
        for one in ("audio", "video", "text")
        for other in ("audio", "video", "text")
        if one != other
    ]
