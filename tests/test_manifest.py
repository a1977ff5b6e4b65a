"""Manifests: from a table of anybody's recordings to an archive, with stub extractors."""

import csv
from pathlib import Path

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.corpus import ArchiveError
from data_prep import manifest, prepare, sources, validate
from data_prep.details import Details, details_path, read_details, write_details
from data_prep.iemocap import __main__ as iemocap
from data_prep.manifest_file import read_manifest, to_rows
from data_prep.manifest_table import write_manifest
from data_prep.msp_improv import __main__ as msp_improv
from data_prep.utterances import near_names
from tests import miniature, stub_extractors
from tests.test_iemocap import assert_same_as_data_set


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)


ROWS = [
    {"utterance_id": f"{who}/{label} {take}", "speaker": who, "label": label, "text": f"take {take}, 'quoted'"}
    for who in ("ann", "bo", "cy")
    for label in ("calm", "angry")
    for take in range(2)
]


def with_sounds(folder, rows=ROWS):
    """The rows with a sound file each: the number of the row decides how loud it is."""
    result = []
    for index, row in enumerate(rows):
        path = folder / f"sound/{index}.wav"
        miniature.write_wav(path, np.full(8000, 1000 * (index + 1), np.int16), 16000)
        result.append({**row, "audio": f"sound/{index}.wav"})
    return result


def convert(table, out, *argv):
    return manifest.main([str(table), str(out), "--num-workers", "1", *argv])


BOTH = ("--audio", "compare_2016", "--text", "text_transformer")


def test_from_table_to_archive_details_and_data_set(tmp_path, capsys):
    rows = [{**row, "room": f"{index:02d}", "valence": "2.5"} for index, row in enumerate(with_sounds(tmp_path))]
    rows[3]["valence"] = ""
    rows[1]["text"] = ""
    write_manifest(tmp_path / "m.csv", rows)
    out = tmp_path / "mine.npz"
    assert convert(tmp_path / "m.csv", out, *BOTH) == 0
    corpus, details = read_archive(out), read_details(details_path(out))
    assert corpus.utterance_id.tolist() == [row["utterance_id"] for row in rows]
    assert (corpus.class_names, corpus.modalities) == (("angry", "calm"), ("audio", "text"))
    assert corpus.label.tolist() == [1, 1, 0, 0] * 3
    assert corpus.session.tolist() == corpus.speaker.tolist()
    np.testing.assert_allclose(corpus.features["audio"][::5, 0], (1000 * np.arange(1, 13) / 32768) ** 2, rtol=1e-6)
    assert corpus.present[:, 1].tolist() == [True, False, *[True] * 10]
    assert details.extra["room"].tolist() == [f"{index:02d}" for index in range(12)]  # text stays as it is written
    np.testing.assert_array_equal(details.valence, np.where(np.arange(12) == 3, np.nan, 2.5).astype(np.float32))
    assert details.record["manifest_sha256"] == sha256(tmp_path / "m.csv")
    assert validate.main([str(out), "--folds", "3"]) == 0
    assert_same_as_data_set(out, tmp_path / "tfds/recordings/mine/1.0.0", tmp_path)
    assert "take 0" not in capsys.readouterr().out  # no transcript is printed


def test_classes_are_chosen_merged_and_ordered(tmp_path, capsys):
    rows = [{**row, "label": name} for row, name in zip(with_sounds(tmp_path), "abcdabcdabcd", strict=True)]
    rows[0]["label"] = ""
    write_manifest(tmp_path / "m.csv", rows)
    out = tmp_path / "mine.npz"
    assert convert(tmp_path / "m.csv", out, *BOTH, "--without-tfds", "--classes", "low=c,a", "b") == 0
    assert read_archive(out).class_names == ("low", "b")
    assert read_archive(out).label.tolist() == [-1, 1, 0, 0, 1, 0, 0, 1, 0]
    printed = capsys.readouterr().out
    assert "12 utterances, 8 of the 2 classes: low 5, b 3\nkept as unlabelled, by label: (no label) 1\n" in printed
    assert "left out by label: d 3\n" in printed
    assert "9 utterances (1 unlabelled), 3 speakers" in printed
    assert convert(tmp_path / "m.csv", out, *BOTH, "--force", "--classes", "a", "e") == 1
    assert "no utterance has the label 'e'; the labels are a, b, c, d" in capsys.readouterr().err
    assert convert(tmp_path / "m.csv", out, *BOTH, "--force", "--classes", "a", "x=a") == 1
    assert "'a' is given twice" in capsys.readouterr().err


