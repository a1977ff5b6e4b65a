"""RAVDESS, speech: everything is in the names of the files, `03-01-05-02-01-01-12.wav`.

    python -m data_prep.corpora.ravdess RAVDESS ravdess.csv

Livingstone and Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5), 2018. CC BY-NC-SA
4.0, from Zenodo, record 1188976: `Audio_Speech_Actors_01-24.zip` and `Video_Speech_Actor_01.zip` to `_24.zip`.

The seven fields are modality, channel, emotion, intensity, statement, repetition and actor. The modality tells sound
and video (01), video (02) and sound (03) of the same take apart, so the id of an utterance is the other six fields.
Where a take has no sound file, its sound is that of the video 01; the video 02 has no sound.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, check_new, run_command
from data_prep.corpora import common
from data_prep.manifest_table import relative_path

_NAME = re.compile(r"(0[1-3])-((0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4]))")
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
KNOWN = {name: 96 if name == "neutral" else 192 for name in EMOTIONS}
FOUR = ("angry", "happy", "neutral", "sad")


def convert(
    folder: common.Folder,
    manifest: common.Manifest,
    classes: Literal[8, 4] = 8,
    force: Flag = False,
    allow_count_differences: common.Allow = False,
) -> None:
    """Writes the manifest of the 1,440 spoken clips of RAVDESS (24 actors, 8 emotions).

    There is no official split: folds are groups of actors. Both statements are neutral, so the text says nothing of
    the emotion. The recordings of a take that have the same bytes as another one are named.

    Args:
      folder: Folder with the unpacked zips: Actor_01 to Actor_24 anywhere below it.
      manifest: The manifest to write.
      classes: All eight emotions, or angry, happy, neutral and sad.
      force: Replaces a manifest that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    check_new(manifest, force=force)
    sounds = _speech(common.find_files(folder, common.SOUNDS), ("03",))
    videos = _speech(common.find_files(folder, common.VIDEOS), ("01", "02"))
    if not sounds and not videos:
        raise ArchiveError(f"{folder}: holds no spoken clip like 03-01-01-01-01-01-01.wav; give the unpacked RAVDESS")
    takes = sorted({*sounds, *videos})
    common.check_counts(folder, map(_emotion, takes), KNOWN, allow=allow_count_differences)
    common.note("takes with the same sound", [f"{one} and {two}" for one, two in _same(sounds)])
    tracks = {take: path for take, path in videos.items() if take not in sounds and path.stem.startswith("01")}
    common.note("takes without a sound file, whose sound is that of the video", sorted(tracks))
    sounds |= tracks
    common.note("takes without sound", [take for take in takes if take not in sounds])
    rows = [_row(manifest, take, sounds.get(take), videos.get(take)) for take in takes]
    rows = [row for row in rows if classes == 8 or row["label"] in FOUR]
    common.finish(manifest, rows, common.default_extractors(audio=bool(sounds), video=bool(videos), text=True))


def _speech(files: dict[str, Path], kinds: Sequence[str]) -> dict[str, Path]:
    """Files of spoken takes by the id of the take; of several kinds the first is taken."""
    found: dict[str, Path] = {}
    others, songs = [], []
    for name in sorted(files, key=lambda name: (name[:2] not in kinds[:1], name)):
        match = _NAME.fullmatch(name)
        if match is None:
            others.append(name)
        elif match[3] == "02":
            songs.append(name)
        elif match[1] in kinds:
            found.setdefault(match[2], files[name])
    common.note("songs, left out", songs)
    common.note("files with other names, left out", others)
    return found


def _emotion(take: str) -> str:
    return EMOTIONS[int(take[3:5]) - 1]


def _row(manifest: Path, take: str, sound: Path | None, video: Path | None) -> Mapping[str, object]:
    _, _, intensity, statement, repetition, actor = take.split("-")
    row = {
        "utterance_id": take,
        "speaker": actor,
        "label": _emotion(take),
        "text": STATEMENTS[int(statement) - 1],
        "sex": "M" if int(actor) % 2 else "F",
        "intensity": "strong" if intensity == "02" else "normal",
        "statement": statement,
        "repetition": repetition,
        "audio_id": f"03-{take}",  # names under which published features of the take are found
        "video_id": f"01-{take}",
    }
    files = {"audio": sound, "video": video}
    return row | {name: relative_path(path, manifest.parent) for name, path in files.items() if path is not None}


def _same(sounds: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """Both repetitions of a take, where the files are the same; true of one pair of actor 07 in the release."""
    for take, path in sounds.items():
        other = f"{take[:-4]}2{take[-3:]}"
        if take[-4] == "1" and other in sounds and common.same_bytes(path, sounds[other]):
            yield take, other


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.ravdess")


if __name__ == "__main__":
    sys.exit(main())
