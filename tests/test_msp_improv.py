"""Raw MSP-IMPROV: parser and command, on the miniature corpus with stub extractors."""

import math

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive
from cmarr_jax.data.corpus import ArchiveError
from data_prep import known_counts, sources, validate
from data_prep.details import details_path, read_details
from data_prep.msp_improv import __main__ as command
from data_prep.msp_improv.parse import parse
from tests import miniature, stub_extractors
from tests.test_iemocap import assert_same_as_data_set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return miniature.msp_improv(tmp_path_factory.mktemp("msp"))


@pytest.fixture
def stubs(monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)


def convert(root, out, *argv):
    return command.main([str(root), str(out), "--num-workers", "1", "--allow-count-differences", *argv])


def test_labels_ratings_and_media(root):
    parsed = parse(root)
    assert len(parsed.utterances) == 60
    of = {item.media.utterance_id: item for item in parsed.utterances}
    item = of["MSP-IMPROV-S01N-M02-S-FM02"]
    assert (item.speaker, item.session, item.dialogue, item.sex) == ("02M", "02", "session2-S01N", "M")
    assert (item.label, item.valence, item.arousal, item.dominance) == ("N", 3.0, 2.6, 2.5)
    assert item.media.audio == root / "session2/S01N/S/MSP-IMPROV-S01N-M02-S-FM02.wav"
    assert item.media.half is None
    assert item.media.text == miniature.SENTENCES[2]
    assert math.isnan(of["MSP-IMPROV-S01H-M02-S-FM01"].dominance)  # written NaN
    assert of["MSP-IMPROV-S01H-F01-S-MF01"].media.text is None
    assert of["MSP-IMPROV-S01N-F01-S-MF02"].media.audio is None
    assert of["MSP-IMPROV-S01S-F01-S-MF03"].media.video is None
    assert any("conditions than S: 1" in note for note in parsed.notes)
    assert [item.media.utterance_id for item in parse(root, condition="T").utterances] == ["MSP-IMPROV-S01A-F01-T-MF01"]


def test_endings_in_capitals_and_links_to_nowhere(tmp_path):
    root, name = miniature.msp_improv(tmp_path), "MSP-IMPROV-S01N-M02-S-FM02"
    for ending in (".wav", ".avi"):
        path = root / "session2/S01N/S" / f"{name}{ending}"
        path.rename(path.with_suffix(ending.upper()))
    lost = root / "session2/S01N/S" / f"{name.replace('FM02', 'FM03')}.avi"
    lost.unlink(missing_ok=True)
    lost.symlink_to(tmp_path / "gone.avi")
    found = {item.media.utterance_id: item.media for item in parse(root).utterances}
    assert found[name].audio == root / f"session2/S01N/S/{name}.WAV"
    assert found[name].video == root / f"session2/S01N/S/{name}.AVI"


@pytest.mark.parametrize("name", ["Evaluation.txt", "labels/Evalution.txt"])
def test_other_places_of_the_evaluation_file(tmp_path, name):
    root = miniature.msp_improv(tmp_path, with_media=False)
    (root / name).parent.mkdir(exist_ok=True)
    (root / "Evalution.txt").rename(root / name)
    assert len(parse(root).utterances) == 60


