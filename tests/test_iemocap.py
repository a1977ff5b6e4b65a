"""Raw IEMOCAP: parser and command, on the miniature corpus with stub extractors."""

import dataclasses

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.folds import make_folds
from data_prep import known_counts, sources, validate
from data_prep.details import details_path, read_details
from data_prep.ids import parse_name
from data_prep.iemocap import __main__ as command
from data_prep.iemocap.parse import CLASSES, parse
from data_prep.tfds_corpus import read_dataset
from tests import miniature, stub_extractors


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    return miniature.iemocap(tmp_path_factory.mktemp("iemocap"))


@pytest.fixture
def stubs(monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)


def convert(root, out, *argv):
    return command.main([str(root), str(out), "--num-workers", "1", *argv])


def test_labels_ratings_times_and_media(release):
    parsed = parse(release)
    assert len(parsed.utterances) == 72
    assert [item.media.utterance_id for item in parsed.utterances] == sorted(
        item.media.utterance_id for item in parsed.utterances
    )
    of = {item.media.utterance_id: item for item in parsed.utterances}
    item = of["Ses01M_impro02_F001"]
    assert (item.speaker, item.session, item.dialogue, item.sex) == ("01F", "01", "Ses01M_impro02", "F")
    assert (item.label, item.valence, item.arousal, item.dominance) == ("hap", 2.5, 3.5, 2.75)
    assert item.media.audio == release / "Session1/sentences/wav/Ses01M_impro02/Ses01M_impro02_F001.wav"
    assert item.media.video == release / "Session1/dialog/avi/DivX/Ses01M_impro02.avi"
    assert (item.media.audio_start, item.media.audio_end) == (None, None)  # its wav is cut already
    assert item.media.text == "We should go now."  # miniature.SENTENCES[turn 1 + session 1]
    assert of["Ses01M_impro02_M001"].media.text is None  # its line is missing
    assert of["Ses02M_impro02_F001"].media.video is None
    text = "\n".join(parsed.notes)
    assert "utterances without a video: 12 ('Ses02M_impro02_F000' first)" in text
    assert "utterances without a transcript: 1 ('Ses01M_impro02_M001' first)" in text
    assert "Where have you been" not in text  # no transcript in what is printed


@pytest.mark.parametrize(
    "name",
    [
        "../Ses01F_impro01_F000",
        "Ses01F_impro01/../x_F000",
        "/Ses01F_impro01_F000",
        "Ses01F_..\\x_F000",
        "Ses01F_a\0_F000",
    ],
)
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(ArchiveError, match="is no utterance name of IEMOCAP"):
        parse_name(name, "file")
    with pytest.raises(ArchiveError, match="is no utterance name of IEMOCAP"):
        parse_name(f"MSP-IMPROV-S01A-F01-S-FM01/{name}", "file")


def test_a_very_long_name_has_no_media(tmp_path):
    root = miniature.iemocap(tmp_path, with_media=False)
    folder, stem = root / "Session1/dialog/EmoEvaluation", f"Ses01F_{'x' * 240}"  # its wav would have 256 characters
    (root / "Session1/sentences/wav" / stem).mkdir(parents=True)
    line = f"[1.0000 - 2.0000]\t{stem}_F000\tang\t[2.0000, 3.5000, 3.0000]\n"
    (folder / f"{stem}.txt").write_text(line)
    (item,) = (item for item in parse(root).utterances if item.dialogue == stem)
    assert (item.media.audio, item.media.video, item.label) == (None, None, "ang")


@pytest.mark.parametrize("session", [2, 3])
def test_byte_order_mark_and_crlf_change_nothing(release, session):
    count = sum(item.session == f"{session:02d}" for item in parse(release).utterances)
    assert count == 24
    name = f"Ses{session:02d}F_impro01_M002"
    texts = {item.media.utterance_id: item.media.text for item in parse(release).utterances}
    assert texts[name] == miniature.SENTENCES[(2 + session) % 5]


def test_marked_actor_is_on_the_side_that_is_said(release):
    half = {item.media.utterance_id: item.media.half for item in parse(release).utterances}
    assert half["Ses01F_impro01_F001"] == "left"  # F wears the markers in Ses01F
    assert half["Ses01F_impro01_M001"] == "right"
    assert half["Ses01M_impro02_M000"] == "left"
    other = {item.media.utterance_id: item.media.half for item in parse(release, marked_half="right").utterances}
    assert all(other[name] != side for name, side in half.items())


