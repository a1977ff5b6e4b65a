"""What a regression predicts for an utterance: a number, and how sure it is."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cmarr_jax.predict_class import all_drawn


class ValuePrediction(NamedTuple):
    """What a regression predicts for one utterance.

    There is no probability, and so no temperature and no abstaining: both are for classes.

    Attributes:
      value: The number, in the unit of the target; mean over the units.
      values: That of each unit, `[U]`.
      modalities: Those that the utterance has.
      spread: Mean log standard deviation of the Gaussians of these modalities; `None`: the method has no Gaussians.
      std: Standard deviation of the values that points drawn from the Gaussians give, missing modalities recovered from
        these, and of the units, in the unit of the target. It says how far the model is sure of what it read, not how
        far the truth scatters. `None`: one unit, no Gaussians.
      embeddings: As in `cmarr_jax.predict.Prediction`.
      far: As there.
    """

    value: float
    values: np.ndarray
    modalities: tuple[str, ...]
    spread: float | None
    std: float | None
    embeddings: dict[str, np.ndarray] | None
    far: str


def value_predictions(
    found: Sequence[Mapping[str, np.ndarray]], shared: Sequence[Mapping[str, Any]]
) -> list[ValuePrediction]:
    """Joins what the units answer.

    Args:
      found: Of each unit, `logits` `[B, 1]` and `drawn` `[S, B, 1]`, in the unit of the target.
      shared: Of each utterance, its modalities, spread, embeddings and what is far away.
    """
    values = np.stack([one["logits"][:, 0] for one in found])
    drawn = all_drawn([one["drawn"][..., 0] for one in found]).astype(np.float64)
    std = drawn.std(axis=0) if len(drawn) > 1 else None
    return [
        ValuePrediction(
            value=float(values[:, row].mean()),
            values=values[:, row],
            std=None if std is None else float(std[row]),
            **of_row,
        )
        for row, of_row in enumerate(shared)
    ]
