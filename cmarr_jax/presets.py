"""Presets: our choice of sizes, schedule and hyperparameters, the same for every method.

Values without a comment are the defaults of `cmarr_jax.config` and of the methods' `Options`, where their origin is
marked. Marks C, L, D: docs/decisions.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cmarr_jax.config import CLASSIFICATION_TASK, EncoderConfig, ModalityConfig, RunConfig, TrainConfig
from cmarr_jax.methods import make_method

_NOTHING: Mapping[str, Any] = {}


def small_options(blocks: list[int], flow: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Options for networks smaller than the published ones: widths of MMIN's blocks, layers and width of a flow."""
    return {"mmin": {"widths": blocks}, "cif_mmin": {"widths": blocks}, "dicmor": flow}


@dataclasses.dataclass(frozen=True)
class Preset:
    """What all methods share.

    Attributes:
      encoders: Fields of `EncoderConfig` that differ from its defaults.
      options: Per method, options that differ from its defaults.
      weights: Per method, loss weights that differ from its defaults.
      train: Schedule and stopping rule.
      learning_rate: The same for every method.
      dropout: As `learning_rate`.
      max_frames: Longer sequences are averaged down to this many frames; `None` keeps all.
    """

    encoders: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    weights: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    learning_rate: float = 2e-4
    dropout: float = 0.5
    max_frames: int | None = None

    def config(
        self,
        method: str,
        modalities: tuple[ModalityConfig, ...],
        num_classes: int,
        options: Mapping[str, Any] = _NOTHING,
        weights: Mapping[str, float] = _NOTHING,
        task: str = CLASSIFICATION_TASK,
    ) -> RunConfig:
        """The configuration of a run, with further options and loss weights of the method.

        Raises:
          ValueError: if there is no such method, option or weight.
        """
        config = RunConfig(
            method=method,
            encoders=EncoderConfig(modalities, **self.encoders),
            num_classes=num_classes,
            options={**self.options.get(method, {}), **options},
            train=self.train,
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            weights={**self.weights.get(method, {}), **weights},
            task=task,
        )
        make_method(config)  # an unknown option or weight is an error here, not in the middle of a run
        return config


CONVERGED = TrainConfig(
    # No published schedule: constant rate, averaged weights, and a stop on validation.
    complete_epochs=30, missing_epochs=120, decay=False, average=0.99, patience=15, min_epoch_steps=40, score_epochs=3
)  # fmt: skip

SEQUENCES = Preset(
    # The sizes, batch and rate of the MMIN family (L), all frames kept, our stopping rule.
    train=CONVERGED,
)

VECTORS = Preset(
    # One vector per utterance: a smaller network.
    encoders={"embedding": 64},
    options=small_options([128, 64, 32], {"flow_layers": 6, "flow_hidden": 64})
    | {"cm_arr": {"flow_layers": 6, "flow_hidden": 64, "projection": 32}},
    train=CONVERGED,
    learning_rate=1e-3,
)
