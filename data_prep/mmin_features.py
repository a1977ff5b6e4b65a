"""Feature files of the MMIN family of papers (IEMOCAP or MSP-IMPROV) as a feature archive and a tfds data set.

    python -m data_prep.mmin_features IEMOCAP_features_2021 iemocap.npz

Utterances, labels and folds are read from the folder `target`; features are looked up by utterance name. Values are
not changed or normalised. Trailing frames of zeros are padding and are removed.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

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
from data_prep.mmin_files import PARTS, FileFold, Frames, open_features, read_folds, read_frames, read_shapes
from data_prep.write import check_out, make_console, write_all

Root = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
_READ_SPEED, _WRITE_SPEED = 200e6, 15e6  # bytes of features per second, measured on one core of a slow machine


def convert(
    root: Root,
    out: Out,
    audio: Path = Path("A/comparE.h5"),
    video: Path = Path("V/denseface.h5"),
    text: Path = Path("L/bert_large.h5"),
    class_names: tuple[str, ...] = known_counts.CLASS_NAMES,
    fold: str | None = None,
    keep_padding: Flag = False,
    allow_missing: Flag = False,
    allow_count_differences: Flag = False,
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
      allow_missing: Takes an utterance that a feature file lacks as absent in that modality.
      allow_count_differences: Goes on when the counts are not the known ones.
      tfds_dir: Where tfds keeps data sets; by default the folder tfds beside the archive.
      without_tfds: Writes no tfds data set.
      dry_run: Counts, estimates time and space, and writes nothing.
      force: Replaces an archive that is there.
    """
    if not dry_run:
        check_out(out, force=force)
    console = make_console()
    folds, labels = read_folds(root / "target", len(class_names))
    utterances = sorted(labels)
    names = [parse_name(name, f"{root / 'target'}") for name in utterances]
    corpus_name = _one_corpus(names, utterances, root)
    emotions = [class_names[labels[name]] for name in utterances]
    _check_counts(corpus_name, names, emotions, class_names, root, allow=allow_count_differences, console=console)
    differences = list(fold_differences(folds, dict(zip(utterances, names, strict=True))))
    for sentence in differences or ("the folds of the files are those of leaving one speaker out.",):
        console.print(f"folds: {escape(sentence)}")
    split = _split(folds, fold, utterances, root)
    paths = {"audio": root / audio, "video": root / video, "text": root / text}
    if dry_run:
        _print_estimate(paths, utterances, allow_missing=allow_missing, console=console)
        return
    frames = {}
    for name, path in paths.items():
        frames[name] = read_frames(path, utterances, allow_missing=allow_missing, keep_padding=keep_padding)
        console.print(escape(f"{name}: {describe(frames[name], path)}"))
    for sentence in check_mean_std(root / "A/comparE_mean_std.h5", frames["audio"], folds, utterances):
        console.print(f"A/comparE_mean_std.h5: {escape(sentence)}")
    record = _record(root, paths, folds, differences, keep_padding=keep_padding)
    corpus, details = to_corpus(
        utterances, names, [labels[name] for name in utterances], class_names, frames, split, record
    )
    write_all(corpus_name, out, corpus, details, tfds_dir=tfds_dir, without_tfds=without_tfds, console=console)


def to_corpus(
    utterances: Sequence[str],
    names: Sequence[Name],
    label: Sequence[int],
    class_names: tuple[str, ...],
    frames: dict[str, Frames],
    split: np.ndarray | None,
    record: dict,
) -> tuple[Corpus, Details]:
    """Corpus and details; speaker, session, dialogue and sex follow from the utterance names."""
    ids = np.array(utterances, str)
    corpus = Corpus(
        utterance_id=ids,
        speaker=np.array([name.speaker for name in names]),
        session=np.array([name.session for name in names]),
        label=np.array(label, np.int32),
        class_names=class_names,
        features={name: item.features for name, item in frames.items()},
        length={name: item.length for name, item in frames.items()},
        present=np.stack([item.present for item in frames.values()], axis=1),
        split=split,
    )
    unknown = np.full(len(ids), np.nan, np.float32)
    text = {"dialogue": np.array([name.dialogue for name in names]), "sex": np.array([name.sex for name in names])}
    text["transcript"] = np.full(len(ids), "", "U1")
    return corpus, Details(ids, **text, **dict.fromkeys(NUMBERS, unknown), record=record, extra={})


def fold_differences(folds: Sequence[FileFold], names: dict[str, Name]) -> Iterator[str]:
    """Yields one sentence for each difference between the folds of the files and leaving one speaker out."""
    speakers = {name.speaker for name in names.values()}
    tested = Counter[str]()
    for fold in folds:
        of = {part: {names[item].speaker for item in rows} for part, rows in fold.parts.items()}
        for one, other in (("train", "test"), ("train", "val"), ("val", "test")):
            if shared := sorted(of[one] & of[other]):
                yield f"fold {fold.name}: {PARTS[one]} and {PARTS[other]} share {_of_speakers(shared)}"
        tested.update(of["test"])
        test, val = sorted(of["test"]), sorted(of["val"])
        if len(test) != 1:
            yield f"fold {fold.name}: tst has {len(test)} speakers, where one is left out"
        elif val != (partners := sorted(name for name in speakers if name[:2] == test[0][:2] and name != test[0])):
            partner = " ".join(partners) or "nobody"
            yield f"fold {fold.name}: val is {' '.join(val)}, where {partner} is the partner of {test[0]}"
        missing = len(names) - sum(len(rows) for rows in fold.parts.values())
        if missing:
            first = min(set(names) - {item for rows in fold.parts.values() for item in rows})
            yield f"fold {fold.name}: lacks {missing} of the {len(names)} utterances of all folds, {first!r} first"
    for speaker in sorted(speakers):
        if tested[speaker] != 1:
            test_in = [
                fold.name for fold in folds if any(names[item].speaker == speaker for item in fold.parts["test"])
            ]
            where = f"folds {' and '.join(test_in)} share it" if test_in else "no fold does"
            yield f"speaker {speaker} is tested {tested[speaker]} times, where once is the rule: {where}"


