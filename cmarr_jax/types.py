"""Array aliases and the small tuples that the library passes around."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array


class PackedFrames(NamedTuple):
    """Frames in blocks of time. Rows are sorted by length, so later blocks hold fewer rows.

    As PyTorch's PackedSequence, with blocks of several frames.

    Attributes:
      blocks: Successive stretches of time, `[n_k, t_k, D]`, float, with `n_0 = B` and falling `n_k`: the first `n_k`
        rows. All frames of an utterance are inside; what is inside after its end is padding.
      row: Batch row of each row of the blocks, a permutation, `[B]`, int32.
    """

    blocks: tuple[Array, ...]
    row: Array


class Batch(NamedTuple):
    """One batch of utterances of fixed shape; `True` in a mask means "counts".

    Attributes:
      features: Per modality, frames as `[B, T, D]` (padded) or as `PackedFrames`, or `[B, D]`, one vector per
        utterance, float. An `OrderedDict` in the order of the columns of `present`: JAX sorts the keys of a plain dict.
      length: Per sequence modality, number of valid frames, `[B]`, int32. Modalities with one vector per utterance have
        no entry.
      present: Modalities that the utterance has at all, `[B, M]`, bool, columns in the order of `features`.
      label: Class index, `[B]`, int32; -1: not known.
      where: `False` for rows that only fill the batch, `[B]`, bool.
      target: Number that a regression predicts, `[B]`, float, not read where the label is -1; `None`: there is none.
      speaker: Number of the speaker in the corpus, `[B]`, int32; `None`: not known.
    """

    features: dict[str, Any]
    length: dict[str, Array]
    present: Array
    label: Array
    where: Array
    target: Array | None = None
    speaker: Array | None = None


class GaussianEmbedding(NamedTuple):
    """Diagonal Gaussian per item: `mean` and `log_std`, both `[..., D]`, float."""

    mean: Array
    log_std: Array


def modality_names(features: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the modalities in the order of the columns of `present`.

    Raises:
      TypeError: for a plain dict, whose keys JAX sorts: columns of `present` would then belong to other modalities.
    """
    if not isinstance(features, OrderedDict):
        raise TypeError(
            f"features must be a collections.OrderedDict in the order of the columns of `present`, found a "
            f"{type(features).__name__}; JAX sorts the keys of a plain dict"
        )
    return tuple(features)


class MaskedLoss(NamedTuple):
    """An unreduced loss and where it counts. `masked_mean(*loss)` reduces it.

    Attributes:
      value: Loss per item, anchor or pair, 0 where it does not count; shape and unit: see the loss.
      valid: Where it counts, same shape, bool.
    """

    value: Array
    valid: Array
