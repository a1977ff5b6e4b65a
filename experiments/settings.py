"""Sizes, schedule and hyperparameters per data set, and the methods of the table.

Values without a comment are the defaults of `cmarr_jax.config`, where their origin is marked.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from cmarr_jax.config import Hyperparameters, ModalityConfig, ModelConfig, RunConfig, TrainConfig

METHODS: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {
    # name in the table: (method of the library, changes of the model, changes of the hyperparameters)
    "zero_fill": ("zero_fill", {}, {}),
    "cm_arr": ("cm_arr", {}, {}),
    "cm_arr_no_alignment": ("cm_arr", {}, {"alignment": 0.0}),
    "cm_arr_no_flow": ("cm_arr", {"recovery": "zeros"}, {}),
    "cm_arr_no_refinement": ("cm_arr", {}, {"refinement": 0.0}),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all methods of one table share.

    Attributes:
      model: Fields of `ModelConfig` that differ from its defaults.
      train: Schedule.
      hyper: Hyperparameters; the learning rate is the same for every method.
      max_frames: Longer sequences are averaged down to this many frames; `None` keeps all.
      scale: Synthetic data only: number of utterances relative to IEMOCAP's 5,531.
      frame_scale: Synthetic data only: length of the sequences relative to IEMOCAP-like ones.
      quick_compile: On CPUs, half the compile time for steps that take up to a tenth longer; pays for short runs.
    """

    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    hyper: Hyperparameters = dataclasses.field(default_factory=Hyperparameters)
    max_frames: int | None = None
    scale: float = 1.0
    frame_scale: float = 1.0
    quick_compile: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return dataclasses.asdict(self) | {"hyper": self.hyper._asdict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`."""
        parts = {"train": TrainConfig(**values["train"]), "hyper": Hyperparameters(**values["hyper"])}
        return cls(**(values | parts))

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """These settings with what a command line gave, by option name; `None` and other options are left out."""
        given = {name: value for name, value in options.items() if value is not None}
        pick = lambda *names: {name: given[name] for name in names if name in given}
        return dataclasses.replace(
            self,
            model=self.model | pick("embedding", "encoder_dtype"),
            train=dataclasses.replace(self.train, **pick("complete_epochs", "missing_epochs", "batch_size")),
            hyper=self.hyper._replace(**pick("learning_rate")),
            **pick("max_frames"),
        )

    def run_config(self, method: str, modalities: tuple[ModalityConfig, ...], num_classes: int) -> RunConfig:
        """The configuration of one method of the table. Raises ValueError with the known names."""
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}; found {method!r}")
        name, model, hyper = METHODS[method]
        return RunConfig(
            method=name,
            model=ModelConfig(modalities, num_classes, **(self.model | model)),
            train=self.train,
            hyper=self.hyper._replace(**hyper),
        )


SYNTHETIC = Settings(
    # Small enough for two CPU cores and a coffee. Chosen on validation folds; twice as many epochs gain a fifth of a
    # point (benchmarks/RESULTS.md).
    model={"embedding": 32, "conv_channels": 16, "flow_layers": 4, "flow_hidden": 32, "projection": 32, "dropout": 0.3},
    train=TrainConfig(complete_epochs=1, missing_epochs=4, batch_size=64),
    hyper=Hyperparameters(learning_rate=2e-3, alignment=0.03, refinement=0.3),
    max_frames=16,
    quick_compile=True,
)

SEQUENCES = Settings(
    # An archive with frames, such as IEMOCAP: the lineage's sizes and schedule.
    max_frames=50,
)

VECTORS = Settings(
    # An archive with one vector per utterance: a smaller network and fewer epochs, which such features fit soon.
    model={"embedding": 64, "flow_layers": 6, "flow_hidden": 64, "projection": 32},
    train=TrainConfig(complete_epochs=5, missing_epochs=15),
    hyper=Hyperparameters(learning_rate=1e-3),
)

SMOKE = Settings(
    # As little as exercises every line; its numbers mean nothing.
    model={"embedding": 8, "conv_channels": 4, "flow_layers": 2, "flow_hidden": 8, "projection": 8},
    train=TrainConfig(complete_epochs=1, missing_epochs=2, batch_size=32, eval_batch_size=64),
    hyper=Hyperparameters(learning_rate=1e-3),
    max_frames=8,
    scale=0.02,
    frame_scale=0.2,
    quick_compile=True,
)
