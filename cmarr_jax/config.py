"""What a run is made of, as frozen dataclasses, and the hyperparameters, which are arrays in a compiled program.

Everything that shapes a compiled program (widths, layers, epochs, batch size) is a dataclass. A number that only enters
the arithmetic (learning rate, loss weights) is in `Hyperparameters`, so that trials and ablations that differ in
numbers share one program.

The marks C (confirmed by the paper), L (from the papers that it builds on) and D (decided here) are explained in
docs/decisions.md.
"""

import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cmarr_jax.types import Array

ENCODER_KINDS = ("lstm", "conv", "vector")
DTYPES = ("float32", "bfloat16")
WIDEST_CONV = 1000  # every frame of a convolution is a step of its program: a damaged config would never be compiled
CLASSIFICATION_TASK, REGRESSION_TASK = "classification", "regression"
TASK_NAMES = (CLASSIFICATION_TASK, REGRESSION_TASK)


@dataclasses.dataclass(frozen=True)
class ModalityConfig:
    """One modality: name, feature width and encoder (`lstm`, `conv` for sequences, `vector` for one per utterance)."""

    name: str
    width: int
    encoder: str

    def __post_init__(self):
        check_choice(f"encoder of modality {self.name!r}", self.encoder, ENCODER_KINDS)