LABELS = ["b", "", "a", "  ", "c", "a", "b", "c", "a", "c", "b", "c"]
WITHOUT_CLASS = {
    (): ([1, -1, 0, -1, 0, 1, 0, 1], {"": 2}, {"c": 4}),
    ("--labelled-only",): ([1, 0, 0, 1, 0, 1], {}, {"": 2, "c": 4}),
    ("--others-unlabelled",): ([1, -1, 0, -1, -1, 0, 1, -1, 0, -1, 1, -1], {"": 2, "c": 4}, {}),
}


@pytest.mark.parametrize("options", WITHOUT_CLASS, ids=" ".join)
def test_utterances_without_a_class_are_unlabelled_or_left_out(tmp_path, options):
    rows = [{**row, "label": label} for row, label in zip(with_sounds(tmp_path), LABELS, strict=True)]
    write_manifest(tmp_path / "m.csv", rows)
    out = tmp_path / "o.npz"
    assert convert(tmp_path / "m.csv", out, *BOTH, "--classes", "a", "b", *options) == 0
    labels, unlabelled, left_out = WITHOUT_CLASS[options]
    assert read_archive(out).label.tolist() == labels
    record = read_details(details_path(out)).record
    assert (record["unlabelled"], record["left_out"]) == (unlabelled, left_out)
    assert_same_as_data_set(out, tmp_path / "tfds/recordings/o/1.0.0", tmp_path)


