"""Targets of a regression on their way from a manifest or a corpus to the archive."""

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive
from data_prep import manifest, validate
from data_prep.corpora import mosi
from data_prep.manifest_file import read_manifest, to_rows
from tests import miniature_sentiment
from tests.faults_manifest import ROWS, table

TARGETS = [-1.5, 0.25, 3.0, 1.0, -2.0, 0.0]


def changes(**more):
    """Every row has its target; row 3 has what is given."""
    return [*((row, {"target": value}) for row, value in enumerate(TARGETS)), (3, more)]


def test_targets_reach_the_archive(tmp_path):
    assert manifest.main(table(*changes(label="", target=""))(tmp_path)) == 0
    corpus = read_archive(tmp_path / "out.npz")
    expected = np.where(np.arange(6) == 3, np.nan, TARGETS).astype(np.float32)
    np.testing.assert_array_equal(corpus.target, expected)
    assert corpus.label[3] == -1
    parsed = read_manifest(tmp_path / "m.csv")
    assert [row.get("target") for row in to_rows(parsed.utterances, tmp_path)][:3] == ["-1.5", "0.25", "3.0"]


def test_an_utterance_outside_the_classes_has_no_target(tmp_path):
    argv = table(*changes(label="bored"))(tmp_path)
    assert manifest.main([*argv, "--classes", "calm", "angry", "--others-unlabelled"]) == 0
    corpus = read_archive(tmp_path / "out.npz")
    np.testing.assert_array_equal(np.isnan(corpus.target), np.arange(6) == 3)
    np.testing.assert_array_equal(corpus.label < 0, np.arange(6) == 3)


def test_a_manifest_without_targets_makes_an_archive_without(tmp_path):
    assert manifest.main(table()(tmp_path)) == 0
    assert read_archive(tmp_path / "out.npz").target is None
    assert "target" not in to_rows(read_manifest(tmp_path / "m.csv").utterances, tmp_path)[0]
    assert len(ROWS) == 6


def test_the_scores_of_cmu_mosi_are_targets(tmp_path, capsys):
    source = miniature_sentiment.mmsa(tmp_path / "unaligned_50.pkl")
    assert mosi.main([str(source), str(tmp_path / "mosi.csv"), "--allow-count-differences"]) == 0
    given = [f"{name}=features:{tmp_path}/mosi_{name}.h5" for name in ("audio", "video", "text")]
    argv = [str(tmp_path / "mosi.csv"), str(tmp_path / "mosi.npz"), "--without-tfds"]
    options = [f"--{item.replace('=', ' ', 1)}".split(" ") for item in given]
    assert manifest.main([*argv, *(part for option in options for part in option)]) == 0
    corpus = read_archive(tmp_path / "mosi.npz")
    known = {f"{score:.6g}" for score in miniature_sentiment.SCORES}
    assert {f"{value:.6g}" for value in corpus.target} == known
    positive = np.array(corpus.class_names)[corpus.label] == "positive"
    np.testing.assert_array_equal(positive, corpus.target >= 0)
    capsys.readouterr()
    assert validate.main([str(tmp_path / "mosi.npz")]) == 0
    low, high = min(miniature_sentiment.SCORES), max(miniature_sentiment.SCORES)
    assert f"target of a regression: {low:g} to {high:g}, mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"target": ""}, "row 5: has a label and no target; give both, or neither where nobody has labelled the utter"),
        ({"label": ""}, "row 5: has a target and no label; give both, or neither"),
        ({"target": "high"}, "row 5, column 'target': 'high' is no number; write it like"),
        ({"target": "nan"}, "row 5, column 'target': 'nan' is no number; write it like -1.5"),
    ],
)
def test_faults_of_targets_name_the_row(tmp_path, capsys, change, sentence):
    assert manifest.main(table(*changes(**change))(tmp_path)) == 1
    assert sentence in capsys.readouterr().err
