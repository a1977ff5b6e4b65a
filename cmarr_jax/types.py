"""Array aliases and the small tuples that the library passes around."""

from typing import Any, NamedTuple

import jax

Array = jax.Array


class Staircase(NamedTuple):
    """Frames of a batch cut to where frames can be: the longest utterances first, fewer rows the later the frame.

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
      features: Per modality, frames as `[B, T, D]` (padded) or as a `Staircase`, or `[B, D]`, one vector per utterance,
        float. An `OrderedDict`: JAX sorts the keys of a plain dict.
      length: Per sequence modality, number of valid frames, `[B]`, int32. Modalities with one vector per utterance have
        no entry.
      present: Modalities that the utterance has at all, `[B, M]`, bool, columns in the order of `features`.
      label: Class index, `[B]`, int32.
      where: `False` for rows that only fill the batch, `[B]`, bool.
    """

    features: dict[str, Any]
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
