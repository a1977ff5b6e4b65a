"""Presets: our choice of sizes, schedule and hyperparameters per kind of data set.

Values without a comment are the defaults of `cmarr_jax.config` and of the methods' `Options`, where their origin is
marked. The budget, the stopping rule and the learning rate of a preset are the same for every method.

Marks C, L, D: docs/decisions.md.
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from cmarr_jax import presets
from cmarr_jax.config import CLASSIFICATION_TASK, EncoderConfig, ModalityConfig, RunConfig, TrainConfig
from cmarr_jax.presets import CONVERGED, SEQUENCES, small_options
from data_prep.synthetic.hard import FRAME_SCALE
from experiments.rows import CLASSICAL_ROWS, table_row

if TYPE_CHECKING:  # it takes scikit-learn along
    from experiments.classical import ClassicalConfig


@dataclasses.dataclass(frozen=True)
class Preset(presets.Preset):
    """What all methods of one table share.

    Attributes:
      scale: Synthetic data only: number of utterances relative to IEMOCAP's 5,531.
      frame_scale: Synthetic data only: length of the sequences relative to IEMOCAP-like ones.
      cpu_compile: How a CPU's programs are compiled (`experiments.jax_setup.CPU_COMPILE`): `quick` takes half the time
        for steps that take up to a tenth longer, which pays for short runs; `quickest` for runs of a few steps.
    """

    scale: float = 1.0
    frame_scale: float = 1.0
    cpu_compile: str = "full"

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preset":
        """Inverse of `to_dict`."""
        return cls(**(dict(values) | {"train": TrainConfig(**values["train"])}))

    def changed(self, changes: "Changes") -> "Preset":
        """This preset with what a command line gave."""
        given = {name: value for name, value in vars(changes).items() if value is not None}
        pick = lambda names: {name: given[name] for name in names if name in given}
        return dataclasses.replace(
            self,
            encoders=self.encoders | pick(EncoderConfig.__dataclass_fields__.keys() - {"modalities"}),
            train=dataclasses.replace(self.train, **pick(TrainConfig.__dataclass_fields__)),
            **pick(("learning_rate", "dropout", "max_frames")),
        )

    def run_config(
        self, row: str, modalities: tuple[ModalityConfig, ...], num_classes: int, task: str = CLASSIFICATION_TASK
    ) -> RunConfig:
        """The configuration of one row that is trained here. Raises ValueError with the known names."""
        changed = table_row(row)
        return self.config(changed.method, modalities, num_classes, changed.options, changed.weights, task)

    def row_config(
        self, row: str, modalities: tuple[ModalityConfig, ...], num_classes: int, task: str = CLASSIFICATION_TASK
    ) -> "RunConfig | ClassicalConfig":
        """The configuration of any row. Raises ValueError with the known names, or if it cannot do the task."""
        if row not in CLASSICAL_ROWS:
            return self.run_config(row, modalities, num_classes, task)
        if task != CLASSIFICATION_TASK:
            raise ValueError(f"row {row} is for classes only and cannot do regression; choose another row")
        from experiments.classical import ClassicalConfig

        _, kind, self_training = CLASSICAL_ROWS[row]
        return ClassicalConfig(kind, num_classes, self_training)


@dataclasses.dataclass(frozen=True)
class Changes:
    """Options of the commands that train: what they change of a preset, for every method. `None` changes nothing."""

    complete_epochs: int | None = None
    """Budget of epochs of stage 1, on complete data. This and the following: by default, what the preset has."""
    missing_epochs: int | None = None
    """Budget of epochs of stage 2, with modalities hidden."""
    patience: int | None = None
    """Epochs without improvement on validation that end a stage; 0: every stage uses its whole budget."""
    min_epoch_steps: int | None = None
    """Steps between two validations, at least: a small corpus is read several times in an epoch."""
    average: float | None = None
    """Decay per step of the moving average of the weights; 0: none."""
    max_skipped: int | None = None
    """Updates skipped in a row, because the loss or a gradient was not finite, that end a run."""
    batch_size: int | None = None
    """Utterances per step, over all processes and devices."""
    learning_rate: float | None = None
    """Learning rate of Adam."""
    dropout: float | None = None
    """Of encoders and classifier."""
    embedding: int | None = None
    """Width of the embeddings and of the LSTMs."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the products inside the LSTMs and convolutions."""
    max_frames: int | None = None
    """Longer sequences are averaged down to this many frames. Streamed sequences need it, and are padded to it."""


