"""Sound files of many formats, and parts of them: the look at the header agrees with what is read."""

import dataclasses
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from media_files import RATE, SOUND_FORMATS, write_sound, write_wav
from rich.console import Console

from data_prep.extractors.base import MediaError
from data_prep.extractors.run import _file_name
from data_prep.extractors.sound import read_sound
from data_prep.extractors.sound_file import read_header, read_samples
from data_prep.media import Media
from data_prep.sounds import check_sounds
from data_prep.utterances import Utterance

pytest.importorskip("soundfile")
pytest.importorskip("av")


def look(*items):
    """What `check_sounds` keeps of these utterances, and what it prints."""
    out = io.StringIO()
    utterances = [Utterance(media, "01F", "01", "ang") for media in items]
    kept = check_sounds(utterances, Console(file=out, width=1000)).utterances
    return [item.media.audio for item in kept], out.getvalue()


def noise(seconds=4.0):
    """Smoothed noise, in which a shift by a few samples would be seen."""
    white = np.random.default_rng(0).normal(size=round(seconds * RATE) + 15)
    return 0.2 * np.convolve(white, np.ones(16) / 4, "valid")


@pytest.mark.parametrize("name", SOUND_FORMATS)
def test_each_format_gives_sound_in_both_places(tmp_path, name):
    samples = noise(2.0)
    path = write_sound(tmp_path / name, samples)
    header = read_header(path)
    assert (header.rate, header.channels) == (RATE, 1)
    assert header.seconds == pytest.approx(2.0, abs=0.15)  # AAC has the encoder's delay at the end
    kept, printed = look(Media("a", audio=path))
    assert kept == [path]
    assert printed == "sounds: 1 of 16000 Hz mono\n"
    sound = read_sound(Media("a", audio=path))
    assert 0 <= len(sound) - len(samples) < 0.15 * RATE
    delay = 0 if SOUND_FORMATS[name] else 1024  # samples, of FFmpeg's AAC encoder
    sound = sound[delay : delay + len(samples)]
    if name.endswith("wav"):
        np.testing.assert_allclose(sound, samples, atol=1e-4)  # 16 bits
    assert np.corrcoef(sound, samples[: len(sound)])[0, 1] > 0.95


@pytest.mark.parametrize("name", SOUND_FORMATS)
def test_a_part_is_what_the_whole_holds_there(tmp_path, name):
    path = write_sound(tmp_path / name, noise())
    whole = read_sound(Media("a", audio=path))
    for start, end in ((0.0, 0.7), (1.2503, 2.1), (2.9, None), (None, 0.4)):
        part = read_sound(Media("a", audio=path, audio_start=start, audio_end=end))
        first, last = round((start or 0) * RATE), None if end is None else round(end * RATE)
        np.testing.assert_allclose(part, whole[first:last], atol=2e-4)


def test_a_part_is_found_by_seeking(tmp_path, monkeypatch):
    import soundfile

    path = write_wav(tmp_path / "long.wav", 60.0)
    read = soundfile.SoundFile.read
    counts = []
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda file, *a, **k: counts.append(a[0]) or read(file, *a, **k))
    samples, _ = read_samples(path, 50.0, 51.5)
    assert len(samples) == 1.5 * RATE
    assert counts == [1.5 * RATE]


def test_videos_whose_sound_nobody_names_are_counted(tmp_path):
    sound, video = write_wav(tmp_path / "a.wav"), tmp_path / "v.mp4"
    kept, printed = look(
        Media("a", audio=sound), Media("c", video=video), Media("b", video=video), Media("d", text="t")
    )
    assert kept == [sound, None, None, None]
    assert "\nnote: 2 of 4 utterances have no sound, though they have a video ('b' first); where the col" in printed
    assert "though they have a video" not in look(Media("a", audio=sound, video=video), Media("d", text="t"))[1]


FAULTY_PARTS = [
    (3.0, 4.5, "has 1.00 s of sound where the utterance has 1.50 s", False),  # as with video: a second may be missing
    (3.0, 5.5, r"a.wav: has 1.00 s of sound where the utterance has 2.50 s$", True),
    (4.5, 5.0, r"a.wav: holds no sound after 4.50 s$", True),
    (4.5, None, r"a.wav: holds no sound after 4.50 s$", True),
    (None, 5.5, r"a.wav: has 4.00 s of sound where the utterance has 5.50 s$", True),
    (2.0, 1.0, r"a.wav: the utterance ends at 1.00 s, before it starts at 2.00 s$", True),
]


