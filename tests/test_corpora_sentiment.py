"""CMU-MOSI and CMU-MOSEI from their three forms to a manifest and feature files."""

import pickle

import h5py
import numpy as np
import pytest

from data_prep.corpora import mosei, mosi
from data_prep.manifest_table import read_table
from tests import miniature_sentiment

MAKERS = {"mmsa": miniature_sentiment.mmsa, "mult": miniature_sentiment.mult}


def run(tmp_path, source, *options, command=mosi):
    return command.main([str(source), str(tmp_path / "m.csv"), "--allow-count-differences", *options])


def rows(tmp_path):
    return {row["utterance_id"]: row for _, row in read_table(tmp_path / "m.csv")[1]}


def features(tmp_path, modality):
    with h5py.File(tmp_path / f"m_{modality}.h5") as file:
        return {name: item[()] for name, item in file.items()}


def test_mmsa(tmp_path, capsys):
    assert run(tmp_path, miniature_sentiment.mmsa(tmp_path / "unaligned_50.pkl")) == 0
    printed = capsys.readouterr().out.splitlines()
    found = rows(tmp_path)
    assert list(found)[:4] == ["v0$_$0", "v0$_$1", "v0$_$2", "v1$_$0"]
    assert [row["speaker"] for row in found.values()] == ["v0"] * 3 + ["v1"] * 3 + ["v2"] * 3 + ["v3"] * 3
    assert [row["split"] for row in found.values()] == ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    assert [row["label"] for row in found.values()] == ["negative", "positive", "positive"] * 4
    assert found["v0$_$2"]["target"] == "2.2"
    assert found["v0$_$1"]["text"] == "line 1 of it"
    audio = features(tmp_path, "audio")
    assert audio.keys() == found.keys()
    assert [len(audio[f"v0$_${turn}"]) for turn in range(3)] == [2, 3, 4]  # the lengths of the file
    expected = miniature_sentiment.frames(3, 2, 0)
    expected[1, 0] = 0  # was -inf
    np.testing.assert_array_equal(audio["v0$_$0"], expected.astype(np.float32))
    np.testing.assert_array_equal(audio["v0$_$2"][0], [0, 0, 0])  # within the length: it stays
    assert audio["v0$_$0"].dtype == np.float32
    assert {value.shape for value in features(tmp_path, "text").values()} == {(4, 5)}  # the mask of text_bert
    assert "note: audio: 6 values that are not finite were set to 0" in printed
    assert "warning: the counts differ from the known ones: train 6 where 1284 is known; val 3" in "\n".join(printed)
    assert printed[-1] == (
        f"next: python -m data_prep.manifest {tmp_path}/m.csv {tmp_path}/m.npz --audio features:{tmp_path}/m_audio.h5 "
        f"--video features:{tmp_path}/m_video.h5 --text features:{tmp_path}/m_text.h5"
    )


def test_mult(tmp_path):
    assert run(tmp_path, miniature_sentiment.mult(tmp_path / "mosi_data.pkl")) == 0
    found = rows(tmp_path)
    assert list(found)[:2] == ["v0_0.5_1.25", "v0_1.5_2.25"]
    assert found["v0_0.5_1.25"]["speaker"] == "v0"
    assert "text" not in found["v0_0.5_1.25"]
    audio = features(tmp_path, "audio")["v0_0.5_1.25"]
    np.testing.assert_array_equal(audio.any(axis=1), [True, False, True])  # padding in front is gone
    zeros = {"v0_0.5_1.25", "v2_0.5_1.25", "v3_0.5_1.25"}
    assert features(tmp_path, "video").keys() == found.keys() - zeros  # absent, for they have zeros only


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("maker", MAKERS)
def test_protocols_agree(tmp_path, maker, protocol):
    assert run(tmp_path, MAKERS[maker](tmp_path / "x.pkl", protocol)) == 0
    one = rows(tmp_path), features(tmp_path, "text")
    assert run(tmp_path, MAKERS[maker](tmp_path / "x.pkl", 4), "--force") == 0
    two = rows(tmp_path), features(tmp_path, "text")
    assert one[0] == two[0]
    assert all(np.array_equal(one[1][name], two[1][name]) for name in two[1])


@pytest.mark.parametrize("maker", MAKERS)
def test_drop_neutral(tmp_path, capsys, maker):
    assert run(tmp_path, MAKERS[maker](tmp_path / "x.pkl"), "--drop-neutral", command=mosei) == 0
    assert [row["target"] for row in rows(tmp_path).values()] == ["-1.4", "2.2"] * 4
    assert features(tmp_path, "audio").keys() == rows(tmp_path).keys()
    assert "note: utterances of the score 0, left out: 4 (" in capsys.readouterr().out


