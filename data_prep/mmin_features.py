"""Feature files of the MMIN family of papers (IEMOCAP or MSP-IMPROV) as a feature archive and a tfds data set.

    python -m data_prep.mmin_features IEMOCAP_features_2021 iemocap.npz

Utterances, labels and folds are read from the folder `target`; features are looked up by utterance name. Values are
not changed or normalised. Trailing frames of zeros are padding and are removed; an utterance of zeros only (in a video:
no face was found) is absent in that modality.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep import known_counts
from data_prep.convert import Flag, Out, run_command
from data_prep.details import NUMBERS, Details
from data_prep.ids import Name, parse_name
from data_prep.mmin_files import FileFold, find_target, read_folds
from data_prep.mmin_folds import check_folds, fold_differences, split_of
from data_prep.mmin_frames import Frames, check_usable, read_entries, read_frames
from data_prep.mmin_report import (
    check_lengths,
    check_mean_std,
    describe,
    features_record,
    unnamed_text,
    zeros_per_class,
    zeros_text,
)
from data_prep.write import check_dataset, check_out, make_console, write_all

Root = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
_READ_SPEED, _WRITE_SPEED = 200e6, 15e6  # bytes of features per second, measured on one core of a slow machine


class Utterances(NamedTuple):
    """What the folder `target` says of N utterances, sorted by name: corpus, names as stored and parsed, labels."""

    corpus: str
    ids: tuple[str, ...]
    names: list[Name]
    label: list[int]
    emotions: list[str]


def convert(
    root: Root,
    out: Out,
    audio: Path = Path("A/comparE.h5"),
    video: Path = Path("V/denseface.h5"),
    text: Path = Path("L/bert_large.h5"),
    class_names: tuple[str, ...] = known_counts.CLASS_NAMES,
    fold: str | None = None,
    keep_padding: Flag = False,
    zeros_are_present: Flag = False,
    allow_missing: Flag = False,
    allow_count_differences: Flag = False,
    allow_fold_differences: Flag = False,
    tfds_dir: Path | None = None,
    without_tfds: Flag = False,
    dry_run: Flag = False,
    force: Flag = False,
) -> None:
    """Writes the features that the MMIN family shares as a feature archive and a tfds data set.

    The corpus, speakers and sessions follow from the names of the utterances. Counts per speaker and class are compared
    with the known ones, and the folds of the files with leaving one speaker out. The library makes its folds from the
    speakers; --fold writes one fold of the files into the archive instead.

    Args:
      root: The folder with A, V, L and target.
      out: The archive to write; NAME_details.npz is written beside it.
      audio: Audio features, below ROOT. MSP-IMPROV's are called A/comparE_raw.h5.
      video: Video features, below ROOT.
      text: Text features, below ROOT.
      class_names: Classes in the order of the labels.
      fold: Fold of the files whose parts become the split of the archive.
      keep_padding: Keeps trailing frames of zeros.
      zeros_are_present: Takes an utterance of zeros only as present (one frame of zeros), as the MMIN family does.
      allow_missing: Takes an utterance that a feature file lacks, or that cannot be used, as absent in that modality.
      allow_count_differences: Goes on when the counts are not the known ones.
      allow_fold_differences: Goes on when a fold repeats another or a speaker is not tested once.
      tfds_dir: Where tfds keeps data sets; by default the folder tfds beside the archive.
      without_tfds: Writes no tfds data set.
      dry_run: Counts, estimates time and space, and writes nothing.
      force: Replaces an archive, details file and data set that are there.
    """
    root, out = _expanded(root), _expanded(out)
    if not dry_run:
        check_out(out, force=force)
    console, target = make_console(), find_target(root)
    tfds_dir = None if tfds_dir is None else _expanded(tfds_dir)
    folds, data = _read_target(target, class_names)
    if not dry_run:
        check_dataset(data.corpus, out, tfds_dir=tfds_dir, without_tfds=without_tfds, force=force)
    complete = _check_counts(data, class_names, target, allow=allow_count_differences, console=console)
    differences = fold_differences(folds, dict(zip(data.ids, data.names, strict=True)), fold)
    for line in [item.text for item in differences] or ["the folds of the files are those of leaving one speaker out."]:
        console.print(f"folds: {escape(line)}")
    check_folds(differences, target, fold, allow=allow_fold_differences)
    split = split_of(folds, fold, data.ids, target)
    paths = {name: root / _expanded(path) for name, path in (("audio", audio), ("video", video), ("text", text))}
    if dry_run:
        _print_estimate(paths, data.ids, allow_missing=allow_missing, console=console)
        return
    frames = {
        name: _read_modality(
            name,
            path,
            data,
            allow_missing=allow_missing,
            zeros_are_present=zeros_are_present,
            keep_padding=keep_padding,
            known_zeros=known_counts.NO_FACE.get(data.corpus) if complete and name == "video" else None,
            console=console,
        )
        for name, path in paths.items()
    }
    for line in check_mean_std(root / "A/comparE_mean_std.h5", frames["audio"], folds, data.ids):
        console.print(f"A/comparE_mean_std.h5: {escape(line)}")
    for line in check_lengths(frames):
        console.print(f"lengths: {line}")
    record = {
        **_record(root, paths, folds, [item.text for item in differences], keep_padding=keep_padding),
        **features_record(frames, data.emotions, zeros_are_present=zeros_are_present),
    }
    corpus, details = to_corpus(data, class_names, frames, split, record)
    if left_out := details.record["left_out"]:
        console.print(f"left out, since no modality is left: {len(left_out)} ({left_out[0]} first)")
    write_all(data.corpus, out, corpus, details, tfds_dir=tfds_dir, without_tfds=without_tfds, console=console)


def to_corpus(
    data: Utterances, class_names: tuple[str, ...], frames: dict[str, Frames], split: np.ndarray | None, record: dict
) -> tuple[Corpus, Details]:
    """Corpus and details, without the utterances that have no modality; their names are added to the record."""
    present = np.stack([item.present for item in frames.values()], axis=1)
    keep = present.any(axis=1)  # the others have no frames, so the features stay as they are
    ids = np.array(data.ids, str)
    of = lambda field: np.array([getattr(name, field) for name in data.names])[keep]
    corpus = Corpus(
        utterance_id=ids[keep],
        speaker=of("speaker"),
        session=of("session"),
        label=np.array(data.label, np.int32)[keep],
        class_names=class_names,
        features={name: item.features for name, item in frames.items()},
        length={name: item.length[keep] for name, item in frames.items()},
        present=present[keep],
        split=None if split is None else split[keep],
    )
    unknown = np.full(len(corpus), np.nan, np.float32)
    text = {"dialogue": of("dialogue"), "sex": of("sex"), "transcript": np.full(len(corpus), "", "U1")}
    record = {**record, "left_out": ids[~keep].tolist()}
    return corpus, Details(ids[keep], **text, **dict.fromkeys(NUMBERS, unknown), record=record, extra={})


def _expanded(path: Path) -> Path:
    """With `~` as the home folder: the shell leaves it as it is in `--audio=~/A.h5`."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ArchiveError(f"{path}: there is no home folder {path.parts[0]}; give the whole path") from error