def test_blank_labels_of_a_parquet_file_are_empty(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra corpora")
    from pyarrow import parquet

    columns = {"utterance_id": [*"abcd"], "speaker": [*"ssss"], "label": [b"  ", b" x ", b"", None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert [item.label for item in read_manifest(tmp_path / "m.parquet").utterances] == ["", "x", "", ""]


def test_an_own_split_is_kept(tmp_path):
    rows = [{**row, "split": ("train", "val", "test")[index // 4]} for index, row in enumerate(with_sounds(tmp_path))]
    write_manifest(tmp_path / "m.csv", rows)
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, "--without-tfds") == 0
    assert read_archive(tmp_path / "o.npz").split.tolist() == ["train"] * 4 + ["val"] * 4 + ["test"] * 4


def test_any_number_of_modalities_from_files(tmp_path):
    rows = [{**row, "sensor": f"s{index}"} for index, row in enumerate(with_sounds(tmp_path))]
    write_manifest(tmp_path / "m.csv", rows)
    names = np.array([row["sensor"] for row in rows])
    np.savez(tmp_path / "p.npz", id=names[::-1], heart=np.arange(24.0).reshape(12, 2))
    skin = {row["utterance_id"]: np.full((2, 3), index, "f4") for index, row in enumerate(rows) if index != 4}
    np.savez(tmp_path / "skin.npz", **skin)
    argv = ["--modality", f"heart=features:{tmp_path}/p.npz,key=id,values=heart,id=sensor"]
    argv += ["--modality", f"skin=features:{tmp_path}/skin.npz", "--modality", "tone=compare_2016"]
    # tyro takes several values of one option after its name
    argv = ["--modality", *(item for item in argv if item != "--modality")]
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *argv) == 0
    corpus = read_archive(tmp_path / "o.npz")
    assert corpus.widths == {"heart": 2, "skin": 3, "tone": 2}
    assert set(corpus.length) == {"skin", "tone"}
    np.testing.assert_array_equal(corpus.features["heart"], np.arange(24.0).reshape(12, 2)[::-1])
    assert corpus.present[:, 1].tolist() == [index != 4 for index in range(12)]
    assert_same_as_data_set(tmp_path / "o.npz", tmp_path / "tfds/recordings/o/1.0.0", tmp_path)
    record = read_details(tmp_path / "o_details.npz").record
    assert record["extractors"]["skin"]["sha256"] == sha256(tmp_path / "skin.npz")
    assert list(record["failures"]["skin"]) == [rows[4]["utterance_id"]]
    assert str(tmp_path) not in str(record)


@pytest.mark.parametrize(("command", "make"), [(iemocap, miniature.iemocap), (msp_improv, miniature.msp_improv)])
def test_a_raw_corpus_through_its_manifest_gives_the_same_archive(tmp_path, command, make):
    root, direct = make(tmp_path), tmp_path / "direct.npz"
    argv = ["--num-workers", "1", "--allow-count-differences", "--without-tfds"]
    argv += ["--write-manifest", str(tmp_path / "m.csv")]
    assert command.main([str(root), str(direct), *argv]) == 0
    classes = ["angry=ang,A", "happy=hap,exc,H", "neutral=neu,N", "sad=sad,S"]
    found = {item.label for item in read_manifest(tmp_path / "m.csv").utterances}
    classes = [
        f"{name}={','.join(label for label in labels.split(',') if label in found)}"
        for name, labels in (item.split("=") for item in classes)
    ]
    argv = ["--without-tfds", "--audio", "compare_2016", "--video", "face_onnx", "--text", "text_transformer"]
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *argv, "--classes", *classes) == 0
    assert sha256(tmp_path / "o.npz") == sha256(direct)
    one, two = read_details(details_path(direct)), read_details(tmp_path / "o_details.npz")
    for key in ("transcript", "dialogue", "sex", "valence", "start", "end"):
        np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def test_read_and_written_again_is_the_same(tmp_path):
    rows = with_sounds(tmp_path)
    rows[0] |= {"start": 0.25, "end": 1 / 3, "room": 'x, "y"\nz', "dialogue": "d", "sex": "F", "arousal": 0.1}
    write_manifest(tmp_path / "m.csv", rows)
    first = read_manifest(tmp_path / "m.csv")
    write_manifest(tmp_path / "n.csv", to_rows(first.utterances, tmp_path))
    # As text: ratings that are absent are nan, which from Python 3.13 on makes dataclasses unequal.
    assert repr(read_manifest(tmp_path / "n.csv")) == repr(first)
    media = first.utterances[0].media
    assert (media.audio_start, media.audio_end, first.utterances[0].extra["room"]) == (0.25, 1 / 3, 'x, "y"\nz')


CUTS = ("name ", "name audio", "name video")


def test_times_cut_what_the_column_says(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "v.mp4").write_bytes(b"x")
    head = {"speaker": "s", "label": "l", "start": 1, "end": 2}
    files = {"audio": "a.wav", "video": "v.mp4"}
    write_manifest(tmp_path / "m.csv", [{**head, **files, "utterance_id": name, "cut": name[5:]} for name in CUTS])
    found = [item.media for item in read_manifest(tmp_path / "m.csv").utterances]
    spans = [(media.audio_start, media.audio_end, media.start, media.end) for media in found]
    assert spans == [(1, 2, 1, 2), (1, 2, None, None), (None, None, 1, 2)]
    write_manifest(tmp_path / "m.csv", [{**head, "utterance_id": "u", "video": "v.mp4", "half": "left"}])
    (item,) = read_manifest(tmp_path / "m.csv").utterances
    assert item.media.audio == item.media.video  # without a column audio, it is the sound track
    assert (item.media.audio_start, item.media.audio_end, item.media.half) == (1, 2, "left")


def test_the_sound_alone_cannot_be_cut_where_it_is_that_of_the_video(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"x")
    row = {"utterance_id": "u", "speaker": "s", "label": "l", "video": "v.mp4", "start": 1, "end": 2}
    write_manifest(tmp_path / "m.csv", [{**row, "cut": "audio"}])
    with pytest.raises(
        ArchiveError, match=r"m\.csv: row 2, column 'cut': is 'audio', and there is no column audio, sinc"
    ):
        read_manifest(tmp_path / "m.csv")
    write_manifest(tmp_path / "m.csv", [{**row, "cut": "video"}])
    media = read_manifest(tmp_path / "m.csv").utterances[0].media
    assert (media.start, media.end, media.audio_start, media.audio_end) == (1, 2, 1, 2)


@pytest.mark.parametrize("cut", ["audio", "video", ""])
def test_the_details_have_the_times_whichever_file_they_cut(tmp_path, cut):
    times = {"start": 0.125, "end": 0.375, "cut": cut}
    rows = [{**row, **(times if index != 5 else {})} for index, row in enumerate(with_sounds(tmp_path))]
    write_manifest(tmp_path / "m.csv", rows)
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, "--without-tfds") == 0
    details = read_details(tmp_path / "o_details.npz")
    for key, value in (("start", 0.125), ("end", 0.375)):
        np.testing.assert_array_equal(getattr(details, key), np.where(np.arange(12) == 5, np.nan, np.float32(value)))


def test_functionals_become_one_vector_per_utterance(tmp_path, monkeypatch):
    monkeypatch.setattr(stub_extractors.Loudness, "gives_vector", True)
    write_manifest(tmp_path / "m.csv", with_sounds(tmp_path))
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, "--without-tfds") == 0
    corpus = read_archive(tmp_path / "o.npz")
    assert set(corpus.length) == {"text"}
    assert corpus.features["audio"].shape == (12, 2)


def test_tables_as_people_have_them(tmp_path):
    """Semicolons, tabs, a byte-order mark, UTF-16, Windows-1252, CRLF, empty lines, and Parquet."""
    lines = ["utterance_id,speaker,label,text", 'u1,Zoë,calm,"I don\u2019t, no"', "", "u2,Bo,angry,"]
    expected = [("u1", "Zoë", "I don\u2019t, no"), ("u2", "Bo", None)]
    texts = {
        "bom.csv": ("\ufeff" + "\r\n".join(lines)).encode(),
        "utf16.csv": "\n".join(lines).encode("utf-16"),
        "utf32.csv": "\n".join(lines).encode("utf-32"),
        "windows.csv": "\r\n".join(lines).encode("cp1252"),
        "mac.csv": "\r".join(lines).encode(),
        "excel.csv": b"utterance_id;speaker;label;text\nu1;Zo\xeb;calm;I don\x92t, no\nu2;Bo;angry;\n",
        "tabs.csv": "utterance_id\tspeaker\tlabel\ttext\nu1\tZoë\tcalm\tI don\u2019t, no\nu2\tBo\tangry\t\n".encode(),
    }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
        found = read_manifest(tmp_path / name).utterances
        assert [(item.media.utterance_id, item.speaker, item.media.text) for item in found] == expected, name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"Start": 1}, "column 'Start' is not read as 'start', since names are in small letters; call it so, or"),
        ({"label": "NaN"}, "row 2, column 'label': 'NaN' is what programs write for a missing value; leave it empty"),
        (
            {"speaker": "NA"},
            "row 2, column 'speaker': 'NA' is what programs write .*; say who speaks, or if it is a name",
        ),
        ({"start": "1_0"}, "row 2, column 'start': '1_0' is no number"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused(tmp_path, changes, sentence):
    rows = with_sounds(tmp_path)
    write_manifest(tmp_path / "m.csv", [rows[0] | changes, *rows[1:]])
    with pytest.raises(ArchiveError, match=sentence):
        read_manifest(tmp_path / "m.csv")


def test_names_that_look_the_same_are_near():
    assert near_names(["Jos\xe9", "Jose\u0301", "Ann Lee", "ann  lee", "Bo"]) == [
        ["Ann Lee", "ann  lee"],
        ["Jose\u0301", "Jos\xe9"],
    ]


def test_parquet_is_read_as_csv_is(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra corpora")
    from pyarrow import parquet

    rows = with_sounds(tmp_path)
    write_manifest(tmp_path / "m.csv", [{**row, "start": 0.5, "take": index} for index, row in enumerate(rows)])
    columns = {key: [row[key] for row in rows] for key in rows[0]} | {"start": [0.5] * 12, "take": list(range(12))}
    parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    assert repr(read_manifest(tmp_path / "m.parquet")) == repr(read_manifest(tmp_path / "m.csv"))  # nan, as above
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ArchiveError, match=r"bad\.parquet: is damaged or no Parquet file"):
        read_manifest(tmp_path / "bad.parquet")


def test_files_that_are_not_there_are_absent_and_noted(tmp_path):
    rows = with_sounds(tmp_path)
    (tmp_path / "sound/2.wav").unlink()
    (tmp_path / "words.txt").write_text("some\n  words\n")
    rows[0] |= {"transcript_file": "words.txt", "text": ""}
    rows[1] |= {"transcript_file": "no.txt", "text": ""}
    write_manifest(tmp_path / "m.csv", rows)
    parsed = read_manifest(tmp_path / "m.csv")
    assert parsed.utterances[0].media.text == "some words"
    assert (parsed.utterances[1].media.text, parsed.utterances[2].media.audio) == (None, None)
    assert [note.split(": ", 1)[1] for note in parsed.notes] == [
        f"audio files that are not there, taken as absent: 1 ({rows[2]['utterance_id']!r} first)",
        f"transcript files that are not there, taken as absent: 1 ({rows[1]['utterance_id']!r} first)",
    ]


def test_the_details_have_the_reason_of_files_that_are_not_there(tmp_path, capsys):
    rows = with_sounds(tmp_path)
    (tmp_path / "sound/2.wav").unlink()
    (tmp_path / "sound/3.wav").write_bytes(b"RIFF")
    (tmp_path / "sound/4.wav").unlink()
    rows[1] |= {"transcript_file": "words/no.txt", "text": ""}
    rows[4] |= {"label": "left out"}
    rows[5] |= {"audio": "/nowhere/else/5.wav"}
    write_manifest(tmp_path / "m.csv", rows)
    argv = "--classes", "calm", "angry", "--without-tfds"
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, *argv) == 0
    failures = read_details(tmp_path / "o_details.npz").record["failures"]
    ids = [row["utterance_id"] for row in rows]
    assert set(failures["audio"]) == {ids[2], ids[3], ids[5]}
    assert failures["audio"][ids[2]] == "sound/2.wav: is not there"
    assert failures["audio"][ids[3]].startswith("sound/3.wav: is damaged")
    assert failures["audio"][ids[5]] == "5.wav: is not there"
    assert failures["text"] == {ids[1]: "words/no.txt: is not there"}
    printed = capsys.readouterr().out
    assert f"audio of {ids[2]} taken as missing: {tmp_path}/sound/2.wav: is not there" in printed
    assert f"text of {ids[1]} taken as missing: {tmp_path}/words/no.txt: is not there" in printed


