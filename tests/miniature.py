"""Miniature corpora with the folders and the syntax of IEMOCAP and MSP-IMPROV, and real media.

    python -m tests.miniature DIR

Nothing of the licensed corpora is in them. Speech is synthesised by eSpeak NG (the pip package `espeakng-loader` brings
it), the face is scikit-image's photograph of an astronaut, and the labels mean nothing. The corpora have their known
oddities: see `iemocap` and `msp_improv`.
"""

import argparse
import ctypes
import functools
import itertools
import wave
from pathlib import Path

import av
import espeakng_loader
import h5py
import numpy as np
import skimage.data
import skimage.transform

SENTENCES = (
    "I did not expect that.",
    "Where have you been?",
    "We should go now.",
    "It is over there.",
    "Leave me alone.",
)
EMOTIONS = ("ang", "hap", "exc", "neu", "sad")
SESSIONS = (1, 2, 3)
FRAME_RATE, HEIGHT, WIDTH = 5, 160, 320  # of a split screen; each half shows one person


def iemocap(root: Path, *, with_media: bool = True) -> Path:
    """Makes `IEMOCAP_full_release` below `root`: three sessions of two dialogues, 5 emotions and some oddities each.

    The actor without markers is in the right half and has a face; the left half is plain grey. Oddities: labels `xxx`
    and `oth`; a transcript line that is missing and lines that are of nobody; files with a byte-order mark and CRLF; a
    `._` file of a Mac; in session 1 a wav of 20 ms and an empty one; in session 2 a dialogue without a video.
    """
    release = root / "IEMOCAP_full_release"
    for session in SESSIONS:
        for letter, scene in (("F", 1), ("M", 2)):
            _iemocap_dialogue(release / f"Session{session}", f"Ses{session:02d}{letter}_impro{scene:02d}", with_media)
    folder = release / "Session1/dialog/EmoEvaluation"
    (folder / "._Ses01F_impro01.txt").write_bytes(b"\0\5\26\7Mac OS X")
    if with_media:
        wav = release / "Session1/sentences/wav/Ses01F_impro01"
        write_wav(wav / "Ses01F_impro01_F000.wav", np.zeros(320, np.int16), 16000)
        (wav / "Ses01F_impro01_M000.wav").write_bytes(b"")
        (release / "Session2/dialog/avi/DivX/Ses02M_impro02.avi").unlink()
    return release


def _iemocap_dialogue(session: Path, dialogue: str, with_media: bool) -> None:
    lines, transcript, clock = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], [], 1.0
    number = int(dialogue[4])
    for turn, emotion in enumerate((*EMOTIONS, "xxx" if number < 3 else "oth")):
        for sex in "FM":
            name, text = f"{dialogue}_{sex}{turn:03d}", SENTENCES[(turn + number) % len(SENTENCES)]
            sound = speech(text, 16000, pitch=65 if sex == "F" else 35, words_per_minute=260 + 10 * turn)
            end = clock + max(len(sound) / 16000, 0.6)
            lines += [f"[{clock:.4f} - {end:.4f}]\t{name}\t{emotion}\t[{2 + turn / 2:.4f}, 3.5000, {3 - turn / 4:.4f}]"]
            lines += ["C-E2:\tAnger;\t()", "C-F1:\tNeutral; Sadness;\t(tired)", "A-E3:\tval 3; act 2; dom  2;\t()", ""]
            transcript.append(f"{name} [{clock:08.4f}-{end:08.4f}]: {text}")
            clock = end + 0.2
            if with_media:
                write_wav(session / "sentences/wav" / dialogue / f"{name}.wav", sound, 16000)
    if dialogue == "Ses01M_impro02":
        del transcript[3]  # its utterance is in the evaluation file
    transcript += ["M: (laughter)", f"{dialogue}_MXX0 [{clock:08.4f}-{clock + 1:08.4f}]: Bye.", ""]
    ending = "\r\n" if number == 3 else "\n"
    mark = "\ufeff" if number == 2 else ""
    _write_text(session / "dialog/EmoEvaluation" / f"{dialogue}.txt", mark + ending.join([*lines, ""]))
    _write_text(session / "dialog/EmoEvaluation/Categorical" / f"{dialogue}_e1_cat.txt", "not for us\n")
    _write_text(session / "dialog/transcriptions" / f"{dialogue}.txt", ending.join(transcript))
    if with_media:
        write_video(session / "dialog/avi/DivX" / f"{dialogue}.avi", clock, split_screen=True)


