"""Every open corpus in miniature, from its raw files to a table, with openSMILE, `face_hog` and `text_hashing`.

python -m pytest -m slow tests/test_corpora_to_table.py
"""

import csv
import functools
import importlib

import pytest

from data_prep import cremad_rater_votes, manifest, validate
from experiments import reproduce
from tests import miniature_corpora, miniature_sentiment

pytestmark = pytest.mark.slow
AUDIO, VIDEO, TEXT = ("--audio", "compare_2016"), ("--video", "face_hog"), ("--text", "text_hashing")
ALL = (*AUDIO, *VIDEO, *TEXT)
RAVDESS = functools.partial(miniature_corpora.ravdess, actors=(1, 2, 3, 4))
MEDIA = {
    "ravdess": (RAVDESS, ALL, ("a", "v", "t", "av", "at", "vt")),
    "cremad": (miniature_corpora.cremad, ALL, ("a", "v", "t", "av", "at", "vt")),
    "meld": (miniature_corpora.meld, (*VIDEO, *TEXT), ("v", "t")),  # the miniature clips have no sound
    "emodb": (miniature_corpora.emodb, (*AUDIO, *TEXT), ("a", "t")),
    "savee": (miniature_corpora.savee, (*AUDIO, "--modality", "prosody=egemaps"), ("a", "p")),
}
FEATURES = {
    "mosi": (lambda folder: miniature_sentiment.mmsa(folder / "unaligned_50.pkl"), ("audio", "video", "text")),
    "mosei": (lambda folder: miniature_sentiment.mult(folder / "mosei_senti_data.pkl"), ("audio", "video", "text")),
    "mosi_utterance": (miniature_sentiment.bc_lstm, ("audio", "video")),
}


def to_manifest(name, source, tmp_path):
    maker = importlib.import_module(f"data_prep.corpora.{name}")
    table = tmp_path / f"{name}.csv"
    assert maker.main([str(source), str(table), "--allow-count-differences"]) == 0
    return table


def to_table(archive, tmp_path, conditions, folds=3):
    """Checks the archive and trains zero-fill for two epochs; the table has a row and these conditions."""
    assert validate.main([str(archive), "--folds", str(folds)]) == 0
    arguments = reproduce.Arguments(
        data=str(archive), methods=("zero_fill",), smoke=True, folds=folds, out=tmp_path / "run"
    )
    reproduce.main(arguments)
    with open(tmp_path / "run/table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows if row["method"]} == {"zero_fill"}
    assert set(conditions) <= {row["condition"] for row in rows}


@pytest.mark.parametrize("name", list(MEDIA))
def test_media_to_table(tmp_path, name):
    for module in ("opensmile", "soundfile", "av", "skimage"):
        pytest.importorskip(module, reason="needs the extra extract")
    make, options, conditions = MEDIA[name]
    table = to_manifest(name, make(tmp_path, with_media=True), tmp_path)
    out = tmp_path / f"{name}.npz"
    assert manifest.main([str(table), str(out), "--num-workers", "1", *options]) == 0
    to_table(out, tmp_path, conditions, folds=4 if name == "ravdess" else 3)  # one of its actors has no video


@pytest.mark.parametrize("name", list(FEATURES))
def test_features_of_others_to_table(tmp_path, name):
    make, modalities = FEATURES[name]
    source = make(tmp_path / "source") if name == "mosi_utterance" else make(tmp_path)
    table = to_manifest(name, source, tmp_path)
    options = [item for view in modalities for item in (f"--{view}", f"features:{tmp_path}/{name}_{view}.h5")]
    options += ["--text", "text_hashing"] if "text" not in modalities else []
    out = tmp_path / f"{name}.npz"
    assert manifest.main([str(table), str(out), "--num-workers", "1", *options]) == 0
    to_table(out, tmp_path, ("a", "v", "t", "av", "at", "vt"))


def test_votes_to_table(tmp_path):
    out = tmp_path / "votes.npz"
    source = miniature_corpora.cremad_votes(tmp_path)
    assert cremad_rater_votes.main([str(source), str(out), "--allow-count-differences"]) == 0
    to_table(out, tmp_path, ("v", "f"))
