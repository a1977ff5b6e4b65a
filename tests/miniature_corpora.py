"""Miniature open corpora with the folders, names and known oddities of the real ones.

    python -m tests.miniature_corpora DIR

makes them with synthetic speech and a photographed face. Without media, files hold their own name: nothing opens them.
"""

import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import av

from tests import miniature

MELD_HEAD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
VOTES_HEAD = (
    '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp","meanAngerRespNorm",'
    '"meanDisgustRespNorm","meanFearRespNorm","meanHappyRespNorm","meanNeutralRespNorm","meanSadRespNorm"'
)
FIRST_VOTES = '"100001",2,0,0,0,6,2,"1001_DFA_ANG_XX",10,0.6,"N",66.1,25.5,-1,-1,-1,80,NA'
MELD_EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


def ravdess(root: Path, *, with_media: bool = False, actors: Sequence[int] = (1, 2, 3)) -> Path:
    """Three actors or more; sound, video with sound (actor 01) and without (all but 03).

    Oddities: the folder of actor 01 is there again below a second `audio_speech_actors_01-24`; a song; a file of a Mac
    and one of another name; both takes of a pair of actor 03 are the same.
    """
    folder = root / "RAVDESS"
    for actor, emotion, strength, take in itertools.product(actors, range(1, 9), (1, 2), (1, 2)):
        if emotion == 1 and strength == 2:  # neutral has one intensity only
            continue
        rest = f"01-{emotion:02d}-{strength:02d}-01-{take:02d}-{actor:02d}"
        sound(folder / f"Actor_{actor:02d}/03-{rest}.wav", with_media)
        for kind in {1: ("01", "02"), 3: ()}.get(actor, ("02",)):
            video(folder / f"Video_Speech_Actor_{actor:02d}/Actor_{actor:02d}/{kind}-{rest}.mp4", with_media)
    shutil.copytree(folder / "Actor_01", folder / "audio_speech_actors_01-24/Actor_01")
    sound(folder / "Actor_02/03-02-03-01-01-01-02.wav", with_media)
    sound(folder / "Actor_02/readme.wav", with_media)
    (folder / "Actor_02/._03-01-03-01-01-01-02.wav").write_bytes(b"\0\5\26\7Mac OS X")
    shutil.copy(folder / "Actor_03/03-01-03-01-01-01-03.wav", folder / "Actor_03/03-01-03-01-01-02-03.wav")
    return folder


def cremad(root: Path, *, with_media: bool = False) -> Path:
    """Three actors, of whom 1040 and 1076 have the oddities of the release."""
    folder = root / "CREMA-D"
    for actor, emotion, sentence in itertools.product(
        (1001, 1040, 1076), ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), ("ITH", "MTI")
    ):
        name = f"{actor}_{sentence}_{emotion}_{'HI' if sentence == 'ITH' and emotion != 'SAD' else 'XX'}"
        name = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}.get(name, name)
        sound(folder / f"AudioWAV/{name}.wav", with_media)
        video(folder / f"VideoFlash/{name}.flv", with_media)
    (folder / "VideoDemographics.csv").write_text(
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
        '1040,21,"Female","Caucasian","Not Hispanic"\n1076,25,"Female","Caucasian","Not Hispanic"\n'
    )
    if with_media:
        miniature.write_wav(folder / "AudioWAV/1076_MTI_SAD_XX.wav", miniature.speech("", 16000)[:0], 16000)
    return folder


def cremad_votes(root: Path) -> Path:
    """The table of votes: six actors, six emotions, two sentences, three views.

    Rows of a view are together, and not in the order of the clips. The row FIRST_VOTES has a strength of `NA`.
    """
    lines = [VOTES_HEAD]
    clips = list(itertools.product(range(1001, 1007), ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), ("IEO", "DFA")))
    for view, (number, (actor, emotion, sentence)) in itertools.product((1, 2, 3), enumerate(clips)):
        name = f"{actor}_{sentence}_{emotion}_XX"
        if (view, name) == (1, "1001_DFA_ANG_XX"):
            lines.append(FIRST_VOTES)
        else:
            votes = f"{view},{number % 3},0,0,1,{number % 2}"
            lines.append(f'"{view}{number + 2:05d}",{votes},"{name}",9,0.5,"A",50,{10 + number % 50},20,-1,-1,40,50')
    path = root / "tabulatedVotes.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


