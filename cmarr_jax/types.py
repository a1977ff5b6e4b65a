"""Array aliases and the small tuples that the library passes around."""

from typing import NamedTuple

import jax

Array = jax.Array


class Batch(NamedTuple):
    """One batch of utterances of fixed shape; `True` in a mask means "counts".

    Attributes:
      features: Per modality, `[B, T, D]` frames (padded) or `[B, D]` one vector per utterance, float. An `OrderedDict`:
        JAX sorts the keys of a plain dict.
      length: Per sequence modality, number of valid frames, `[B]`, int32. Modalities with one vector per utterance have
        no entry.
      present: Modalities that the utterance has at all, `[B, M]`, bool, columns in the order of `features`.
      label: Class index, `[B]`, int32.
      where: `False` for rows that only fill the batch, `[B]`, bool.
    """

    features: dict[str, Array]
    length: dict[str, Array]
    present: Array
    label: Array
    where: Array


class GaussianEmbedding(NamedTuple):
    """Diagonal Gaussian per item: `mean` and `log_std`, both `[..., D]`, float."""

    mean: Array
    log_std: Array


class AnchorLoss(NamedTuple):
    """An unreduced loss: `value` per anchor (unit: see the loss) and `valid`, `True` where it counts; else 0."""

    value: Array
    valid: Array
