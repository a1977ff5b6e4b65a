"""Predictions for videos that were never prepared: their features are made from sound and picture as in training."""

import json

import numpy as np
import pytest
from media_files import write_video
from predict_units import make_unit

from cmarr_jax.predict import Predictor
from data_prep import extractors, manifest
from data_prep.manifest_table import write_manifest
from data_prep.media import Media
from experiments import predict, reproduce
from experiments.datasets import load_archive

for module in ("opensmile", "soundfile", "av", "skimage"):
    pytest.importorskip(module, reason="needs the extra extract")
from tests.miniature import SENTENCES, speech  # noqa: E402  (they import these packages)
from tests.miniature_recordings import LABELS, RATE, write_talking  # noqa: E402

MODALITIES = ("--audio", "egemaps_functionals", "--video", "face_hog:pool=mean")
UTTERANCES = (*(("train", label) for label in LABELS), ("val", "calm"), ("test", "angry"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six short videos, four of which train, and their archive."""
    folder, rows = tmp_path_factory.mktemp("corpus"), []
    for number, (split, label) in enumerate(UTTERANCES):
        speed, brightness = LABELS[label]
        sound = speech(SENTENCES[number % 5], RATE, pitch=30 + 8 * number, words_per_minute=260 + speed)
        write_talking(folder / f"{number}.mp4", sound, brightness=brightness, shift=number)
        row = {"utterance_id": f"u{number}", "speaker": f"of_{split}", "label": label, "video": f"{number}.mp4"}
        rows.append(row | {"split": split})
    write_manifest(folder / "m.csv", rows)
    given = [*MODALITIES, "--without-tfds", "--num-workers", "1"]
    assert manifest.main([str(folder / "m.csv"), str(folder / "a.npz"), *given]) == 0
    return folder


@pytest.fixture(scope="module")
def unit(corpus):
    """Random parameters: what is tested is how the features come to them."""
    source = load_archive(corpus / "a.npz")
    return make_unit(corpus, "cm_arr", source.corpus, extractors=source.extractors)[0]


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    """A folder with a video that no archive holds, one without sound, and one that is damaged."""
    folder = tmp_path_factory.mktemp("new")
    write_talking(folder / "new.mp4", speech(SENTENCES[4], RATE, pitch=60, words_per_minute=350), shift=7)
    write_video(folder / "silent.avi", seconds=0.5)
    (folder / "damaged.mp4").write_bytes((folder / "new.mp4").read_bytes()[:2000])
    return folder


def run(unit, source, out, *options):
    argv = ["--run", str(unit), "--input", str(source), "--out", str(out), "--num-workers", "1", *options]
    return predict.main(argv)


def ask(unit, folder, names, *options):
    """The lines for some videos of a folder, whose manifest has no speaker, no label and no column `audio`."""
    write_manifest(folder / "m.csv", [{"utterance_id": name.split(".")[0], "video": name} for name in names])
    assert run(unit, folder / "m.csv", folder / "p.jsonl", "--force", *options) == 0
    return {line["utterance_id"]: line for line in map(json.loads, (folder / "p.jsonl").read_text().splitlines())}


def test_a_new_video_has_the_features_of_the_record(unit, new):
    predictor = Predictor.load(unit)
    records = predictor.units[0].input.extractors
    assert [record["name"] for record in records.values()] == ["egemaps_functionals", "face_hog"]
    assert records["video"]["options"]["pool"] == "mean"
    media = Media("new", audio=new / "new.mp4", video=new / "new.mp4")
    made = {name: extractors.get(record["name"], **record["options"])(media)[0] for name, record in records.items()}
    [answer] = predictor.predict([made])
    line = ask(unit, new, ["new.mp4"])["new"]
    assert (line["modalities"], line["error"], line["note"]) == (["audio", "video"], "", "")
    np.testing.assert_allclose([*line["probabilities"].values()], answer.probabilities, rtol=1e-5)
    # The random network may give the same class to all, but the Gaussians depend on every feature.
    assert line["spread"] == pytest.approx(answer.spread, rel=1e-5)
    for name in made:
        [other] = predictor.predict([made | {name: made[name] * 1.05}])
        assert abs(other.spread - answer.spread) > 1e-4


def test_media_give_what_their_archive_gives(corpus, unit, tmp_path):
    assert run(unit, corpus / "m.csv", tmp_path / "m.csv") == 0
    assert run(unit, corpus / "a.npz", tmp_path / "a.csv") == 0
    assert (tmp_path / "m.csv").read_text() == (tmp_path / "a.csv").read_text()


def test_a_fault_of_one_video_leaves_the_others(unit, new, capsys):
    lines = ask(unit, new, ["new.mp4", "silent.avi", "damaged.mp4", "gone.mp4"])
    assert (lines["new"]["modalities"], lines["new"]["error"], lines["new"]["note"]) == (["audio", "video"], "", "")
    assert (lines["silent"]["modalities"], lines["silent"]["error"]) == (["video"], "")
    assert lines["silent"]["note"].endswith("silent.avi: has no sound track")
    for name in ("damaged", "gone"):
        assert lines[name]["error"] == "no modality is there; give at least one of audio, video"
        assert "class" not in lines[name]
    assert "damaged.mp4: is damaged or no sound file" in lines["damaged"]["note"]
    assert "; video: " in lines["damaged"]["note"]
    assert lines["gone"]["note"].startswith("audio: ")  # its sound is that of the video
    assert lines["gone"]["note"].endswith("gone.mp4: is not there")
    said = capsys.readouterr().err
    assert "video files that are not there, taken as absent: 1 ('gone' first)" in said
    assert "Not answered: 2 of 4" in said


def test_a_video_without_sound_has_no_answer_from_sound_alone(unit, new):
    lines = ask(unit, new, ["new.mp4", "silent.avi"], "--only", "audio")
    assert (lines["new"]["modalities"], lines["new"]["error"]) == (["audio"], "")
    assert lines["silent"]["error"].startswith("no modality is there")
    assert lines["silent"]["note"].endswith("silent.avi: has no sound track")


def test_a_manifest_whose_files_are_all_gone_is_refused(unit, new, tmp_path, capsys):
    write_manifest(tmp_path / "m.csv", [{"utterance_id": "new", "video": "new.mp4"}])
    assert run(unit, tmp_path / "m.csv", tmp_path / "p.csv") == 1
    said = capsys.readouterr().err
    assert "none of its 1 files is there" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.slow
def test_a_trained_unit_answers(corpus, new, tmp_path):
    options = {"methods": ("zero_fill",), "smoke": True, "out": tmp_path / "run"}
    reproduce.main(reproduce.Arguments(data=str(corpus / "a.npz"), **options))
    [unit] = (tmp_path / "run/zero_fill").glob("*_seed0")
    line = ask(unit, new, ["new.mp4"])["new"]
    assert (line["modalities"], line["error"]) == (["audio", "video"], "")
