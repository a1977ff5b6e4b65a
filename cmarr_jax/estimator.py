"""A classifier with scikit-learn's habits, for arrays without any file.

    model = MissingModalityClassifier("cm_arr").fit({"audio": audio, "text": text}, y, groups=speaker)
    model.predict_proba({"text": new_text})

scikit-learn is not needed; where it is installed, `clone`, `cross_val_score`, `GridSearchCV` and `Pipeline` work, with
`Modalities(features)` as their X.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.calibration import calibrate
from cmarr_jax.config import RunConfig, TrainConfig
from cmarr_jax.data.corpus import ArchiveError, Corpus, check_corpus
from cmarr_jax.data.device import modality_configs
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.modalities import Modalities, Values, as_modalities
from cmarr_jax.methods import make_method
from cmarr_jax.predict import INPUT, InputRecord, LoadedUnit, Predictor, load_unit
from cmarr_jax.predict_batch import UtteranceError
from cmarr_jax.presets import SEQUENCES, VECTORS, Preset
from cmarr_jax.training.checkpoint import OUTPUTS, RECORD, save_run
from cmarr_jax.training.one_run import Progress, train_once
from cmarr_jax.training.run import RunResult, history_by_stage
from cmarr_jax.training.schedule import DIVERGED, STATUS, used_stages

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:  # the classifier works without it
    from cmarr_jax.estimator_base import BaseEstimator, ClassifierMixin

ESTIMATOR = "estimator"  # key of the classifier's own part in the record of a saved one


class NotFittedError(ValueError, AttributeError):
    """The classifier has not been fitted."""


class MissingModalityClassifier(ClassifierMixin, BaseEstimator):
    """Classifies utterances of which any modalities may be missing, at training and at prediction.

    The defaults are those of the experiments (`cmarr_jax.presets`): `VECTORS` if every modality is one vector per
    utterance, else `SEQUENCES`. Training ends when the validation part no longer improves.

    Attributes:
      classes_: Labels, sorted, `[K]`.
      modalities_: Names of the modalities, in the order of the X that was fitted.
      history_: Per stage and name, a value per epoch: losses, UAR on validation.
      status_: How the training ended, one of `cmarr_jax.training.schedule.STATUS`.
      validation_: Rows of X that were the validation part, `[n]`.
      unlabelled_: Rows of X without label that were in the training part, `[n]`.
      predictor_: A `Predictor` with uncertainty, abstention and recovered embeddings.
    """

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
          validation_fraction: Share of the utterances that choose the epoch and the temperature.
          random_state: Seed; the same seed gives the same bits.
          callback: Called with the number of epochs done and a dict of their latest losses and validation UAR.
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

    def fit(
        self, X: Modalities | Mapping[str, Values], y: Any, groups: Any = None, validation: Any = None
    ) -> "MissingModalityClassifier":
        """Trains on all utterances but a validation part.

        As in scikit-learn's semi-supervised estimators, -1 in y is no class: nobody labelled this utterance. Methods
        that can learn from such utterances do (`Method.unlabelled`); for the others they only enter the mean and spread
        that features are standardised by. Name classes otherwise if one of yours is called -1.

        Args:
          X: Features of N utterances by modality, see `Modalities`; two modalities at least.
          y: Labels, `[N]`; -1, also among labels of text: unlabelled.
          groups: Speakers, `[N]`: none is in both parts, also with what is unlabelled. `None`: every utterance is its
            own.
          validation: Which utterances are the validation part, `[N]` bool; `None`: a share of groups, or of each class.
            Unlabelled utterances among them are not used.

        Raises:
          ValueError: if the data or a parameter has a fault (`cmarr_jax.data.corpus.ArchiveError` is one), or the
            training diverged.
        """
        corpus, self.classes_ = _to_corpus(as_modalities(X), y, groups)
        self.modalities_ = corpus.modalities
        is_held_out = _held_out(validation, corpus, self.validation_fraction, groups is not None, self.random_state)
        labelled = corpus.label >= 0
        self.validation_ = np.flatnonzero(is_held_out & labelled)
        held_out_groups = np.isin(corpus.speaker, corpus.speaker[self.validation_])
        self.unlabelled_ = np.flatnonzero(~labelled & ~is_held_out & ~held_out_groups)
        train = np.flatnonzero(labelled & ~is_held_out)
        fold = FoldSplit("fit", train, self.validation_, self.validation_, self.unlabelled_)
        preset = self._preset(sequences=bool(corpus.length))
        config = preset.config(
            self.method, modality_configs(corpus), len(self.classes_), self.options or {}, self.weights or {}
        )
        result = train_once(corpus, fold, config, self.random_state, preset.max_frames, self.callback)
        self.status_ = STATUS[int(result.status)]
        if result.status == DIVERGED:
            raise ValueError("the training diverged; lower learning_rate, or look at the scale of the features")
        self._keep(corpus, fold, config, preset, result)
        return self

    def predict_proba(self, X: Modalities | Mapping[str, Values]) -> np.ndarray:
        """Probabilities, `[N, K]` in the order of `classes_`, from the modalities that each utterance has.

        Raises:
          ValueError: at the first utterance that cannot be answered: without any modality, of another width.
        """
        if not hasattr(self, "predictor_"):
            raise NotFittedError("this classifier is not fitted; call fit first")
        answers = dataclasses.replace(self.predictor_, num_samples=1).predict(list(as_modalities(X)))
        for row, answer in enumerate(answers):
            if isinstance(answer, UtteranceError):
                raise ValueError(f"utterance {row}: {answer}")
        return np.stack([answer.probabilities for answer in answers])  # type: ignore[union-attr]  # none is an error

    def predict(self, X: Modalities | Mapping[str, Values]) -> np.ndarray:
        """The most probable class of each utterance, `[N]`."""
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def save(self, folder: str | Path) -> None:
        """Writes the fitted classifier into a new folder, which `Predictor.load` reads, too."""
        if not hasattr(self, "predictor_"):
            raise NotFittedError("this classifier is not fitted; call fit first")
        [unit] = self.predictor_.units
        parameters = self.get_params(deep=False) | {"callback": None}
        if self.preset is not None:
            parameters["preset"] = dataclasses.asdict(self.preset)
        own = {"parameters": parameters, "classes": self.classes_.tolist(), "validation": self.validation_}
        record = {
            INPUT: unit.input.to_dict(), ESTIMATOR: own, "status": self.status_, "history": self.history_
        }  # fmt: skip
        save_run(Path(folder), unit.config, unit.params, unit.normalizer, record, {OUTPUTS: self._outputs})

    @classmethod
    def load(cls, folder: str | Path) -> "MissingModalityClassifier":
        """Reads what `save` wrote; it predicts and can be fitted again, but not saved again.

        Raises:
          cmarr_jax.data.corpus.ArchiveError: if the folder holds no saved classifier or is damaged.
        """
        unit = load_unit(Path(folder))
        record = json.loads((Path(folder) / RECORD).read_text())
        if ESTIMATOR not in record:
            raise ArchiveError(f"{folder}: is a unit of a table, not a saved classifier; read it with Predictor.load")
        own = record[ESTIMATOR]
        preset = own["parameters"]["preset"]
        if preset is not None:
            own["parameters"]["preset"] = Preset(**preset | {"train": TrainConfig(**preset["train"])})
        model = cls(**own["parameters"])
        model.classes_, model.validation_ = np.array(own["classes"]), np.array(own["validation"], int)
        model.status_, model.history_, model.predictor_ = record["status"], record["history"], Predictor((unit,))
        model.modalities_ = tuple(modality.name for modality in unit.config.encoders.modalities)
        return model

    def _preset(self, *, sequences: bool) -> Preset:
        preset = self.preset or (SEQUENCES if sequences else VECTORS)
        given = {"learning_rate": self.learning_rate, "dropout": self.dropout, "max_frames": self.max_frames}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.embedding is not None:
            changes["encoders"] = {**preset.encoders, "embedding": self.embedding}
        if self.max_epochs is not None:
            changes["train"] = dataclasses.replace(preset.train, missing_epochs=self.max_epochs)
        return dataclasses.replace(preset, **changes)

    def _keep(self, corpus: Corpus, fold: FoldSplit, config: RunConfig, preset: Preset, result: RunResult) -> None:
        self.history_ = history_by_stage(result, [stage.name for stage in used_stages(make_method(config))])
        outputs = {"logits": result.val_logits, "label": corpus.label[fold.val], "present": corpus.present[fold.val]}
        self._outputs = {f"val_{name}": np.asarray(value) for name, value in outputs.items()}
        told = InputRecord(corpus.class_names, preset.max_frames, {})
        calibration = calibrate(*self._outputs.values())
        unit = LoadedUnit(Path(), config, result.params, result.normalizer, told, calibration)
        self.predictor_ = Predictor((unit,))


def _to_corpus(features: Modalities, y: Any, groups: Any) -> tuple[Corpus, np.ndarray]:
    """A checked corpus, and the labels in the order of its classes."""
    label = np.asarray(y)
    if label.shape != features.shape:
        raise ValueError(f"y must have one label per utterance, [{len(features)}], found shape {list(label.shape)}")
    unlabelled = _is_unlabelled(label)
    index = np.full(len(label), -1)
    classes, index[~unlabelled] = np.unique(label[~unlabelled], return_inverse=True)
    if len(classes) < 2:
        text = f", and {unlabelled.sum()} times -1, which says that an utterance is unlabelled" * bool(unlabelled.any())
        raise ValueError(f"y must have two classes or more, found {classes.tolist()}{text}")
    names = np.array([f"utterance {row}" for row in range(len(features))])
    speaker = names if groups is None else np.array([f"group {name}" for name in np.asarray(groups)])
    if speaker.shape != features.shape:
        raise ValueError(f"groups must have one entry per utterance, [{len(features)}], found {list(speaker.shape)}")
    joined = {name: _joined(name, entries) for name, entries in features.entries.items()}
    corpus = Corpus(
        utterance_id=names,
        speaker=speaker,
        session=speaker,
        label=index.astype(np.int32),
        class_names=tuple(map(str, classes.tolist())),
        features={name: values for name, (values, _) in joined.items()},
        length={name: length for name, (_, length) in joined.items() if length is not None},
        present=np.array(
            [[entry is not None for entry in row] for row in zip(*features.entries.values(), strict=True)]
        ),
    )
    check_corpus(corpus, "X")
    return corpus, classes


def _is_unlabelled(label: np.ndarray) -> np.ndarray:
    """Which labels are -1, `[N]` bool; a list of text and -1 becomes text in numpy."""
    if label.dtype == object:
        return np.array([not isinstance(value, str) and value == -1 for value in label], bool)
    return label == ("-1" if label.dtype.kind == "U" else -1)


def _joined(name: str, entries: list[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """Features as a corpus holds them, and the lengths of sequences."""
    shapes = {(entry.ndim, entry.shape[-1]) for entry in entries if entry is not None}
    if not shapes:
        raise ValueError(f"{name}: no utterance has it; leave it out")
    if len(shapes) > 1:
        raise ValueError(f"{name}: entries must be all [D] or all [T, D] of one width, found {sorted(shapes)}")
    [(ndim, width)] = shapes
    if ndim == 1:
        return np.stack([np.zeros(width, np.float32) if entry is None else entry for entry in entries]), None
    length = np.array([0 if entry is None else len(entry) for entry in entries], np.int32)
    return np.concatenate([entry for entry in entries if entry is not None]), length


def _held_out(validation: Any, corpus: Corpus, fraction: float, by_group: bool, seed: int) -> np.ndarray:
    """The validation part, `[N]` bool: what is given, a share of the groups, or a share of each class."""
    labelled = corpus.label >= 0
    if validation is not None:
        given = np.asarray(validation)
        if given.shape != corpus.label.shape or given.dtype != bool or given.all() or not given.any():
            raise ValueError(f"validation must be a mask [{len(corpus)}] that holds out some utterances, not all")
        return given
    if not 0 < fraction < 1:
        raise ValueError(f"validation_fraction must be between 0 and 1, found {fraction}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(corpus), bool)
    if by_group:
        for group in rng.permutation(np.unique(corpus.speaker[labelled])):
            chosen = labelled & (corpus.speaker == group)
            if held_out.sum() + chosen.sum() / 2 <= fraction * labelled.sum() or not held_out.any():
                held_out |= chosen
    else:
        for label in range(corpus.num_classes):
            rows = rng.permutation(np.flatnonzero(corpus.label == label))
            held_out[rows[: max(1, round(fraction * len(rows)))]] = len(rows) > 1
    lacking = sorted(set(range(corpus.num_classes)) - set(corpus.label[~held_out].tolist()))
    if lacking or not (held_out & labelled).any():
        name = corpus.class_names[lacking[0]] if lacking else ""
        raise ValueError(f"class {name!r} is not in the training part; give more utterances or groups, or validation")
    return held_out