def default_encoder(name: str, *, sequence: bool) -> str:
    """The encoder of a modality (D): `conv` for sequences named `text...`, `lstm` for other ones, else `vector`."""
    if not sequence:
        return "vector"
    return "conv" if name.startswith("text") else "lstm"


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The unimodal encoders, which all methods share (L: MMIN)."""

    modalities: tuple[ModalityConfig, ...]
    embedding: int = 128  # L: LSTM hidden size and width of every unimodal embedding
    conv_channels: int = 128  # L
    conv_widths: tuple[int, ...] = (3, 4, 5)  # L
    dtype: str = "float32"  # D: of the products inside the LSTM and convolution; all else is float32
    frame_attention: bool = False  # L: MAP attends over the sequence before its Gaussian head
    attention_heads: int = 4  # D: of `frame_attention` and of the fusion by attention

    def __post_init__(self):
        check_numbers(self)
        check_choice("dtype", self.dtype, DTYPES)
        names = [modality.name for modality in self.modalities]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"at least two modalities with different names are needed, found {names}")
        if self.embedding < 2:
            raise ValueError(f"embedding must be at least 2, found {self.embedding}")
        if self.conv_channels < 1 or not self.conv_widths or min(self.conv_widths) < 1:
            raise ValueError(
                f"conv_channels and conv_widths must be positive, found {self.conv_channels} and {self.conv_widths}"
            )
        if max(self.conv_widths) > WIDEST_CONV:
            raise ValueError(f"conv_widths must be at most {WIDEST_CONV} frames, found {self.conv_widths}")
        if self.frame_attention:
            check_heads(self.embedding, self.attention_heads)

    @property
    def num_modalities(self) -> int:
        return len(self.modalities)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Schedule, stopping rule and batches: the same for every method.

    An *epoch* here ends with a validation: it reads every training row once, or as often as `min_epoch_steps` asks on a
    small corpus. A stage ends when its score has not improved for `patience` epochs, or at its budget of epochs. The
    score is the validation UAR (in a regression the CCC), averaged over the last `score_epochs` epochs of the stage, so
    that one noisy epoch is hardly chosen; the first epochs of a stage have fewer to average over.
    """

    complete_epochs: int = 20  # D: budget of stages on complete data
    missing_epochs: int = 60  # D: budget of stages with modalities hidden
    batch_size: int = 128  # L; D: no more than a fold has labelled training rows
    clip_norm: float = 1.0  # L
    include_complete: bool = True  # D: hiding also draws "nothing hidden"; MMIN leaves it out
    decay: bool = True  # L: learning rate falls to zero over the second half of the last stage's budget
    average: float = 0.0  # D: decay per step of the exponential moving average of the weights; 0: none
    patience: int = 0  # D: epochs without improvement that end a stage; 0: stages use their whole budget
    min_epoch_steps: int = 0  # D: steps that an epoch has at least; 0: an epoch reads the rows once
    score_epochs: int = 1  # D: epochs whose validation score is averaged
    max_skipped: int = 10  # D: updates skipped in a row, as loss or gradient was not finite, that end a run
    eval_batch_size: int = 256

    def __post_init__(self):
        check_numbers(self)
        if self.complete_epochs < 0 or self.missing_epochs < 1:
            raise ValueError(
                f"complete_epochs must be >= 0 and missing_epochs >= 1, "
                f"found {self.complete_epochs} and {self.missing_epochs}"
            )
        if self.batch_size < 2 or self.eval_batch_size < 1:
            raise ValueError(
                f"batch_size must be at least 2 (the contrastive losses compare rows) and eval_batch_size at least 1, "
                f"found {self.batch_size} and {self.eval_batch_size}"
            )
        if min(self.patience, self.min_epoch_steps) < 0 or self.score_epochs < 1:
            raise ValueError(
                f"patience and min_epoch_steps must be >= 0 and score_epochs >= 1, "
                f"found {self.patience}, {self.min_epoch_steps} and {self.score_epochs}"
            )
        if self.max_skipped < 1:
            raise ValueError(
                f"max_skipped must be at least 1 (1: the first skipped update ends a run), found {self.max_skipped}"
            )
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be in [0, 1), found {self.average}")
        if not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, found {self.clip_norm}")

    def passes(self, num_batches: int) -> int:
        """How often an epoch reads the training rows, which are `num_batches` batches."""
        return max(1, -(-self.min_epoch_steps // num_batches))


class Hyperparameters(NamedTuple):
    """Numbers of a run that may be traced: Python floats, or arrays with one entry per run of a sweep.

    Attributes:
      learning_rate: Of the optimizer.
      dropout: Rate of dropout in the encoders and the classifier.
      weights: Numbers of the method's loss by name, all that it has (`cmarr_jax.methods.base.make_hyperparameters`).
    """

    learning_rate: float | Array
    dropout: float | Array
    weights: dict[str, float | Array]


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One method on one data set: which method, its sizes, schedule and hyperparameters.

    Attributes:
      method: Name in `cmarr_jax.methods`, or the dotted name of a module of your own.
      encoders: Modalities and unimodal encoders.
      num_classes: K, also in a regression, whose labels serve contrastive losses and folds.
      options: Fields of the method's `Options` that differ from its defaults.
      train: Schedule, stopping rule and batches.
      learning_rate: L: 2e-4 for IEMOCAP, 5e-4 for MSP-IMPROV.
      dropout: L: 0.5, in the encoders and the classifier.
      weights: Weights of the method's loss that differ from its defaults.
      task: `classification`, or `regression` of `Corpus.target`, see `cmarr_jax.task`.
    """

    method: str
    encoders: EncoderConfig
    num_classes: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    learning_rate: float = 2e-4
    dropout: float = 0.5
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    task: str = CLASSIFICATION_TASK

    def __post_init__(self):
        check_numbers(self)
        check_choice("task", self.task, TASK_NAMES)
        for name in ("options", "weights"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} must be a dict, found {getattr(self, name)!r}")
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, found {self.num_classes}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, found {self.learning_rate}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), found {self.dropout}")

    @property
    def num_outputs(self) -> int:
        """Outputs of the network: K, or one number."""
        return self.num_classes if self.task == CLASSIFICATION_TASK else 1

    def without_numbers(self) -> "RunConfig":
        """With neutral hyperparameters: configurations that are then equal share their compiled programs."""
        return dataclasses.replace(self, learning_rate=1.0, dropout=0.0, weights={})

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON. A classification does not name its task, as in the records of earlier versions."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if (key, value) != ("task", CLASSIFICATION_TASK)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunConfig":
        """Inverse of `to_dict`. Raises TypeError on an unknown field."""
        encoders = dict(values["encoders"])
        encoders["modalities"] = tuple(ModalityConfig(**modality) for modality in encoders["modalities"])
        encoders["conv_widths"] = tuple(encoders["conv_widths"])
        parts = {"encoders": EncoderConfig(**encoders), "train": TrainConfig(**values["train"])}
        return cls(**(dict(values) | parts))


def check_numbers(config: Any) -> None:
    """Raises ValueError if a field of type int, float or bool holds something else, nan or infinity."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        is_bool = isinstance(value, bool | np.bool_)
        if field.type is bool and not is_bool:
            raise ValueError(f"{field.name} must be True or False, found {value!r}")
        if field.type is int and (is_bool or not isinstance(value, numbers.Integral)):
            raise ValueError(f"{field.name} must be an integer, found {value!r}")
        if field.type is float and (is_bool or not isinstance(value, numbers.Real) or not math.isfinite(value)):
            raise ValueError(f"{field.name} must be a finite number, found {value!r}")


def check_choice(what: str, value: str, known: Iterable[str]) -> None:
    """Raises ValueError that lists the known values if `value` is none of them."""
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(known)}; found {value!r}")


def check_heads(embedding: int, heads: int) -> None:
    """Raises ValueError if attention cannot split the embedding into that many heads."""
    if heads < 1 or embedding % heads:
        raise ValueError(f"embedding must be a multiple of attention_heads, found {embedding} and {heads}")
