"""The manifest of a miniature MELD, with its known oddities."""

import shutil
from pathlib import Path

import pytest

from data_prep.corpora import meld
from data_prep.manifest_table import read_table
from tests import miniature_corpora


def run(folder, manifest):
    return meld.main([str(folder), str(manifest), "--allow-count-differences"])


def test_rows_and_clips(tmp_path, capsys):
    assert run(miniature_corpora.meld(tmp_path), tmp_path / "m.csv") == 0
    found = {row["utterance_id"]: row for _, row in read_table(tmp_path / "m.csv")[1]}
    printed = capsys.readouterr().out
    assert len(found) == 42
    row = found["train_dia0_utt1"]
    assert (row["speaker"], row["label"], row["split"], row["dialogue"]) == ("Rachel", "disgust", "train", "train_dia0")
    assert {found[f"{part}_dia0_utt1"]["text"] for part in ("train", "dev", "test")} == {
        "It\u2019s line 1, Where have you been?"  # three encodings
    }
    assert found["dev_dia0_utt1"]["split"] == "val"
    assert (row["episode_start"], row["season"]) == ("00:20:11,256", "4")
    assert not {"start", "end"} & row.keys()
    missing = {name for name, row in found.items() if not row["video"]}
    assert missing == {"train_dia125_utt3", "dev_dia110_utt5"}  # damaged in the release; not there
    assert found["dev_dia110_utt3"]["video"]
    assert Path(found["test_dia7_utt6"]["video"]).name == "final_videos_testdia7_utt6.mp4"
    assert Path(found["test_dia0_utt0"]["video"]).name == "dia0_utt0.mp4"
    assert "note: clips that are known to be damaged, left out: 1 (train_dia125_utt3)" in printed
    assert "note: clips without a row, left out: 1 (dev_dia66_utt9)" in printed
    assert "note: clips of test that are there with and without a prefix, taken without: 1 (dia0_utt0)" in printed


def edit(path, old, new):
    text = path.read_bytes()
    assert old.encode() in text
    path.write_bytes(text.replace(old.encode(), new.encode(), 1))


FAULTS = {
    "no clips": (lambda folder: [shutil.rmtree(folder / part) for part in ("train", "dev", "test")], "holds no clip"),
    "no table": (lambda folder: (folder / "dev_sent_emo.csv").unlink(), "holds no table dev_sent_emo.csv"),
    "no column": (
        lambda folder: edit(folder / "dev_sent_emo.csv", "Emotion", "Feeling"),
        "dev_sent_emo.csv: column 'Emotion' is missing",
    ),
    "emotion": (
        lambda folder: edit(folder / "test_sent_emo.csv", ",joy,", ",glee,"),
        "test_sent_emo.csv: row 5: the emotion 'glee' is not known",
    ),
    "number": (
        lambda folder: edit(folder / "test_sent_emo.csv", ",neutral,0,3,4,7,", ",neutral,0,x,4,7,"),
        "test_sent_emo.csv: row 5: Dialogue_ID and Utterance_ID are no numbers",
    ),
    "twice": (
        lambda folder: edit(folder / "test_sent_emo.csv", ",neutral,0,3,4,7,", ",neutral,0,2,4,7,"),
        "test_sent_emo.csv: row 5: dia0_utt2 is there already",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(tmp_path, capsys, case):
    folder = miniature_corpora.meld(tmp_path)
    change, phrase = FAULTS[case]
    change(folder)
    assert run(folder, tmp_path / "m.csv") == 1
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1
    assert not (tmp_path / "m.csv").exists()
