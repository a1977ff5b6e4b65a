"""Reads CMU-MOSI and CMU-MOSEI as the CMU-MultimodalSDK gives them: computational sequences, HDF5 files `.csd`.

Each file has one group, in it `data`, in it one group per video with `features` `[n, D]` and `intervals` `[n, 2]` in
seconds. Of the labels each interval is an utterance, its first number the sentiment; a frame of another file belongs to
the utterance in which the middle of its interval lies.
"""

import ast
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.corpora.common import find_files, note
from data_prep.corpora.segment import MODALITIES, Segment
from data_prep.hdf5_inside import Inside
from data_prep.text_files import read_text

# What a file holds, by its name; the first that fits. CMU_MOSI_COVAREP.csd, CMU_MOSEI_VisualFacet42.csd, ...
_ROLES = {
    "labels": re.compile(r"label", re.IGNORECASE),
    "text": re.compile(r"vector|glove", re.IGNORECASE),
    "words": re.compile(r"words", re.IGNORECASE),
    "audio": re.compile(r"covarep|opensmile", re.IGNORECASE),
    "video": re.compile(r"facet|openface", re.IGNORECASE),
}
_FOLD = re.compile(r"standard_(train|valid|test)_fold")


def read_segments(folder: Path, folds: Path | None) -> Iterator[Segment]:
    """The utterances of a folder of `.csd` files, video by video.

    Args:
      folder: With the labels and two or three of acoustic, visual and word vectors; words are the transcript.
      folds: Python file of the SDK with `standard_train_fold = [...]` and so on; it is read, never run. Videos in no
        fold are left out. `None`: there is no split.

    Raises:
      ArchiveError: if a file is missing or does not have the form above.
    """
    split = read_folds(folds) if folds else None
    left_out = []
    with contextlib.ExitStack() as stack:
        open_file = lambda role, path: stack.enter_context(contextlib.closing(_Sequences(role, path)))
        files = {role: open_file(role, path) for role, path in _find(folder).items()}
        for video in files["labels"].videos():
            if split is None or video in split:
                yield from _segments(video, split[video] if split else "", files)
            else:
                left_out.append(video)
    note("videos that are in no fold, left out", left_out)


def _segments(video: str, part: str, files: Mapping[str, "_Sequences"]) -> Iterator[Segment]:
    read = {role: file.read(video) for role, file in files.items()}
    scores, spans = read["labels"]
    for index, (start, end) in enumerate(spans):
        inside = {
            role: values[(times.mean(1) >= start) & (times.mean(1) < end)] for role, (values, times) in read.items()
        }
        features = {name: inside[name] for name in MODALITIES if name in inside}
        yield Segment(f"{video}[{index}]", video, part, float(scores[index, 0]), _words(inside), features)


def _find(folder: Path) -> dict[str, Path]:
    roles: dict[str, Path] = {}
    others = []
    for name, path in find_files(folder, (".csd",)).items():
        role = next((role for role, pattern in _ROLES.items() if pattern.search(name)), None)
        if role is None:
            others.append(name)
        elif role in roles:
            raise ArchiveError(f"{path}: and {roles[role].name} both hold {role}; leave one of them in the folder")
        else:
            roles[role] = path
    note("files of an unknown kind, left out", others)
    if "labels" not in roles or len(roles.keys() & set(MODALITIES)) < 2:
        text = "CMU_MOSI_Opinion_Labels.csd and two of COVAREP, Facet and TimestampedWordVectors are needed"
        raise ArchiveError(f"{folder}: holds {', '.join(sorted(roles)) or 'no .csd file'}; {text}")
    return roles


class _Sequences:
    """One computational sequence."""

    def __init__(self, role: str, path: Path) -> None:
        self.path, self._role = path, role
        try:
            self._file = h5py.File(path, "r")
            (root,) = Inside(self._file).values()
            self._data = root["data"]
            self._data.keys()
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ArchiveError(f"{path}: is damaged or no computational sequence; download it again") from error

    def videos(self) -> list[str]:
        return sorted(self._data)

    def read(self, video: str) -> tuple[np.ndarray, np.ndarray]:
        """Features, `[n, D]`, and intervals, `[n, 2]`; n = 0 for a video that is not there."""
        if video not in self._data:
            return np.zeros((0, 1), np.float32), np.zeros((0, 2))
        try:
            values, times = (self._data[video][key][()] for key in ("features", "intervals"))
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ArchiveError(f"{self.path}: video {video!r} cannot be read; download the file again") from error
        is_right_kind = values.dtype.kind in ("SO" if self._role == "words" else "fiu") and times.dtype.kind in "fiu"
        if self._role == "words":  # an object may be a reference
            is_right_kind = is_right_kind and all(isinstance(word, bytes) for word in values.ravel())
        if not is_right_kind or values.ndim != 2 or values.shape[1] == 0 or times.shape != (len(values), 2):
            found = f"has features {values.dtype} {values.shape} and intervals {times.shape}"
            raise ArchiveError(f"{self.path}: video {video!r} {found}; [n, D] and [n, 2] are expected")
        return values, times

    def close(self) -> None:
        self._file.close()


def _words(inside: dict[str, np.ndarray]) -> str:
    """The transcript; `sp` is a pause."""
    words = [word.decode("utf-8", "replace") for word in inside["words"].ravel()] if "words" in inside else []
    return " ".join(word for word in words if word != "sp")


def read_folds(path: Path) -> dict[str, str]:
    """Part of each video. Raises ArchiveError if the three lists are not there."""
    try:
        assigned = [node for node in ast.parse(read_text(path)).body if isinstance(node, ast.Assign)]
        lists = {
            match[1]: ast.literal_eval(node.value)
            for node in assigned
            if isinstance(node.targets[0], ast.Name) and (match := _FOLD.fullmatch(node.targets[0].id))
        }
        parts: dict[str, str] = {}
        for part in ("train", "valid", "test"):
            for video in map(str, lists[part]):
                if parts.setdefault(video, part) != part:
                    raise ArchiveError(
                        f"{path}: video {video!r} is in {parts[video]} and in {part}; take it out of one"
                    )
        return {video: "val" if part == "valid" else part for video, part in parts.items()}
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(error, ArchiveError):
            raise
        text = "holds no lists standard_train_fold, standard_valid_fold and standard_test_fold; take it from the SDK"
        raise ArchiveError(f"{path}: {text}") from error
