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
from tests.faults_mmin import SEVERAL
from tests.faulty_files import change_h5, move_to_train
from tests.faulty_mmin import repeat_fold, zero_entries
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
    assert "32 utterances, width 6, 95 frames, longest 4, 65 trailing frames of zeros taken off 32" in printed
    assert "32 utterances, width 7, 85 frames, longest 3, 11 trailing frames of zeros taken off 11" in printed
    assert "lengths: audio and video correlate 1.00\n" in printed
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


ONE = "Ses01F_impro01_F000"


def replace_entry(root, path, value, name=ONE):
    with h5py.File(root / path, "r+") as file:
        del file[name]
        file[name] = value


def only(corpus, name, modality):
    """Frames of one utterance."""
    row = corpus.utterance_id.tolist().index(name)
    end = int(np.cumsum(corpus.length[modality])[row])
    return corpus.features[modality][end - corpus.length[modality][row] : end]


def test_only_trailing_zeros_are_padding(tmp_path):
    root = miniature.mmin_features(tmp_path)
    frames = np.array([[0], [7], [0], [0], [8], [0], [0]]) * np.ones((1, 6))  # zeros before and between: no face
    replace_entry(root, "V/denseface.h5", frames)
    assert convert(root, tmp_path / "kept.npz", "--without-tfds", "--keep-padding") == 0
    corpus = read_archive(tmp_path / "kept.npz")
    assert sorted(set(corpus.length["video"].tolist())) == [5, 7]
    np.testing.assert_array_equal(only(corpus, ONE, "video"), frames)
    assert convert(root, tmp_path / "out.npz", "--without-tfds") == 0
    np.testing.assert_array_equal(only(read_archive(tmp_path / "out.npz"), ONE, "video"), frames[:5])


@pytest.mark.parametrize("path", ["A/comparE.h5", "V/denseface.h5", "L/bert_large.h5"])
def test_an_utterance_of_zeros_is_absent_or_has_one_frame(tmp_path, path):
    root = miniature.mmin_features(tmp_path)
    zero_entries(path, ONE)(root)
    modality = {"A": "audio", "V": "video", "L": "text"}[path[0]]
    for out, options, number in (("absent", [], 0), ("present", ["--zeros-are-present"], 1)):
        assert convert(root, tmp_path / f"{out}.npz", "--without-tfds", *options) == 0
        corpus = read_archive(tmp_path / f"{out}.npz")
        column = corpus.modalities.index(modality)
        row = corpus.utterance_id.tolist().index(ONE)
        assert corpus.present[row, column] == bool(number)
        assert corpus.present.sum() == 3 * 32 - 1 + number
        assert only(corpus, ONE, modality).tolist() == [[0.0] * corpus.widths[modality]] * number
        record = read_details(details_path(tmp_path / f"{out}.npz")).record
        assert record["zeros_only_are"] == out
        assert record["zeros_only"][modality] == {"angry": 1, "happy": 0, "neutral": 0, "sad": 0}


def test_clips_without_a_face_are_counted_per_class(tmp_path, capsys, monkeypatch):
    assert known_counts.NO_FACE == {"msp_improv": (10, 49, 56, 6)}  # counted in a copy of the files
    monkeypatch.setitem(known_counts.KNOWN, "msp_improv", dict.fromkeys(("01F", "01M", "02F", "02M"), (2, 2, 2, 2)))
    monkeypatch.setitem(known_counts.NO_FACE, "msp_improv", (1, 0, 2, 0))
    root = miniature.mmin_features(tmp_path, "msp_improv")
    command = [str(root), str(tmp_path / "out.npz"), "--without-tfds", "--force"]
    assert mmin_features.main(command) == 0
    printed = capsys.readouterr().out
    assert "video: utterances of zeros only: 0 (angry 0, happy 0, neutral 0, sad 0), taken as absent" in printed
    assert "clips without a face are others: angry 1, happy 0, neutral 2, sad 0" in printed
    assert "audio: utterances of zeros" not in printed
    without = ["MSP-IMPROV-S01A-F01-S-FM00", "MSP-IMPROV-S01N-F01-S-FM00", "MSP-IMPROV-S01N-M02-S-FM00"]
    zero_entries("V/denseface.h5", *without)(root)
    assert mmin_features.main(command) == 0
    printed = capsys.readouterr().out
    assert "video: utterances of zeros only: 3 (angry 1, happy 0, neutral 2, sad 0), taken as absent" in printed
    assert "these are the known numbers of clips without a face" in printed
    corpus = read_archive(tmp_path / "out.npz")
    assert corpus.utterance_id[~corpus.present[:, 1]].tolist() == without