SYNTHETIC = Preset(
    # Small enough for two CPU cores. An epoch has 70 steps, so fewer epochs without improvement end a stage.
    encoders={"embedding": 32, "conv_channels": 16},
    options=small_options([64, 32, 16], {"flow_layers": 4, "flow_hidden": 32})
    | {"cm_arr": {"flow_layers": 4, "flow_hidden": 32, "projection": 32}},
    weights={"cm_arr": {"alignment": 0.03, "refinement": 0.3}},  # tuned, for CM-ARR alone: experiments/RESULTS.md
    train=dataclasses.replace(CONVERGED, complete_epochs=10, missing_epochs=80, patience=8, batch_size=64),
    learning_rate=2e-3,  # tuned, for zero-fill and CM-ARR: experiments/RESULTS.md
    dropout=0.3,  # D
    max_frames=16,
    cpu_compile="quick",
)

SYNTHETIC_HARD = dataclasses.replace(SYNTHETIC, frame_scale=FRAME_SCALE)

IEMOCAP = Preset(**vars(SEQUENCES))

MSP_IMPROV = dataclasses.replace(IEMOCAP, learning_rate=5e-4)  # L

VECTORS = Preset(**vars(presets.VECTORS))  # one vector per utterance: a smaller network

# Published schedules; the rate decays in the last stage (published: in each).
MMIN_SCHEDULE = dataclasses.replace(IEMOCAP, train=TrainConfig())  # L: 20 + 60 epochs, decay, one noisy epoch chosen
CIF_MMIN_SCHEDULE = dataclasses.replace(IEMOCAP, train=TrainConfig(complete_epochs=40, missing_epochs=40))  # L

SMOKE = Preset(
    # As little as exercises every line; its numbers mean nothing.
    encoders={"embedding": 8, "conv_channels": 4},
    options=small_options([16, 8, 4], {"flow_layers": 2, "flow_hidden": 8})
    | {"cm_arr": {"flow_layers": 2, "flow_hidden": 8, "projection": 8}},
    train=dataclasses.replace(CONVERGED, complete_epochs=1, missing_epochs=2, batch_size=32, min_epoch_steps=0,
                              eval_batch_size=64),
    learning_rate=1e-3,
    max_frames=3,
    scale=0.02,
    frame_scale=0.2,
    cpu_compile="quickest",
)  # fmt: skip

PRESETS = {
    "synthetic": SYNTHETIC,
    "synthetic_hard": SYNTHETIC_HARD,
    "iemocap": IEMOCAP,
    "msp_improv": MSP_IMPROV,
    "vectors": VECTORS,
    "mmin_schedule": MMIN_SCHEDULE,
    "cif_mmin_schedule": CIF_MMIN_SCHEDULE,
    "smoke": SMOKE,
}


def tuned_text(preset: Mapping[str, Any]) -> str:
    """What of a table's preset was tuned, and for which methods; empty if nothing was.

    Args:
      preset: As `Preset.to_dict` gives it.
    """
    tuned = []
    if preset.get("learning_rate") == SYNTHETIC.learning_rate:
        tuned.append("the learning rate was tuned for zero-fill and CM-ARR")
    if preset.get("weights") == SYNTHETIC.weights:
        tuned.append("the loss weights were tuned for CM-ARR alone")
    return f"Of the preset, {' and '.join(tuned)} (experiments/RESULTS.md)." if tuned else ""


def default_preset(*, sequences: bool) -> str:
    """The preset of an archive for which none is named."""
    return "iemocap" if sequences else "vectors"
