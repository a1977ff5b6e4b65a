"""Reads batches of a tfds data set (array_record) from disk while the step computes, for corpora larger than memory.

Batch n is a pure function of the data set, the rows, the seed and n. Grain reads ahead in threads; its whole state is
n. Memory grows with the corpus only by the list of rows and the order of an epoch, 8 bytes per utterance each. This is
the only module that imports Grain and tfds.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds

from cmarr_jax.config import ModalityConfig, default_encoder
from cmarr_jax.data.corpus import UNLABELLED
from cmarr_jax.data.device import check_max_frames, shorten
from cmarr_jax.types import Batch


class DataSetError(ValueError):
    """A data set that cannot be streamed; the message is one sentence with what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A prepared tfds data set with random access to its utterances.

    Attributes:
      records: Serialised examples by row, read from disk when indexed.
      features: The tfds feature of each field, by name.
      modalities: Names, widths and encoders, in the order of the columns of `present`.
      class_names: Names of the K classes.
    """

    records: Any
    features: dict[str, Any]
    modalities: tuple[ModalityConfig, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.records)


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
    """The batches of one or more epochs, indexed from 0: a random access source for Grain.

    Each process reads its share of every global batch. The shares in the order of the processes are the global batch,
    which does not depend on `process_count`. The last batch of an epoch is padded with the first utterance of its
    order, where `where` is False.

    Attributes:
      data_set: The data set.
      rows: Rows of the data set to read, `[N]`, int.
      batch_size: Utterances per global batch, a multiple of `process_count`.
      max_frames: T of every sequence; longer ones are shortened (`shorten`), shorter ones padded.
      num_epochs: How often every row is read.
      seed: Of the shuffling, >= 0; each epoch has its own order. `None`: the order of `rows`.
      process_index: Number of this process.
      process_count: Number of processes.

    Raises:
      ValueError: if there is no row, or a number is out of range.
    """

    data_set: DataSet
    rows: np.ndarray
    batch_size: int
    max_frames: int
    num_epochs: int = 1
    seed: int | None = None
    process_index: int = 0
    process_count: int = 1

    def __post_init__(self):
        if len(self.rows) == 0:
            raise ValueError("there is no utterance to read; choose other rows or speakers")
        if self.max_frames < 1 or self.num_epochs < 1 or self.batch_size < 1 or (self.seed or 0) < 0:
            raise ValueError(
                f"max_frames, num_epochs and batch_size must be positive and seed >= 0, found {self.max_frames}, "
                f"{self.num_epochs}, {self.batch_size} and {self.seed}"
            )
        if not 0 <= self.process_index < self.process_count or self.batch_size % self.process_count:
            raise ValueError(
                f"process_index must be in [0, process_count) and batch_size a multiple of process_count, "
                f"found {self.process_index}, {self.process_count} and {self.batch_size}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, including an incomplete last one."""
        return -(-len(self.rows) // self.batch_size)

    def __len__(self) -> int:
        return self.num_epochs * self.steps_per_epoch

    def rows_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of this process's share of a batch, and the mask of those that count: `[batch_size / process_count]`."""
        epoch, step = divmod(number, self.steps_per_epoch)
        share = self.batch_size // self.process_count
        place = step * self.batch_size + self.process_index * share + np.arange(share)
        where = place < len(self.rows)
        place = np.where(where, place, 0)
        if self.seed is not None:
            place = _permutation(len(self.rows), self.seed, epoch)[place]
        return self.rows[place], where

    def __getitem__(self, number: int) -> Batch:
        return read_batch(self.data_set, *self.rows_of(number), max_frames=self.max_frames)


def open_data_set(path: Path, *, split: str = "utterances", modalities: Sequence[str] | None = None) -> DataSet:
    """Opens a prepared tfds data set; of its utterances only the first is read, as a check.

    Modalities are its float tensors `[T, D]` or `[D]`; `label` must be a class label. A field `NAME_present` says which
    utterances have modality NAME; without it all have.

    Args:
      path: Folder of the data set, down to its version, for example `tfds/iemocap/iemocap/1.0.0`.
      split: Name of the split.
      modalities: Names of the tensors to read, in this order; by default those in the data set's metadata, else all,
        sorted by name.

    Raises:
      DataSetError: if the folder holds no such data set, or it cannot be streamed.
    """
    try:
        builder = tfds.builder_from_directory(path)
        features, splits, metadata = (
            dict(builder.info.features.items()),
            list(builder.info.splits),
            builder.info.metadata,
        )
    except Exception as error:  # tfds raises many types
        raise DataSetError(
            f"{path}: is no prepared tfds data set; give its folder down to the version, with dataset_info.json in it"
        ) from error
    if split not in splits:
        raise DataSetError(f"{path}: there is no split {split!r}; it has {', '.join(splits)}")
    tensors = {name: feature for name, feature in features.items() if _is_modality(feature)}
    names = tuple(modalities or (metadata or {}).get("modalities") or sorted(tensors))
    for name in names:
        if name not in tensors:
            raise DataSetError(
                f"{path}: {name!r} is no float tensor [T, D] or [D]; it has {', '.join(sorted(tensors))}"
            )
    if len(names) < 2 or not isinstance(features.get("label"), tfds.features.ClassLabel):
        raise DataSetError(
            f"{path}: needs two modalities and a class label named label; it has {', '.join(sorted(features))}"
        )
    try:
        records = builder.as_data_source(split=split).data_source
        records[0]
    except Exception as error:  # array_record raises many types
        raise DataSetError(f"{path}: its records are missing or damaged; write the data set again") from error
    configs = [
        ModalityConfig(name, tensors[name].shape[-1], default_encoder(name, sequence=len(tensors[name].shape) == 2))
        for name in names
    ]
    return DataSet(records, features, tuple(configs), tuple(features["label"].names))


def read_text(data_set: DataSet, name: str, rows: Iterable[int] | None = None) -> np.ndarray:
    """Reads a text field, such as `utterance_id`, of some utterances, by default of all in one pass, `[N]` str.

    Raises:
      DataSetError: if there is no such field.
    """
    _check_text(data_set, name)
    decode = _decoder(data_set, [name])
    rows = range(len(data_set)) if rows is None else map(int, rows)
    return np.array([decode(data_set.records[row])[name].decode() for row in rows])


class Overview(NamedTuple):
    """What all utterances of a data set are.

    Attributes:
      speaker: `[N]`, str.
      label: `[N]`, int; -1 without one.
      present: Modalities that an utterance has, `[N, M]`, bool.
    """

    speaker: np.ndarray
    label: np.ndarray
    present: np.ndarray

    @property
    def labelled(self) -> np.ndarray:
        """Whether an utterance has a label, `[N]`, bool."""
        return self.label != UNLABELLED


def read_overview(data_set: DataSet) -> Overview:
    """Reads who speaks, the label and what is present of all utterances in one pass.

    Raises:
      DataSetError: if there is no text `speaker`.
    """
    _check_text(data_set, "speaker")
    keys = [f"{modality.name}_present" for modality in data_set.modalities]
    known = [key for key in keys if key in data_set.features]  # without the key, all have it
    decode = _decoder(data_set, ["speaker", "label", *known])
    examples = [decode(data_set.records[row]) for row in range(len(data_set))]
    return Overview(
        np.array([example["speaker"].decode() for example in examples]),
        np.array([example["label"] for example in examples], np.int32),
        np.array([[bool(example.get(key, True)) for key in keys] for example in examples]),
    )


def read_batch(data_set: DataSet, rows: np.ndarray, where: np.ndarray, *, max_frames: int) -> Batch:
    """Reads rows as a batch of numpy arrays, sequences as `[B, max_frames, D]`.

    Args:
      data_set: The data set.
      rows: `[B]`, int.
      where: Rows that count, `[B]`, bool.
      max_frames: T; longer sequences are shortened (`shorten`).

    Raises:
      ValueError: if `max_frames` is below 1.
    """
    check_max_frames(max_frames)
    names = [modality.name for modality in data_set.modalities]
    present_names = {name: f"{name}_present" for name in names if f"{name}_present" in data_set.features}
    decode = _decoder(data_set, ["label", *names, *present_names.values()])
    examples = [decode(data_set.records[row]) for row in rows.tolist()]
    features: dict[str, np.ndarray] = OrderedDict()
    length: dict[str, np.ndarray] = {}
    present = np.ones((len(rows), len(names)), bool)
    for column, modality in enumerate(data_set.modalities):
        values = [example[modality.name] for example in examples]
        if modality.name in present_names:
            present[:, column] = [example[present_names[modality.name]] for example in examples]
        if modality.encoder == "vector":
            features[modality.name] = np.stack(values).astype(np.float32)
            continue
        padded = np.zeros((len(rows), max_frames, modality.width), np.float32)
        kept = np.zeros(len(rows), np.int32)
        for row, frames in enumerate(values):
            frames = shorten(frames, max_frames)
            kept[row] = len(frames)
            padded[row, : len(frames)] = frames
        features[modality.name], length[modality.name] = padded, kept
    label = np.array([example["label"] for example in examples], np.int32)
    return Batch(features, length, present, label, where)  # type: ignore[arg-type]  # numpy until it is on a device


def read_ahead(
    batches: Batches, *, place: Callable[[Batch], Batch] = jax.device_put, num_threads: int = 1, ahead: int = 4
) -> grain.DatasetIterator:
    """An iterator over batches that are read and moved to the device in background threads.

    `get_state()` returns its position, `{"next_index": n}`, which can be stored as JSON. After `set_state` it continues
    there with the same batches.

    Args:
      batches: The batches to read.
      place: Called on each batch in the thread: moves it to the device, or splits it over devices.
      num_threads: Number of batches read at the same time; more than one helps if storage has a high latency.
      ahead: Number of batches kept ready.
    """
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.source(batches).map(place).to_iter_dataset(options))


@functools.lru_cache(maxsize=4)  # more than one: reading ahead, threads need the orders of two epochs at a time
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def _check_text(data_set: DataSet, name: str) -> None:
    if not isinstance(data_set.features.get(name), tfds.features.Text):
        raise DataSetError(f"the data set has no text {name!r}; it has {', '.join(sorted(data_set.features))}")


def _decoder(data_set: DataSet, names: Sequence[str]) -> Callable[[bytes], dict[str, Any]]:
    """A function that decodes these fields of a record; fewer fields are faster."""
    return tfds.features.FeaturesDict({name: data_set.features[name] for name in names}).deserialize_example_np


def _is_modality(feature: Any) -> bool:
    return (
        isinstance(feature, tfds.features.Tensor)
        and len(feature.shape) in (1, 2)
        and isinstance(feature.shape[-1], int)
        and np.issubdtype(feature.np_dtype, np.floating)
    )
