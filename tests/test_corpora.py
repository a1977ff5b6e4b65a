"""Makers of manifests on miniatures of the corpora, with their real layouts and known oddities."""

import itertools
import shutil
from pathlib import Path

import pytest

from data_prep.corpora import cremad, emodb, meld, ravdess, savee
from data_prep.manifest_table import read_table
from tests import miniature_corpora

CORPORA = {
    "ravdess": (ravdess, miniature_corpora.ravdess),
    "cremad": (cremad, miniature_corpora.cremad),
    "meld": (meld, miniature_corpora.meld),
    "savee": (savee, miniature_corpora.savee),
    "emodb": (emodb, miniature_corpora.emodb),
}


def run(command, folder, manifest, *options):
    return command.main([str(folder), str(manifest), "--allow-count-differences", *options])


def rows(manifest):
    return {row["utterance_id"]: row for _, row in read_table(manifest)[1]}


@pytest.fixture
def made(tmp_path):
    """Makes a miniature and its manifest."""

    def make(name, *options, **oddities):
        command, maker = CORPORA[name]
        folder = maker(tmp_path, **oddities)
        assert run(command, folder, tmp_path / "m.csv", *options) == 0
        return rows(tmp_path / "m.csv")

    return make


@pytest.mark.parametrize("name", CORPORA)
def test_every_corpus(made, tmp_path, capsys, name):
    found = made(name)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(f"next: python -m data_prep.manifest {tmp_path}/m.csv {tmp_path}/m.npz --audio comp")
    assert all(row["speaker"] and row["label"] for row in found.values())
    files = [tmp_path / row[key] for row in found.values() for key in ("audio", "video") if row.get(key)]
    assert files
    assert all(path.is_file() for path in files)  # relative to the manifest
    assert not any(path.name.startswith("._") for path in files)


@pytest.mark.parametrize("name", CORPORA)
def test_counts_stop_and_files_are_kept(tmp_path, capsys, name):
    command, maker = CORPORA[name]
    folder, manifest = maker(tmp_path), tmp_path / "m.csv"
    assert command.main([str(folder), str(manifest)]) == 1
    error = capsys.readouterr().err
    assert f"{folder}: the counts differ from the known ones: " in error
    assert error.endswith("; give --allow-count-differences to go on\n")
    assert not manifest.exists()
    manifest.write_text("precious")
    assert run(command, folder, manifest) == 1
    assert capsys.readouterr().err == f"{manifest}: is there already; give --force to replace it\n"
    assert manifest.read_text() == "precious"
    assert run(command, folder, manifest, "--force") == 0
    assert len(rows(manifest)) > 20


@pytest.mark.parametrize("name", CORPORA)
def test_not_the_corpus(tmp_path, capsys, name):
    command, _ = CORPORA[name]
    (tmp_path / "empty").mkdir()
    for folder, phrase in ((tmp_path / "empty", "holds no "), (tmp_path / "none", "cannot be read (No such file")):
        assert run(command, folder, tmp_path / "m.csv") == 1
        error = capsys.readouterr().err
        assert f"{folder}: {phrase}" in error
        assert error.count("\n") == 1
    assert run(command, tmp_path / "empty", tmp_path / "x/m.csv") == 1
    assert "x/m.csv: there is no folder" in capsys.readouterr().err


