"""What the classifier and the regressor share: parameters, training, saving."""

import dataclasses
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from cmarr_jax.calibration import calibrate
from cmarr_jax.config import CLASSIFICATION_TASK, REGRESSION_TASK, RunConfig, TrainConfig
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.device import modality_configs
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.json_object import read_object
from cmarr_jax.data.modalities import Modalities, Values
from cmarr_jax.estimator_data import read_features
from cmarr_jax.methods import make_method
from cmarr_jax.predict import INPUT, InputRecord, LoadedUnit, Predictor, load_unit
from cmarr_jax.predict_batch import UtteranceError
from cmarr_jax.presets import SEQUENCES, VECTORS, Preset
from cmarr_jax.training.checkpoint import OUTPUTS, RECORD, save_run
from cmarr_jax.training.one_run import Progress, train_once
from cmarr_jax.training.run import RunResult, history_by_stage
from cmarr_jax.training.schedule import DIVERGED, STATUS, used_stages

try:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
except ImportError:  # the estimators work without it
    from cmarr_jax.estimator_base import BaseEstimator, NotFittedError

ESTIMATOR = "estimator"  # key of the estimator's own part in the record of a saved one
KINDS = {CLASSIFICATION_TASK: "classifier", REGRESSION_TASK: "regressor"}


