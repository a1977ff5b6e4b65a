"""Media and models that the tests make: tones, a photographed face in a video, a tiny BERT, a tiny ONNX model."""

import numpy as np
import pytest

RATE = 16000


def write_wav(path, seconds=1.0, *, rate=RATE, channels=1, loudness=0.3):
    soundfile = pytest.importorskip("soundfile")
    time = np.arange(round(seconds * rate)) / rate
    tone = loudness * np.sin(2 * np.pi * 220 * time) * (1 + 0.5 * np.sin(2 * np.pi * 3 * time)) / 1.5
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate)
    return path


# Name, and how libsndfile writes it (format, subtype); None: FFmpeg writes it, libsndfile cannot read it.
SOUND_FORMATS = {
    "pcm.wav": ("WAV", "PCM_16"),
    "flac.wav": ("FLAC", "PCM_16"),
    "rf64.wav": ("RF64", "PCM_16"),
    "extensible.wav": ("WAVEX", "FLOAT"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
    "a.ogg": ("OGG", "VORBIS"),
    "a.m4a": None,
    "a.aac": None,
}


def write_sound(path, samples):
    """Mono samples at 16 kHz, in the format of `SOUND_FORMATS` for the file's name."""
    soundfile, av = pytest.importorskip("soundfile"), pytest.importorskip("av")
    if (kind := SOUND_FORMATS[path.name]) is not None:
        soundfile.write(path, samples, RATE, format=kind[0], subtype=kind[1])
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
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
    """Two layers of 16 with random weights and a vocabulary of eleven."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "i", "am", "happ", "##y", ".", "the"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(
        vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt")
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def write_wav2vec2(folder):
    """One layer of 16 with random weights."""
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
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
