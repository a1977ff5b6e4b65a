"""Extractors for the tests of the raw corpora: tiny, without models, and with numbers that can be checked by hand."""

import dataclasses
import wave

import numpy as np

from data_prep.extractors.base import Extractor, MediaError


@dataclasses.dataclass(frozen=True)
class Loudness(Extractor):
    """Mean square of the sound per tenth of a second, `[T, 2]`; the second column is the time."""

    name = "loudness"
    modality = "audio"
    libraries = ()
    width = 2

    def extract(self, media):
        """`[T, 2]`."""
        try:
            with wave.open(str(media.audio)) as file:
                rate, channels = file.getframerate(), file.getnchannels()
                sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, channels).mean(1) / 32768
        except (wave.Error, EOFError) as error:
            raise MediaError(f"{media.audio}: {error}") from error
        parts = np.array_split(sound, max(1, len(sound) * 10 // rate))
        return np.array([[np.mean(part**2), index / 10] for index, part in enumerate(parts)])


@dataclasses.dataclass(frozen=True)
class Colour(Extractor):
    """Mean and standard deviation over the picture of the frames of the utterance, in the speaker's half, `[T, 2]`."""

    name = "colour"
    modality = "video"
    libraries = ()
    width = 2

    def extract(self, media):
        """`[T, 2]`."""
        import av

        frames = []
        with av.open(str(media.video)) as container:
            for frame in container.decode(video=0):
                image = frame.to_ndarray(format="gray").astype(np.float32)
                middle = image.shape[1] // 2
                image = {"left": image[:, :middle], "right": image[:, middle:], None: image}[media.half]
                if media.start is None or media.start - 0.11 <= frame.time <= media.end + 0.11:
                    frames.append([image.mean(), image.std()])
        return np.array(frames)


@dataclasses.dataclass(frozen=True)
class Letters(Extractor):
    """Number of letters of each word, `[T, 1]`."""

    name = "letters"
    modality = "text"
    libraries = ()
    width = 1

    def extract(self, media):
        """`[T, 1]`."""
        return np.array([[len(word)] for word in media.text.split()])


def make(spec):
    """What stands in for `data_prep.sources.make_extractor`."""
    return {"compare_2016": Loudness, "face_onnx": Colour, "text_transformer": Letters}[spec.kind](**spec.values)