@pytest.mark.parametrize(("start", "end", "sentence", "is_fault"), FAULTY_PARTS)
@pytest.mark.parametrize("name", ["pcm.wav", "a.aac"])
def test_a_part_outside_the_file_has_the_same_verdict_in_both_places(tmp_path, name, start, end, sentence, is_fault):
    path = write_sound(tmp_path / name, noise())
    media = Media("a", audio=path, audio_start=start, audio_end=end)
    kept, printed = look(media)
    assert kept == [None if is_fault else path]
    if not is_fault:
        assert len(read_sound(media)) == pytest.approx(1.0 * RATE, abs=0.1 * RATE)
        return
    with pytest.raises(MediaError) as caught:
        read_sound(media)
    assert f"taken as missing: {caught.value}\n" in printed or name == "a.aac"  # AAC's length is not exact
    if name == "pcm.wav":
        caught.match(sentence.replace("a.wav", name))


def test_a_file_that_neither_reader_knows_has_the_same_sentence_in_both_places(tmp_path):
    noise = np.random.default_rng(0).bytes(60000)
    for name, content, problem in (
        ("text.wav", b"this is no sound" * 99, "is damaged or no sound file"),
        ("none.wav", b"", "is an empty file"),
        ("noise.mp3", noise, "is damaged or no sound file"),
        ("noise.aac", noise, "is damaged or no sound file"),
        ("samples.raw", b"\1\2" * 9000, "has no sound track"),  # FFmpeg takes it for a picture
    ):
        path = tmp_path / name
        path.write_bytes(content)
        kept, printed = look(Media("a", audio=path))
        with pytest.raises(MediaError) as caught:
            read_sound(Media("a", audio=path))
        assert str(caught.value).startswith(f"{path}: {problem}")
        assert kept == [None]
        assert printed.splitlines()[0] == f"audio of a taken as missing: {caught.value}"


def test_short_sounds_and_short_parts_are_missing(tmp_path):
    short, long = write_wav(tmp_path / "short.wav", 0.02), write_wav(tmp_path / "long.wav", 1.0)
    kept, printed = look(Media("a", audio=short), Media("b", audio=long, audio_start=0.5, audio_end=0.55))
    assert kept == [None, None]
    assert f"{short}: is 0.020 s long, shorter than 0.1 s" in printed
    assert f"{long}: the utterance is 0.050 s long, shorter than 0.1 s" in printed


def test_a_flac_that_does_not_say_how_long_it_is_is_read(tmp_path):
    path = write_sound(tmp_path / "flac.wav", noise(1.0))
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the number of samples, 36 bits, as FFmpeg leaves it when it writes to a pipe
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert look(Media("a", audio=path))[0] == [path]
    assert len(read_sound(Media("a", audio=path))) == RATE


def test_half_an_mp3_and_half_a_flac_are_damaged(tmp_path):
    for name in ("a.mp3", "flac.wav"):
        path = write_sound(tmp_path / name, noise())
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(MediaError, match=f"{name}: is damaged"):
            read_sound(Media("a", audio=path))


def test_the_name_in_the_cache_changes_with_the_part_only(tmp_path):
    media = Media("a", audio=write_wav(tmp_path / "a.wav"))
    names = {
        _file_name("audio", dataclasses.replace(media, audio_start=start, audio_end=end))
        for start, end in ((None, None), (0.0, None), (0.5, None), (0.5, 0.9), (None, 0.9))
    }
    assert len(names) == 5
    assert _file_name("text", media) == _file_name("text", dataclasses.replace(media, audio_start=1.0))
    # by hand: sha256(repr(("a", ("a.wav", None)))), a file that is not there
    assert _file_name("audio", Media("a", audio=Path("nowhere/a.wav"))) == "a.c212709b8e1945c4.npy"
    video = Media("a", video=Path("nowhere/a.avi"), start=1.0, end=2.0, half="left")
    assert _file_name("video", video) == "a.217cba46fbd28580.npy"


@pytest.mark.parametrize("seconds", [1, 40])  # 32 kB, and more than is hashed
def test_a_sound_that_was_changed_in_place_is_another(tmp_path, seconds):
    soundfile = pytest.importorskip("soundfile")
    path, name = tmp_path / "a.wav", lambda: _file_name("audio", Media("a", audio=path))
    quiet = noise(float(seconds))
    soundfile.write(path, quiet, RATE)
    before, size = name(), path.stat().st_size
    (tmp_path / "moved").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "moved"))
    soundfile.write(path, 0.5 * quiet, RATE)
    assert path.stat().st_size == size
    assert name() != before
    assert _file_name("audio", Media("a", audio=copy)) == before