def test_csd(tmp_path, capsys):
    folder = miniature_sentiment.csd(tmp_path / "csd")
    assert run(tmp_path, folder, "--folds", str(folder / "cmu_mosi_std_folds.py")) == 0
    found = rows(tmp_path)
    assert list(found) == [f"v{video}[{turn}]" for video in range(4) for turn in range(3)]
    assert [row["split"] for row in found.values()] == ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    assert [row["label"] for row in found.values()] == ["negative", "positive", "positive"] * 4
    assert found["v0[1]"]["text"] == "w7 w8"  # seconds 3 to 5: frames 6 to 9, of which 6 and 9 are sp
    audio = features(tmp_path, "audio")["v0[1]"]
    np.testing.assert_array_equal(audio, np.arange(18, 30).reshape(4, 3))
    assert not any(name.startswith("v3") for name in features(tmp_path, "video"))
    assert "note: videos that are in no fold, left out: 1 (v9)" in capsys.readouterr().out


def test_csd_without_folds(tmp_path, capsys):
    assert run(tmp_path, miniature_sentiment.csd(tmp_path / "csd")) == 0
    assert len(rows(tmp_path)) == 15
    assert "split" not in rows(tmp_path)["v9[0]"]
    assert "all 15 where 2199 is known" in capsys.readouterr().out


def test_known_counts(tmp_path, capsys, monkeypatch):
    source = miniature_sentiment.mult(tmp_path / "x.pkl")
    mine = {"train": 6, "val": 3, "test": 3}
    monkeypatch.setattr(mosei, "KNOWN", ({"train": 1, "val": 1, "test": 1}, mine))  # the second published version
    assert mosei.main([str(source), str(tmp_path / "m.csv")]) == 0
    assert "The counts are the known ones." in capsys.readouterr().out
    assert mosi.main([str(source), str(tmp_path / "m.csv"), "--force"]) == 1
    assert "train 6 where 1284 is known; val 3 where 229 is known; test 3 where 686" in capsys.readouterr().err


def test_nothing_is_replaced_or_left(tmp_path, capsys):
    source = miniature_sentiment.mmsa(tmp_path / "x.pkl")
    assert mosi.main([str(source), str(tmp_path / "m.csv")]) == 1  # other counts
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]
    (tmp_path / "m_text.h5").write_bytes(b"precious")
    capsys.readouterr()
    assert run(tmp_path, source) == 1
    assert capsys.readouterr().err == f"{tmp_path}/m_text.h5: is there already; give --force to replace it\n"
    assert (tmp_path / "m_text.h5").read_bytes() == b"precious"


def spoilt(tmp_path, change):
    path = miniature_sentiment.mmsa(tmp_path / "x.pkl")
    data = pickle.loads(path.read_bytes())
    change(data)
    path.write_bytes(pickle.dumps(data))
    return path


def test_a_mask_that_does_not_fit(tmp_path, capsys):
    assert run(tmp_path, spoilt(tmp_path, lambda data: data["valid"].update(text_bert=np.ones((3, 6))))) == 0
    assert features(tmp_path, "text")["v2$_$0"].shape == (4, 5)  # frames of zeros are cut off
    assert "note: part 'valid': text_bert (3, 6) does not fit text (3, 6, 5) and is not used" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["1", np.nan, 2.0, -1.0])
def test_a_mask_of_other_values_is_not_used(tmp_path, capsys, value):
    mask = np.ones((3, 3, 6)) if value != "1" else np.full((3, 3, 6), "1")
    mask[0, 1, 0] = value
    assert run(tmp_path, spoilt(tmp_path, lambda data: data["valid"].update(text_bert=mask))) == 0
    assert features(tmp_path, "text")["v2$_$0"].shape == (4, 5)
    assert "is not used" in capsys.readouterr().out


def laughs():
    value = "ha"
    for _ in range(40):
        value = [value, value]
    return value


