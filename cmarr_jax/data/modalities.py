"""The features of many utterances as scikit-learn can index them: one container for all modalities."""

import decimal
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cmarr_jax.data.targets import LARGEST

NUMBERS = "fiub"  # kinds of numpy's types that features may have
Values = Any  # of one modality: `[N, D]`, `[N, T, D]`, a list of N arrays or Nones, or None


class Modalities:
    """Features of N utterances, by modality. `len`, `shape` and indexing are those of an array of N utterances.

    A modality is an array `[N, D]` (vectors) or `[N, T, D]` (sequences of one length), a pandas DataFrame of N rows,
    whose columns count by their place, or a list of N arrays `[T, D]` or `[D]`. An utterance does not have it where its
    entry is `None`, or all of its numbers are nan. A modality that is `None` is absent everywhere.

    Raises:
      ValueError: if modalities differ in their number of utterances, an entry is no array of numbers, or a number is
        masked.
    """

    def __init__(self, features: Mapping[str, Values]) -> None:
        given = {name: values for name, values in features.items() if values is not None}
        if not given:
            raise ValueError("no modality has features; give at least one array")
        for name, values in given.items():
            if not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
                raise ValueError(
                    f"{name}: is {values!r} where an array or a list with one entry per utterance is expected"
                )
        sizes = {name: len(values) for name, values in given.items()}
        if len(set(sizes.values())) > 1:
            text = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"all modalities must have the same number of utterances, found {text}")
        self.shape = (next(iter(sizes.values())),)
        self.entries = {name: _entries(name, _rows(name, values)) for name, values in given.items()}

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the features that each utterance has."""
        for row in range(len(self)):
            yield {name: entry[row] for name, entry in self.entries.items() if entry[row] is not None}

    def __getitem__(self, rows: Any) -> "Modalities":
        """Chosen utterances: a slice, a mask, or their numbers."""
        rows = rows[0] if isinstance(rows, tuple) else rows  # scikit-learn indexes with (rows, ...)
        chosen = np.arange(len(self))[rows]
        if chosen.ndim != 1:
            raise TypeError("give a slice, a mask or several numbers of utterances")
        part = object.__new__(Modalities)
        part.shape = (len(chosen),)
        part.entries = {name: [entry[row] for row in chosen] for name, entry in self.entries.items()}
        return part


def as_modalities(features: Modalities | Mapping[str, Values]) -> Modalities:
    """The container itself, or one of a dict."""
    return features if isinstance(features, Modalities) else Modalities(features)


def _rows(name: str, values: Values) -> Values:
    """The values with one entry per utterance; iterating over a DataFrame gives its columns."""
    if not (hasattr(values, "to_numpy") and getattr(values, "ndim", 0) == 2):
        return values
    for place, (column, dtype) in enumerate(zip(values.columns, values.dtypes, strict=True)):
        entries = values.iloc[:, place].tolist() if dtype.kind == "O" else []
        other = [repr(entry) for entry in entries if not _is_number(entry)]
        if other or dtype.kind not in NUMBERS + "O":
            found = other[0] if other else dtype
            raise ValueError(f"{name}: column {column!r} of the data frame holds {found}; select columns of numbers")
    return values.to_numpy(np.float32)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, numbers.Real | decimal.Decimal | np.bool_)


def _entries(name: str, values: Sequence[Any] | np.ndarray) -> list[np.ndarray | None]:
    entries: list[np.ndarray | None] = []
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and np.isnan(value)):  # a column of arrays that pandas joined
            entries.append(None)
            continue
        if np.ma.is_masked(value):
            text = "has masked numbers; fill them, or make all of them nan where it is absent"
            raise ValueError(f"{name}: utterance {row} {text}")
        try:
            given = np.asarray(value)
            if given.dtype.kind not in NUMBERS + "O":  # float32 would read text, dates and complex numbers, too
                raise TypeError(f"holds {given.dtype}")
            if given.dtype == object and (other := [one for one in given.ravel() if not _is_number(one)]):
                raise TypeError(f"holds {other[0]!r}")
            with np.errstate(over="ignore"):
                array = given.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: utterance {row} is no array of numbers ({error}); correct it") from None
        if array.ndim not in (1, 2) or 0 in array.shape:
            text = f"has shape {list(array.shape)} where [D] or [T, D] is expected; an absent one is None or nan"
            raise ValueError(f"{name}: utterance {row} {text}")
        if (np.abs(array) > LARGEST).any():
            raise ValueError(
                f"{name}: utterance {row} has a number beyond {LARGEST:g}; correct it, or scale the features"
            )
        missing = np.isnan(array)
        if missing.any() and not missing.all():
            text = "has nan in some of its numbers; make all of them nan where it is absent, or correct it"
            raise ValueError(f"{name}: utterance {row} {text}")
        entries.append(None if missing.all() else array)
    return entries
