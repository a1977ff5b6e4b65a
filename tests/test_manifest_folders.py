"""A first manifest from folders of recordings."""

import os

import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep import manifest, manifest_folders
from data_prep.manifest_file import read_manifest
from data_prep.manifest_table import write_manifest


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"hello")


def test_folders_become_speaker_and_label(tmp_path, capsys):
    make(tmp_path / "rec", "ann/happy/1.mp4", "ann/happy/1.txt", "ann/happy/1.WAV", "bo/sad/x/2.mp4", "bo/sad/._2.mp4")
    make(tmp_path / "rec", "readme.pdf", "notes.txt/a.png", "ann/happy/list.txt")
    argv = ["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv"), "--levels", "speaker", "label"]
    assert manifest.main(argv) == 0
    one, two = read_manifest(tmp_path / "m.csv").utterances
    assert (one.media.utterance_id, one.speaker, one.label) == ("ann/happy/1", "ann", "happy")
    assert (one.media.audio, one.media.text) == (tmp_path / "rec/ann/happy/1.WAV", "hello")
    assert (two.media.utterance_id, two.speaker, two.label) == ("bo/sad/x/2", "bo", "sad")
    assert (two.media.video, two.media.text) == (tmp_path / "rec/bo/sad/x/2.mp4", None)
    out = capsys.readouterr().out
    assert "2 utterances" in out
    assert "speaker: 2 of them: ann, bo" in out
    assert "left out: 1 .pdf, 1 .png, 1 .txt" in out
    assert "--audio compare_2016 --video face_hog --text text_hashing" in out


def test_one_sound_file_does_not_take_the_sound_of_the_videos(tmp_path, capsys):
    make(tmp_path / "rec", *(f"a/{number:02d}.mp4" for number in range(12)), "a/03.wav", "a/12.wav")
    argv = ["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]
    assert manifest.main(argv) == 0
    media = [item.media for item in read_manifest(tmp_path / "m.csv", labelled=False).utterances]
    endings = {item.utterance_id[2:]: item.audio.suffix for item in media}
    assert endings == {f"{number:02d}": ".wav" if number in (3, 12) else ".mp4" for number in range(13)}
    assert all(item.audio == item.video for item in media if item.audio.suffix == ".mp4")
    said = "without a sound file, the sound track of the video is taken: 11 ('a/00' first)\n"
    assert said in capsys.readouterr().out
    for path in (tmp_path / "rec/a").glob("*.wav"):
        path.unlink()
    assert manifest.main([*argv, "--force"]) == 0
    assert (tmp_path / "m.csv").read_text().startswith("utterance_id,speaker,label,video\n")  # as it was
    assert "sound track" not in capsys.readouterr().out


def test_sounds_alone_need_a_second_modality(tmp_path, capsys):
    make(tmp_path / "rec", "happy/1.wav", "sad/2.wav")
    assert manifest.main(["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]) == 0
    printed = capsys.readouterr().out
    assert "beside the sounds a second modality is needed: a column text, transcripts" in printed
    assert "OUT.npz --audio compare_2016 --text text_hashing" in printed


def test_one_level_leaves_the_speaker_to_be_filled_in(tmp_path, capsys):
    make(tmp_path / "rec", "happy/1.mp4", "sad/2.mp4")
    assert manifest.main(["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]) == 0
    printed = capsys.readouterr().out
    assert "speaker: empty: fill in this column by hand before training" in printed
    assert manifest.main([str(tmp_path / "m.csv"), str(tmp_path / "o.npz"), "--audio", "a", "--video", "b"]) == 1
    assert "row 2, column 'speaker': is empty; say who speaks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "argv", "sentence"),
    [
        (["1.mp4"], [], "lies in 0 folders, where label are expected"),
        (["a/1.mp4"], ["--levels", "speaker", "label"], "lies in 1 folders, where speaker / label are expected"),
        (["a/1.wav", "a/1.flac"], [], "is a second audio of 'a/1'"),
        (["a/1.doc"], [], "has no sound or video; known endings are .wav"),
        (["a/1.mp4"], ["--levels", "label", "label"], "each of label, speaker and session once"),
        (["m.csv", "a/1.mp4"], [], "m.csv: is there already; give --force to replace it"),
    ],
)
def test_faults(tmp_path, names, argv, sentence, capsys):
    make(tmp_path, *names)
    assert manifest.main(["--from-folders", str(tmp_path), str(tmp_path / "m.csv"), *argv]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_folder_that_holds_itself_by_a_link_is_refused(tmp_path, capsys):
    make(tmp_path / "rec", "bob/happy/1.mp4")
    (tmp_path / "rec/bob/happy/up").symlink_to("..")
    assert manifest.main(["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]) == 1
    assert "/rec/bob/happy/up: is a link to " in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ArchiveError, match=r"/gone: cannot be read \(No such file"):
        manifest_folders._rows(tmp_path / "gone", tmp_path, [])


def test_what_does_not_fit_together(tmp_path, capsys):
    assert manifest.main(["--from-folders", str(tmp_path / "no"), str(tmp_path / "m.csv")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
    assert manifest.main(["--from-folders", str(tmp_path), str(tmp_path / "m.csv"), "o.npz"]) == 1
    assert "writes the manifest only" in capsys.readouterr().err
    assert manifest.main([str(tmp_path / "m.csv")]) == 1
    assert "OUT: the archive to write is missing" in capsys.readouterr().err


LATIN = "caf\udce9"  # what Python makes of the bytes b"caf\xe9", which are not UTF-8


def make_latin(folder, name):
    """Makes a file, or skips where the file system takes UTF-8 only."""
    try:
        make(folder, name)
    except OSError:
        pytest.skip("this file system takes no other bytes than UTF-8")


@pytest.mark.parametrize("name", [f"a/{LATIN}.wav", f"{LATIN}/1.wav"], ids=ascii)
def test_a_file_name_that_is_not_utf8_is_named(tmp_path, capsys, name):
    make_latin(tmp_path / "rec", name)
    assert manifest.main(["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]) == 1
    shown = name.replace("\udce9", r"\xe9")
    text = f"rec/{shown} has a name that is not UTF-8; rename the file or its folder"
    assert capsys.readouterr().err == f"{tmp_path}/m.csv: column 'audio': {text}\n"
    assert os.listdir(tmp_path) == ["rec"]


def test_an_ending_that_is_not_utf8_is_counted(tmp_path, capsys):
    make_latin(tmp_path / "rec", f"a/notes.{LATIN}")
    make(tmp_path / "rec", "a/1.wav")
    assert manifest.main(["--from-folders", str(tmp_path / "rec"), str(tmp_path / "m.csv")]) == 0
    assert r"left out: 1 .caf\xe9" in capsys.readouterr().out


def test_any_manifest_names_such_a_file(tmp_path):
    with pytest.raises(
        ArchiveError, match=r"m\.csv: column 'transcript_file': caf\\xe9\.txt has a name that is not UTF-8"
    ):
        write_manifest(tmp_path / "m.csv", [{"utterance_id": "u"}, {"transcript_file": f"{LATIN}.txt"}])