def test_transcripts_videos_and_wavs_where_people_put_them(tmp_path):
    root = miniature.msp_improv(tmp_path)
    name = "MSP-IMPROV-S01N-M02-S-FM02"
    (root / "Human_transcriptions/All_human_transcriptions").rename(root / "Text")
    (root / "Text" / "MSP-IMPROV-S01A-F01-T-MF01.txt").write_bytes(b"\0")  # of a condition that is not asked for
    miniature.write_wav(root / f"wav16k/{name}.wav", np.zeros(160, np.int16), 16000)
    video = root / "session2/S01N/S" / f"{name}.avi"
    video.rename(video.with_suffix(".mp4"))
    with pytest.raises(ArchiveError, match="of the same name; give --prefer with the folder to take"):
        parse(root)
    found = {
        item.media.utterance_id: item.media for item in parse(root, prefer="wav16k", transcripts="Text").utterances
    }
    assert found[name].audio == root / f"wav16k/{name}.wav"
    assert found[name].video == video.with_suffix(".mp4")
    assert found[name].text == miniature.SENTENCES[2]
    (root / f"wav16k/{name}.wav").write_bytes((root / f"session2/S01N/S/{name}.wav").read_bytes())
    assert len(parse(root).utterances) == 60  # a copy of the same bytes is no other file
    other = bytearray((root / f"wav16k/{name}.wav").read_bytes())
    other[-1] ^= 1  # of the same size
    (root / f"wav16k/{name}.wav").write_bytes(other)
    with pytest.raises(ArchiveError, match="of the same name; give --prefer with the folder to take"):
        parse(root)
    original = {item.media.utterance_id: item.media for item in parse(root, prefer="session2").utterances}
    assert original[name].audio == root / f"session2/S01N/S/{name}.wav"
    assert original[name].text is None


@pytest.mark.usefixtures("stubs")
def test_archive_details_and_data_set(root, tmp_path, capsys):
    out = tmp_path / "msp.npz"
    assert convert(root, out) == 0
    printed = capsys.readouterr().out
    assert "left out by label: O 6, X 6" in printed
    assert "1 of 44100 Hz with 2 channels" in printed
    corpus, details = read_archive(out), read_details(details_path(out))
    assert (len(corpus), corpus.class_names) == (48, known_counts.CLASS_NAMES)
    np.testing.assert_array_equal(np.bincount(corpus.label), [12] * 4)
    present = dict(zip(corpus.utterance_id.tolist(), corpus.present.tolist(), strict=True))
    assert present["MSP-IMPROV-S01H-F01-S-MF01"] == [True, True, False]
    assert present["MSP-IMPROV-S01N-F01-S-MF02"] == [False, True, True]
    assert present["MSP-IMPROV-S01S-F01-S-MF03"] == [True, False, True]
    assert np.isnan(details.start).all()
    assert validate.main([str(out)]) == 0
    assert_same_as_data_set(out, tmp_path / "tfds/msp_improv/msp/1.0.0", tmp_path)


@pytest.mark.usefixtures("stubs")
def test_five_classes_take_other(root, tmp_path):
    assert convert(root, tmp_path / "five.npz", "--without-tfds", "--num-classes", "5") == 0
    corpus = read_archive(tmp_path / "five.npz")
    assert corpus.class_names == ("angry", "happy", "neutral", "other", "sad")
    np.testing.assert_array_equal(np.bincount(corpus.label), [12, 12, 12, 6, 12])


@pytest.mark.usefixtures("stubs")
def test_others_are_kept_as_unlabelled(root, tmp_path, capsys):
    assert convert(root, tmp_path / "all.npz", "--without-tfds", "--video", "none", "--others-unlabelled") == 0
    assert "kept as unlabelled, by label: O 6, X 6\n" in capsys.readouterr().out
    np.testing.assert_array_equal(np.bincount(read_archive(tmp_path / "all.npz").label + 1), [12, 12, 12, 12, 12])


@pytest.mark.usefixtures("stubs")
def test_an_utterance_without_any_features_is_left_out_and_named(root, tmp_path, capsys):
    argv = ("--without-tfds", "--video", "none")
    other = miniature.msp_improv(tmp_path / "copy")
    (other / "Human_transcriptions/All_human_transcriptions/MSP-IMPROV-S01N-F01-S-MF02.txt").unlink()
    assert convert(other, tmp_path / "out.npz", *argv) == 0
    assert "left out, without any features: MSP-IMPROV-S01N-F01-S-MF02\n" in capsys.readouterr().out
    assert len(read_archive(tmp_path / "out.npz")) == 47


def test_known_counts_are_those_of_the_literature():
    totals = np.sum(list(known_counts.MSP_IMPROV.values()), axis=0)
    np.testing.assert_array_equal(totals, [460, 999, 1733, 627])  # as in docs/decisions.md
    assert totals.sum() == 3819
