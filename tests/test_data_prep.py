"""The commands of data_prep on tiny made sources with the keys of the real ones."""

import re

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.folds import make_folds
from data_prep import cmu_mosi_utterance, cremad_rater_votes, digits_views, validate

NUM_VIDEOS = 12


@pytest.fixture
def mosi(tmp_path):
    """Twelve videos of four segments, the last two are the test videos."""
    rng = np.random.default_rng(0)
    video = np.repeat([f"v{index:02d}" for index in range(NUM_VIDEOS)], 4)
    num = len(video)
    np.savez(
        tmp_path / "source.npz",
        utt_id=np.array([f"{name}_{row}" for row, name in enumerate(video)]),
        video_id=video,
        label=np.arange(num) % 2,
        split=np.where(video < "v10", "train", "test"),
        split_standard=np.full(num, "val"),
        text=rng.random((num, 5), np.float32),
        text_minilm=rng.random((num, 8)).astype(np.float16),
        acoustic=rng.random((num, 3), np.float32),
        visual=rng.random((num, 4), np.float32),
    )
    return tmp_path / "source.npz"


def run(command, *argv):
    return command.main([str(item) for item in argv])


def test_mosi(tmp_path, mosi):
    out = tmp_path / "out.npz"
    assert run(cmu_mosi_utterance, mosi, out) == 0
    corpus, source = read_archive(out), np.load(mosi)
    assert corpus.class_names == ("negative", "positive")
    assert corpus.widths == {"text_minilm": 8, "acoustic": 3, "visual": 4}
    assert corpus.features["text_minilm"].dtype == np.float16
    np.testing.assert_array_equal(corpus.features["visual"], source["visual"])
    (fold,) = make_folds(corpus)
    assert set(corpus.speaker[fold.test]) == {"v10", "v11"}
    assert set(corpus.speaker[fold.val]) == {"v04", "v09"}  # every fifth of v00 .. v09
    assert set(corpus.speaker[fold.train]) == {f"v{index:02d}" for index in range(10)} - {"v04", "v09"}


