"""SAVEE: `AudioData/DC/a01.wav`, or the flat copy `ALL/DC_a01.wav`; of the speaker, an emotion and a number.

    python -m data_prep.corpora.savee SAVEE savee.csv

Haq and Jackson, Multimodal Emotion Recognition, 2010 (Surrey Audio-Visual Expressed Emotion). Free for research after
registration at <http://kahlan.eps.surrey.ac.uk/savee/>; not to be passed on.

The sentences are of TIMIT; no public list of who says which was found, so there is no text. An archive needs a second
modality: videos of the same names are taken where they are (their layout was not verified, `AudioVisualClip/DC/a1.avi`
is assumed); else fill a column `text`, or give features of your own.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, check_new, run_command
from data_prep.corpora import common
from data_prep.manifest_table import relative_path

_NAME = re.compile(r"(?:(DC|JE|JK|KL)_)?(a|d|f|h|n|sa|su)(\d{1,2})")
SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTIONS = {"a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprise"}
KNOWN = {name: 120 if name == "neutral" else 60 for name in EMOTIONS.values()}


def convert(
    folder: common.Folder,
    manifest: common.Manifest,
    force: Flag = False,
    allow_count_differences: common.Allow = False,
) -> None:
    """Writes the manifest of the 480 clips of SAVEE (4 men, 7 emotions).

    There is no official split. With four folds each speaker is the test part once: give --folds 4 to experiments.

    Args:
      folder: AudioData with a folder per speaker, or a flat copy; anything above them too.
      manifest: The manifest to write.
      force: Replaces a manifest that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    check_new(manifest, force=force)
    sounds, videos = common.find_files(folder, common.SOUNDS, _clip), common.find_files(folder, common.VIDEOS, _clip)
    if not sounds:
        raise ArchiveError(f"{folder}: holds no sound like AudioData/DC/a01.wav or DC_a01.wav; give the unpacked SAVEE")
    common.check_counts(folder, (_emotion(clip) for clip in sounds), KNOWN, allow=allow_count_differences)
    common.note("videos without a sound file, left out", sorted(videos.keys() - sounds.keys()))
    if not videos:
        print("note: there are sounds only; an archive needs a second modality: fill a column text, or give features")
    rows = [_row(manifest, clip, sounds[clip], videos) for clip in sorted(sounds)]
    common.finish(manifest, rows, common.default_extractors(audio=True, video=bool(videos), text=not videos))


def _clip(path: Path) -> str | None:
    """`DC_a01`; the speaker is in the name, or is the folder."""
    match = _NAME.fullmatch(path.stem)
    speaker = (match[1] or path.parent.name) if match else None
    return f"{speaker}_{match[2]}{int(match[3]):02d}" if match and speaker in SPEAKERS else None


def _emotion(clip: str) -> str:
    return EMOTIONS[clip[3:-2]]


def _row(manifest: Path, clip: str, sound: Path, videos: dict[str, Path]) -> dict[str, object]:
    row: dict[str, object] = {
        "utterance_id": clip,
        "speaker": clip[:2],
        "label": _emotion(clip),
        "audio": relative_path(sound, manifest.parent),
        "sex": "M",
    }
    return row | ({"video": relative_path(videos.get(clip), manifest.parent)} if videos else {"text": ""})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.savee")


if __name__ == "__main__":
    sys.exit(main())
