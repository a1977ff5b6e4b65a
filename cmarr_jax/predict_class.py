"""What a classification predicts for an utterance: class, probabilities, uncertainty, and whether it abstains."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from cmarr_jax.calibration import Calibration, disagreement


class Prediction(NamedTuple):
    """What is predicted for one utterance.

    Attributes:
      class_name: The most probable class.
      probabilities: `[K]`, mean over the units, each with its temperature.
      logits: Of each unit, before its temperature, `[U, K]`.
      modalities: Those that the utterance has.
      spread: Mean log standard deviation of the Gaussians of these modalities; `None`: the method has no Gaussians.
      disagreement: Of predictions from points drawn from the Gaussians, missing modalities recovered from these, and of
        the units: mutual information, nats (`cmarr_jax.calibration.disagreement`). `None`: one unit, no Gaussians.
      abstains: Whether the confidence is below the threshold of the chosen coverage, or features are far away.
      embeddings: Per modality, the embedding of the first unit, `[D]`, recovered where the modality is missing; `None`:
        not asked for, or the method recovers none.
      far: Which feature is more than 100 standard deviations from the mean of the training, as a sentence; or empty.
    """

    class_name: str
    probabilities: np.ndarray
    logits: np.ndarray
    modalities: tuple[str, ...]
    spread: float | None
    disagreement: float | None
    abstains: bool
    embeddings: dict[str, np.ndarray] | None
    far: str


def all_drawn(drawn: Sequence[np.ndarray]) -> np.ndarray:
    """The draws of all units, `[S, ...]` of each or `[1, ...]` of one that draws nothing, each unit as often."""
    most = max(len(one) for one in drawn)
    return np.concatenate([np.broadcast_to(one, (most, *one.shape[1:])) for one in drawn])


def class_predictions(
    found: Sequence[Mapping[str, np.ndarray]],
    calibrations: Sequence[Calibration],
    class_names: Sequence[str],
    thresholds: Sequence[float],
    shared: Sequence[Mapping[str, Any]],
) -> list[Prediction]:
    """Joins what the units answer.

    Args:
      found: Of each unit, `logits` `[B, K]` and `drawn` `[S, B, K]`.
      calibrations: Of each unit.
      class_names: Names of the K classes.
      thresholds: Of each utterance, the confidence below which it abstains.
      shared: Of each utterance, its modalities, spread, embeddings and what is far away.
    """
    softmax = lambda key: [
        scipy.special.softmax(one[key] / calibration.temperature, axis=-1)
        for one, calibration in zip(found, calibrations, strict=True)
    ]
    probabilities, drawn = np.mean(softmax("logits"), axis=0), all_drawn(softmax("drawn"))
    unsure = disagreement(drawn) if len(drawn) > 1 else None
    return [
        Prediction(
            class_name=class_names[int(probabilities[row].argmax())],
            probabilities=probabilities[row],
            logits=np.stack([one["logits"][row] for one in found]),
            disagreement=None if unsure is None else float(unsure[row]),
            abstains=bool(probabilities[row].max() < thresholds[row] or of_row["far"]),
            **of_row,
        )
        for row, of_row in enumerate(shared)
    ]
