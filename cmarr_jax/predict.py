"""Predictions for utterances with any of the modalities: class, probabilities, uncertainty, and when to abstain.

Those of a regression are numbers (`cmarr_jax.predict_value`).

    predictor = Predictor.load("runs/mine/cm_arr/01F_seed0")
    [answer] = predictor.predict([{"audio": frames, "text": words}])

Several units (folds, seeds) are an ensemble: their probabilities are averaged.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.calibration import Calibration, calibrate
from cmarr_jax.config import REGRESSION_TASK, ModalityConfig, RunConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.json_object import check_kinds, read_object, shown
from cmarr_jax.data.normalizer import Normalizer, in_target_units, normalize
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.predict_batch import Features, UtteranceError, check_utterance, cut_into_batches, far_text, make_batch
from cmarr_jax.predict_class import Prediction, class_predictions
from cmarr_jax.predict_value import ValuePrediction, value_predictions
from cmarr_jax.training.checkpoint import OUTPUTS, PARAMS, RECORD, load_run
from cmarr_jax.types import Array, Batch

NOT_FINITE = "the outputs for it are not finite; see whether its features are made as those of the training"
INPUT, INPUT_VERSION = "input", 1  # key and version of what a unit says of its input
Answer = Callable[[Params, Normalizer, Batch], dict[str, Array]]


class InputRecord(NamedTuple):
    """What a unit says of its input, beside the modalities of its configuration.

    Attributes:
      class_names: Names of the K classes.
      max_frames: Longer sequences are shortened to this many frames; `None`: none is.
      extractors: How the features of each modality were made, from the details file of the archive; empty: unknown.
    """

    class_names: tuple[str, ...]
    max_frames: int | None
    extractors: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON, with the version."""
        return {"version": INPUT_VERSION, **self._asdict()}


