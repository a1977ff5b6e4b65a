"""What the converter of the MMIN family prints and records about the features, beside errors."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep import known_counts
from data_prep.hdf5_inside import Inside
from data_prep.ids import Name, parse_name
from data_prep.mmin_files import FileFold
from data_prep.mmin_frames import Frames, open_features

_ENOUGH, _LOW = 20, 0.2  # utterances to correlate lengths of; a correlation that those of one recording exceed


def describe(frames: Frames, path: Path) -> str:
    """One line with number of utterances, width, frames and padding of a modality."""
    parts = [
        f"{path}: {int(frames.present.sum())} utterances, width {frames.features.shape[1]}",
        f"{len(frames.features)} frames, longest {frames.length.max()}",
        f"{int(frames.padding.sum())} trailing frames of zeros taken off {int((frames.padding > 0).sum())} utterances",
    ]
    absent = int((~frames.present).sum())
    return ", ".join([*parts, f"{absent} absent"] if absent else parts)


def zeros_per_class(frames: Frames, emotions: Sequence[str]) -> dict[str, int]:
    """Number of utterances of zeros only, per class."""
    of = [emotion for emotion, zero in zip(emotions, frames.zero.tolist(), strict=True) if zero]
    return {name: of.count(name) for name in known_counts.CLASS_NAMES}


def zeros_text(counts: dict[str, int], known: Sequence[int] | None, *, present: bool) -> str:
    """A line on utterances of zeros only; empty if there are none and none are known.

    Args:
      counts: Result of `zeros_per_class`.
      known: The known number of each class; `None` where there is none, as in a part of a corpus.
      present: Whether they count as present.
    """
    if not any(counts.values()) and known is None:
        return ""
    found = ", ".join(f"{name} {count}" for name, count in counts.items())
    taken = "present (--zeros-are-present)" if present else "absent (--zeros-are-present takes them as present)"
    text = f"utterances of zeros only: {sum(counts.values())} ({found}), taken as {taken}"
    if known is None:
        return text
    if tuple(counts.values()) == tuple(known):
        return f"{text}; these are the known numbers of clips without a face"
    pairs = ", ".join(f"{name} {count}" for name, count in zip(counts, known, strict=True))
    return f"{text}; the known numbers of clips without a face are others: {pairs}"


def unnamed_text(unnamed: Sequence[str], names: Sequence[Name]) -> str:
    """A line on entries of a file that no label names, and on speakers without any label; empty if there are none."""
    if not unnamed:
        return ""
    speakers = set[str]()
    for item in unnamed:
        try:
            speakers.add(parse_name(item, "").speaker)
        except ArchiveError:  # another way of naming; the examples show it
            continue
    text = f"entries that no label names, not used: {len(unnamed)} ({', '.join(map(repr, unnamed[:3]))} first)"
    if without := sorted(speakers - {name.speaker for name in names}):
        text += f"; no label is of speaker {' '.join(without)}"
    return text


def check_lengths(frames: dict[str, Frames]) -> Iterator[str]:
    """Correlates the lengths of the modalities, of utterances that are not cut: those of one recording go together.

    Lengths that do not are the only sign of a file whose names are right and whose content is of other utterances.
    """
    for (first, one), (second, other) in itertools.combinations(frames.items(), 2):
        whole = _not_cut(one) & _not_cut(other)
        lengths = np.stack([one.length[whole], other.length[whole]])
        if lengths.shape[1] < _ENOUGH or not np.ptp(lengths, axis=1).all():
            continue
        value = float(np.corrcoef(lengths)[0, 1])
        text = f"{first} and {second} correlate {value:.2f}"
        if value < _LOW:
            text += ", which is low: one of them may have other utterances under these names"
        yield text


def _not_cut(frames: Frames) -> np.ndarray:
    """Utterances that are present and, where all have the same number of stored frames, do not fill them."""
    fixed = np.ptp(frames.stored[frames.present]) == 0
    return frames.present & (frames.length < frames.stored if fixed else True)


def features_record(
    frames: dict[str, Frames], emotions: Sequence[str], *, zeros_are_present: bool
) -> dict[str, dict | str]:
    """What the archive's record keeps on zeros, on what could not be used, and on entries without a label."""
    kinds = {name: [kind for kind, _ in item.entries.unusable.values()] for name, item in frames.items()}
    return {
        "zeros_only_are": "present" if zeros_are_present else "absent",
        "zeros_only": {name: zeros_per_class(item, emotions) for name, item in frames.items()},
        "unusable": {name: dict(Counter(items)) for name, items in kinds.items()},
        "not_labelled": {name: len(item.entries.unnamed) for name, item in frames.items()},
    }


def check_mean_std(path: Path, audio: Frames, folds: Sequence[FileFold], utterances: Sequence[str]) -> Iterator[str]:
    """Compares the stored means of each training part with those of the features. They have no other use."""
    if not os.path.exists(path):  # unlike Path.exists, no error where the folder may not be read
        yield "is not there; it is not needed, since the library normalises by its own training parts"
        return
    try:
        with open_features(path) as file:
            yield from _compare_means(file, audio, folds, utterances)
    except ArchiveError as error:
        yield f"is not needed, and cannot be compared: {str(error).removeprefix(f'{path}: ')}"


def _compare_means(file: Inside, audio: Frames, folds: Sequence[FileFold], utterances: Sequence[str]) -> Iterator[str]:
    row = {name: index for index, name in enumerate(utterances)}
    worst, checked = 0.0, 0
    for fold in folds:
        try:
            mean, std = (np.asarray(file[fold.name][key][()], np.float64).ravel() for key in ("mean", "std"))
            rows = [row[name] for name in fold.parts["train"]]
            expected = audio.total[rows].sum(0) / max(1, audio.stored[rows].sum())
            worst = max(worst, float(np.max(np.abs(mean - expected) / np.where(std > 0, std, 1))))
            checked += 1
        except Exception:  # damaged bytes make h5py raise many types
            yield f"has no mean and std of width {audio.features.shape[1]} for fold {fold.name}"
    yield f"not used; its means of {checked} training parts differ by {worst:.2g} standard deviations or less"
