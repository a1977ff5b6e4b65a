"""What points carry: by hand for four points, and of models that were trained."""

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.folds import make_folds
from experiments import point_information, reproduce
from experiments.point_information import PROBES, Points, neighbours, points_of, probe


def test_neighbours_by_hand():
    # Places on a line. The own pair does not count; row 3 lacks the second modality.
    first, second = [0.0, 1.0, 10.0, 11.0], [0.2, 1.2, 9.0, 0.0]
    points = np.stack([first, second], axis=1)[..., None]
    present = np.array([[True, True], [True, True], [True, True], [True, False]])
    found = neighbours(points, present, np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]))
    # First to second: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2. Second to first: 0 -> 1, 1 -> 0, 2 -> 3.
    same_class, same_speaker = [1, 1, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0, 0]
    chance_class = [1 / 2, 1 / 2, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3]
    chance_speaker = [0, 1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 3]
    np.testing.assert_allclose(found, [np.mean(x) for x in (same_class, chance_class, same_speaker, chance_speaker)])


def test_probes_of_points_whose_information_is_known():
    corpus = make_corpus(sequences=(), sessions=5, per_speaker=40)
    fold = make_folds(corpus, num_folds=5)[0]
    rng = np.random.default_rng(0)
    true = rng.normal(size=(len(corpus), 3, 8))
    true[:, :2] += 6 * np.eye(4, 8)[corpus.label][:, None]  # audio and video know the class, text does not
    completed = np.repeat(true[None], 7, axis=0)
    completed[0, :, 2] = true[:, 0]  # audio alone: text recovered as audio's point
    completed[0, :, 1] = -true[:, 0]  # video recovered with all signs turned
    points, audio = Points(true, completed), np.array([True, False, False])
    found = dict(zip(PROBES, probe(points, 2, audio, corpus.label, fold), strict=True))
    assert min(found["available points"], found["recovered points"]) > 0.98
    assert found["its true points"] < 0.45  # noise: one of four classes
    found = dict(zip(PROBES, probe(points, 1, audio, corpus.label, fold), strict=True))
    assert min(found["its true points"], found["recovered points"]) > 0.98
    assert found["recovered, read as true"] < 0.1  # all signs turned: the least likely class is chosen


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The folder of a smoke run of two rows on complete data with frames and vectors: one fold, one seed."""
    folder = tmp_path_factory.mktemp("points")
    write_archive(folder / "toy.npz", make_corpus(sequences=("text",)))
    reproduce.main(
        reproduce.Arguments(
            data=str(folder / "toy.npz"),
            methods=("zero_fill", "cm_arr"),
            folds_only=("speaker0",),
            out=folder / "out",
            smoke=True,
        )
    )
    return folder / "out"


def test_points_of_a_run(table):
    corpus = make_corpus(sequences=("text",))
    [run] = (table / "cm_arr").iterdir()
    points = points_of(run, corpus)
    assert points.true.shape[:2] == (len(corpus), 3)
    np.testing.assert_array_equal(points.completed[-1], points.true)
    text_only = points.completed[2]
    np.testing.assert_allclose(text_only[:, 2], points.true[:, 2], atol=1e-5)
    assert np.abs(text_only[:, :2] - points.true[:, :2]).max() > 1e-3  # recovered from text, not seen


def test_the_command(table, capsys):
    point_information.main(table, "cm_arr")
    text = capsys.readouterr().out
    assert text.startswith("cm_arr, 1 runs. Nearest point")
    cases = [line.split(" | ")[:2] for line in text.splitlines()[10:]]
    assert cases == [
        ["| video", "audio"], ["| text", "audio"], ["| audio", "video"], ["| text", "video"], ["| audio", "text"],
        ["| video", "text"], ["| text", "audio, video"], ["| video", "audio, text"], ["| audio", "video, text"],
    ]  # fmt: skip


def test_what_cannot_be_asked(table):
    with pytest.raises(ValueError, match="has no run of row nobody"):
        point_information.main(table, "nobody")
    with pytest.raises(ValueError, match="method zero_fill has no points of missing modalities"):
        point_information.main(table, "zero_fill")


def test_incomplete_data_are_refused(tmp_path, table):
    write_archive(tmp_path / "other.npz", make_corpus(sequences=("text",), absent=0.3))
    with pytest.raises(ValueError, match="not those the model was trained on"):
        point_information.main(table, "cm_arr", str(tmp_path / "other.npz"))
