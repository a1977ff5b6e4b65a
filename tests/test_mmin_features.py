"""The converter of the MMIN family's files, on a miniature of them."""

import itertools

import h5py
import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.folds import make_folds
from data_prep import known_counts, mmin_features, validate
from data_prep.details import details_path, read_details
from tests import miniature
from tests.test_iemocap import assert_same_as_data_set


def convert(root, out, *argv):
    return mmin_features.main([str(root), str(out), "--allow-count-differences", *argv])


@pytest.mark.parametrize("corpus_name", ["iemocap", "msp_improv"])
def test_archive_details_and_data_set(tmp_path, capsys, corpus_name):
    root = miniature.mmin_features(tmp_path, corpus_name)
    out = tmp_path / "out.npz"
    assert convert(root, out) == 0
    printed = capsys.readouterr().out
    assert "the folds of the files are those of leaving one speaker out" in printed
    assert "32 utterances, width 6, 95 frames, longest 4, 96 trailing frames of zeros taken off 32" in printed
    assert "its means of 4 training parts differ by" in printed
    corpus, details = read_archive(out), read_details(details_path(out))
    assert corpus.class_names == known_counts.CLASS_NAMES
    assert corpus.widths == {"audio": 5, "video": 6, "text": 7}
    assert corpus.utterance_id.tolist() == sorted(corpus.utterance_id.tolist())
    assert [fold.name for fold in make_folds(corpus)] == ["01F", "01M", "02F", "02M"]
    start = {name: np.cumsum(length) - length for name, length in corpus.length.items()}
    paths = {"audio": "A/comparE.h5", "video": "V/denseface.h5", "text": "L/bert_large.h5"}
    for (modality, path), row in itertools.product(paths.items(), range(32)):
        with h5py.File(root / path) as file:
            stored = file[str(corpus.utterance_id[row])][()]
        first, length = start[modality][row], corpus.length[modality][row]
        np.testing.assert_array_equal(corpus.features[modality][first : first + length], stored[:length])
        assert not stored[length:].any()
    assert details.record["sources"]["text"] == {"file": "L/bert_large.h5", "sha256": sha256(root / "L/bert_large.h5")}
    assert validate.main([str(out)]) == 0
    assert_same_as_data_set(out, tmp_path / f"tfds/{corpus_name}/out/1.0.0", tmp_path)


def test_a_feature_file_may_lie_elsewhere(tmp_path):
    root, other = miniature.mmin_features(tmp_path), tmp_path / "other.h5"
    (root / "V/denseface.h5").rename(other)
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--video", str(other)) == 0
    record = read_details(details_path(tmp_path / "out.npz")).record
    assert record["sources"]["video"]["file"] == "other.h5"
    assert str(tmp_path) not in str(record)


def test_labels_follow_the_names(tmp_path):
    root = miniature.mmin_features(tmp_path)
    assert convert(root, tmp_path / "out.npz", "--without-tfds") == 0
    corpus = read_archive(tmp_path / "out.npz")
    for name, label in zip(corpus.utterance_id.tolist(), corpus.label.tolist(), strict=True):
        assert name[12:14] == f"{label + 1:02d}"  # miniature: scene 1 is class 0


def test_order_of_the_names_does_not_matter(tmp_path):
    root = miniature.mmin_features(tmp_path)
    assert convert(root, tmp_path / "one.npz", "--without-tfds") == 0
    for path in (root / "target").glob("*/*.npy"):
        np.save(path, np.load(path)[::-1])
    assert convert(root, tmp_path / "two.npz", "--without-tfds") == 0
    assert sha256(tmp_path / "one.npz") == sha256(tmp_path / "two.npz")


def test_a_fold_of_the_files_becomes_the_split(tmp_path):
    root = miniature.mmin_features(tmp_path)
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--fold", "2") == 0
    corpus = read_archive(tmp_path / "out.npz")
    for part, prefix in (("train", "trn"), ("val", "val"), ("test", "tst")):
        names = np.load(root / f"target/2/{prefix}_int2name.npy")[:, 0].astype(str)
        assert set(corpus.utterance_id[corpus.split == part]) == set(names)


def test_padding_can_be_kept_and_a_zero_utterance_keeps_a_frame(tmp_path, capsys):
    root = miniature.mmin_features(tmp_path)
    with h5py.File(root / "V/denseface.h5", "r+") as file:
        del file["Ses01F_impro01_F000"]
        file["Ses01F_impro01_F000"] = np.zeros((5, 6))
    assert convert(root, tmp_path / "kept.npz", "--without-tfds", "--keep-padding") == 0
    assert read_archive(tmp_path / "kept.npz").length["video"].min() == 5
    assert convert(root, tmp_path / "out.npz", "--without-tfds") == 0
    corpus = read_archive(tmp_path / "out.npz")
    row = corpus.utterance_id.tolist().index("Ses01F_impro01_F000")
    assert (corpus.length["video"][row], corpus.present[row].all()) == (1, True)
    assert "1 with zeros only" in capsys.readouterr().out


def test_missing_utterance_is_absent_where_allowed(tmp_path):
    root = miniature.mmin_features(tmp_path)
    with h5py.File(root / "L/bert_large.h5", "r+") as file:
        del file["Ses02F_impro03_M001"]
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--allow-missing") == 0
    corpus = read_archive(tmp_path / "out.npz")
    row = corpus.utterance_id.tolist().index("Ses02F_impro03_M001")
    assert corpus.present[row].tolist() == [True, True, False]
    assert corpus.present.sum() == 3 * 32 - 1


def test_dry_run_writes_nothing(tmp_path, capsys):
    root = miniature.mmin_features(tmp_path)
    assert convert(root, tmp_path / "out.npz", "--dry-run") == 0
    assert "would write at most" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_pickles_are_never_loaded(tmp_path, capsys):
    root = miniature.mmin_features(tmp_path)

    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    np.save(root / "target/1/trn_int2name.npy", np.array([Trap()], object), allow_pickle=True)
    assert convert(root, tmp_path / "out.npz") == 1
    assert "never unpickled" in capsys.readouterr().err
    assert not (tmp_path / "sprung").exists()


def test_totals_tell_the_order_of_the_classes():
    assert known_counts.matching_order(np.array([1708, 1103, 1084, 1636]), "iemocap") == (
        "neutral",
        "angry",
        "sad",
        "happy",
    )
    assert known_counts.matching_order(np.array([1708, 1103, 1084, 1637]), "iemocap") is None
