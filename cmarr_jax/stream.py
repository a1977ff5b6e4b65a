"""Corpora larger than memory: batches read from a tfds data set (array_record) while the step computes.

The batch with number n is a pure function of the data set, the rows, the seed and n. Grain reads ahead in threads, and
its whole state is n. Nothing grows with the corpus but the list of rows and the order of an epoch (8 bytes an utterance
each). The only module that imports Grain and tfds.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds

from cmarr_jax.config import ModalityConfig
from cmarr_jax.input import Normalizer, encoder_kind, shorten
from cmarr_jax.types import Batch


class DataSetError(ValueError):
    """A data set that cannot be streamed; the message is one sentence that says what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class DataSet:
    """A prepared tfds data set with random access to its utterances.

    Attributes:
      records: Serialised examples by row; only what is asked for is read.
      features: What tfds knows of each field, by name.
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
    """The batches of some epochs by number, from 0: a random access source for Grain.

    Global batches do not depend on `process_count`: the shares of the processes, one after the other, are the batch.
    The last batch of an epoch is filled up with its first utterance, which does not count there.

    Attributes:
      data_set: What is read.
      rows: Rows of the data set that take part, `[N]`, int.
      batch_size: Utterances per global batch, a multiple of `process_count`.
      max_frames: T of every sequence; longer ones are averaged down (`shorten`), shorter ones padded.
      num_epochs: How often every row is read.
      seed: Of the order, >= 0; each epoch has another one. `None`: in the order of `rows`.
      process_index: Which share of each batch this is.
      process_count: Number of shares.
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
        """Batches per epoch, the incomplete one included."""
        return -(-len(self.rows) // self.batch_size)

    def __len__(self) -> int:
        return self.num_epochs * self.steps_per_epoch

    def rows_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of this process's share of a batch, and which of them count, both `[batch_size / process_count]`."""
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
    """Opens the folder of a prepared tfds data set, down to its version, without reading an utterance.

    Modalities are its float tensors `[T, D]` or `[D]`; `label` must be a class label. `NAME_present` is read if there.

    Args:
      path: For example `tfds/iemocap/iemocap/1.0.0`.
      split: Which split.
      modalities: Which tensors, in which order; by default those that the data set's metadata name, else all by name.

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
        ModalityConfig(name, tensors[name].shape[-1], encoder_kind(name, sequence=len(tensors[name].shape) == 2))
        for name in names
    ]
    return DataSet(records, features, tuple(configs), tuple(features["label"].names))


def read_text(data_set: DataSet, name: str) -> np.ndarray:
    """A text field of every utterance, such as `speaker`, in one pass, `[N]` str.

    Raises:
      DataSetError: if there is no such field.
    """
    if not isinstance(data_set.features.get(name), tfds.features.Text):
        raise DataSetError(f"the data set has no text {name!r}; it has {', '.join(sorted(data_set.features))}")
    decode = _decoder(data_set, [name])
    return np.array([decode(data_set.records[row])[name].decode() for row in range(len(data_set))])


def read_batch(data_set: DataSet, rows: np.ndarray, where: np.ndarray, *, max_frames: int) -> Batch:
    """Utterances as a batch of numpy arrays, sequences as `[B, max_frames, D]`: `rows [B]` int, `where [B]` bool."""
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
    """An iterator that reads and places batches in threads before they are asked for.

    `get_state()` gives its position, which JSON can hold: `{"next_index": n}`. `set_state` continues there, bit by bit.

    Args:
      batches: What is read.
      place: Called on each batch in the thread: moves it to the device, or splits it over devices.
      num_threads: Batches that are read at the same time; more than one helps where storage is slow to answer.
      ahead: Batches that are kept ready.
    """
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.source(batches).map(place).to_iter_dataset(options))


def fit_normalizer(batches: Iterable[Batch]) -> Normalizer:
    """Mean and spread over the valid frames of the present modalities, from one pass over batches.

    Sums of squares are merged around the mean so far, in float64 (Chan, Golub and LeVeque, 1983), so that offsets do
    not cancel digits. A dimension that is constant keeps its scale, as in `cmarr_jax.input.fit_normalizer`.
    """
    moments: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    for batch in batches:
        for column, (name, values) in enumerate(batch.features.items()):
            counted = np.asarray(batch.present[:, column] & batch.where)
            if name in batch.length:
                counted = counted[:, None] & (np.arange(values.shape[1]) < np.asarray(batch.length[name])[:, None])
            found = np.asarray(values)[counted].astype(np.float64)
            zero = (0, np.zeros(values.shape[-1]), np.zeros(values.shape[-1]))
            moments[name] = _merge(moments.get(name, zero), found)
    mean, inverse_std = {}, {}
    for name, (count, center, squares) in moments.items():
        variance = squares / max(count, 1)
        mean[name] = jnp.asarray(center, jnp.float32)
        spread = np.where(variance > 1e-12, 1 / np.sqrt(np.maximum(variance, 1e-12)), 1.0)
        inverse_std[name] = jnp.asarray(spread, jnp.float32)
    return Normalizer(mean, inverse_std)


@functools.lru_cache(maxsize=4)  # threads that read ahead cross the border between two epochs
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


def _merge(one: tuple[int, np.ndarray, np.ndarray], values: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and sum of squared deviations of what was seen and of `values [n, D]` together."""
    if len(values) == 0:
        return one
    count, center, squares = one
    total, new_center = count + len(values), values.mean(0)
    shift = new_center - center
    new_squares = ((values - new_center) ** 2).sum(0)
    weight = len(values) / total
    return total, center + shift * weight, squares + new_squares + shift**2 * (count * weight)


def _decoder(data_set: DataSet, names: Sequence[str]) -> Callable[[bytes], dict[str, Any]]:
    """Decodes these fields of a record only, which is faster than all of them."""
    return tfds.features.FeaturesDict({name: data_set.features[name] for name in names}).deserialize_example_np


def _is_modality(feature: Any) -> bool:
    return (
        isinstance(feature, tfds.features.Tensor)
        and len(feature.shape) in (1, 2)
        and isinstance(feature.shape[-1], int)
        and np.issubdtype(feature.np_dtype, np.floating)
    )
