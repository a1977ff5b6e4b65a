"""Extractors on sound and video that the tests make: tones, a photographed face in a video, a tiny ONNX model."""

import numpy as np
import pytest
from media_files import RATE, write_onnx, write_video, write_wav

from data_prep import extractors
from data_prep.extractors.base import MediaError
from data_prep.extractors.run import extract_all
from data_prep.media import Media


@pytest.fixture(scope="module")
def compare():
    pytest.importorskip("opensmile")
    return extractors.get("compare_2016")


# Sound


def test_compare_2016_has_130_numbers_ten_times_a_second(compare, tmp_path):
    features = compare(Media("a", audio=write_wav(tmp_path / "a.wav", 3.0)))
    assert features.dtype == np.float32
    # openSMILE frames of 60 ms every 10 ms: 296 or so of 3 s, in tens
    assert features.shape == (30, 130)
    names = compare._smile.feature_names
    assert len(names) == len(set(names)) == 130
    assert 200 < np.median(features[:, names.index("F0final_sma")]) < 240  # the tone has 220 Hz


def test_the_deltas_belong_to_their_frames(compare, tmp_path):
    frames = extractors.get("compare_2016", group=1)(Media("a", audio=write_wav(tmp_path / "a.wav", 1.0)))
    level, delta = frames[:, :65], frames[:, 65:]
    # openSMILE book, cDeltaRegression with window 2: sum of i (x[t+i] - x[t-i]) over 2 sum of i^2 = 10
    expected = ((level[3:-1] - level[1:-3]) + 2 * (level[4:] - level[:-4])) / 10
    column = compare._smile.feature_names.index("pcm_RMSenergy_sma")
    np.testing.assert_allclose(delta[2:-2, column], expected[:, column], atol=1e-5)


def test_one_pass_gives_what_opensmile_gives_level_by_level(tmp_path):
    """The package documents one level a call; that its configuration takes several is not documented."""
    opensmile = pytest.importorskip("opensmile")
    soundfile = pytest.importorskip("soundfile")
    media = Media("a", audio=write_wav(tmp_path / "a.wav", 0.7))
    sound = soundfile.read(media.audio, dtype="float32")[0]
    for name, feature_set, levels in (
        ("compare_2016", "ComParE_2016", ("LowLevelDescriptors", "LowLevelDescriptors_Deltas")),
        ("egemaps", "eGeMAPSv02", ("LowLevelDescriptors",)),
        ("egemaps_functionals", "eGeMAPSv02", ("Functionals",)),
    ):
        smiles = [opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel[level]) for level in levels]
        apart = [np.atleast_3d(smile(sound, RATE))[0].T for smile in smiles]
        extractor = extractors.get(name, group=1)
        assert extractor._smile.feature_names == [column for smile in smiles for column in smile.feature_names]
        # the deltas have two frames more, at the end
        np.testing.assert_array_equal(extractor(media), np.hstack([level[: len(apart[0])] for level in apart]))


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
    energy = compare._smile.feature_names.index("pcm_RMSenergy_sma")
    np.testing.assert_allclose(other[:, energy], mono[:, energy], rtol=0.01)


def test_full_scale_sound_does_not_wrap_around(compare, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    sine = np.sin(2 * np.pi * 250 * np.arange(RATE) / RATE)  # a period of 64 samples, one of them 1.0
    crossings = []
    for name, loudness in (("loud.wav", 1.0), ("soft.wav", 0.9)):
        soundfile.write(tmp_path / name, loudness * sine, RATE, subtype="FLOAT")
        features = compare(Media("a", audio=tmp_path / name))
        crossings.append(features[:, compare._smile.feature_names.index("pcm_zcr_sma")])
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


def test_the_sound_track_of_a_video_is_cut(tmp_path):
    from data_prep.extractors.sound import read_sound

    video = write_video(tmp_path / "a.avi", sound=True)
    sound = read_sound(Media("a", audio=video, audio_start=0.5, audio_end=1.3))
    assert len(sound) == round(0.8 * RATE)
    middle = sound[800::1600] * 32768  # the middles of the blocks of 0.1 s, which hold 1000 times their number
    np.testing.assert_allclose(middle, 1000 * np.arange(5, 13), atol=50)
    with pytest.raises(MediaError, match=r"has 1.00 s of sound where the utterance has 3.00 s"):
        read_sound(Media("a", audio=video, audio_start=1.0, audio_end=4.0))
    with pytest.raises(MediaError, match="has no sound track"):
        read_sound(Media("a", audio=write_video(tmp_path / "silent.avi")))
    with pytest.raises(MediaError, match=r"^there is no sound$"):
        read_sound(Media("a", video=video))  # only what is given as `audio` is heard


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


def test_pictures_of_a_turned_video_are_upright(tmp_path):
    """The matrix of an mp4 says where the axes of the stored picture go: here its right side is shown at the top."""
    from data_prep.extractors.frames import read_frames

    read = lambda path, half: read_frames(path, None, None, half, max_frames=4, format="rgb24")
    video, turned = write_video(tmp_path / "a.mp4", seconds=1.0), tmp_path / "turned.mp4"
    content, up = bytearray(video.read_bytes()), np.array([0, -1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30], ">i4")
    start = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, track header box: the matrix follows 40 bytes
    content[start : start + 36] = up.tobytes()
    turned.write_bytes(content)
    for stored, shown in zip(read(video, None), read(turned, None), strict=True):
        assert shown.shape == (640, 240, 3)
        np.testing.assert_array_equal(shown[0], stored[:, -1])  # from the top down becomes from left to right
        np.testing.assert_array_equal(shown[-1], stored[:, 0])
        np.testing.assert_array_equal(shown[:, 0], stored[0, ::-1])
    np.testing.assert_array_equal(read(turned, "left")[0], read(turned, None)[0][:, :120])


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


def test_opensmile_runs_in_processes(compare, tmp_path):
    items = [Media(f"u{i}", audio=write_wav(tmp_path / f"{i}.wav", 0.5 + 0.1 * i)) for i in range(3)]
    there, failures = extract_all(compare, items, tmp_path / "cache", 2, progress=False)
    assert not failures
    for item in items:
        np.testing.assert_array_equal(there[item.utterance_id], compare(item))
