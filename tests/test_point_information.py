"""What points carry: by hand for four points, and of models that were trained."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.folds import make_folds
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_batch import UtteranceError
from experiments import point_information, reproduce
from experiments.point_information import PROBES, cases, neighbours, points_of, probe, probes_of


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
    label = np.arange(800) % 4
    fitted, read = np.arange(400), np.arange(400, 800)
    rng = np.random.default_rng(0)
    true = rng.normal(size=(800, 3, 8))
    true[:, :2] += 6 * np.eye(4, 8)[label][:, None]  # audio and video know the class, text does not
    completed, audio = true.copy(), np.array([True, False, False])
    completed[:, 2] = true[:, 0]  # text recovered as audio's point
    completed[:, 1] = -true[:, 0]  # video recovered with all signs turned
    found = dict(zip(PROBES, probe(true, completed, 2, audio, label, fitted, read), strict=True))
    assert min(found["available points"], found["recovered points"]) > 0.98
    assert found["true points"] < 0.45  # noise: one of four classes
    found = dict(zip(PROBES, probe(true, completed, 1, audio, label, fitted, read), strict=True))
    assert min(found["true points"], found["recovered points"]) > 0.98
    assert found["recovered, read as true"] < 0.1  # all signs turned: the least likely class is chosen


def test_a_class_without_utterances_to_read_does_not_count():
    label = np.repeat([0, 1, 2, 0, 1], 50)
    true = 8 * np.eye(3)[label][:, None].repeat(2, axis=1) + np.random.default_rng(0).normal(size=(250, 2, 3))
    true[200:210] = 8 * np.eye(3)[2]  # ten of class 1 look like class 2, of which there are none to read
    found = probe(true, true, 1, np.array([True, False]), label, np.arange(150), np.arange(150, 250))
    np.testing.assert_allclose(found, (1 + 40 / 50) / 2)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The folder of a smoke run of two rows on data with frames, vectors and absent modalities: one fold, one seed."""
    folder = tmp_path_factory.mktemp("points")
    write_archive(folder / "toy.npz", make_corpus(sequences=("text",), absent=0.3))
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
    corpus = make_corpus(sequences=("text",), absent=0.3)
    rows = np.flatnonzero(corpus.present.all(1))
    [run] = (table / "cm_arr").iterdir()
    predictor = Predictor.load(run, num_samples=1, embeddings=True)
    true = points_of(predictor, corpus, rows, np.ones(3, bool))
    text_only = points_of(predictor, corpus, rows, np.array([False, False, True]))
    assert true.shape[:2] == (len(rows), 3)
    np.testing.assert_allclose(text_only[:, 2], true[:, 2], atol=1e-5)
    assert np.abs(text_only[:, :2] - true[:, :2]).max() > 1e-3  # recovered from text, not seen
    with pytest.raises(UtteranceError, match="no modality is there"):
        points_of(predictor, corpus, np.flatnonzero(~corpus.present[:, 2]), np.array([False, False, True]))


def test_probes_read_utterances_that_have_what_is_asked_for(table):
    corpus = make_corpus(sequences=("text",), absent=0.3, per_speaker=40)
    folds = {fold.name: fold for fold in make_folds(corpus)}
    [run] = (table / "cm_arr").iterdir()
    fold, predictor = folds["speaker0"], Predictor.load(run, num_samples=1, embeddings=True)
    rows = np.concatenate([fold.val, fold.test])
    true = points_of(predictor, corpus, rows, np.ones(3, bool))
    found = probes_of(predictor, corpus, rows, true, len(fold.val))
    assert found.shape == (9, 4)
    assert ((found >= 0) & (found <= 1)).all()
    without_video = corpus.present & (np.arange(len(corpus)) % 40 > 0)[:, None]
    none = dataclasses.replace(corpus, present=np.where(np.arange(3) == 1, False, without_video))
    rows = rows[none.present[rows].any(1)]
    true = points_of(predictor, none, rows, np.ones(3, bool))
    found = probes_of(predictor, none, rows, true, np.isin(rows, fold.val).sum())
    asks_video = [target == 1 or bool(available[1]) for target, available in cases(3)]
    np.testing.assert_array_equal(np.isnan(found).all(1), asks_video)


def test_the_command(table, capsys):
    point_information.main(table, "cm_arr")
    text = capsys.readouterr().out
    assert text.startswith("cm_arr, 1 runs. Nearest point")
    found = [line.split(" | ")[:2] for line in text.splitlines()[10:]]
    assert found == [
        ["| video", "audio"], ["| text", "audio"], ["| audio", "video"], ["| text", "video"], ["| audio", "text"],
        ["| video", "text"], ["| text", "audio, video"], ["| video", "audio, text"], ["| audio", "video, text"],
    ]  # fmt: skip


def test_what_cannot_be_asked(table, tmp_path):
    with pytest.raises(ValueError, match="has no run of row nobody"):
        point_information.main(table, "nobody")
    with pytest.raises(ValueError, match="row zero_fill has no points of missing modalities"):
        point_information.main(table, "zero_fill")
    shutil.copytree(table, tmp_path / "copy")
    [record] = (tmp_path / "copy" / "cm_arr").glob("*/run.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "diverged"}))
    with pytest.raises(ValueError, match="has no run of row cm_arr that did not diverge"):
        point_information.main(tmp_path / "copy", "cm_arr")