class MissingModalityEstimator(BaseEstimator):
    """Base of `MissingModalityClassifier` and `MissingModalityRegressor`, which have `fit` and `predict`."""

    task: ClassVar[str]

    def __init__(
        self,
        method: str = "cm_arr",
        *,
        options: Mapping[str, Any] | None = None,
        weights: Mapping[str, float] | None = None,
        preset: Preset | None = None,
        learning_rate: float | None = None,
        dropout: float | None = None,
        embedding: int | None = None,
        max_epochs: int | None = None,
        max_frames: int | None = None,
        validation_fraction: float = 0.2,
        random_state: int = 0,
        callback: Progress | None = None,
    ) -> None:
        """Keeps the parameters; `fit` checks them.

        Args:
          method: Name of a method of `cmarr_jax.methods`, or the dotted name of a module of one's own.
          options: Of the method, such as `{"alignment": "cosine"}`.
          weights: Of its losses.
          preset: All else; `None`: by the kind of the features. What follows changes it where it is not `None`.
          learning_rate: Of Adam.
          dropout: Of encoders and classifier.
          embedding: Width of the embeddings.
          max_epochs: Budget of the main stage.
          max_frames: Longer sequences are averaged down to this many frames.
          validation_fraction: Share of the utterances that choose the epoch, and a classifier's temperature.
          random_state: Seed, from 0 to 2**32 - 1; the same seed gives the same bits.
          callback: Called with the number of epochs done and a dict of their latest losses and validation score: UAR,
            of a regressor CCC.
        """
        self.method = method
        self.options = options
        self.weights = weights
        self.preset = preset
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.embedding = embedding
        self.max_epochs = max_epochs
        self.max_frames = max_frames
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.callback = callback

    def save(self, folder: str | Path) -> None:
        """Writes what was fitted into a new folder, which `Predictor.load` reads, too."""
        [unit] = self._fitted().units
        parameters = self.get_params(deep=False) | {"callback": None}
        if self.preset is not None:
            names = (field.name for field in dataclasses.fields(Preset))  # a preset of the experiments has more
            parameters["preset"] = dataclasses.asdict(Preset(**{name: getattr(self.preset, name) for name in names}))
        rows = {"validation": self.validation_, "unlabelled": self.unlabelled_}
        own = {"parameters": parameters, **self._learned(), **rows}
        record = {
            INPUT: unit.input.to_dict(), ESTIMATOR: own, "status": self.status_, "history": self.history_
        }  # fmt: skip
        save_run(Path(folder), unit.config, unit.params, unit.normalizer, record, {OUTPUTS: self._outputs})

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Reads what `save` wrote; it predicts, and can be saved or fitted again.

        Raises:
          cmarr_jax.data.corpus.ArchiveError: if the folder holds no saved estimator of this kind or is damaged.
        """
        if not Path(folder).is_dir():
            raise ArchiveError(f"{folder}: is no folder; give the one that save wrote")
        unit = load_unit(Path(folder))
        record = read_object(Path(folder) / RECORD, "copy it again")
        kind, found = KINDS[cls.task], KINDS[unit.config.task]
        if ESTIMATOR not in record:
            raise ArchiveError(f"{folder}: is a unit of a table, not a saved {kind}; read it with Predictor.load")
        if found != kind:
            raise ArchiveError(f"{folder}: is a saved {found}, not a {kind}; read it with the class of the {found}")
        try:
            model = cls._restored(unit, record)
            with np.load(Path(folder) / OUTPUTS) as outputs:
                model._outputs = dict(outputs)
            return model
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArchiveError(f"{folder}: is damaged ({ESTIMATOR}: {error}); copy it again or fit it again") from error

    @classmethod
    def _restored(cls, unit: LoadedUnit, record: dict[str, Any]) -> Self:
        own = record[ESTIMATOR]
        preset = own["parameters"]["preset"]
        if preset is not None:
            own["parameters"]["preset"] = Preset(**preset | {"train": TrainConfig(**preset["train"])})
        model = cls(**own["parameters"])
        model._set_learned(own)
        model.validation_ = np.array(own["validation"], int)
        model.unlabelled_ = np.array(own["unlabelled"], int)
        model.status_, model.predictor_ = record["status"], Predictor((unit,))
        model.history_ = {
            stage: {name: np.array(column, np.float32) for name, column in columns.items()}  # null becomes nan
            for stage, columns in record["history"].items()
        }
        model.modalities_ = tuple(modality.name for modality in unit.config.encoders.modalities)
        return model

    def _learned(self) -> dict[str, Any]:
        """What `fit` has learned of y, for JSON."""
        return {}

    def _set_learned(self, own: Mapping[str, Any]) -> None:
        """The inverse of `_learned`."""

    def _fitted(self) -> Predictor:
        if not hasattr(self, "predictor_"):
            raise NotFittedError(f"this {KINDS[self.task]} is not fitted; call fit first")
        return self.predictor_

    def _answers(self, X: Modalities | Mapping[str, Values]) -> list[Any]:
        """What the predictor answers, without samples. Raises ValueError at the first fault."""
        answers = self._fitted().with_one_sample.predict(list(read_features(X)))
        for row, answer in enumerate(answers):
            if isinstance(answer, UtteranceError):
                raise ValueError(f"utterance {row}: {answer}")
        return answers

    def _train(self, corpus: Corpus, fold: FoldSplit) -> None:
        """Trains, and keeps what was learned. If it raises, nothing of the estimator has changed."""
        preset = self._preset(sequences=bool(corpus.length))
        options, weights = self.options or {}, self.weights or {}
        for name, given in (("options", options), ("weights", weights)):
            if not isinstance(given, Mapping):
                raise ValueError(f"{name} must be a dict, found {given!r}")
        modalities = modality_configs(corpus)
        config = preset.config(self.method, modalities, corpus.num_classes, options, weights, self.task)
        result = train_once(corpus, fold, config, int(self.random_state), preset.max_frames, self.callback)
        if result.status == DIVERGED:
            what = "outputs for the validation part are not finite"
            if skipped := int(result.skipped.total):
                rows = result.skipped.rows[result.skipped.rows >= 0].tolist()
                shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
                epoch = int(result.skipped.epoch)
                what = f"{skipped} updates were not finite, the last one in epoch {epoch} with the utterances {shown}"
            raise ValueError(
                f"the training diverged: {what}; lower learning_rate, or look at the scale of the features"
            )
        self._keep(corpus, fold, config, preset, result)

    def _preset(self, *, sequences: bool) -> Preset:
        preset = self.preset or (SEQUENCES if sequences else VECTORS)
        if not isinstance(preset, Preset):
            raise ValueError(f"preset must be a cmarr_jax.presets.Preset, such as VECTORS there, found {preset!r}")
        given = {"learning_rate": self.learning_rate, "dropout": self.dropout}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name in ("max_frames", "max_epochs"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, numbers.Integral) or value < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}")
        if self.max_frames is not None:
            changes["max_frames"] = int(self.max_frames)
        if self.embedding is not None:
            changes["encoders"] = {**preset.encoders, "embedding": self.embedding}
        if self.max_epochs is not None:
            changes["train"] = dataclasses.replace(preset.train, missing_epochs=int(self.max_epochs))
        return dataclasses.replace(preset, **changes)

    def _keep(self, corpus: Corpus, fold: FoldSplit, config: RunConfig, preset: Preset, result: RunResult) -> None:
        history = history_by_stage(result, [stage.name for stage in used_stages(make_method(config))])
        logits, label, present = result.val_logits, corpus.label[fold.val], corpus.present[fold.val]
        outputs = {"logits": logits, "label": label, "present": present}
        if corpus.target is not None:
            outputs["target"] = corpus.target[fold.val]
        told = InputRecord(corpus.class_names, preset.max_frames, {})
        calibration = calibrate(np.asarray(logits), label, present) if self.task == CLASSIFICATION_TASK else None
        unit = LoadedUnit(Path(), config, result.params, result.normalizer, told, calibration)
        self.predictor_ = Predictor((unit,))
        self.modalities_, self.history_, self.status_ = corpus.modalities, history, STATUS[int(result.status)]
        self.validation_, self.unlabelled_ = fold.val, fold.unlabelled
        self._outputs = {f"val_{name}": np.asarray(value) for name, value in outputs.items()}
