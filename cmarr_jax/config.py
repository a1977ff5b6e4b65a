"""What a run is made of, as frozen dataclasses, and the hyperparameters that are arrays.

Everything that shapes a compiled program (widths, layers, epochs, batch size) is a dataclass; everything that is only a
number in it (learning rate, loss weights) is a field of `Hyperparameters`, so that trials and ablations that differ in
numbers share one program.

Marks: C confirmed by the abstract of arXiv 2407.09029, L from its lineage, D our decision.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

from cmarr_jax.types import Array

ENCODER_KINDS = ("lstm", "conv", "vector")
RECOVERIES = ("flow", "zeros")
FUSIONS = ("concat", "attention")
COMBINATIONS = ("mean", "precision", "linear")
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class ModalityConfig:
    """One modality: name, feature width and encoder (`lstm`, `conv` for sequences, `vector` for one per utterance)."""

    name: str
    width: int
    encoder: str

    def __post_init__(self):
        _one_of(f"encoder of modality {self.name!r}", self.encoder, ENCODER_KINDS)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Sizes and variants of the network (encoders and fusion L, Gaussian heads and flow D)."""

    modalities: tuple[ModalityConfig, ...]
    num_classes: int
    embedding: int = 128  # L: LSTM hidden size and width of every unimodal embedding
    conv_channels: int = 128  # L
    conv_widths: tuple[int, ...] = (3, 4, 5)  # L
    encoder_dtype: str = "float32"  # D: of the products inside the LSTM and convolution; all else is float32
    frame_attention: bool = False  # L: MAP attends over the sequence before its Gaussian head
    dropout: float = 0.5  # L
    min_log_std: float = -6.0  # D
    max_log_std: float = 3.0  # D
    recovery: str = "flow"  # C; "zeros" is the ablation
    flow_layers: int = 8  # D
    flow_hidden: int = 128  # D
    flow_log_scale_bound: float = 2.0  # D
    combination: str = "mean"  # D: how the latents of the available modalities become one
    fusion: str = "concat"  # L
    projection: int = 64  # D: width of the points compared in the refinement

    def __post_init__(self):
        _one_of("recovery", self.recovery, RECOVERIES)
        _one_of("fusion", self.fusion, FUSIONS)
        _one_of("combination", self.combination, COMBINATIONS)
        _one_of("encoder_dtype", self.encoder_dtype, DTYPES)
        names = [modality.name for modality in self.modalities]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"at least two modalities with different names are needed, found {names}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, found {self.num_classes}")
        if self.embedding < 2:
            raise ValueError(f"embedding must be at least 2 to be split by the flow, found {self.embedding}")
        if self.flow_layers < 2 or self.flow_layers % 2:
            raise ValueError(f"flow_layers must be even (one coupling for each half), found {self.flow_layers}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {self.dropout}")

    @property
    def num_modalities(self) -> int:
        return len(self.modalities)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The schedule: stage 1 on complete data, stage 2 with a fresh availability pattern per utterance and reading."""

    complete_epochs: int = 20  # D
    missing_epochs: int = 60  # D
    batch_size: int = 128  # L
    clip_norm: float = 1.0  # L
    include_complete: bool = True  # D: stage 2 also draws "nothing hidden"; the lineage leaves it out
    eval_batch_size: int = 256

    def __post_init__(self):
        if self.complete_epochs < 0 or self.missing_epochs < 1:
            raise ValueError(
                f"complete_epochs must be >= 0 and missing_epochs >= 1, "
                f"found {self.complete_epochs} and {self.missing_epochs}"
            )
        if self.batch_size < 2:
            raise ValueError(
                f"batch_size must be at least 2 (the contrastive losses compare rows), found {self.batch_size}"
            )


class Hyperparameters(NamedTuple):
    """Numbers of a run that may be traced: Python floats, or arrays with one entry per model of a sweep."""

    learning_rate: float | Array = 2e-4  # L: 2e-4 IEMOCAP, 5e-4 MSP-IMPROV
    alignment: float | Array = 0.1  # D: weight of the distribution-based contrastive loss
    nll: float | Array = 0.5  # D: weight of the flow's negative log-likelihood
    squared_error: float | Array = 0.5  # D: weight of the reconstruction error
    refinement: float | Array = 0.1  # D: weight of the supervised contrastive loss
    refinement_temperature: float | Array = 0.1  # L: Khosla et al. 2020
    entropy: float | Array = 0.0  # D: weight of the entropy floor
    entropy_floor: float | Array = 0.0  # D: nats per dimension below which an embedding's entropy is penalised


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One method on one data set: which method, its sizes, schedule and hyperparameters."""

    method: str
    model: ModelConfig
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    hyper: Hyperparameters = dataclasses.field(default_factory=Hyperparameters)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return dataclasses.asdict(self) | {"hyper": self.hyper._asdict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`. Raises TypeError on an unknown field."""
        model = dict(values["model"])
        model["modalities"] = tuple(ModalityConfig(**modality) for modality in model["modalities"])
        model["conv_widths"] = tuple(model["conv_widths"])
        return cls(
            method=values["method"],
            model=ModelConfig(**model),
            train=TrainConfig(**values["train"]),
            hyper=Hyperparameters(**values["hyper"]),
        )


def _one_of(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; found {value!r}")
