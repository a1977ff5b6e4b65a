"""The CSV files of bc-LSTM, in miniature, as a manifest."""

import h5py
import numpy as np
import pytest

from data_prep.corpora import mosi_utterance
from data_prep.manifest_table import read_table
from tests import miniature_sentiment
from tests.faulty_files import replace


def run(tmp_path, folder, *options):
    return mosi_utterance.main([str(folder), str(tmp_path / "m.csv"), "--allow-count-differences", *options])


def test_rows_and_features(tmp_path, capsys):
    assert run(tmp_path, miniature_sentiment.bc_lstm(tmp_path / "data")) == 0
    rows = {row["utterance_id"]: row for _, row in read_table(tmp_path / "m.csv")[1]}
    assert len(rows) == 14
    assert rows["v3_x_2"] == {
        "utterance_id": "v3_x_2", "speaker": "v3_x", "label": "positive", "split": "train", "text": "LINE 7, IT IS",
    }  # fmt: skip
    assert {row["speaker"]: row["split"] for row in rows.values()} == {
        **{f"v{video}_x": "train" for video in range(6)}, "v4_x": "val", "v6_x": "test",
    }  # fmt: skip
    with h5py.File(tmp_path / "m_audio.h5") as audio, h5py.File(tmp_path / "m_video.h5") as video:
        assert audio.keys() == video.keys() == rows.keys()
        np.testing.assert_array_equal(audio["v3_x_2"], [[7.25, 7]])  # transcripts' row 7, though the order differs
        np.testing.assert_array_equal(video["v6_x_1"], [[12.5, 12, -12]])
    assert not (tmp_path / "m_text.h5").exists()
    printed = capsys.readouterr().out
    assert f"--audio features:{tmp_path}/m_audio.h5 --video features:{tmp_path}/m_video.h5 --text text_hash" in printed


@pytest.mark.parametrize(
    ("path", "old", "new", "phrase"),
    [
        ("transcripts.csv", '"0"\n', '"2"\n', "transcripts.csv: row 1: id, words, video and label are expected"),
        ("transcripts.csv", "v0_x_2", "v0_x_1", "utterance 'v0_x_1' is there twice"),
        ("text_train.csv", '"11"', '"99"', "text_train.csv: names a row that transcripts.csv does not have"),
        ("text_train.csv", '"11"', '"x"', "text_train.csv: is no table of numbers ("),
        ("audio/audio_test0.csv", '"1"\n', '"0"\n', "audio_test0.csv: its last column differs from the labels"),
        ("audio/audio_test0.csv", '"1"\n', '"1","2"\n', "audio_test0.csv: is no table of numbers ("),
        ("video/video_test0.csv", '"13.5",', "", "video_test0.csv: is no table of numbers ("),
    ],
)
def test_faults(tmp_path, capsys, path, old, new, phrase):
    folder = miniature_sentiment.bc_lstm(tmp_path / "data")
    replace(path, old, new)(folder)
    assert run(tmp_path, folder) == 1
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


def test_widths_of_both_parts_differ(tmp_path, capsys):
    folder = miniature_sentiment.bc_lstm(tmp_path / "data")
    path = folder / "video/video_test0.csv"
    path.write_text("".join(line.split(",", 1)[1] + "\n" for line in path.read_text().splitlines()))
    assert run(tmp_path, folder) == 1
    assert "video of utterance 'v6_x_2' has 2 numbers a frame where others have 3" in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


def test_missing_files_and_other_counts(tmp_path, capsys):
    folder = miniature_sentiment.bc_lstm(tmp_path / "data")
    assert mosi_utterance.main([str(folder), str(tmp_path / "m.csv")]) == 1
    assert "train negative 6 where 738 is known" in capsys.readouterr().err
    (folder / "text_test.csv").write_text("\n")
    assert run(tmp_path, folder) == 1
    assert "text_test.csv: is empty; take the file again" in capsys.readouterr().err
    (folder / "text_test.csv").unlink()
    assert run(tmp_path, folder) == 1
    assert "text_test.csv: cannot be read (No such file or directory); check the path" in capsys.readouterr().err
