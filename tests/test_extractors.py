"""Extractors on media that the tests make: tones, a photographed face in a video, a tiny BERT, a tiny ONNX model."""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from data_prep import extractors
from data_prep.extractors import base
from data_prep.extractors.base import Extractor, MediaError
from data_prep.extractors.run import count_zero_frames, extract_all
from data_prep.media import Media

RATE = 16000


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


def write_wav(path, seconds=1.0, *, rate=RATE, channels=1, loudness=0.3):
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(round(seconds * rate)) / rate
    tone = loudness * np.sin(2 * np.pi * 220 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time)) / 1.5
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
    return path


def write_video(path, *, seconds=2.0, face="right", codec="mpeg4", sound=False):
    """640 x 240 at 10 frames/s: a photographed face (skimage.data.astronaut) in one half, grey elsewhere."""
    av, data = pytest.importorskip("av"), pytest.importorskip("skimage.data")
    picture = np.full((240, 640, 3), 128, np.uint8)
    if face is not None:
        column = 320 if face == "right" else 0
        picture[:, column + 40 : column + 280] = data.astronaut()[0:240, 100:340]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 240, "yuv420p", 4_000_000
        track = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for number in range(round(seconds * 10)):
            shade = picture.copy()
            shade[:8] = 8 * number  # the top rows tell the frames apart
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            if track is not None:
                block = np.full((1, 800), 1000 * number, np.int16)
                frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8000, 800 * number
                container.mux(track.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            container.mux(track.encode(None))
    return path


def write_onnx(path, *, channels=1, side=64):
    """Mean over 8 x 8 blocks, flattened (64 numbers), then a linear layer to 3."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    weight = np.random.default_rng(0).normal(size=(64 * channels, 3)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["face"], ["blocks"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["blocks"], ["inner"]),
        helper.make_node("MatMul", ["inner", "weight"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("face", onnx.TensorProto.FLOAT, [1, channels, side, side])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


def write_bert(folder):
    """Two layers of 16 with random weights and a vocabulary of ten."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "am", "happ", "##y", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(
        vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt")
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=10,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def compare():
    pytest.importorskip("opensmile")
    return extractors.get("compare_2016")


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


# Sound


def test_compare_2016_has_130_numbers_ten_times_a_second(compare, tmp_path):
    features = compare(Media("a", audio=write_wav(tmp_path / "a.wav", 3.0)))
    assert features.dtype == np.float32
    # openSMILE frames of 60 ms every 10 ms: 296 or so of 3 s, in tens
    assert features.shape == (30, 130)
    names = [name for smile in compare._smiles for name in smile.feature_names]
    assert len(names) == len(set(names)) == 130
    assert 200 < np.median(features[:, names.index("F0final_sma")]) < 240  # the tone has 220 Hz


def test_the_deltas_belong_to_their_frames(compare, tmp_path):
    frames = extractors.get("compare_2016", group=1)(Media("a", audio=write_wav(tmp_path / "a.wav", 1.0)))
    level, delta = frames[:, :65], frames[:, 65:]
    # openSMILE book, cDeltaRegression with window 2: sum of i (x[t+i] - x[t-i]) over 2 sum of i^2 = 10
    expected = ((level[3:-1] - level[1:-3]) + 2 * (level[4:] - level[:-4])) / 10
    column = compare._smiles[0].feature_names.index("pcm_RMSenergy_sma")
    np.testing.assert_allclose(delta[2:-2, column], expected[:, column], atol=1e-5)


def test_opensmile_groups_are_means_or_resampled_as_in_mmin(tmp_path):
    pytest.importorskip("opensmile")
    media = Media("a", audio=write_wav(tmp_path / "a.wav", 0.5))
    every = extractors.get("egemaps", group=1)(media)
    mean, poly = extractors.get("egemaps")(media), extractors.get("egemaps", resample="poly")(media)
    assert mean.shape == poly.shape == (-(-len(every) // 10), 25)
    np.testing.assert_allclose(mean[1], every[10:20].mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mean[-1], every[10 * (len(mean) - 1) :].mean(0), rtol=1e-4, atol=1e-4)
    assert extractors.get("egemaps_functionals")(media).shape == (1, 88)


def test_stereo_is_averaged_and_other_rates_are_resampled(compare, tmp_path):
    mono = compare(Media("a", audio=write_wav(tmp_path / "mono.wav", 2.0)))
    stereo = compare(Media("a", audio=write_wav(tmp_path / "stereo.wav", 2.0, channels=2)))
    np.testing.assert_array_equal(mono, stereo)
    other = compare(Media("a", audio=write_wav(tmp_path / "other.wav", 2.0, rate=44100)))
    assert other.shape == mono.shape
    energy = compare._smiles[0].feature_names.index("pcm_RMSenergy_sma")
    np.testing.assert_allclose(other[:, energy], mono[:, energy], rtol=0.01)


def test_full_scale_sound_does_not_wrap_around(compare, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    sine = np.sin(2 * np.pi * 250 * np.arange(RATE) / RATE)  # a period of 64 samples, one of them 1.0
    crossings = []
    for name, loudness in (("loud.wav", 1.0), ("soft.wav", 0.9)):
        soundfile.write(tmp_path / name, loudness * sine, RATE, subtype="FLOAT")
        features = compare(Media("a", audio=tmp_path / name))
        crossings.append(features[:, compare._smiles[0].feature_names.index("pcm_zcr_sma")])
    np.testing.assert_allclose(crossings[0], crossings[1], rtol=0.01)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("short.wav", "short.wav: is too short for openSMILE"),
        ("no_samples.wav", "no_samples.wav: holds no sound"),
        ("no_bytes.wav", "no_bytes.wav: is an empty file"),
        ("text.wav", "text.wav: is damaged or no sound file"),
        ("absent.wav", "absent.wav: is not there"),
    ],
)
def test_faulty_sound_gives_a_sentence(compare, tmp_path, name, sentence):
    write_wav(tmp_path / "short.wav", 0.02)
    write_wav(tmp_path / "no_samples.wav", 0)
    (tmp_path / "no_bytes.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is no sound")
    with pytest.raises(MediaError, match=sentence):
        compare(Media("a", audio=tmp_path / name))


def test_without_a_sound_file_the_sound_track_is_cut(tmp_path):
    from data_prep.extractors.sound import read_sound

    video = write_video(tmp_path / "a.avi", sound=True)
    sound = read_sound(Media("a", video=video, start=0.5, end=1.3))
    assert len(sound) == round(0.8 * RATE)
    middle = sound[800::1600] * 32768  # the middles of the blocks of 0.1 s, which hold 1000 times their number
    np.testing.assert_allclose(middle, 1000 * np.arange(5, 13), atol=50)
    with pytest.raises(MediaError, match=r"has 1.00 s of sound where the utterance has 3.00 s"):
        read_sound(Media("a", video=video, start=1.0, end=4.0))
    with pytest.raises(MediaError, match="has no sound track"):
        read_sound(Media("a", video=write_video(tmp_path / "silent.avi")))
    with pytest.raises(MediaError, match="neither a sound file nor a video"):
        read_sound(Media("a", text="hello"))


# Video


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
def test_frames_are_evenly_sampled_between_the_times(tmp_path, suffix):
    from data_prep.extractors.frames import read_frames

    video = write_video(tmp_path / f"a.{suffix}", seconds=2.4)
    frames = read_frames(video, 0.4, 2.0, "left", max_frames=8, format="gray")
    assert {frame.shape for frame in frames} == {(240, 320)}
    # by hand: 8 parts of 0.2 s from 0.4, middles 0.5, 0.7 ...: frames 5, 7 ... of 10 a second, shade 8 a frame
    shade = [frame[2:6].mean() for frame in frames]
    np.testing.assert_allclose(shade, np.arange(40, 160, 16), atol=3)
    late = read_frames(video, 1.7, 2.3, "right", max_frames=3, format="gray")  # after a key frame that is not the first
    np.testing.assert_allclose([frame[2:6].mean() for frame in late], [144, 160, 176], atol=3)
    whole = read_frames(video, None, None, None, max_frames=50, format="rgb24")
    assert len(whole) == 24
    assert whole[0].shape == (240, 640, 3)
    np.testing.assert_allclose([frame[2:6].mean() for frame in whole], 8 * np.arange(24), atol=3)


@pytest.mark.parametrize(("layer", "width"), [("penultimate", 64), ("last", 3), ("blocks", 1)])
def test_a_face_is_found_in_its_half_only(tmp_path, layer, width):
    pytest.importorskip("onnxruntime")
    face = extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx"), layer=layer, max_frames=4)
    video = write_video(tmp_path / "a.avi")
    assert face.width == width
    right = face(Media("r", video=video, half="right"))
    left = face(Media("l", video=video, half="left"))
    assert right.shape == left.shape == (4, width)
    assert right.any(axis=1).all()
    assert not left.any()
    assert count_zero_frames({"r": right, "l": left}) == (4, 8, 1)
    if layer == "penultimate":  # block means of grey values from 0 to 255: not divided by 255
        assert 0 < right.min() < 100 < right.mean() < right.max() <= 255


def test_a_colour_model_gets_three_channels(tmp_path):
    pytest.importorskip("onnxruntime")
    face = extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx", channels=3), mean=255.0, std=-255.0)
    features = face(Media("r", video=write_video(tmp_path / "a.avi", seconds=0.3), half="right"))
    assert features.shape == (3, 192)
    assert 0 <= features.min() < features.max() <= 1


def test_faulty_models_give_a_sentence(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="no tensor 'pool5'; its last ones are blocks, inner, scores"):
        _ = extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx"), layer="pool5").width
    (tmp_path / "text.onnx").write_text("this is no model")
    with pytest.raises(ValueError, match=r"text.onnx: is damaged or no ONNX model"):
        _ = extractors.get("face_onnx", weights=tmp_path / "text.onnx").width


def test_faulty_videos_give_a_sentence(tmp_path):
    pytest.importorskip("onnxruntime")
    face = extractors.get("face_onnx", weights=write_onnx(tmp_path / "m.onnx"), max_frames=4)
    video = write_video(tmp_path / "a.avi", seconds=3.0)
    content = video.read_bytes()
    (tmp_path / "truncated.avi").write_bytes(content[: len(content) // 3])
    (tmp_path / "header.avi").write_bytes(content[:100])
    intact = face(Media("a", video=tmp_path / "truncated.avi", start=0.2, end=0.6, half="right"))
    assert intact.any(axis=1).all()
    for media, sentence in (
        (Media("a", video=tmp_path / "absent.avi"), "absent.avi: is not there"),
        (Media("a", video=tmp_path / "truncated.avi", start=0.0, end=3.0), r"truncated.avi: ends at \d\.\d+ s where"),
        (Media("a", video=tmp_path / "header.avi"), "header.avi: is damaged or no video file"),
        (Media("a", video=video, start=10.0, end=11.0), "a.avi: .* where the utterance lasts from 10.00 to 11.00 s"),
        (Media("a", video=video, start=2.0, end=1.0), "ends at 1.00 s, before it starts at 2.00 s"),
        (Media("a", video=write_wav(tmp_path / "a.wav")), "has no picture"),
        (Media("a", text="hello"), "there is no video"),
    ):
        with pytest.raises(MediaError, match=sentence):
            face(media)


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
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "w")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "w")
    speech = extractors.get("wav2vec2", weights=tmp_path / "w")
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


def test_opensmile_runs_in_processes(compare, tmp_path):
    items = [Media(f"u{i}", audio=write_wav(tmp_path / f"{i}.wav", 0.5 + 0.1 * i)) for i in range(3)]
    there, failures = extract_all(compare, items, tmp_path / "cache", 2, progress=False)
    assert not failures
    for item in items:
        np.testing.assert_array_equal(there[item.utterance_id], compare(item))