def test_an_utterance_without_any_modality_is_left_out(tmp_path):
    root = miniature.mmin_features(tmp_path)
    zero_entries("A/comparE.h5", ONE)(root)
    zero_entries("V/denseface.h5", ONE)(root)
    change_h5("L/bert_large.h5", ONE)(root)
    assert convert(root, tmp_path / "out.npz", "--allow-missing", "--fold", "1") == 0
    corpus, details = read_archive(tmp_path / "out.npz"), read_details(details_path(tmp_path / "out.npz"))
    assert len(corpus) == len(corpus.split) == len(details.dialogue) == 31
    assert details.utterance_id.tolist() == corpus.utterance_id.tolist()
    assert details.record["left_out"] == [ONE]
    assert ONE not in corpus.utterance_id
    assert_same_as_data_set(tmp_path / "out.npz", tmp_path / "tfds/iemocap/out/1.0.0", tmp_path)
    for name in corpus.utterance_id.tolist():  # the other rows are still their own
        with h5py.File(root / "A/comparE.h5") as file:
            np.testing.assert_array_equal(only(corpus, name, "audio"), file[name][()])


def test_what_cannot_be_used_is_absent_where_allowed(tmp_path):
    root = miniature.mmin_features(tmp_path)
    SEVERAL(root)
    replace_entry(root, "A/comparE.h5", np.ones((2, 4)), "Ses02F_impro03_M001")
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--allow-missing") == 0
    corpus = read_archive(tmp_path / "out.npz")
    absent = {*corpus.utterance_id[~corpus.present[:, 0]].tolist()}
    assert absent == {f"Ses01F_impro0{scene}_F00{turn}" for scene in (1, 2, 3) for turn in (0, 1)} | {
        "Ses02F_impro03_M001"
    }
    assert corpus.widths["audio"] == 5
    assert corpus.present[:, 1:].all()
    with h5py.File(root / "A/comparE.h5") as file:
        for name in set(corpus.utterance_id.tolist()) - absent:
            np.testing.assert_array_equal(only(corpus, name, "audio"), file[name][()])
    assert read_details(details_path(tmp_path / "out.npz")).record["unusable"] == {
        "audio": {
            "without frames": 1,
            "with nan or infinity": 2,
            "of the wrong kind": 1,
            "missing": 1,
            "damaged": 1,
            "of another width": 1,
        },
        "video": {},
        "text": {},
    }


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


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    root = miniature.mmin_features(tmp_path)
    (root / "V/denseface.h5").rename(tmp_path / "faces.h5")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert convert(f"~/{root.name}", "~/out.npz", "--video=~/faces.h5", "--tfds-dir=~/sets") == 0
    assert read_archive(tmp_path / "out.npz").present.all()
    assert (tmp_path / "sets/iemocap/out/1.0.0").is_dir()


def test_archive_has_its_own_folds_where_those_of_the_files_repeat(tmp_path, capsys):
    root = miniature.mmin_features(tmp_path)
    repeat_fold(root)
    assert convert(root, tmp_path / "out.npz", "--without-tfds") == 1
    error = capsys.readouterr().err
    assert "fold 4 repeats fold 3; speaker 02F is tested in folds 3 and 4; speaker 02M is tested in no fold" in error
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--fold", "1") == 1
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--allow-fold-differences") == 0
    tested = [
        np.unique(read_archive(tmp_path / "out.npz").speaker[fold.test])
        for fold in make_folds(read_archive(tmp_path / "out.npz"))
    ]
    assert [name.tolist() for name in tested] == [["01F"], ["01M"], ["02F"], ["02M"]]


def test_a_leak_stops_only_the_fold_that_has_it(tmp_path, capsys):
    root = miniature.mmin_features(tmp_path)
    move_to_train(root)
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--fold", "2") == 0
    assert "fold 1: trn and tst share speaker 01F" in capsys.readouterr().out
    assert convert(root, tmp_path / "out.npz", "--without-tfds", "--fold", "1", "--force") == 1