def check_mean_std(path: Path, audio: Frames, folds: Sequence[FileFold], utterances: Sequence[str]) -> Iterator[str]:
    """Compares the stored means of each training part with those of the features. They have no other use.

    Raises:
      ArchiveError: if the file is there and damaged.
    """
    if not path.exists():
        yield "is not there; it is not needed, since the library normalises by its own training parts"
        return
    row = {name: index for index, name in enumerate(utterances)}
    worst, checked = 0.0, 0
    with open_features(path) as file:
        for fold in folds:
            try:
                mean, std = (np.asarray(file[fold.name][key][()], np.float64).ravel() for key in ("mean", "std"))
                rows = [row[name] for name in fold.parts["train"]]
                expected = audio.total[rows].sum(0) / audio.stored[rows].sum()
                worst = max(worst, float(np.max(np.abs(mean - expected) / np.where(std > 0, std, 1))))
                checked += 1
            except (KeyError, ValueError, OSError, TypeError, RuntimeError, AttributeError):
                yield f"has no mean and std of width {audio.features.shape[1]} for fold {fold.name}"
    yield f"not used; its means of {checked} training parts differ by {worst:.2g} standard deviations or less"


def describe(frames: Frames, path: Path) -> str:
    """One line with number of utterances, width, frames and padding of a modality."""
    parts = [
        f"{path}: {int(frames.present.sum())} utterances, width {frames.features.shape[1]}",
        f"{len(frames.features)} frames, longest {frames.length.max()}",
        f"{int(frames.padding.sum())} trailing frames of zeros taken off {int((frames.padding > 0).sum())} utterances",
    ]
    for count, what in (
        (frames.zero.sum(), "with zeros only (in a video: no face was found)"),
        ((~frames.present).sum(), "absent"),
        (frames.unused, "more in the file that no fold names"),
    ):
        parts += [f"{count} {what}"] if count else []
    return ", ".join(parts)


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


def _one_corpus(names: Sequence[Name], utterances: Sequence[str], root: Path) -> str:
    for name, utterance in zip(names, utterances, strict=True):
        if name.corpus != names[0].corpus:
            text = f"names {utterances[0]!r} and {utterance!r}, of two corpora; convert them one by one"
            raise ArchiveError(f"{root / 'target'}: {text}")
    return names[0].corpus


def _check_counts(
    corpus: str,
    names: Sequence[Name],
    emotions: Sequence[str],
    class_names: tuple[str, ...],
    root: Path,
    *,
    allow: bool,
    console: Console,
) -> None:
    source = str(root / "target")
    if tuple(sorted(class_names)) != known_counts.CLASS_NAMES:
        raise ArchiveError(
            f"{source}: the classes are {', '.join(known_counts.CLASS_NAMES)} in some order, found {class_names}"
        )
    counts = np.array([emotions.count(name) for name in class_names])
    order = known_counts.matching_order(counts, corpus)
    if order is not None and order != class_names:
        text = f"the totals {counts.tolist()} are known ones in another order; give --class-names {' '.join(order)}"
        raise ArchiveError(f"{source}: {text}")
    found = known_counts.count([name.speaker for name in names], emotions)
    known_counts.check_counts(corpus, found, source=source, allow=allow, console=console)


def _split(folds: Sequence[FileFold], name: str | None, utterances: Sequence[str], root: Path) -> np.ndarray | None:
    if name is None:
        return None
    for fold in folds:
        if fold.name == name:
            part = {item: part for part, rows in fold.parts.items() for item in rows}
            lacking = [item for item in utterances if item not in part]
            if lacking:
                text = f"does not name {lacking[0]!r}, which other folds do; choose another --fold"
                raise ArchiveError(f"{root / 'target' / name}: {text}")
            return np.array([part[item] for item in utterances], str)
    raise ArchiveError(f"{root / 'target'}: there is no fold {name!r}; it has {', '.join(fold.name for fold in folds)}")


def _of_speakers(speakers: Sequence[str]) -> str:
    return f"speaker {speakers[0]}" if len(speakers) == 1 else f"{len(speakers)} speakers, {speakers[0]} first"


def _print_estimate(
    paths: dict[str, Path], utterances: Sequence[str], *, allow_missing: bool, console: Console
) -> None:
    size = 0
    for name, path in paths.items():
        shapes = read_shapes(path, utterances, allow_missing=allow_missing)
        size += 4 * int(shapes.prod(axis=1).sum())
        console.print(f"{name}: {path}, {int((shapes[:, 0] > 0).sum())} utterances, {shapes[:, 0].sum()} frames")
    console.print(
        f"would write at most {size / 1e9:.2f} GB of archive and as much of tfds data set, in about "
        f"{size / _READ_SPEED + size / _WRITE_SPEED:.0f} s; nothing was written"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.mmin_features")


if __name__ == "__main__":
    sys.exit(main())