def test_digits(tmp_path, capsys):
    assert digits_views.main([str(tmp_path / "digits.npz")]) == 0
    corpus = read_archive(tmp_path / "digits.npz")
    assert (len(corpus), corpus.num_classes, corpus.widths) == (1797, 10, {"left": 24, "middle": 16, "right": 24})
    capsys.readouterr()
    for name, reason in {"digits.npz": "is there already", "none/digits.npz": "there is no folder"}.items():
        assert digits_views.main([str(tmp_path / name)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"{tmp_path / name}: {reason}")
        assert said.count("\n") == 1


def test_existing_archive_is_kept_without_force(tmp_path, mosi, capsys):
    out = tmp_path / "out.npz"
    out.write_bytes(b"precious")
    assert run(cmu_mosi_utterance, mosi, out) == 1
    assert capsys.readouterr().err == f"{out}: is there already; give --force to replace it\n"
    assert out.read_bytes() == b"precious"
    assert run(cmu_mosi_utterance, mosi, out, "--force") == 0
    assert len(read_archive(out)) == 4 * NUM_VIDEOS


def changed(path, **change):
    with np.load(path) as source:
        arrays = dict(source) | change
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"visual": None}, "source.npz: key 'visual' is missing; the source must hold utt_id, video_id"),
        ({"visual": np.ones((3, 4), np.float32)}, "source.npz: key 'visual' has shape (3, 4) where 'utt_id' has 48"),
        ({"label": np.array(1)}, "source.npz: key 'label' has shape () where 'utt_id' has 48 rows"),
        ({"split": np.full(48, "dev")}, "source.npz: key 'split' holds 'dev'; only train and test are expected"),
        ({"label": np.r_[np.zeros(3, int), np.full(45, 5)]}, "source.npz: key 'label', row 3: 5 is neither 0 nor 1"),
        ({"label": np.full(48, -1)}, "source.npz: key 'label', row 0: -1 is neither 0 nor 1; download it again"),
        ({"label": np.full((48, 2), 2)}, "source.npz: key 'label', row 0: 2 is neither 0 nor 1; download it again"),
        ({"acoustic": np.full((48, 3), np.nan, np.float32)}, "out.npz: key 'acoustic', row 0 (utterance 'v00_0')"),
        ({"utt_id": np.array([{}] * 48)}, "source.npz: is not a readable .npz (Object arrays cannot be loaded"),
    ],
)
def test_source_faults(tmp_path, mosi, capsys, change, phrase):
    changed(mosi, **change)
    assert run(cmu_mosi_utterance, mosi, tmp_path / "out.npz") == 1
    printed = capsys.readouterr()
    assert phrase in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_unreadable_sources(tmp_path, mosi, capsys):
    whole = mosi.read_bytes()
    for content in (b"", b"text", b"PK\x03\x04", whole[: len(whole) // 2], np.lib.format.MAGIC_PREFIX):
        mosi.write_bytes(content)
        assert run(cmu_mosi_utterance, mosi, tmp_path / "out.npz") == 1
        assert "source.npz: is not a readable .npz (" in capsys.readouterr().err
    assert run(cmu_mosi_utterance, tmp_path / "no.npz", tmp_path / "out.npz") == 1
    assert "no.npz: cannot be read (No such file or directory); give the path of the" in capsys.readouterr().err


def labelled_in_part(path, label, **others):
    """An archive of eight utterances of the speakers a, b, c, d, with vectors."""
    rng = np.random.default_rng(0)
    np.savez(
        path,
        utterance_id=np.array([f"u{row}" for row in range(8)]),
        speaker=np.array([*"aabbccdd"]),
        label=np.array(label),
        class_names=np.array(["calm", "angry"]),
        modalities=np.array(["audio", "text"]),
        audio=rng.random((8, 3), np.float32),
        text=rng.random((8, 3), np.float32),
        **{"session": np.array([*"aabbccdd"])} | others,
    )


def test_validate_counts_unlabelled_utterances(tmp_path, capsys):
    labelled_in_part(tmp_path / "a.npz", [0, 1, 0, 1, 1, 0, -1, -1])
    assert run(validate, tmp_path / "a.npz", "--folds", "3") == 0
    printed = capsys.readouterr().out
    text = "6 of 8 utterances are labelled, 2 are not and are used in training only; speakers without a labelled one: 1"
    assert text in printed
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    assert ["speaker", "calm", "angry", "unlabelled", "all"] in rows
    assert ["c", "1", "1", "0", "2"] in rows
    assert ["d", "0", "0", "2", "2"] in rows
    assert ["all 4", "3", "3", "2", "8"] in rows
    assert ["fold", "train", "val", "test", "unlabelled", "test calm", "test angry"] in rows
    assert ["group1", "2", "2", "2", "2", "1", "1"] in rows
    assert "warning" not in printed


def test_validate_warns_of_unlabelled_utterances_that_are_never_used(tmp_path, capsys):
    split = np.array(["train", "train", "val", "val", "test", "test", "train", "test"])
    labelled_in_part(tmp_path / "a.npz", [0, 1, 0, 1, 1, 0, -1, -1], split=split)
    assert run(validate, tmp_path / "a.npz") == 0
    assert "warning: unlabelled utterances that no fold trains on: 1 ('u7' first)" in capsys.readouterr().out


def test_validate_prints_the_corpus(tmp_path, capsys):
    path = tmp_path / "a[b].npz"  # brackets are rich markup
    length = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    text = np.random.default_rng(0).random((8, 4)).astype(np.float16)
    text[:, 1] = 2
    text[3] = 0
    text[6] = text[5]
    np.savez(
        path,
        utterance_id=np.array([f"u{row}" for row in range(8)]),
        speaker=np.array(["a", "a", "b", "b", "c", "c", "d", "d"]),
        session=np.array(["s[1]"] * 4 + ["s[2]"] * 4),
        label=np.array([0, 1] * 4),
        class_names=np.array(["calm", "angry"]),
        modalities=np.array(["audio", "text"]),
        audio=np.random.default_rng(0).random((28, 3), np.float32),
        audio_length=length,
        audio_present=length > 0,
        text=text,
    )
    assert run(validate, path) == 0
    printed = capsys.readouterr().out
    assert f"SHA-256 {sha256(path)}" in printed
    assert "a[b].npz: 8 utterances" in printed
    rows = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    assert ["s[1]", "2", "2", "4"] in rows
    assert ["d", "1", "1", "2"] in rows
    assert ["all 4", "4", "4", "8"] in rows
    # quantiles of 1 .. 7 by hand: 25 % 2.5, 50 % 4, 75 % 5.5, 95 % 6.7
    assert ["audio", "3", "float32", "7 (87.5 %)", "28", "1", "2.5", "4", "5.5", "6.7", "7"] in rows
    assert ["text", "4", "float16", "8 (100.0 %)", "one vector"] in rows
    assert ["a", "4", "2", "2", "1", "1"] in rows  # the fold that tests speaker a: train, val, test, per class
    assert "warning: text: present entries of zeros only: 1 ('u3' first); if they are missing" in printed
    assert "warning: text: entries with the features of an earlier one: 1 of 8 ('u5' first)" in printed
    assert "constant" not in printed  # column 1 is not, because of the row of zeros
    assert printed.endswith("The archive is valid.\n")


def test_validate_warns_of_splits_and_constants(tmp_path, mosi, capsys):
    out = tmp_path / "out.npz"
    with np.load(mosi) as source:
        split = np.where(source["utt_id"] == "v00_0", "test", source["split"])
        visual = source["visual"].copy()
    visual[:, 2] = 7
    changed(mosi, split=split, visual=visual)
    assert run(cmu_mosi_utterance, mosi, out) == 0
    assert run(validate, out) == 0
    printed = capsys.readouterr().out
    assert "warning: fold 'split': speakers in both train and test: 1 ('v00' first)" in printed
    assert "warning: visual: constant columns: 1 of 4 (column 2 first)" in printed


def test_validate_ends_with_one_sentence(tmp_path, mosi, capsys):
    assert run(validate, mosi) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"{mosi}: key 'utterance_id': is missing; write the archive with")
    assert printed.err.count("\n") == 1
    assert run(cmu_mosi_utterance, mosi, tmp_path / "out.npz") == 0
    changed(tmp_path / "out.npz", split=None)
    capsys.readouterr()
    assert run(validate, tmp_path / "out.npz", "--folds", "13") == 1
    assert (
        capsys.readouterr().err
        == "13 folds need 13 speakers or more, found 12; ask for 12 folds, in the commands with --folds 12\n"
    )


@pytest.mark.parametrize("command", [cremad_rater_votes, cmu_mosi_utterance, digits_views, validate])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    assert f"usage: python -m {command.__name__} [-h]" in capsys.readouterr().out