SPOILT = {
    "a nested list as id": (
        lambda data: data["train"].update(id=[laughs()] * 6),
        "key 'id' holds something that is no",
    ),
    "a nested list as scores": (lambda data: data["test"].update(regression_labels=laughs()), "has 2 entries where"),
    "a dict as text": (
        lambda data: data["test"].update(raw_text=[{}] * 3),
        "key 'raw_text' holds something that is no",
    ),
    "no id": (lambda data: data["test"].pop("id"), "part 'test', key 'id' is missing or no list"),
    "an array of rank 0 as id": (lambda data: data["test"].update(id=np.array(1)), "key 'id' is missing or no list"),
    "fewer words": (lambda data: data["test"]["raw_text"].pop(), "key 'raw_text' has 2 entries where 'id' has 3"),
    "a list as audio": (lambda data: data["test"].update(audio=[1]), "key 'audio' is no array [utterances, frames"),
    "fewer frames": (lambda data: data["test"].update(audio=np.ones((2, 6, 3))), "has 2 entries where 'id' has 3"),
    "other width": (
        lambda data: data["test"].update(audio=np.ones((3, 6, 9))),
        "audio of utterance 'v3$_$0' has 9 numbers a frame where",
    ),
    "text frames": (lambda data: data["test"].update(audio=np.full((3, 6, 3), "a")), "key 'audio' is no array"),
    "emotions": (lambda data: data["test"].update(regression_labels=np.ones((3, 6))), "has 6 numbers an utterance"),
    "nan score": (lambda data: data["test"].update(regression_labels=[1, 2, np.nan]), "something that is no number"),
    "a number of 400 digits": (
        lambda data: data["test"].update(regression_labels=[1, 2, 10**400]),
        "something that is no number",
    ),
    "a complex score": (
        lambda data: data["test"].update(regression_labels=np.ones(3, "c8")),
        "something that is no number",
    ),
    "a length": (lambda data: data["valid"].update(audio_lengths=[1, 2, 7]), "holds a length outside 0 to 6"),
    "id twice": (lambda data: data["valid"].update(id=["a$_$1", "b$_$1", "a$_$1"]), "utterance 'a$_$1' is there twice"),
    "slash": (lambda data: data["valid"].update(id=["a/1", "b", "c"]), "'a/1' cannot be the id of an utterance"),
    "part": (lambda data: data.pop("valid"), "holds no dict 'valid'; train, valid and test are needed"),
    "one modality": (
        lambda data: [data["train"].pop(key) for key in ("vision", "text", "text_bert")],
        "key 'audio' or another of audio, vision and text is missing",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_pickles(tmp_path, capsys, case):
    change, phrase = SPOILT[case]
    assert run(tmp_path, spoilt(tmp_path, change)) == 1
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


def replace(folder, name, path, value):
    with h5py.File(folder / name, "r+") as file:
        root = file[name[: -len(".csd")]]
        del root[path]
        if value is not None:
            root[path] = value


SPOILT_CSD = {
    "no labels": (lambda folder: (folder / "CMU_MOSI_Opinion_Labels.csd").unlink(), "holds audio, text, video, words;"),
    "no file": (lambda folder: [path.unlink() for path in folder.iterdir()], "holds no .csd file; CMU_MOSI_Opinion"),
    "no hdf5": (lambda folder: (folder / "CMU_MOSI_COVAREP.csd").write_text("x"), "is damaged or no computational"),
    "two": (
        lambda folder: (folder / "CMU_MOSI_openSMILE.csd").write_text("x"),
        "CMU_MOSI_COVAREP.csd both hold audio; leave one",
    ),
    "no data": (lambda folder: replace(folder, "CMU_MOSI_COVAREP.csd", "data", None), "is damaged or no computational"),
    "no intervals": (
        lambda folder: replace(folder, "CMU_MOSI_COVAREP.csd", "data/v1/intervals", None),
        "CMU_MOSI_COVAREP.csd: video 'v1' cannot be read",
    ),
    "intervals of another number": (
        lambda folder: replace(folder, "CMU_MOSI_COVAREP.csd", "data/v1/intervals", np.ones((3, 2))),
        "video 'v1' has features float32 (18, 3) and intervals (3, 2)",
    ),
    "words as audio": (
        lambda folder: replace(folder, "CMU_MOSI_COVAREP.csd", "data/v1/features", np.full((18, 1), b"a")),
        "video 'v1' has features |S1 (18, 1)",
    ),
    "no score": (
        lambda folder: replace(folder, "CMU_MOSI_Opinion_Labels.csd", "data/v1/features", np.full((3, 1), np.nan)),
        "utterance 'v1[0]' has no score",
    ),
    "folds": (
        lambda folder: (folder / "cmu_mosi_std_folds.py").write_text("standard_train_fold = [open('x', 'w')]"),
        "holds no lists standard_train_fold, standard_valid_fold and",
    ),
    "folds that are no Python": (
        lambda folder: (folder / "cmu_mosi_std_folds.py").write_text("= ="),
        "holds no lists standard_train_fold",
    ),
}


@pytest.mark.parametrize("case", SPOILT_CSD)
def test_spoilt_csd(tmp_path, capsys, case):
    change, phrase = SPOILT_CSD[case]
    folder = miniature_sentiment.csd(tmp_path / "csd")
    change(folder)
    folds = folder / "cmu_mosi_std_folds.py"
    assert run(tmp_path, folder, *(["--folds", str(folds)] if folds.exists() else [])) == 1
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["csd"]