def _read_target(target: Path, class_names: tuple[str, ...]) -> tuple[list[FileFold], Utterances]:
    if tuple(sorted(class_names)) != known_counts.CLASS_NAMES:
        known = ", ".join(known_counts.CLASS_NAMES)
        raise ArchiveError(f"{target}: the classes are {known} in some order, found {' '.join(class_names)}")
    folds, labels = read_folds(target, len(class_names))
    ids = tuple(sorted(labels))
    names = [parse_name(name, f"{target}") for name in ids]
    for name, utterance in zip(names, ids, strict=True):
        if name.corpus != names[0].corpus:
            text = f"names {ids[0]!r} and {utterance!r}, of two corpora; convert them one by one"
            raise ArchiveError(f"{target}: {text}")
    label = [labels[name] for name in ids]
    return folds, Utterances(names[0].corpus, ids, names, label, [class_names[item] for item in label])


def _check_counts(
    data: Utterances, class_names: tuple[str, ...], target: Path, *, allow: bool, console: Console
) -> bool:
    """Whether the counts are the known ones; stops at labels in another order."""
    found = known_counts.count([name.speaker for name in data.names], data.emotions)
    orders = known_counts.likely_orders(found, data.corpus, class_names)
    options = [f"--class-names {' '.join(order)}" for order in orders]
    if len(orders) > 1:
        text = "the counts per speaker and class fit several orders of the labels equally well; give the right one of"
        raise ArchiveError(f"{target}: {text} {' or '.join(options)}")
    if orders and orders[0] != class_names:
        text = f"the counts per speaker and class fit the known ones in another order of the labels; give {options[0]}"
        raise ArchiveError(f"{target}: {text}")
    complete = known_counts.check_counts(data.corpus, found, source=str(target), allow=allow, console=console)
    if not orders:
        text = f"the counts do not tell the order of the labels, taken as {' '.join(class_names)}"
        console.print(f"[yellow]warning:[/yellow] {text}")
    return complete