class LoadedUnit(NamedTuple):
    """A trained model, ready to answer; a regression has no calibration."""

    folder: Path
    config: RunConfig
    params: Params
    normalizer: Normalizer
    input: InputRecord
    calibration: Calibration | None


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """One or more units that answer together.

    Attributes:
      units: From `load_unit`, of the same modalities, classes and `max_frames`.
      coverage: Share of the utterances that are to be answered without abstaining, as far as they are like those of
        the validation part with the same modalities. Not used in a regression, which never abstains.
      num_samples: Times that points are drawn from the Gaussians.
      embeddings: Whether answers hold embeddings.
    """

    units: tuple[LoadedUnit, ...]
    coverage: float = 0.9
    num_samples: int = 8
    embeddings: bool = False

    def __post_init__(self) -> None:
        if not self.units:
            raise ArchiveError("there is no unit; give the folder of one fold and seed, ROW/FOLD_seedN")
        if not 0 < self.coverage <= 1:
            raise ArchiveError(f"coverage must be above 0 and at most 1, found {self.coverage}; write 0.9 for 90 %")
        if self.num_samples < 1:
            raise ArchiveError(f"the number of samples must be at least 1, found {self.num_samples}")
        for unit in self.units[1:]:
            _check_same(self.units[0], unit)

    @classmethod
    def load(cls, *folders: str | Path, **options: Any) -> "Predictor":
        """Reads units; `options` are the fields above.

        Raises:
          ArchiveError: if a folder holds no unit that can predict, or the units do not belong together.
        """
        return cls(tuple(load_unit(Path(folder)) for folder in folders), **options)

    def __getstate__(self) -> dict[str, Any]:
        """The fields, for pickle, which cannot write the compiled programs that are kept beside them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def with_one_sample(self) -> "Predictor":
        """The same units with `num_samples=1`, for callers that read no uncertainty; kept, and so compiled once."""
        return dataclasses.replace(self, num_samples=1)

    @functools.cached_property
    def _answers(self) -> list[Answer]:
        """The compiled program of each unit; units of one configuration share it."""
        programs: list[tuple[RunConfig, Answer]] = []
        for unit in self.units:
            if unit.config not in [config for config, _ in programs]:
                programs.append((unit.config, jax.jit(_make_answer(make_method(unit.config), self))))
        return [next(answer for config, answer in programs if config == unit.config) for unit in self.units]

    @functools.cached_property
    def _threshold(self) -> dict[tuple[bool, ...], float]:
        """Smallest confidence that does not abstain, by the modalities that are there; the mean over the units."""
        patterns = availability_patterns(len(self.modalities)).tolist()
        of_unit = lambda one: [one.threshold(number, self.coverage) for number in range(len(patterns))]
        return dict(
            zip(map(tuple, patterns), np.mean(list(map(of_unit, self._calibrations)), axis=0).tolist(), strict=True)
        )

    @functools.cached_property
    def _scales(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Mean and inverse standard deviation of each modality, of the first unit."""
        normalizer = self.units[0].normalizer
        of = lambda name: (np.asarray(normalizer.mean[name]), np.asarray(normalizer.inverse_std[name]))
        return {modality.name: of(modality.name) for modality in self.modalities}

    @property
    def _calibrations(self) -> list[Calibration]:
        return [unit.calibration for unit in self.units if unit.calibration is not None]

    @property
    def is_regression(self) -> bool:
        """Whether answers are numbers (`ValuePrediction`)."""
        return self.units[0].config.task == REGRESSION_TASK

    @property
    def modalities(self) -> tuple[ModalityConfig, ...]:
        """Of the model."""
        return self.units[0].config.encoders.modalities

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.units[0].input.class_names

    @property
    def recovers(self) -> bool:
        """Whether the method has embeddings of missing modalities to give."""
        return make_method(self.units[0].config).complete is not None

    def predict(self, utterances: Sequence[Features]) -> list[Prediction | ValuePrediction | UtteranceError]:
        """Answers in the order of the utterances; an error, which is not raised, for one that cannot be answered.

        Args:
          utterances: Each maps names of modalities to frames `[T, D]`, or one vector `[D]`, of any length and not
            standardised. Any of the modalities may be missing, not all.
        """
        answers: list[Prediction | ValuePrediction | UtteranceError | None] = [None] * len(utterances)
        good: list[tuple[int, dict[str, np.ndarray]]] = []
        for row, features in enumerate(utterances):
            try:
                good.append((row, check_utterance(features, self.modalities)))
            except UtteranceError as error:
                answers[row] = error
        checked = [features for _, features in good]
        for part in cut_into_batches(checked, self.modalities, self.units[0].input.max_frames):
            for (row, _), answer in zip(good[part], self._predict(checked[part]), strict=True):
                number = answer.value if isinstance(answer, ValuePrediction) else answer.probabilities
                answers[row] = answer if np.isfinite(number).all() else UtteranceError(NOT_FINITE)
        return answers  # type: ignore[return-value]  # none is left

    def _predict(self, rows: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Prediction | ValuePrediction]:
        batch = make_batch(rows, self.modalities, self.units[0].input.max_frames)
        found = [
            answer(unit.params, unit.normalizer, batch) for answer, unit in zip(self._answers, self.units, strict=True)
        ]
        found = jax.device_get(found)
        shared = self._shared(found, batch, rows)
        if self.is_regression:
            return value_predictions(found, shared)
        thresholds = [self._threshold[tuple(present)] for present in batch.present[: len(rows)].tolist()]
        return class_predictions(found, self._calibrations, self.class_names, thresholds, shared)

    def _shared(
        self, found: Sequence[dict[str, Any]], batch: Batch, rows: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, Any]]:
        """Of each utterance, what does not depend on the task: modalities, spread, embeddings, what is far away."""
        spread = [one["spread"] for one in found if "spread" in one]
        width = np.mean(spread, axis=0) if spread else None
        names = [modality.name for modality in self.modalities]
        points = found[0].get("points")
        return [
            {
                "modalities": tuple(name for name, has in zip(names, batch.present[row], strict=True) if has),
                "spread": None if width is None else float(width[row]),
                "embeddings": None if points is None else dict(zip(names, points[row], strict=True)),
                "far": far_text(features, self._scales),
            }
            for row, features in enumerate(rows)
        ]