@pytest.mark.usefixtures("stubs")
def test_archive_details_and_data_set(release, tmp_path, capsys):
    out = tmp_path / "iemocap.npz"
    assert convert(release, out, "--allow-count-differences") == 0
    printed = capsys.readouterr().out
    assert "left out by label: oth 4, xxx 8" in printed
    assert "audio of Ses01F_impro01_M000 taken as missing" in printed
    assert not any(sentence in printed for sentence in miniature.SENTENCES)
    corpus, details = read_archive(out), read_details(details_path(out))
    assert (len(corpus), corpus.class_names, corpus.modalities) == (
        60,
        known_counts.CLASS_NAMES,
        ("audio", "video", "text"),
    )
    present = dict(zip(corpus.utterance_id.tolist(), corpus.present.tolist(), strict=True))
    assert present["Ses01F_impro01_M000"] == [False, True, True]  # empty wav
    assert present["Ses01F_impro01_F000"] == [False, True, True]  # 20 ms
    assert present["Ses02M_impro02_M004"] == [True, False, True]
    assert present["Ses01M_impro02_M001"] == [True, True, False]
    assert sum(map(sum, present.values())) == 3 * 60 - 2 - 10 - 1
    assert [fold.name for fold in make_folds(corpus)] == ["01F", "01M", "02F", "02M", "03F", "03M"]
    row = corpus.utterance_id.tolist().index("Ses01M_impro02_F001")
    assert corpus.class_names[corpus.label[row]] == "happy"
    assert (details.sex[row], details.transcript[row], details.valence[row]) == ("F", "We should go now.", 2.5)
    assert details.record["half"]["Ses01M_impro02_F"] == "right"
    assert details.record["extractors"]["audio"]["name"] == "loudness"
    assert str(release) not in str(details.record)
    assert validate.main([str(out)]) == 0
    assert_same_as_data_set(out, tmp_path / "tfds/iemocap/iemocap/1.0.0", tmp_path)


def assert_same_as_data_set(out, data_set, tmp_path):
    """Element by element, by writing what is read of the data set as an archive."""
    corpus, details = read_dataset(data_set)
    write_archive(tmp_path / "back.npz", corpus)
    assert sha256(tmp_path / "back.npz") == sha256(out)
    expected = read_details(details_path(out))
    for field in dataclasses.fields(expected):
        found, kept = getattr(details, field.name), getattr(expected, field.name)
        (np.testing.assert_equal if isinstance(kept, dict) else np.testing.assert_array_equal)(found, kept)


@pytest.mark.usefixtures("stubs")
def test_utterances_of_other_emotions_are_kept_as_unlabelled(release, tmp_path, capsys):
    out, plain = tmp_path / "all.npz", tmp_path / "plain.npz"
    options = ("--allow-count-differences", "--video", "none")
    assert convert(release, plain, *options, "--without-tfds") == 0
    assert "kept as unlabelled, by label: none\n" in capsys.readouterr().out
    assert convert(release, out, *options, "--others-unlabelled") == 0
    printed = capsys.readouterr().out
    assert "72 utterances, 60 of the 4 classes: angry 12, happy 24, neutral 12, sad 12\nkept as unl" in printed
    assert "kept as unlabelled, by label: oth 4, xxx 8\n" in printed
    assert "left out by label: none" in printed
    assert "12 / 1103" in printed  # the counts compared with the known ones are those of labelled utterances
    corpus, labelled, details = read_archive(out), read_archive(plain), read_details(details_path(out))
    assert (len(corpus), len(labelled)) == (72, 60)
    assert corpus.utterance_id[corpus.labelled].tolist() == labelled.utterance_id.tolist()
    np.testing.assert_array_equal(corpus.label[corpus.labelled], labelled.label)
    assert details.record["unlabelled"] == {"oth": 4, "xxx": 8}
    assert details.record["left_out"] == {}
    assert validate.main([str(out)]) == 0
    assert "60 of 72 utterances are labelled, 12 are not" in capsys.readouterr().out
    assert_same_as_data_set(out, tmp_path / "tfds/iemocap/all/1.0.0", tmp_path)