def msp_improv(root: Path, *, with_media: bool = True) -> Path:
    """Makes `MSP-IMPROV` below `root`: three sessions, 4 emotions of two scenes per speaker and some oddities.

    Oddities: labels `O` and `X`; an utterance of condition T; ratings of `NaN`; lines of raters; a transcript, a
    wav and a video that are missing; a stereo wav.
    """
    corpus = root / "MSP-IMPROV"
    evaluation: list[str] = []
    for session in SESSIONS:
        for sex, other in ("FM", "MF"):
            for turn, emotion in enumerate("AHNSAHNSOX"):
                scene = f"S{1 + turn // 4:02d}{'AHNS'[turn % 4]}"
                _msp_utterance(
                    corpus,
                    evaluation,
                    session,
                    f"{scene}-{sex}{session:02d}-S-{other}{sex}{turn:02d}",
                    emotion,
                    with_media,
                )
    _msp_utterance(corpus, evaluation, 1, "S01A-F01-T-MF01", "A", with_media)
    _write_text(corpus / "Evalution.txt", "\n".join(evaluation))
    transcripts = corpus / "Human_transcriptions/All_human_transcriptions"
    (transcripts / "MSP-IMPROV-S01H-F01-S-MF01.txt").unlink()
    if with_media:
        (corpus / "session1/S01N/S/MSP-IMPROV-S01N-F01-S-MF02.wav").unlink()
        (corpus / "session1/S01S/S/MSP-IMPROV-S01S-F01-S-MF03.avi").unlink()
        path = corpus / "session2/S01A/S/MSP-IMPROV-S01A-F02-S-MF00.wav"
        write_wav(path, np.repeat(speech("Two channels.", 44100)[:, None], 2, axis=1), 44100)
    return corpus


def _msp_utterance(
    corpus: Path, evaluation: list[str], session: int, name: str, emotion: str, with_media: bool
) -> None:
    scene, condition, turn = name[:4], name.split("-")[2], int(name[-2:])
    dominance = "NaN" if turn == 1 else "2.500000"
    evaluation += [
        f"UTD-IMPROV-{name}.avi; {emotion}; A:2.600000; V:{1 + turn % 5}.000000; D:{dominance} ; N:3.800000;"
    ]
    evaluation += ["ACY1WX0B9N; Angry; Angry,Frustrated; A:2.000000; V:3.000000; D:NaN; N:3.000000;", ""]
    text = SENTENCES[turn % len(SENTENCES)]
    transcripts = corpus / "Human_transcriptions/All_human_transcriptions"
    _write_text(transcripts / f"MSP-IMPROV-{name}.txt", f"{text}\r\n")
    if with_media:
        folder = corpus / f"session{session}/{scene}/{condition}"
        sound = speech(text, 44100, pitch=65 if "-F" in name[4:6] else 35, words_per_minute=260 + 5 * turn)
        write_wav(folder / f"MSP-IMPROV-{name}.wav", sound, 44100)
        write_video(folder / f"MSP-IMPROV-{name}.avi", len(sound) / 44100, split_screen=False)


