"""The table of votes of CREMA-D, in miniature, as an archive."""

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.folds import make_folds
from data_prep import cremad_rater_votes
from tests import miniature_corpora

FIRST = miniature_corpora.FIRST_VOTES


@pytest.fixture
def table(tmp_path):
    return miniature_corpora.cremad_votes(tmp_path)


def run(*argv):
    return cremad_rater_votes.main([*(str(item) for item in argv), "--allow-count-differences"])


def test_two_views(tmp_path, table, capsys):
    out = tmp_path / "out.npz"
    assert run(table, out) == 0
    printed = capsys.readouterr().out
    assert "48 utterances, 6 speakers, 4 classes, voice (12), face (12)" in printed
    assert f"SHA-256 {sha256(out)}" in printed
    assert "note: strengths that the table does not have, set to 0: 1 (1001_DFA_ANG_XX)" in printed
    corpus = read_archive(out)
    assert corpus.class_names == ("angry", "happy", "sad", "neutral")
    assert corpus.modalities == ("voice", "face")
    assert corpus.utterance_id.tolist() == sorted(corpus.utterance_id.tolist())
    assert corpus.utterance_id[:4].tolist() == [f"1001_DFA_{name}_XX" for name in ("ANG", "HAP", "NEU", "SAD")]
    assert corpus.label[:4].tolist() == [0, 1, 3, 2]
    assert corpus.speaker[0] == "1001"
    # by hand from FIRST: shares of 10 votes, then strengths per cent
    expected = np.float32([0.2, 0, 0, 0, 0.6, 0.2, 0.255, 0, 0, 0, 0.8, 0])
    np.testing.assert_array_equal(corpus.features["voice"][0], expected)
    assert corpus.features["face"][0, 0] == np.float32(2 / 5)  # its row: 2 1 0 0 1 1
    assert [fold.name for fold in make_folds(corpus, num_folds=3)] == ["group1", "group2", "group3"]


def test_with_sentence(tmp_path, table):
    out = tmp_path / "out.npz"
    assert run(table, out, "--views", "face", "--with-sentence") == 0
    corpus = read_archive(out)
    assert corpus.modalities == ("face", "text")
    is_first = [name[5:8] == "DFA" for name in corpus.utterance_id]
    np.testing.assert_array_equal(corpus.features["text"], np.eye(2, dtype=np.float32)[1 - np.array(is_first)])


def test_order_of_rows_changes_nothing(tmp_path, table):
    assert run(table, tmp_path / "one.npz") == 0
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head, *lines[::-1]]))
    assert run(table, tmp_path / "two.npz") == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "phrase"),
    [
        ('"meanSadRespNorm"', '"sad"', "column 'meanSadRespNorm' is missing; give processedResults/tabulatedVotes.csv"),
        ('"100001"', '"900001"', "row 2: '900001' of '1001_DFA_ANG_XX' is no row of the table"),
        ("1001_DFA_ANG_XX", "1001_DFA_JOY_XX", "row 2: '100001' of '1001_DFA_JOY_XX' is no row of the table"),
        ("1001_DFA_ANG_XX", "1001_IEO_ANG_XX", "the voice of 1001_IEO_ANG_XX is there already"),
        (FIRST + "\n", "", "holds no votes on the voice of 1001_DFA_ANG_XX"),
        ('"100001",2,', '"100001",x,', "row 2: a vote or strength is no number"),
        ('"100001",2,', '"100001",-2,', "row 2: has no votes"),
        ('"100001",2,0,0,0,6,2', '"100001",0,0,0,0,0,0', "row 2: has no votes"),
        ('"100001",2,', '"100001",', "row 2 has 17 values where the first line names 18 columns"),
    ],
)
def test_faults(tmp_path, table, capsys, old, new, phrase):
    text = table.read_text()
    lines = text.replace(FIRST + "\n", "").splitlines()
    text = "\n".join([lines[0], FIRST, *lines[1:], ""])  # FIRST is row 2
    assert old in text
    table.write_text(text.replace(old, new, 1))
    assert run(table, tmp_path / "out.npz") == 1
    printed = capsys.readouterr()
    assert phrase in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_other_counts_stop(tmp_path, table, capsys):
    assert cremad_rater_votes.main([str(table), str(tmp_path / "out.npz")]) == 1
    assert "the counts differ from the known ones: angry 12 where 1271 is known" in capsys.readouterr().err


def test_unreadable(tmp_path, table, capsys):
    for content, phrase in ((b"", "column '' is missing"), (b"PK\x03\x04\0", "is not a text file")):
        table.write_bytes(content)
        assert run(table, tmp_path / "out.npz") == 1
        assert phrase in capsys.readouterr().err
    assert run(tmp_path / "no.csv", tmp_path / "out.npz") == 1
    assert "no.csv: cannot be read (No such file or directory)" in capsys.readouterr().err


@pytest.mark.parametrize("views", [["voice"], ["voice", "voice"]])
def test_needs_two_views(tmp_path, table, capsys, views):
    assert run(table, tmp_path / "out.npz", "--views", *views) == 1
    assert "--views: two different modalities are needed" in capsys.readouterr().err
