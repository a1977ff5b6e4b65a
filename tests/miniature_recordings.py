"""A folder of short videos such as people have: `python -m tests.miniature_recordings DIR`.

`DIR/SPEAKER/LABEL/TAKE.mp4`: a face (scikit-image's photograph of an astronaut) and synthesised speech (eSpeak NG) as
the sound track. The label changes how fast and how high is spoken and how bright the picture is, so there is something
to learn; it is no emotion.
"""

import itertools
import sys
from pathlib import Path

import av
import numpy as np

from tests.miniature import FRAME_RATE, SENTENCES, picture, speech

SPEAKERS = ("ann", "bea", "cem", "dov", "eva")
LABELS = {"angry": (240, 30), "calm": (0, -30), "happy": (120, 10), "sad": (-40, -10)}  # words a minute, brightness
RATE = 16000


def recordings(root: Path, *, takes: int = 2) -> Path:
    """Makes 5 speakers x 4 labels x `takes` videos of one to two seconds below `root`."""
    for number, (speaker, label, take) in enumerate(itertools.product(SPEAKERS, LABELS, range(takes))):
        speed, brightness = LABELS[label]
        sound = speech(
            SENTENCES[number % len(SENTENCES)],
            RATE,
            pitch=30 + 10 * SPEAKERS.index(speaker),
            words_per_minute=260 + speed,
        )
        path = root / speaker / label / f"{take + 1}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_talking(path, sound, brightness=brightness, shift=number)
    return root


def write_talking(path: Path, sound: np.ndarray, *, brightness: int = 0, shift: int = 0) -> None:
    """Writes an mp4 (MPEG-4 part 2, AAC) of a face, as long as the sound, `[samples]` int16 at `RATE`."""
    image = np.roll(np.clip(picture(False).astype(int) + brightness, 0, 255).astype(np.uint8), shift % 20, axis=1)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=FRAME_RATE)
        video.height, video.width, video.pix_fmt = *image.shape[:2], "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for index in range(max(1, round(len(sound) / RATE * FRAME_RATE))):
            frame = av.VideoFrame.from_ndarray(np.roll(image, index % 3, axis=0), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        samples.sample_rate, samples.pts = RATE, 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.miniature_recordings DIR")
    print(recordings(Path(sys.argv[1])))