def mmin_features(root: Path, corpus: str = "iemocap") -> Path:
    """Makes the folders of the MMIN family: two sessions, two utterances per speaker and class, widths 5, 6 and 7.

    For `iemocap` names are bytes `[N, 1]` and labels one-hot; for `msp_improv` text and integers. The values
    (float64) of an utterance are its row in the order of the names. Video and text have a fixed number of frames (5 and
    3), as the published files have (50 and 22): padded with zeros, or cut.
    """
    folder = root / f"{corpus}_features"
    speakers = ("01F", "01M", "02F", "02M")
    rows = []
    for speaker, label, take in itertools.product(speakers, range(4), range(2)):
        session, sex = speaker[:2], speaker[2]
        name = f"Ses{session}F_impro{label + 1:02d}_{sex}{take:03d}"
        if corpus == "msp_improv":
            name = f"MSP-IMPROV-S{take + 1:02d}{'AHNS'[label]}-{sex}{session}-S-FM{take:02d}"
        rows.append((name, speaker, label))
    for kind, name, width, frames in (("A", "comparE", 5, 0), ("V", "denseface", 6, 5), ("L", "bert_large", 7, 3)):
        (folder / kind).mkdir(parents=True)
        with h5py.File(folder / kind / f"{name}.h5", "w") as file:
            for row, (utterance, _, _) in enumerate(rows):
                values = np.full((2 + row % 3, width), row + 1.0)
                values = values[: frames or None]
                file[utterance] = np.pad(values, ((0, max(0, frames - len(values))), (0, 0)))
    with h5py.File(folder / "A/comparE_mean_std.h5", "w") as file:
        for fold, speaker in enumerate(speakers, 1):
            train = [row for row, (_, who, _) in enumerate(rows) if who[:2] != speaker[:2]]
            values = np.concatenate([np.full((2 + row % 3, 5), row + 1.0) for row in train])
            file[f"{fold}/mean"], file[f"{fold}/std"] = values.mean(0), values.std(0)
    for fold, speaker in enumerate(speakers, 1):
        part_of = lambda who, test: "tst" if who == test else "val" if who[:2] == test[:2] else "trn"
        for part in ("trn", "val", "tst"):
            chosen = [(name, label) for name, who, label in reversed(rows) if part_of(who, speaker) == part]
            names, labels = np.array([name for name, _ in chosen]), np.array([label for _, label in chosen])
            if corpus == "iemocap":
                names, labels = names.astype("S")[:, None], np.eye(4)[labels]
            (folder / "target" / str(fold)).mkdir(parents=True, exist_ok=True)
            np.save(folder / "target" / str(fold) / f"{part}_int2name.npy", names)
            np.save(folder / "target" / str(fold) / f"{part}_label.npy", labels)
    return folder


@functools.cache
def speech(text: str, rate: int, *, pitch: int = 50, words_per_minute: int = 260) -> np.ndarray:
    """Synthesised speech, `[samples]`, int16, at `rate` samples per second."""
    native, sound = _synthesize(text, pitch, words_per_minute)
    times = np.arange(int(len(sound) * rate / native)) * native / rate
    return np.interp(times, np.arange(len(sound)), sound).astype(np.int16)


@functools.cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)  # 2: synchronous, no playback
    if rate <= 0 or library.espeak_SetVoiceByName(b"en") != 0:
        raise RuntimeError("eSpeak NG cannot be started; install espeakng-loader again")
    return library, rate


def _synthesize(text: str, pitch: int, words_per_minute: int) -> tuple[int, np.ndarray]:
    library, rate = _espeak()
    parts: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def receive(samples, count, events):
        if count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    library.espeak_SetSynthCallback(receive)
    library.espeak_SetParameter(1, words_per_minute, 0)
    library.espeak_SetParameter(3, pitch, 0)
    data = text.encode()
    library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, 1, None, None)  # 1: UTF-8
    return rate, np.concatenate(parts)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes int16 samples, `[T]` or `[T, channels]`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


@functools.cache
def picture(split_screen: bool) -> np.ndarray:
    """A face, `[HEIGHT, HEIGHT, 3]` uint8; in a split screen, grey on its left."""
    face = skimage.transform.resize(skimage.data.astronaut()[:300, 80:380], (HEIGHT, HEIGHT), anti_aliasing=True)
    face = (255 * face).astype(np.uint8)
    return np.concatenate([np.full_like(face, 128), face], axis=1) if split_screen else face


def write_video(path: Path, seconds: float, *, split_screen: bool) -> None:
    """Writes an avi in MPEG-4 part 2 (what DivX is), `FRAME_RATE` frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = picture(split_screen)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE)
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        for index in range(max(1, round(seconds * FRAME_RATE))):
            frame = av.VideoFrame.from_ndarray(np.roll(image, index % 3, axis=0), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes miniatures of IEMOCAP and MSP-IMPROV in a folder.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(iemocap(folder), msp_improv(folder), sep="\n")
