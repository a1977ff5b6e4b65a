"""MELD: scenes of a television series with seven emotions; labels and words in three tables, one clip an utterance.

    python -m data_prep.corpora.meld MELD.Raw meld.csv

Poria et al., MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations, ACL 2019. From
<https://affective-meld.github.io>: `MELD.Raw.tar.gz`, whose inner archives must be unpacked too. The annotations are
under GPL 3.0; the clips belong to the makers of the series.

The split is the corpus's own, and speakers are in several of its parts. Numbers of dialogues begin anew in each part,
so the part is in the id. StartTime and EndTime count from the beginning of the episode: they are no times in the clip.

Oddities of the release: the clip dia110_utt7 of dev is missing, dia125_utt3 of train is damaged, and some clips have no
row (issues 22, 27 and 39 of declare-lab/MELD). Some clips of test are there again as `final_videos_testdia0_utt0.mp4`;
the name without the prefix is taken first. (One public project calls the prefixed ones the right cuts; this was not
verified.) Issues 9 and 20 report clips that are cut far too long.
"""

import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, check_new, run_command
from data_prep.corpora import common
from data_prep.manifest_table import read_table, relative_path

EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
_KNOWN = {
    "train": (1109, 271, 268, 1743, 4710, 683, 1205),
    "dev": (153, 22, 40, 163, 470, 111, 150),
    "test": (345, 68, 50, 402, 1256, 208, 281),
}
KNOWN = {f"{part} {name}": count for part, row in _KNOWN.items() for name, count in zip(EMOTIONS, row, strict=True)}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
_TABLES = {part: f"{part}_sent_emo" for part in FOLDERS}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode")
DAMAGED = "train_dia125_utt3"
_CLIP = re.compile(r"(final_videos_test)?(dia\d+_utt\d+)")
# Some copies hold the curly quotes of Windows-1252 as control characters of Latin-1.
_CONTROLS = {code: bytes([code]).decode("cp1252", "ignore") or None for code in range(0x80, 0xA0)}


def convert(
    folder: common.Folder,
    manifest: common.Manifest,
    force: Flag = False,
    allow_count_differences: common.Allow = False,
) -> None:
    """Writes the manifest of MELD (9,989 + 1,109 + 2,610 utterances, seven emotions) with its own split.

    Args:
      folder: MELD.Raw with train_splits, dev_splits_complete, output_repeated_splits_test and the three tables.
      manifest: The manifest to write.
      force: Replaces a manifest that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    check_new(manifest, force=force)
    tables = common.find_files(folder, (".csv",), lambda path: path.stem if path.stem in _TABLES.values() else None)
    clips = {part: _clips(folder, part) for part in FOLDERS}
    if not any(clips.values()):
        raise ArchiveError(f"{folder}: holds no clip like train_splits/dia0_utt0.mp4; unpack the inner archives too")
    rows = [row for part in FOLDERS for row in _rows(manifest, folder, part, tables, clips[part])]
    common.check_counts(folder, (f"{_part(row)} {row['label']}" for row in rows), KNOWN, allow=allow_count_differences)
    common.note("utterances without a clip", [row["utterance_id"] for row in rows if not row["video"]])
    named = {row["utterance_id"] for row in rows}
    common.note(
        "clips without a row, left out",
        [f"{part}_{clip}" for part in FOLDERS for clip in clips[part] if f"{part}_{clip}" not in named],
    )
    common.finish(manifest, rows, common.default_extractors(audio=True, video=True, text=True))


def _part(row: Mapping[str, object]) -> str:
    return str(row["utterance_id"]).split("_", 1)[0]


def _clips(folder: Path, part: str) -> dict[str, Path]:
    """Clips of a part by `dia0_utt0`, without the one that is known to be damaged."""
    files = common.find_files(folder, (".mp4",), functools.partial(_clip_in, FOLDERS[part]))
    plain = {name: path for name, path in files.items() if not name.startswith("final")}
    prefixed = {_CLIP.sub(r"\2", name): path for name, path in files.items() if name.startswith("final")}
    common.note(
        "clips of test that are there with and without a prefix, taken without", sorted(plain.keys() & prefixed.keys())
    )
    clips = prefixed | plain
    damaged = [clip for clip in clips if f"{part}_{clip}" == DAMAGED]
    common.note("clips that are known to be damaged, left out", [DAMAGED for _ in damaged])
    return {clip: path for clip, path in clips.items() if clip not in damaged}


def _clip_in(folder: str, path: Path) -> str | None:
    return path.stem if folder in path.parts and _CLIP.fullmatch(path.stem) else None


def _rows(
    manifest: Path, folder: Path, part: str, tables: dict[str, Path], clips: dict[str, Path]
) -> list[dict[str, object]]:
    path = tables.get(_TABLES[part])
    if path is None:
        raise ArchiveError(f"{folder}: holds no table {_TABLES[part]}.csv; take it from data/MELD of the repository")
    columns, lines = read_table(path)
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise ArchiveError(f"{path}: column {missing[0]!r} is missing; take the table from the repository again")
    rows, seen = [], set()
    for number, line in lines:
        clip = f"dia{line['Dialogue_ID']}_utt{line['Utterance_ID']}"
        if not _CLIP.fullmatch(clip):
            raise ArchiveError(f"{path}: row {number}: Dialogue_ID and Utterance_ID are no numbers; correct the row")
        if line["Emotion"] not in EMOTIONS:
            raise ArchiveError(f"{path}: row {number}: the emotion {line['Emotion']!r} is not known; correct the row")
        if clip in seen:
            raise ArchiveError(f"{path}: row {number}: {clip} is there already; delete one of both rows")
        seen.add(clip)
        rows.append(_row(part, clip, line) | {"video": relative_path(clips.get(clip), manifest.parent)})
    return rows


def _row(part: str, clip: str, line: Mapping[str, str]) -> dict[str, object]:
    return {
        "utterance_id": f"{part}_{clip}",
        "speaker": line["Speaker"].translate(_CONTROLS),
        "label": line["Emotion"],
        "split": "val" if part == "dev" else part,
        "text": line["Utterance"].translate(_CONTROLS),
        "dialogue": f"{part}_{clip.split('_')[0]}",
        "sentiment": line["Sentiment"],
        "season": line["Season"],
        "episode": line["Episode"],
        "episode_start": line.get("StartTime", ""),
        "episode_end": line.get("EndTime", ""),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.meld")


if __name__ == "__main__":
    sys.exit(main())