def _make_answer(method: Method, predictor: Predictor) -> Answer:
    """`(params, normalizer, batch) -> arrays`: logits `[B, K]`, drawn ones `[S, B, K]`, and what the method has."""

    def answer(params: Params, normalizer: Normalizer, batch: Batch) -> dict[str, Array]:
        batch = normalize(normalizer, batch)
        embedding = method.encode(params, batch)
        available = batch.present & batch.where[:, None]
        outputs = lambda embedding: in_target_units(normalizer, method.predict(params, embedding, available))
        found = {"logits": outputs(embedding)}
        found["drawn"] = found["logits"][None]
        if method.draw is not None:
            draw, keys = method.draw, jax.random.split(jax.random.key(0), predictor.num_samples)
            found["drawn"] = jax.vmap(lambda key: outputs(draw(params, key, embedding)))(keys)
        inspected = method.inspect(params, batch, embedding, available) if method.inspect is not None else {}
        if "spread" in inspected:
            total = jnp.sum(jnp.where(available, inspected["spread"], 0.0), axis=1)
            found["spread"] = total / jnp.maximum(available.sum(1), 1)
        if predictor.embeddings and method.complete is not None:
            found["points"] = method.complete(params, embedding, available)
        return found

    return answer


def load_unit(folder: Path) -> LoadedUnit:
    """Reads the folder of one trained model.

    Raises:
      ArchiveError: if it holds none, was written before units said what their input is, or is damaged.
    """
    try:
        record = read_object(folder / RECORD, "copy it again")
    except (OSError, ValueError) as error:
        text = f"holds no finished unit ({RECORD}: {error}); give the folder of one fold and seed, ROW/FOLD_seedN"
        raise ArchiveError(f"{folder}: {text}") from error
    if not (folder / PARAMS).is_dir() or not (folder / OUTPUTS).is_file():
        text = (
            f"holds no trained network with outputs (status {record.get('status')!r}), as of a run that diverged, of "
            f"experiments.train_streamed, or of models of scikit-learn; give a unit that has {PARAMS} and {OUTPUTS}"
        )
        raise ArchiveError(f"{folder}: {text}")
    found = record.get(INPUT) or {}
    if not isinstance(found, dict):
        raise ArchiveError(f"{folder}: is damaged ({INPUT} is {shown(found)}); copy it again or train it again")
    if found.get("version") != INPUT_VERSION:
        version = found.get("version", "none")
        text = (
            f"says of its input in version {version}, where {INPUT_VERSION} is read; train it again with this version"
        )
        raise ArchiveError(f"{folder}: {text}")
    try:
        saved = load_run(folder)
    except (OSError, ValueError) as error:
        raise ArchiveError(str(error)) from error
    try:
        told = _input_record(folder / RECORD, found)
        # Opened here, since np.load leaves a damaged file open that it opens itself.
        with (folder / OUTPUTS).open("rb") as file, np.load(file) as outputs:
            parts = [outputs[f"val_{name}"] for name in ("logits", "label", "present")]
            calibration = None if saved.config.task == REGRESSION_TASK else calibrate(*parts)
    except Exception as error:  # damaged bytes make Orbax, zipfile and numpy raise many types
        reason = " ".join(str(error).split())[:160]
        raise ArchiveError(f"{folder}: is damaged ({reason}); copy it again or train it again") from error
    params, normalizer = jax.device_put((saved.params, saved.normalizer))
    return LoadedUnit(folder, saved.config, params, normalizer, told, calibration)


def _input_record(path: Path, found: Mapping[str, Any]) -> InputRecord:
    """What a record says of its input. Raises ValueError if it is damaged."""
    advice = "copy it again"
    check_kinds(path, found, {"class_names": list, "extractors": dict}, INPUT, advice)
    if found.get("max_frames") is not None:
        check_kinds(path, found, {"max_frames": int}, INPUT, advice)
    if not all(isinstance(name, str) for name in found["class_names"]):
        raise ValueError(f"{INPUT}.class_names are {shown(found['class_names'])}, not text")
    return InputRecord(tuple(found["class_names"]), found.get("max_frames"), found["extractors"])


def _check_same(first: LoadedUnit, other: LoadedUnit) -> None:
    """Raises ArchiveError unless two units take the same input and know the same classes."""
    for what, of in (
        ("tasks", lambda unit: unit.config.task),
        ("modalities", lambda unit: unit.config.encoders.modalities),
        ("class_names", lambda unit: unit.input.class_names),
        ("max_frames", lambda unit: unit.input.max_frames),
        ("extractors", lambda unit: unit.input.extractors),
    ):
        if of(first) != of(other):
            raise ArchiveError(f"{other.folder}: has other {what} than {first.folder}; give units of one table")
