"""What a table is made of: its data, folds, rows and seeds, and which of its runs are missing."""

import dataclasses
import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cmarr_jax.config import RunConfig
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.label_share import keep_labels
from cmarr_jax.predict import InputRecord
from cmarr_jax.training.processes import gather
from experiments.tuned import Choice, tuned_config
from experiments.units import Unit, is_finished

if TYPE_CHECKING:  # it takes scikit-learn along
    from experiments.classical import ClassicalConfig


@dataclasses.dataclass(frozen=True)
class Table:
    """What a table is made of.

    Attributes:
      corpus: The utterances.
      folds: The folds, with all labels.
      configs: Configuration of each row, by name.
      tuned: Per row and fold, what `experiments.tune` chose, where it did.
      seeds: Seeds of each fold and row: 0 to `seeds` - 1.
      max_frames: Longer sequences are averaged down to this many frames.
      cpu_compile: Name in `experiments.jax_setup.CPU_COMPILE`.
      memory: GiB to plan for; `None`: what is free.
      only: Patterns of the runs to train, such as `cm_arr/01F_seed*`.
      folds_only: Names of the folds to train; all if empty.
      keep_every: Seconds after which the states of unfinished runs are kept on disk again.
      debug: Whether a nan in a step stops the command, which says where it came from.
      extractors: How the features were made, by modality; empty: unknown.
      label_share: Share of the training and validation labels that is used; each seed has a subset of its own.
    """

    corpus: Corpus
    folds: list[FoldSplit]
    configs: dict[str, "RunConfig | ClassicalConfig"]
    tuned: Mapping[str, Mapping[str, Choice]]
    seeds: int = 1
    max_frames: int | None = None
    cpu_compile: str = "full"
    memory: float | None = None
    only: tuple[str, ...] = ("*",)
    folds_only: tuple[str, ...] = ()
    keep_every: float = 300.0
    debug: bool = False
    extractors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    label_share: float = 1.0

    @property
    def input_record(self) -> InputRecord:
        """What each unit says of its input."""
        return InputRecord(self.corpus.class_names, self.max_frames, self.extractors)

    @property
    def units(self) -> list[tuple[int, int]]:
        """Fold and seed of each run of a row."""
        return [(fold, seed) for seed in range(self.seeds) for fold in range(len(self.folds))]

    @functools.cached_property
    def splits(self) -> list[FoldSplit]:
        """The rows that runs are made of: with all labels those of each fold, else those of each run."""
        if self.label_share == 1:
            return self.folds
        return [keep_labels(self.corpus, self.folds[fold], self.label_share, seed) for fold, seed in self.units]

    def split_number(self, number: int) -> int:
        """Place of a run's rows in `splits`."""
        return self.units[number][0] if self.label_share == 1 else number

    def split_of(self, number: int) -> FoldSplit:
        """The rows of one run."""
        return self.splits[self.split_number(number)]

    def unit(self, row: str, number: int) -> Unit:
        """The name of one run."""
        fold, seed = self.units[number]
        return Unit(row, self.folds[fold].name, seed)

    def config(self, row: str, number: int) -> RunConfig:
        """The configuration of one run of a trained row."""
        config = self.configs[row]
        assert isinstance(config, RunConfig)
        choices = self.tuned.get(row)
        return config if choices is None else tuned_config(row, config, choices[self.unit(row, number).fold])

    def check_only(self) -> None:
        """Raises ValueError for a pattern of `only` that no run matches."""
        names = [self.unit(row, number).path.as_posix() for row in self.configs for number in range(len(self.units))]
        for pattern in self.only:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"--only {pattern!r} matches no run; the first is named {names[0]}, the last {names[-1]}"
                )

    def missing_here(self, folder: Path | None, row: str) -> np.ndarray:
        """Numbers of the runs of a row that are wanted and not in the folder; none without a folder."""
        missing = np.zeros(len(self.units), bool)
        if folder is not None:
            for number in range(len(self.units)):
                unit = self.unit(row, number)
                wanted = any(fnmatch.fnmatchcase(unit.path.as_posix(), pattern) for pattern in self.only)
                wanted &= not self.folds_only or unit.fold in self.folds_only
                missing[number] = wanted and not is_finished(folder, unit)
        return np.flatnonzero(missing)

    def missing(self, folder: Path | None, row: str) -> np.ndarray:
        """As `missing_here`, the same in every process: as the first one, which has the folder, sees it."""
        missing = np.isin(np.arange(len(self.units)), self.missing_here(folder, row))
        return np.flatnonzero(gather(missing)[: len(missing)])
