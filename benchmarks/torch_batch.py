"""Batches as PyTorch tensors, for the twin."""

from typing import NamedTuple

import torch
from torch import Tensor

from cmarr_jax import types
from cmarr_jax.data.device import DeviceCorpus


class Batch(NamedTuple):
    """As `cmarr_jax.types.Batch`, without rows that only fill up."""

    features: dict[str, Tensor]
    length: dict[str, Tensor]
    present: Tensor
    label: Tensor


def from_jax(batch: types.Batch | DeviceCorpus) -> Batch:
    """A batch of `cmarr_jax`, all of whose rows count, or a whole corpus, as tensors; on a CPU without a copy."""
    features = {name: torch.from_dlpack(values) for name, values in batch.features.items()}
    length = {name: torch.from_dlpack(values) for name, values in batch.length.items()}
    return Batch(features, length, torch.from_dlpack(batch.present), torch.from_dlpack(batch.label))


def take(data: Batch, rows: Tensor) -> Batch:
    """The batch of these rows, padded to its longest utterance per modality."""
    length = {name: values[rows] for name, values in data.length.items()}
    features = {name: values[:, : int(length[name].max())][rows] for name, values in data.features.items()}
    return Batch(features, length, data.present[rows], data.label[rows])