def meld(root: Path, *, with_media: bool = False) -> Path:
    """Three parts of two dialogues whose numbers repeat, one table each in another encoding.

    Oddities: clips that are missing, damaged, without a row, or there with and without a prefix; a file of a Mac.
    """
    folder = root / "MELD.Raw"
    parts = {
        "train": ("train_splits", 125),
        "dev": ("dev_splits_complete", 110),
        "test": ("output_repeated_splits_test", 7),
    }
    for part, (clips, other) in parts.items():
        lines = [MELD_HEAD]
        for number, (dialogue, (turn, emotion)) in enumerate(itertools.product((0, other), enumerate(MELD_EMOTIONS))):
            speaker, text = ("Ross", "Rachel")[turn % 2], f"It\u2019s line {turn}, {miniature.SENTENCES[turn % 5]}"
            times = f'"00:20:{10 + turn},256","00:20:{11 + turn},049"'
            lines.append(f'{number + 1},"{text}",{speaker},{emotion},neutral,{dialogue},{turn},4,7,{times}')
            if (part, dialogue, turn) not in (("dev", 110, 5), ("test", 7, 6)):
                video(folder / part / clips / f"dia{dialogue}_utt{turn}.mp4", with_media)
        encoding = {"train": "cp1252", "dev": "utf-8", "test": "utf-8"}[part]
        text = "\n".join([*lines, ""])
        text = text.replace("\u2019", "\x92") if part == "test" else text
        (folder / f"{part}_sent_emo.csv").write_bytes(text.encode(encoding))
    test = folder / "test/output_repeated_splits_test"
    video(test / "final_videos_testdia0_utt0.mp4", with_media)
    video(test / "final_videos_testdia7_utt6.mp4", with_media)
    (test / "._dia0_utt0.mp4").write_bytes(b"\0\5\26\7Mac OS X")
    video(folder / "dev/dev_splits_complete/dia66_utt9.mp4", with_media)
    return folder


def savee(root: Path, *, flat: bool = False, with_media: bool = False) -> Path:
    """Two takes of each of seven emotions by four speakers, in folders or in one."""
    folder = root / "SAVEE"
    for speaker, emotion, take in itertools.product(
        ("DC", "JE", "JK", "KL"), ("a", "d", "f", "h", "n", "sa", "su"), (1, 2)
    ):
        name = f"ALL/{speaker}_{emotion}{take:02d}.wav" if flat else f"AudioData/{speaker}/{emotion}{take:02d}.wav"
        sound(folder / name, with_media)
    (folder / "Info.txt").write_text("SAVEE\n")
    return folder


def emodb(root: Path, *, with_media: bool = False) -> Path:
    """Two sentences in seven emotions by three speakers; one of them twice."""
    folder = root / "emodb"
    for speaker, sentence, emotion in itertools.product(("03", "08", "16"), ("a01", "b10"), "WLEAFTN"):
        sound(folder / f"wav/{speaker}{sentence}{emotion}a.wav", with_media)
    sound(folder / "wav/03a01Fb.wav", with_media)
    sound(folder / "wav/erkennung.wav", with_media)
    return folder


def sound(path: Path, with_media: bool) -> None:
    """A wav of synthetic speech, or a file that holds its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if with_media:
        samples = miniature.speech(f"{path.stem[-8:]}.", 16000, pitch=20 + len(path.stem) % 60)
        miniature.write_wav(path, samples, 16000)
    else:
        path.write_text(path.stem)


def video(path: Path, with_media: bool) -> None:
    """A second of a face, with a tone as its sound, or a file that holds its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not with_media:
        path.write_text(path.stem)
        return
    image = miniature.picture(False)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flv1" if path.suffix == ".flv" else "mpeg4", rate=miniature.FRAME_RATE)
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        for _ in range(miniature.FRAME_RATE):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.miniature_corpora DIR")
    for make in (ravdess, cremad, meld, savee, emodb):
        print(make(Path(sys.argv[1]), with_media=True))