def _read_modality(
    name: str,
    path: Path,
    data: Utterances,
    *,
    allow_missing: bool,
    zeros_are_present: bool,
    keep_padding: bool,
    known_zeros: tuple[int, ...] | None,
    console: Console,
) -> Frames:
    """Reads one modality and prints what is in it."""
    frames = read_frames(path, data.ids, zeros_are_present=zeros_are_present, keep_padding=keep_padding)
    unusable = check_usable(path, frames.entries, allow_missing=allow_missing)
    lines = (
        describe(frames, path),
        unusable and f"{unusable}; taken as absent",
        zeros_text(zeros_per_class(frames, data.emotions), known_zeros, present=zeros_are_present),
        unnamed_text(frames.entries.unnamed, data.names),
    )
    for line in filter(None, lines):
        console.print(escape(f"{name}: {line}"))
    return frames


def _record(
    root: Path, paths: dict[str, Path], folds: Sequence[FileFold], differences: list[str], *, keep_padding: bool
) -> dict[str, Any]:
    """How the archive was made, kept in it."""
    return {
        "command": "data_prep.mmin_features",
        "sources": {name: {"file": _name_below(path, root), "sha256": sha256(path)} for name, path in paths.items()},
        "padding": "kept" if keep_padding else "trailing frames of zeros taken off",
        "folds": {item.name: {part: len(rows) for part, rows in item.parts.items()} for item in folds},
        "fold_differences": differences,
    }


def _name_below(path: Path, root: Path) -> str:
    """Path below the root, or the file name alone: folders of the user are not written into the record."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _print_estimate(
    paths: dict[str, Path], utterances: Sequence[str], *, allow_missing: bool, console: Console
) -> None:
    size = 0
    for name, path in paths.items():
        entries = read_entries(path, utterances)
        unusable = check_usable(path, entries, allow_missing=allow_missing)
        shapes = entries.shapes
        size += 4 * int(shapes.prod(axis=1).sum())
        text = f"{path}, {int((shapes[:, 0] > 0).sum())} utterances, {shapes[:, 0].sum()} frames"
        for line in filter(None, (text, unusable and f"{unusable}; taken as absent")):
            console.print(escape(f"{name}: {line}"))
    console.print(
        f"would write at most {size / 1e9:.2f} GB of archive and as much of tfds data set, in about "
        f"{size / _READ_SPEED + size / _WRITE_SPEED:.0f} s; nothing was written"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.mmin_features")


if __name__ == "__main__":
    sys.exit(main())