@pytest.mark.usefixtures("stubs")
def test_video_is_cut_to_the_utterance_and_the_half(release, tmp_path):
    out = tmp_path / "iemocap.npz"
    assert convert(release, out, "--allow-count-differences", "--without-tfds", "--text", "none") == 0
    corpus, details = read_archive(out), read_details(details_path(out))
    end = np.cumsum(corpus.length["video"])
    seconds = details.end - details.start
    for row in np.flatnonzero(corpus.present[:, 1]):
        frames = corpus.features["video"][end[row] - corpus.length["video"][row] : end[row]]
        assert abs(len(frames) - seconds[row] * miniature.FRAME_RATE) <= 2
        is_marked = details.sex[row] == details.dialogue[row][5]
        assert np.all((frames[:, 1] < 5) == is_marked)  # the left half is plain grey, the face is on the right


@pytest.mark.usefixtures("stubs")
def test_five_classes_keep_excited_apart(release, tmp_path):
    out = tmp_path / "five.npz"
    assert convert(release, out, "--allow-count-differences", "--without-tfds", "--num-classes", "5") == 0
    corpus = read_archive(out)
    assert corpus.class_names == ("angry", "excited", "happy", "neutral", "sad")
    np.testing.assert_array_equal(np.bincount(corpus.label), [12] * 5)


def test_a_corpus_that_people_have_changed_is_read_as_before(tmp_path):
    root = miniature.iemocap(tmp_path)
    expected = parse(root)
    folder = root / "Session1/dialog/avi/DivX"
    (folder / "Ses01F_impro01.avi").rename(folder / "Ses01F_impro01.mp4")
    path = root / "Session3/dialog/transcriptions/Ses03F_impro01.txt"
    path.write_text(path.read_text().replace("did not", "didn\u2019t"), encoding="cp1252")
    path = root / "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"
    path.write_text(path.read_text(encoding="utf-8-sig"), encoding="utf-16")
    changed = {item.media.utterance_id: item for item in parse(root).utterances}
    assert list(changed) == [item.media.utterance_id for item in expected.utterances]
    for item in expected.utterances:
        found, text = changed[item.media.utterance_id], item.media.text
        if item.dialogue == "Ses03F_impro01" and text:
            assert found.media.text == text.replace("did not", "didn\u2019t")
        if item.dialogue == "Ses01F_impro01":
            assert found.media.video == folder / "Ses01F_impro01.mp4"
        assert (found.label, found.valence) == (item.label, item.valence)


@pytest.mark.usefixtures("stubs")
def test_a_lost_speaker_is_said(release, tmp_path, capsys, monkeypatch):
    found = parse(release)
    left = tuple(item for item in found.utterances if item.speaker != "02M")
    monkeypatch.setattr(command, "parse", lambda *args, **kwargs: dataclasses.replace(found, utterances=left))
    assert convert(release, tmp_path / "o.npz", "--allow-count-differences", "--without-tfds") == 0
    text = "folds leave no single speaker out, but are groups of speakers, since not every session has two speakers"
    assert f"warning: {text}: 02 02F; add the missing speakers" in capsys.readouterr().out
    assert validate.main([str(tmp_path / "o.npz")]) == 0
    assert f"{text}: 02 02F" in capsys.readouterr().out


def test_other_counts_stop_with_the_differing_rows(release, tmp_path, capsys):
    assert convert(release, tmp_path / "out.npz") == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "01F 2 4 2 2 where 147 132 171 78 is known" in captured.err
    assert "05M 0 0 0 0 where 92 283 163 113 is known" in captured.err
    assert "12 / 1103" in captured.out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_counts_and_writes_nothing(release, tmp_path, capsys):
    assert convert(release, tmp_path / "out.npz", "--allow-count-differences", "--dry-run", "--text", "none") == 0
    printed = capsys.readouterr().out
    assert "audio: 58 of 60 utterances have a source" in printed
    assert "video: 50 of 60 utterances have a source" in printed
    assert "nothing was written" in printed
    assert list(tmp_path.iterdir()) == []


def test_known_counts_are_those_of_the_literature():
    totals = np.sum(list(known_counts.IEMOCAP.values()), axis=0)
    np.testing.assert_array_equal(totals, [1103, 1636, 1708, 1084])  # as in docs/decisions.md
    assert totals.sum() == 5531
    assert set(CLASSES[4].values()) == set(known_counts.CLASS_NAMES)