@pytest.mark.parametrize("manifest_file", ["m.csv", "../work/m.csv", "{folder}/work/m.csv"])
def test_reasons_of_a_relative_manifest_keep_their_paths(tmp_path, monkeypatch, manifest_file):
    """The manifest lies in `work`; two of its sounds are beside that folder, two below it."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    rows = [{**row, "audio": f"../{row['audio']}"} for row in with_sounds(tmp_path)]
    (tmp_path / "sound/2.wav").unlink()
    (tmp_path / "sound/3.wav").write_bytes(b"RIFF")
    rows[4]["audio"], rows[5]["audio"] = "in/4.wav", "in/5.wav"
    (tmp_path / "work/in").mkdir()
    (tmp_path / "work/in/5.wav").write_bytes(b"RIFF")
    write_manifest(tmp_path / "work/m.csv", rows)
    assert convert(manifest_file.format(folder=tmp_path), "o.npz", *BOTH, "--without-tfds") == 0
    record = read_details(tmp_path / "work/o_details.npz").record
    files = [reason.split(": ")[0] for _, reason in sorted(record["failures"]["audio"].items())]
    ids = sorted(rows[index]["utterance_id"] for index in (2, 3, 4, 5))
    assert sorted(record["failures"]["audio"]) == ids
    of = dict(zip(ids, files, strict=True))
    assert [of[rows[index]["utterance_id"]] for index in (2, 3, 4, 5)] == ["2.wav", "3.wav", "in/4.wav", "in/5.wav"]
    assert record["notes"] == [
        f"m.csv: audio files that are not there, taken as absent: 2 ({min(ids[:2] + ids[2:])!r} first)"
    ]


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("m.csv", "../media/a.wav: is damaged", "../media/a.wav: is damaged"),
        ("data/m.csv", "data/m.csv: a note on 'data/a.wav'", "m.csv: a note on 'a.wav'"),
        ("data/m.csv", "/my/data/a.wav and mydata/a.wav", "/my/data/a.wav and mydata/a.wav"),
        ("/home/me/release/m.csv", "/home/me/release: has no Session1", "release: has no Session1"),
    ],
)
def test_notes_lose_the_folder_of_the_manifest_and_nothing_else(source, text, expected):
    assert prepare._below(text, Path(source)) == expected


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    """255 bytes are allowed; the temporary name is longer than the name."""
    with pytest.raises(ArchiveError, match=r"\.csv: cannot be written \(File name too long\); choose another path"):
        write_manifest(tmp_path / f"{'m' * 250}.csv", [{"utterance_id": "u"}])
    details = Details(*[np.array(["u"])] * 4, *[np.array([1.0])] * 5, record={})
    with pytest.raises(ArchiveError, match=r"\.npz: cannot be written \(File name too long\); choose another path"):
        write_details(tmp_path / f"{'m' * 250}.npz", details)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(b"x")
    write_manifest(tmp_path / "m.csv", [{"utterance_id": "u", "speaker": "s", "label": "l", "audio": "~/a.wav"}])
    assert read_manifest(tmp_path / "m.csv").utterances[0].media.audio == tmp_path / "a.wav"


def test_a_home_that_is_not_there_is_named(tmp_path):
    row = {"utterance_id": "u", "speaker": "s", "label": "l", "audio": "~no_such_user/a.wav"}
    write_manifest(tmp_path / "m.csv", [row])
    with pytest.raises(ArchiveError, match=r"row 2, column 'audio': '~no_such_user/a.wav': there is no such home"):
        read_manifest(tmp_path / "m.csv")


def test_a_table_of_many_columns_is_written_whole(tmp_path):
    write_manifest(tmp_path / "m.csv", [{"label": "l", "b": 1, "utterance_id": "u"}, {"a": "x,y", "speaker": "s"}])
    with open(tmp_path / "m.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["utterance_id", "speaker", "label", "b", "a"]
    assert rows == [["u", "", "l", "1", ""], ["", "s", "", "", "x,y"]]
