"""CREMA-D: names as `1001_DFA_ANG_XX.wav`, of actor, sentence, emotion and level.

    python -m data_prep.corpora.cremad CREMA-D cremad.csv

Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE Transactions on Affective Computing, 2014.
Open Database License 1.0, contents under the Database Contents License 1.0, from
<https://github.com/CheyneyComputerScience/CREMA-D>, cloned with Git LFS: `AudioWAV` and `VideoFlash`.

Oddities of the release: the sound of `1076_MTI_SAD_XX` is empty; `1040_ITH_SAD_X` is what the tables call
`1040_ITH_SAD_XX`. Its issue 8 also names `1076_MTI_NEU_XX` (cannot be played), `1064_TIE_SAD_XX` (no duration) and
`1064_IEO_DIS_MD` (a minute, several emotions); this was not verified, and they are kept.

The videos have sound: where a clip has no sound file, its sound is that of the video.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, check_new, run_command
from data_prep.corpora import common
from data_prep.manifest_table import read_table, relative_path

NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX)")
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
KNOWN = {name: 1087 if name == "neutral" else 1271 for name in EMOTIONS.values()}
FOUR = ("angry", "happy", "neutral", "sad")
SENTENCES = {
    "DFA": "Don't forget a jacket.",
    "IEO": "It's eleven o'clock.",
    "IOM": "I'm on my way to the meeting.",
    "ITH": "I think I have a doctor's appointment.",
    "ITS": "I think I've seen this before.",
    "IWL": "I would like a new alarm clock.",
    "IWW": "I wonder what this is about.",
    "MTI": "Maybe tomorrow it will be cold.",
    "TAI": "The airplane is almost full.",
    "TIE": "That is exactly what happened.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
RENAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
SILENT = ("1076_MTI_SAD_XX",)


def convert(
    folder: common.Folder,
    manifest: common.Manifest,
    classes: Literal[6, 4] = 6,
    force: Flag = False,
    allow_count_differences: common.Allow = False,
) -> None:
    """Writes the manifest of the 7,442 clips of CREMA-D (91 actors, 12 sentences, 6 emotions).

    There is no official split: folds are groups of actors. The label is the emotion that the actor was asked for.

    Args:
      folder: Clone of the repository, or any folder with the wav files and, if there are any, the videos.
      manifest: The manifest to write.
      classes: All six emotions, or angry, happy, neutral and sad (4,900 clips).
      force: Replaces a manifest that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    check_new(manifest, force=force)
    sounds, videos = _clips(folder, common.SOUNDS), _clips(folder, common.VIDEOS)
    clips = sorted({*sounds, *videos})
    if not clips:
        raise ArchiveError(f"{folder}: holds no clip like 1001_DFA_ANG_XX.wav; give a clone of CREMA-D")
    common.check_media([*sounds.values(), *videos.values()])
    common.check_counts(folder, (EMOTIONS[clip[9:12]] for clip in clips), KNOWN, allow=allow_count_differences)
    common.note("sounds that are known to be empty, left out", [clip for clip in SILENT if sounds.pop(clip, None)])
    tracks = {clip: path for clip, path in videos.items() if clip not in sounds and clip not in SILENT}
    common.note("clips without a sound file, whose sound is that of the video", sorted(tracks))
    sounds |= tracks
    sexes = _sexes(folder)
    rows = [_row(manifest, clip, sounds, videos, sexes) for clip in clips]
    rows = [row for row in rows if classes == 6 or row["label"] in FOUR]
    common.finish(manifest, rows, common.default_extractors(audio=bool(sounds), video=bool(videos), text=True))


def _clips(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Files by clip. Raises ArchiveError for two that differ, and for an unknown sentence or emotion."""
    clips: dict[str, Path] = {}
    others = []
    for name, path in common.find_files(folder, endings, lambda path: RENAMED.get(path.stem, path.stem)).items():
        match = NAME.fullmatch(name)
        if match is None:
            others.append(name)
        elif match[2] not in SENTENCES or match[3] not in EMOTIONS:
            raise ArchiveError(f"{path}: names the sentence {match[2]} and the emotion {match[3]}; check the file name")
        else:
            clips[name] = path
    common.note("files with other names, left out", others)
    return clips


def _sexes(folder: Path) -> dict[str, str]:
    """Sex per actor, of the table that comes with the corpus."""
    path = folder / "VideoDemographics.csv"
    if not path.is_file():
        return {}
    columns, rows = read_table(path)
    if not {"ActorID", "Sex"} <= set(columns):
        raise ArchiveError(f"{path}: has no columns ActorID and Sex; take it from the repository again")
    return {row["ActorID"]: row["Sex"][:1].upper() for _, row in rows}


def _row(
    manifest: Path, clip: str, sounds: dict[str, Path], videos: dict[str, Path], sexes: dict[str, str]
) -> Mapping[str, object]:
    actor, sentence, emotion, level = clip.split("_")
    row = {
        "utterance_id": clip,
        "speaker": actor,
        "label": EMOTIONS[emotion],
        "text": SENTENCES[sentence],
        "sentence": sentence,
        "level": LEVELS[level],
    }
    columns = {"audio": sounds, "video": videos}
    row |= {name: relative_path(files.get(clip), manifest.parent) for name, files in columns.items() if files}
    return row | ({"sex": sexes.get(actor, "")} if sexes else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.cremad")


if __name__ == "__main__":
    sys.exit(main())
