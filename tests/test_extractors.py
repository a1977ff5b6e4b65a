"""Extractors: the registry, text and speech with a tiny BERT and wav2vec 2.0, and runs over many utterances."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from media_files import write_bert, write_onnx, write_wav, write_wav2vec2

from cmarr_jax.data.corpus import ArchiveError
from data_prep import extractors
from data_prep.extractors import base, run
from data_prep.extractors.base import Extractor, MediaError, _mean_frame
from data_prep.extractors.run import extract_all
from data_prep.media import Media


@dataclasses.dataclass(frozen=True)
class CountLetters(Extractor):
    """Letters of the transcript as numbers. `boom` breaks, `die` ends the process, `stop` interrupts."""

    name: ClassVar[str] = "count_letters"
    modality: ClassVar[base.Modality] = "text"
    libraries: ClassVar[tuple[str, ...]] = ()
    times: int = 1
    log: Path = Path("log")

    @property
    def width(self) -> int:
        return 1

    def extract(self, media):
        with open(self.log, "a") as log:
            log.write(f"{media.utterance_id} ")
        if media.text == "boom":
            raise RuntimeError("a library's own\nerror")
        if media.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if media.text == "stop":
            raise KeyboardInterrupt
        if media.text == "nan":
            return np.full((1, 1), np.nan)
        if not media.text:
            raise MediaError("there is no transcript")
        return self.times * np.array([[ord(letter)] for letter in media.text], float)


@dataclasses.dataclass(frozen=True)
class TimesWeights(CountLetters):
    """As above, times the number in a file."""

    weights: Path = Path("weights.txt")

    @property
    def weight_files(self):
        return (self.weights,)

    @functools.cached_property
    def _factor(self):
        return float(self.weights.read_text())

    def check(self):
        _ = self._factor

    def extract(self, media):
        return self._factor * super().extract(media)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("weights") / "bert")


# The registry


def test_an_unknown_name_or_option_gives_the_known_ones():
    with pytest.raises(ValueError, match="no extractor 'mfcc'; there are compare_2016, egemaps"):
        extractors.get("mfcc")
    pytest.importorskip("opensmile")
    with pytest.raises(ValueError, match="no option 'rate'; it has group, resample"):
        extractors.get("compare_2016", rate=10)
    with pytest.raises(ValueError, match=r"option 'group' must be a whole number, found 2.5"):
        extractors.get("compare_2016", group=2.5)
    with pytest.raises(ValueError, match="found 0 and 'mean'"):
        extractors.get("compare_2016", group=0)


def test_a_missing_package_gives_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(
        ImportError, match=r"'opensmile' cannot be imported .*; run python -m pip install .*\[extract\]"
    ):
        extractors.get("compare_2016")


def test_missing_weights_name_the_file_and_the_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("onnxruntime")
    where = tmp_path / "weights" / "emotion-ferplus-8.onnx"
    with pytest.raises(FileNotFoundError, match=f"'emotion-ferplus-8.onnx' is not there; it is looked for at {where}"):
        extractors.get("face_onnx")
    with pytest.raises(FileNotFoundError, match=r"face detector: 'faces.xml' is not there"):
        extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx"), detector=tmp_path / "faces.xml")


def test_missing_transformer_weights_name_the_file_and_the_place(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    for name, folder in (("text_transformer", "bert-large-uncased"), ("wav2vec2", "wav2vec2-base")):
        with pytest.raises(FileNotFoundError, match=f"it is looked for at {tmp_path / 'weights' / folder}"):
            extractors.get(name)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"'model.safetensors' is not there"):
        extractors.get("text_transformer", weights=tmp_path)


# Text and speech through torch


def test_word_pieces_without_special_tokens(bert):
    text = extractors.get("text_transformer", weights=bert)
    features = text(Media("a", text="I am happy."))
    assert features.shape == (5, 16)  # i am happ ##y .
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    with torch.inference_mode():
        states = transformers.AutoModel.from_pretrained(bert)(torch.tensor([[2, 5, 6, 7, 8, 9, 3]])).last_hidden_state
    np.testing.assert_allclose(features, states[0, 1:-1].numpy(), atol=1e-6)
    long = text(Media("a", text="i am " * 100))
    assert long.shape == (22, 16)
    assert extractors.get("text_transformer", weights=bert, max_pieces=2)(Media("a", text="i am .")).shape == (2, 16)
    for nothing in (None, "", "  "):
        with pytest.raises(MediaError, match="there is no transcript"):
            text(Media("a", text=nothing))


def test_the_record_says_how_and_changes_with_the_weights(bert, tmp_path):
    record = extractors.get("text_transformer", weights=bert).record()
    assert record["options"] == {"layer": -1, "max_pieces": 22}
    assert record["width"] == 16
    assert {"transformers", "tokenizers", "torch", "numpy"} == set(record["libraries"])
    assert len(record["weights"]["model.safetensors"]) == 64
    assert str(bert.parent) not in json.dumps(record)
    other = extractors.get("text_transformer", weights=write_bert(tmp_path / "other"), layer=0).record()
    assert base.record_hash(other) != base.record_hash(record)


def test_wav2vec2_gives_ten_frames_a_second(tmp_path):
    speech = extractors.get("wav2vec2", weights=write_wav2vec2(tmp_path / "w"))
    assert speech(Media("a", audio=write_wav(tmp_path / "a.wav", 2.0))).shape == (20, 16)  # 99 frames in fives
    with pytest.raises(MediaError, match="too short for the model"):
        speech(Media("a", audio=write_wav(tmp_path / "b.wav", 0.02)))


# Runs


def items_of(**texts):
    return [Media(key, text=text) for key, text in texts.items()]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_broken_items_are_reported_and_lose_nothing(tmp_path, num_workers):
    extractor = CountLetters(log=tmp_path / "log")
    items = items_of(a="ab", b="boom", c="", d="x", e="nan")
    features, failures = extract_all(extractor, items, tmp_path / "cache", num_workers, progress=False)
    assert list(features) == ["a", "d"]
    np.testing.assert_array_equal(features["a"], np.float32([[97], [98]]))
    assert [(failure.utterance_id, failure.reason) for failure in failures] == [
        ("b", "count_letters failed (RuntimeError: a library's own error)"),
        ("c", "there is no transcript"),
        ("e", "count_letters gave values that are not finite"),
    ]


def test_a_process_that_dies_costs_one_utterance(tmp_path):
    items = items_of(**{f"u{i}": "die" if i == 2 else "ok" for i in range(7)})
    features, failures = extract_all(CountLetters(log=tmp_path / "log"), items, tmp_path, 2, progress=False)
    assert len(features) == 6
    assert [failure.utterance_id for failure in failures] == ["u2"]
    assert "ended its process" in failures[0].reason


def test_a_stopped_run_continues(tmp_path, capsys):
    extractor = CountLetters(log=tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        extract_all(extractor, items_of(a="ab", b="stop", c="c"), tmp_path / "cache", 1, progress=False)
    features, failures = extract_all(extractor, items_of(a="ab", b="b", c="c"), tmp_path / "cache", 1)
    assert list(features) == ["a", "b", "c"]
    assert not failures
    assert extractor.log.read_text().split() == ["a", "b", "b", "c"]  # a was kept
    assert "3/3" in capsys.readouterr().err
    (folder,) = (tmp_path / "cache").iterdir()
    assert json.loads((folder / "record.json").read_text()) == extractor.record()
    assert len(list(folder.glob("*.npy"))) == 3
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, workers, monkeypatch):
    extractor = CountLetters(log=tmp_path / "log")
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match=r"the cache cannot be written \(Not a directory\); .* \(--cache-dir; "):
        extract_all(extractor, items_of(a="a", b="b"), tmp_path / "file" / "cache", workers, progress=False)
    extract_all(extractor, items_of(a="a", b="b"), tmp_path / "cache", workers, progress=False)
    [folder] = {path.parent for path in (tmp_path / "cache").rglob("*.npy")}
    shutil.rmtree(folder)
    monkeypatch.setattr(run, "_make_cache", lambda extractor, cache: folder)  # it goes after it was made
    with pytest.raises(ArchiveError, match=r"the cache cannot be written \(No such file or directory\)"):
        extract_all(extractor, items_of(a="a", b="b"), tmp_path / "cache", workers, progress=False)


def test_the_cache_knows_options_transcripts_and_damage(tmp_path):
    run = lambda extractor, **texts: extract_all(extractor, items_of(**texts), tmp_path / "cache", 1, progress=False)[0]
    once = CountLetters(log=tmp_path / "log")
    assert run(once, a="a")["a"] == 97
    assert run(once, a="b")["a"] == 98
    assert run(CountLetters(times=2, log=tmp_path / "log"), a="a")["a"] == 194
    for path in (tmp_path / "cache").glob("*/a.*.npy"):
        path.write_bytes(path.read_bytes()[:-2])
    assert run(once, a="a")["a"] == 97
    assert once.log.read_text().split() == ["a"] * 4


def test_weights_that_change_while_they_are_used_stop_the_run(tmp_path):
    weights = tmp_path / "weights.txt"
    for workers in (1, 2):
        weights.write_text("2")
        extractor = TimesWeights(log=tmp_path / "log", weights=weights)
        assert extract_all(extractor, items_of(a="a"), tmp_path / "cache", workers, progress=False)[0]["a"] == 194
        weights.write_text("30")  # the processes of the next call would load these under the hash of the others
        with pytest.raises(ArchiveError, match=f"{weights}: was changed after it was checked"):
            extract_all(extractor, items_of(b="b", c="c"), tmp_path / "cache", workers, progress=False)
        assert len(list((tmp_path / "cache").glob("*/*.npy"))) == 1
        weights.unlink()
        with pytest.raises(ArchiveError, match="was changed after it was checked"):
            extract_all(extractor, items_of(b="b", c="c"), tmp_path / "cache", workers, progress=False)


def test_everything_is_loaded_once_before_the_first_utterance(tmp_path):
    extractor = TimesWeights(log=tmp_path / "log", weights=tmp_path / "weights.txt")
    (tmp_path / "weights.txt").write_text("none")
    with pytest.raises(ValueError, match="could not convert"):
        extract_all(extractor, items_of(a="a"), tmp_path / "cache", 1, progress=False)
    assert not extractor.log.exists()
    assert not (tmp_path / "cache").exists()


def test_odd_ids_are_file_names_and_repeated_ones_faults(tmp_path):
    extractor, outside = CountLetters(log=tmp_path / "log"), str(tmp_path / "elsewhere" / "x")
    ids = ["../x/y", "..", ".", outside, "a\0b", "a\\b", "n" * 300, "n" * 299 + "m", "é" * 200, "../" * 100]
    items = [Media(name, text=chr(97 + number)) for number, name in enumerate(ids)]
    for _ in range(2):  # computed, then read from the cache
        features, failures = extract_all(extractor, items, tmp_path / "cache", 1, progress=False)
        assert not failures
        assert {name: array.item() for name, array in features.items()} == {
            name: 97 + number for number, name in enumerate(ids)
        }
    assert len(list((tmp_path / "cache").glob("*/*.npy"))) == len(ids)
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "log"}
    (folder,) = (tmp_path / "cache").iterdir()
    assert all(path.is_file() for path in folder.iterdir())
    with pytest.raises(ValueError, match="the same id"):
        extract_all(extractor, [*items, items[0]], tmp_path / "cache", 1)
    with pytest.raises(ValueError, match="num_workers"):
        extract_all(extractor, items, tmp_path / "cache", 0)


def test_a_mean_over_the_frames_is_a_vector_and_another_record():
    words = Media("a", text="I am happy.")
    frames, mean = extractors.get("text_hashing"), extractors.get("text_hashing", pool="mean")
    assert (frames.is_vector, mean.is_vector) == (False, True)
    np.testing.assert_allclose(mean(words), frames(words).mean(axis=0, keepdims=True), atol=1e-7)
    assert "pool" not in frames.record()["options"]
    assert mean.record()["options"] == {**frames.record()["options"], "pool": "mean"}
    with pytest.raises(ValueError, match="pool must be one of none, mean; found 'max'"):
        extractors.get("text_hashing", pool="max").record()


def test_frames_of_zeros_do_not_count_in_a_mean():
    frames = np.array([[0, 0], [1, 4], [3, 0], [0, 0]], np.float32)
    np.testing.assert_array_equal(_mean_frame(frames), [[2, 2]])
    np.testing.assert_array_equal(_mean_frame(frames[:1]), [[0, 0]])
