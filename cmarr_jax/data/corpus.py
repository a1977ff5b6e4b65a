"""`Corpus`, the utterances on the host, and its checks.

An error message is one sentence with file, key and row, and what to do. Rows and frames count from 0. Checks are
vectorised; feature values are checked in blocks, which takes about 4 MB of memory.
"""

import dataclasses
import math
import sys
from collections.abc import Mapping

import numpy as np

from cmarr_jax.data.targets import LARGEST, find_fault

REQUIRED = ("utterance_id", "speaker", "session", "label", "class_names", "modalities")
RESERVED = (*REQUIRED, "target", "split", "present", "length", "average")  # the last: a column of the tables
PARTS = ("train", "val", "test")
UNLABELLED = -1  # the label of an utterance that nobody has labelled
_BLOCK = 1 << 22  # feature values checked at a time


class ArchiveError(ValueError):
    """A corpus or feature archive with an error; the message is one sentence with file, key and row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Utterances with the features of two or more modalities, in numpy on the host.

    The constructor checks nothing; `check_corpus` does, and `read_archive` and `write_archive` call it.

    Attributes:
      utterance_id: Distinct names, `[N]`, str.
      speaker: Name of the speaker, `[N]`, str.
      session: Recording session, `[N]`, str.
      label: Class index, or -1 (`UNLABELLED`): nobody has labelled the utterance; `[N]`, int32.
      class_names: Names of the K classes.
      features: Per modality `[N, D]`, or the frames of all utterances in their order, `[sum of T, D]`; float16 or
        float32 as stored.
      length: Frames per utterance, `[N]`, int32; sequence modalities only.
      present: Modalities that each utterance has, `[N, M]`, bool, columns in the order of `features`.
      split: `train`, `val` or `test`, `[N]`, str; `None`: folds are made by speaker.
      target: Number that a regression predicts, `[N]`, float32, nan where the label is -1; `None`: there is none.
    """

    utterance_id: np.ndarray
    speaker: np.ndarray
    session: np.ndarray
    label: np.ndarray
    class_names: tuple[str, ...]
    features: dict[str, np.ndarray]
    length: dict[str, np.ndarray]
    present: np.ndarray
    split: np.ndarray | None = None
    target: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.utterance_id)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in the order of the columns of `present`."""
        return tuple(self.features)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def labelled(self) -> np.ndarray:
        """Utterances that have a label, `[N]`, bool."""
        return self.label != UNLABELLED

    @property
    def widths(self) -> dict[str, int]:
        """D per modality."""
        return {name: array.shape[1] for name, array in self.features.items()}


def fault(source: str, key: str, text: str, row: int | None = None, corpus: Corpus | None = None) -> ArchiveError:
    """Makes the error (the caller raises it) for `key` of `source`, with row and, given the corpus, utterance id."""
    place = f"{source}: key {key!r}" + ("" if row is None else f", row {row}")
    if row is not None and corpus is not None:
        place += f" (utterance {str(corpus.utterance_id[row])!r})"
    return ArchiveError(f"{place}: {text}")


def check_text(source: str, key: str, array: np.ndarray) -> None:
    """Raises ArchiveError unless this is a one-dimensional array of one or more non-empty unicode strings."""
    if array.dtype.kind != "U":
        raise fault(source, key, f"must be text (dtype U), found {array.dtype}; convert it with .astype(str)")
    if array.ndim != 1 or len(array) == 0:
        raise fault(source, key, f"must be one-dimensional and not empty, found shape {array.shape}")
    if len(wrong := np.flatnonzero(~is_unicode(array))):
        raise fault(source, key, "holds a character that is not Unicode; write the name in UTF-8", int(wrong[0]))
    empty = np.flatnonzero(np.char.strip(array) == "")
    if len(empty):
        raise fault(source, key, "is an empty string; give every entry a name", int(empty[0]))


def is_unicode(text: np.ndarray) -> np.ndarray:
    """Which entries have Unicode characters only, `[...]` bool; numpy checks no code point."""
    if text.dtype.itemsize == 0:
        return np.ones(text.shape, bool)
    code = np.ascontiguousarray(text).reshape(*text.shape, 1).view(np.dtype("u4").newbyteorder(text.dtype.byteorder))
    return ~np.any((code > sys.maxunicode) | ((code >= 0xD800) & (code < 0xE000)), axis=-1)


def check_distinct(source: str, key: str, array: np.ndarray) -> None:
    """Raises ArchiveError if an entry occurs twice."""
    _, first, inverse = np.unique(array, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse] != np.arange(len(array)))
    if len(repeated):
        row, earlier = int(repeated[0]), int(first[inverse[repeated[0]]])
        text = f"{str(array[row])!r} is already in row {earlier}; every entry must be given once"
        raise fault(source, key, text, row)


def check_modalities(source: str, modalities: np.ndarray) -> None:
    """Raises ArchiveError unless these are two or more distinct identifiers that are no other key of the format."""
    check_text(source, "modalities", modalities)
    check_distinct(source, "modalities", modalities)
    for row, name in enumerate(map(str, modalities)):
        if not name.isidentifier() or name in RESERVED or name.endswith(("_length", "_present")):
            text = (
                f"{name!r} cannot name a modality; use letters, digits and underscores, no key of the format, not "
                "'average', and no name that ends in _length or _present"
            )
            raise fault(source, "modalities", text, row)
    if len(modalities) < 2:
        raise fault(source, "modalities", f"at least two modalities are needed, found {list(map(str, modalities))}")


def check_corpus(corpus: Corpus, source: str = "corpus") -> None:
    """Checks everything that the library assumes of a corpus; changes nothing.

    Args:
      corpus: The corpus. Label and lengths may have any integer type here.
      source: File, or another name, with which the message starts.

    Raises:
      ArchiveError: at the first fault.
    """
    _check_types(corpus, source)
    modalities = np.array(list(corpus.features), str)
    check_modalities(source, modalities)
    class_names = np.array(corpus.class_names, str)
    check_text(source, "class_names", class_names)
    check_distinct(source, "class_names", class_names)
    for key in ("utterance_id", "speaker", "session"):
        check_text(source, key, getattr(corpus, key))
        _check_rows(source, key, getattr(corpus, key), corpus)
    check_distinct(source, "utterance_id", corpus.utterance_id)
    _check_label(corpus, source)
    _check_target(corpus, source)
    _check_split(corpus, source)
    speakers = np.unique(corpus.speaker[corpus.labelled])
    if corpus.split is None and len(speakers) < 2:
        which = "utterances" if corpus.labelled.all() else "labelled utterances"
        text = f"all {which} are of one speaker, {str(speakers[0])!r}; give the speakers, or a split"
        raise fault(source, "speaker", text)
    _check_present(corpus, source)
    for name in corpus.length:
        if name not in corpus.features:
            raise fault(source, f"{name}_length", f"there is no modality {name!r}; correct the name")
    for column, name in enumerate(corpus.features):
        _check_shape(corpus, source, name, column)
        _check_finite(corpus, source, name, column)


def frame_where(corpus: Corpus, name: str, where: np.ndarray) -> np.ndarray:
    """Repeats a value per utterance for each of its rows in the stored features of `name`."""
    return np.repeat(where, corpus.length[name].astype(np.int64)) if name in corpus.length else where


def _check_types(corpus: Corpus, source: str) -> None:
    """Raises ArchiveError unless features and lengths are dicts, and all entries NumPy arrays."""
    for key in ("features", "length"):
        if not isinstance(getattr(corpus, key), Mapping):
            raise fault(source, key, f"must be a dict by modality, found {type(getattr(corpus, key)).__name__}")
    named = {key: getattr(corpus, key) for key in ("utterance_id", "speaker", "session", "label", "present")}
    named |= {key: array for key in ("split", "target") if (array := getattr(corpus, key)) is not None}
    named |= {**corpus.features, **{f"{name}_length": array for name, array in corpus.length.items()}}
    for key, array in named.items():
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            advice = "fill it" if isinstance(array, np.ma.MaskedArray) else "use numpy.asarray"
            raise fault(source, key, f"must be a NumPy array, found {type(array).__name__}; {advice}")


def _check_rows(source: str, key: str, array: np.ndarray, corpus: Corpus) -> None:
    """Raises ArchiveError unless there is one entry per utterance."""
    if array.shape != corpus.utterance_id.shape:
        text = f"must have one entry per utterance_id, {len(corpus.utterance_id)}, found shape {array.shape}"
        raise fault(source, key, text)


def _check_label(corpus: Corpus, source: str) -> None:
    label, num_classes = corpus.label, len(corpus.class_names)
    if label.dtype.kind not in "iu":
        raise fault(source, "label", f"must be integers, found {label.dtype}; give the index into class_names")
    _check_rows(source, "label", label, corpus)
    outside = np.flatnonzero((label < UNLABELLED) | (label >= num_classes))
    if len(outside):
        row = int(outside[0])
        text = f"{label[row]} is not an index into the {num_classes} class_names (0 to {num_classes - 1}); correct it"
        raise fault(source, "label", f"{text}, or write -1 if nobody has labelled the utterance", row, corpus)
    if num_classes < 2:
        raise fault(source, "class_names", f"at least two classes are needed, found {list(corpus.class_names)}")
    if not corpus.labelled.any():
        raise fault(source, "label", "no utterance is labelled, all are -1; label some utterances of every class")
    unused = np.flatnonzero(np.bincount(label[corpus.labelled].astype(np.int64), minlength=num_classes) == 0)
    if len(unused):
        name = str(corpus.class_names[unused[0]])
        text = (
            f"no utterance has class {name!r} (label {unused[0]}); take it out of class_names and renumber the labels"
        )
        raise fault(source, "label", text)


def _check_target(corpus: Corpus, source: str) -> None:
    found = None if corpus.target is None else find_fault(corpus.target, corpus.labelled)
    if found is not None:
        text, row = found
        raise fault(source, "target", text, row, corpus)


def _check_split(corpus: Corpus, source: str) -> None:
    if corpus.split is None:
        return
    check_text(source, "split", corpus.split)
    _check_rows(source, "split", corpus.split, corpus)
    unknown = np.flatnonzero(~np.isin(corpus.split, PARTS))
    if len(unknown):
        row = int(unknown[0])
        text = f"{str(corpus.split[row])!r} must be one of train, val and test; correct it"
        raise fault(source, "split", text, row, corpus)
    for part in PARTS:
        if not np.any((corpus.split == part) & corpus.labelled):
            which = "labelled utterance" if np.any(corpus.split == part) else "utterance"
            text = f"no {which} is in {part!r}; fill all of train, val and test, or leave split out to get folds"
            raise fault(source, "split", text)


def _check_present(corpus: Corpus, source: str) -> None:
    present, shape = corpus.present, (len(corpus.utterance_id), len(corpus.features))
    if present.dtype != np.bool_ or present.shape != shape:
        text = f"must be bool {list(shape)}, found {present.dtype} {list(present.shape)}"
        raise fault(source, "present", text)
    without_any = np.flatnonzero(~present.any(axis=1))
    if len(without_any):
        text = "no modality is present; leave the utterance out or correct the NAME_present keys"
        raise fault(source, "utterance_id", text, int(without_any[0]), corpus)
    for column, name in enumerate(corpus.features):
        if not present[:, column].any():
            raise fault(source, f"{name}_present", f"no utterance has {name!r}; take it out of modalities")


def _check_shape(corpus: Corpus, source: str, name: str, column: int) -> None:
    features, num = corpus.features[name], len(corpus.utterance_id)
    if features.dtype not in (np.float16, np.float32):
        text = f"must be float16 or float32, found {features.dtype}; convert it with .astype('float32')"
        raise fault(source, name, text)
    if features.ndim != 2 or features.shape[1] == 0:
        text = f"must be [N, D], or [sum of T, D] with {name}_length, D >= 1, found shape {features.shape}"
        raise fault(source, name, text)
    if name in corpus.length:
        _check_length(corpus, source, name, column)
    elif len(features) != num:
        text = (
            f"has {len(features)} rows for {num} utterances; give one row per utterance, or frames with {name}_length"
        )
        raise fault(source, name, text)


def _check_length(corpus: Corpus, source: str, name: str, column: int) -> None:
    length, key, frames = corpus.length[name], f"{name}_length", len(corpus.features[name])
    if length.dtype.kind not in "iu":
        raise fault(source, key, f"must be integers, found {length.dtype}; give the number of frames per utterance")
    _check_rows(source, key, length, corpus)
    for wrong, text in (
        (length < 0, "is negative; give the number of frames"),
        (length > frames, f"is more than the {frames} rows of {name!r}; give the number of frames of this utterance"),
        ((length == 0) & corpus.present[:, column], f"frames, but {name!r} is present; set {name}_present False there"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise fault(source, key, f"{length[row]} {text}", row, corpus)
    total = int(length.sum(dtype=np.int64))
    if total != frames:
        text = f"the lengths add up to {total}, but {name!r} has {frames} rows; write both from the same utterances"
        raise fault(source, key, text)


def _check_finite(corpus: Corpus, source: str, name: str, column: int) -> None:
    """Raises ArchiveError for NaN, infinity or a number beyond `LARGEST` in a present entry, not in an absent one."""
    features = corpus.features[name]
    counts = frame_where(corpus, name, corpus.present[:, column])
    step = math.ceil(_BLOCK / features.shape[1])
    largest = features.dtype.type(min(LARGEST, float(np.finfo(features.dtype).max)))
    for start in range(0, len(features), step):
        finite = np.abs(features[start : start + step]) <= largest
        if finite.all():
            continue
        bad = np.flatnonzero(~finite.all(axis=1) & counts[start : start + step])
        if len(bad):
            index = start + int(bad[0])
            raise _not_finite(corpus, source, name, index, int(np.argmin(finite[bad[0]])))


def _not_finite(corpus: Corpus, source: str, name: str, index: int, dimension: int) -> ArchiveError:
    row, frame = index, ""
    if name in corpus.length:
        end = np.cumsum(corpus.length[name], dtype=np.int64)
        row = int(np.searchsorted(end, index, side="right"))
        frame = f"frame {index - int(end[row]) + int(corpus.length[name][row])}, "
    value = float(corpus.features[name][index, dimension])
    large = f", beyond {LARGEST:g}," if np.isfinite(value) else ""
    text = f"{frame}column {dimension} is {value}{large} in an entry that is present"
    return fault(source, name, f"{text}; correct it or set {name}_present False", row, corpus)