def touch(paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def full_ravdess(folder):
    fields = itertools.product(range(1, 25), range(1, 9), (1, 2), (1, 2), (1, 2))
    return [
        folder / f"Actor_{actor:02d}/03-01-{emotion:02d}-{strength:02d}-{text:02d}-{take:02d}-{actor:02d}.wav"
        for actor, emotion, strength, text, take in fields
        if emotion > 1 or strength == 1
    ]


def full_savee(folder):
    numbers = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
    return [
        folder / f"AudioData/{speaker}/{emotion}{number:02d}.wav"
        for speaker in savee.SPEAKERS
        for emotion, size in numbers.items()
        for number in range(1, size + 1)
    ]


@pytest.mark.parametrize(("command", "files"), [(ravdess, full_ravdess), (savee, full_savee)])
def test_full_corpus_has_the_known_counts(tmp_path, capsys, command, files):
    touch(files(tmp_path / "corpus"))
    assert command.main([str(tmp_path / "corpus"), str(tmp_path / "m.csv")]) == 0
    assert "The counts are the known ones." in capsys.readouterr().out


def test_known_counts_add_up():
    assert sum(ravdess.KNOWN.values()) == 1440
    assert sum(cremad.KNOWN.values()) == 7442
    assert sum(cremad.KNOWN[name] for name in cremad.FOUR) == 4900
    assert sum(savee.KNOWN.values()) == 480
    assert sum(emodb.KNOWN.values()) == 535
    for part, total in (("train", 9989), ("dev", 1109), ("test", 2610)):
        assert sum(count for name, count in meld.KNOWN.items() if name.startswith(part)) == total


def test_ravdess(made, capsys):
    found = made("ravdess")
    printed = capsys.readouterr().out
    assert len(found) == 90
    row = found["01-03-02-01-02-01"]
    assert (row["label"], row["speaker"], row["sex"], row["intensity"]) == ("happy", "01", "M", "strong")
    assert (row["statement"], row["repetition"], row["text"]) == ("01", "02", "Kids are talking by the door")
    assert (row["audio_id"], row["video_id"]) == ("03-01-03-02-01-02-01", "01-01-03-02-01-02-01")
    assert row["audio"] == "RAVDESS/Actor_01/03-01-03-02-01-02-01.wav"  # not the copy
    assert Path(row["video"]).name == "01-01-03-02-01-02-01.mp4"  # with sound, not 02
    assert Path(found["01-03-02-01-02-02"]["video"]).name == "02-01-03-02-01-02-02.mp4"
    assert found["01-03-02-01-02-03"]["video"] == ""
    assert found["01-03-02-01-02-02"]["sex"] == "F"
    assert "note: files that are there twice, taken once: 30 (" in printed
    assert "note: songs, left out: 1 (03-02-03-01-01-01-02)" in printed
    assert "note: files with other names, left out: 1 (readme)" in printed
    assert "note: takes with the same sound: 1 (01-03-01-01-01-03 and 01-03-01-01-02-03)" in printed


def test_ravdess_four_classes(made):
    assert {row["label"] for row in made("ravdess", "--classes", "4").values()} == {"angry", "happy", "neutral", "sad"}


def test_ravdess_videos_only(tmp_path, capsys):
    folder = miniature_corpora.ravdess(tmp_path)
    for part in (*folder.glob("Actor_*"), folder / "audio_speech_actors_01-24"):
        shutil.rmtree(part)
    assert run(ravdess, folder, tmp_path / "m.csv") == 0
    found = rows(tmp_path / "m.csv")
    for take, row in found.items():
        assert row["audio"] == (row["video"] if take.endswith("-01") else "")  # the others have 02 only, without sound
    assert len({take[-2:] for take in found}) == 2
    assert "--audio compare_2016 --video face_hog" in capsys.readouterr().out
    shutil.rmtree(folder / "Video_Speech_Actor_01")
    assert run(ravdess, folder, tmp_path / "m.csv", "--force") == 0
    assert "--audio" not in capsys.readouterr().out.splitlines()[-1]  # 02 has no sound track


def test_ravdess_takes_the_sound_of_a_video_where_there_is_no_sound_file(tmp_path, capsys):
    folder = miniature_corpora.ravdess(tmp_path)
    for take in ("03-02-01-02-01", "03-02-01-02-02"):
        (folder / f"Actor_{take[-2:]}/03-01-{take}.wav").unlink()
    (folder / "audio_speech_actors_01-24/Actor_01/03-01-03-02-01-02-01.wav").unlink()
    assert run(ravdess, folder, tmp_path / "m.csv") == 0
    found = rows(tmp_path / "m.csv")
    assert Path(found["01-03-02-01-02-01"]["audio"]).name == "01-01-03-02-01-02-01.mp4"
    assert found["01-03-02-01-02-02"]["audio"] == ""  # its video is of the kind 02
    assert found["01-03-02-01-01-01"]["audio"].endswith("03-01-03-02-01-01-01.wav")
    printed = capsys.readouterr().out
    assert "note: takes without a sound file, whose sound is that of the video: 1 (01-03-02-01-02-01)" in printed
    assert "note: takes without sound: 1 (01-03-02-01-02-02)" in printed


def test_two_files_of_one_name(tmp_path, capsys):
    folder = miniature_corpora.ravdess(tmp_path)
    path = folder / "audio_speech_actors_01-24/Actor_01/03-01-03-01-01-01-01.wav"
    path.write_text("another")
    assert run(ravdess, folder, tmp_path / "m.csv") == 1
    first = folder / "Actor_01/03-01-03-01-01-01-01.wav"
    assert f"{path}: has the name of {first} and other content; move one of them away" in capsys.readouterr().err


def test_manifest_elsewhere_has_absolute_paths(tmp_path):
    (tmp_path / "out").mkdir()
    folder = miniature_corpora.emodb(tmp_path)
    assert run(emodb, folder, tmp_path / "out/m.csv") == 0
    assert rows(tmp_path / "out/m.csv")["03a01Fa"]["audio"] == f"{folder}/wav/03a01Fa.wav"


def test_cremad(made, capsys):
    found = made("cremad")
    row = found["1001_ITH_ANG_HI"]
    assert (row["speaker"], row["label"], row["level"], row["sex"]) == ("1001", "angry", "high", "M")
    assert row["text"] == "I think I have a doctor's appointment."
    assert found["1040_ITH_SAD_XX"]["audio"].endswith("1040_ITH_SAD_X.wav")  # so named in the release
    assert found["1040_ITH_SAD_XX"]["sex"] == "F"
    assert found["1076_MTI_SAD_XX"]["audio"] == ""
    assert found["1076_MTI_SAD_XX"]["video"].endswith("1076_MTI_SAD_XX.flv")
    assert "note: sounds that are known to be empty, left out: 1 (1076_MTI_SAD_XX)" in capsys.readouterr().out


def test_cremad_takes_the_sound_of_a_video_where_there_is_no_sound_file(tmp_path, capsys):
    folder = miniature_corpora.cremad(tmp_path)
    (folder / "AudioWAV/1001_ITH_ANG_HI.wav").unlink()
    assert run(cremad, folder, tmp_path / "m.csv") == 0
    found = rows(tmp_path / "m.csv")
    assert found["1001_ITH_ANG_HI"]["audio"] == found["1001_ITH_ANG_HI"]["video"] != ""
    assert found["1076_MTI_SAD_XX"]["audio"] == ""  # known to have no sound
    assert found["1001_ITH_DIS_HI"]["audio"].endswith(".wav")
    note = "note: clips without a sound file, whose sound is that of the video: 1 (1001_ITH_ANG_HI)"
    assert note in capsys.readouterr().out


def test_cremad_the_clip_under_both_names(tmp_path, capsys):
    folder = miniature_corpora.cremad(tmp_path)
    first = folder / "AudioWAV/1040_ITH_SAD_X.wav"
    second = shutil.copy(first, folder / "AudioWAV/1040_ITH_SAD_XX.wav")
    assert run(cremad, folder, tmp_path / "m.csv") == 0
    assert f"note: files that are there twice, taken once: 1 ({second})" in capsys.readouterr().out
    second.write_text("another")
    assert run(cremad, folder, tmp_path / "n.csv") == 1
    assert f"{second}: has the name of {first} and other content; move one of them" in capsys.readouterr().err
    assert not (tmp_path / "n.csv").exists()


def test_cremad_four_classes(made):
    assert {row["label"] for row in made("cremad", "--classes", "4").values()} == {"angry", "happy", "neutral", "sad"}


def test_cremad_without_git_lfs(tmp_path, capsys):
    folder = miniature_corpora.cremad(tmp_path)
    path = folder / "VideoFlash/1001_ITH_DIS_HI.flv"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n")
    assert run(cremad, folder, tmp_path / "m.csv") == 1
    assert f"{path}: is a Git LFS pointer, not the media; run `git lfs pull`" in capsys.readouterr().err
    shutil.rmtree(folder / "VideoFlash")
    assert run(cremad, folder, tmp_path / "m.csv") == 0
    assert "video" not in rows(tmp_path / "m.csv")["1001_ITH_DIS_HI"]


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("1001_XYZ_ANG_XX", "names the sentence XYZ and the emotion ANG; check the file name"),
        ("1001_ITH_JOY_XX", "names the sentence ITH and the emotion JOY; check the file name"),
    ],
)
def test_cremad_faults(tmp_path, capsys, name, phrase):
    folder = miniature_corpora.cremad(tmp_path)
    miniature_corpora.sound(folder / f"AudioWAV/{name}.wav", with_media=False)
    assert run(cremad, folder, tmp_path / "m.csv") == 1
    assert phrase in capsys.readouterr().err


def test_cremad_table_of_actors(tmp_path, capsys):
    folder = miniature_corpora.cremad(tmp_path)
    (folder / "VideoDemographics.csv").write_text("Actor,Sex\n1001,Male\n")
    assert run(cremad, folder, tmp_path / "m.csv") == 1
    assert "VideoDemographics.csv: has no columns ActorID and Sex" in capsys.readouterr().err


@pytest.mark.parametrize("flat", [False, True])
def test_savee(made, capsys, flat):
    found = made("savee", flat=flat)
    assert len(found) == 56
    assert {row["speaker"] for row in found.values()} == {"DC", "JE", "JK", "KL"}
    assert (found["JK_sa01"]["label"], found["JK_su02"]["label"]) == ("sad", "surprise")
    assert (found["KL_a01"]["label"], found["KL_n02"]["label"]) == ("angry", "neutral")
    assert "note: there are sounds only; an archive needs a second modality" in capsys.readouterr().out


def test_savee_with_videos(tmp_path, capsys):
    folder = miniature_corpora.savee(tmp_path)
    miniature_corpora.video(folder / "AudioVisualClip/DC/a1.avi", with_media=False)
    assert run(savee, folder, tmp_path / "m.csv") == 0
    assert rows(tmp_path / "m.csv")["DC_a01"]["video"] == "SAVEE/AudioVisualClip/DC/a1.avi"
    assert capsys.readouterr().out.endswith("--audio compare_2016 --video face_hog\n")


def test_emodb(made, capsys):
    found = made("emodb")
    assert len(found) == 43
    row = found["03a01Fa"]
    assert (row["speaker"], row["label"], row["sex"], row["sentence"]) == ("03", "happy", "M", "a01")
    assert row["text"] == "Der Lappen liegt auf dem Eisschrank."
    assert [found[f"08b10{letter}a"]["label"] for letter in "WLEAFTN"] == [
        "angry", "bored", "disgust", "fear", "happy", "sad", "neutral",
    ]  # fmt: skip
    assert "03a01Fb" in found
    assert "note: files with other names, left out: 1 (erkennung)" in capsys.readouterr().out


def test_emodb_unknown_speaker(tmp_path, capsys):
    folder = miniature_corpora.emodb(tmp_path)
    miniature_corpora.sound(folder / "wav/04a01Fa.wav", with_media=False)
    assert run(emodb, folder, tmp_path / "m.csv") == 1
    assert "04a01Fa.wav: names the speaker 04 and the sentence a01; check the file name" in capsys.readouterr().err
