"""The folder of one run of a table, a *unit*: row of the table, fold, seed. Tables are made from these folders alone.

`ROW/FOLD_seedN` holds `run.json` (configuration, how the run ended, its counts, the history of its losses, and what
its input was, which `cmarr_jax.predict` reads), `params`, and `outputs.npz`: the logits of every validation and test
utterance in every condition, with their ids. A run that diverged has `run.json` and `last_good`, its parameters after
the last update (of the chosen epoch where only test outputs are not finite); the Bayes ceiling has `run.json` only. A
folder appears complete or not at all.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from cmarr_jax.config import REGRESSION_TASK, RunConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.data.json_object import check_kinds, read_object, shown
from cmarr_jax.data.names import as_file_name
from cmarr_jax.methods import make_method
from cmarr_jax.metrics import agreement_sums
from cmarr_jax.predict import INPUT, InputRecord
from cmarr_jax.training.checkpoint import LAST_GOOD, OUTPUTS, RECORD, check_format, save_record, save_run
from cmarr_jax.training.run import RunResult, history_by_stage
from cmarr_jax.training.schedule import CONVERGED, DIVERGED, STATUS, used_stages
from experiments.results import Row, rows_from_counts
from experiments.results_folder import read_config
from experiments.skipped import skipped_record

if TYPE_CHECKING:  # it takes scikit-learn along
    from experiments.classical import ClassicalConfig, ClassicalResult

PARTS = ("val", "test")
EXACT = "exact"  # status of a unit that was computed, not trained
MODELS, INSPECTION = "models.npz", "inspection.npz"
_AGAIN = "delete its folder and run again"
_NUM_SUMS = 7  # of `agreement_sums`


class Unit(NamedTuple):
    """One run of a table: its row, the name of its fold, its seed."""

    row: str
    fold: str
    seed: int

    @property
    def path(self) -> Path:
        """Its folder, below that of the table."""
        return Path(self.row) / f"{as_file_name(self.fold)}_seed{self.seed}"


class Outputs(NamedTuple):
    """What a run says of the utterances of one part of its fold.

    Attributes:
      utterance_id: `[n]`, str.
      speaker: `[n]`, str.
      label: `[n]`, int.
      present: Modalities that each utterance has, `[n, M]`, bool.
      logits: `[P, n, K]` by condition, zeros where an utterance has none of its modalities; of a regression numbers,
        K = 1.
      target: True numbers of a regression, `[n]`; otherwise `None`.
    """

    utterance_id: np.ndarray
    speaker: np.ndarray
    label: np.ndarray
    present: np.ndarray
    logits: np.ndarray
    target: np.ndarray | None = None


def state_path(folder: Path, unit: Unit) -> Path:
    """Where the state of an unfinished unit is kept."""
    return (folder / unit.path).with_name(f".{unit.path.name}.state.npz")


def is_finished(folder: Path, unit: Unit) -> bool:
    """Whether the folder of a table holds this unit."""
    return (folder / unit.path / RECORD).is_file()


def write_unit(
    folder: Path,
    unit: Unit,
    config: RunConfig,
    result: RunResult,
    corpus: Corpus,
    fold: FoldSplit,
    inspection: Mapping[str, np.ndarray] | None = None,
    told: InputRecord | None = None,
    label_share: float = 1.0,
) -> None:
    """Writes one run, whose arrays are numpy's, below the folder of a table.

    `inspection` if its method has one; without `told`, what the input was, it cannot be used to predict. `fold` holds
    the rows of the run: with a `label_share` below 1, those that keep their label.
    """
    modalities = [modality.name for modality in config.encoders.modalities]
    status = int(result.status)
    outputs = [outputs_of(corpus, fold, part, getattr(result, f"{part}_logits")) for part in PARTS]
    val, test = result.val_counts, result.test_counts
    if config.task == REGRESSION_TASK and status != DIVERGED:  # those of the run are of standardised numbers
        val, test = (counts_by_speaker(part, np.unique(part.speaker)).sum(0) for part in outputs)
    record = {
        **_header(unit, modalities, STATUS[status], test),
        **_labels(fold, label_share),
        "best_epoch": result.best_epoch,
        "val_counts": val,
        "history": history_by_stage(result, [stage.name for stage in used_stages(make_method(config))]),
        **({} if told is None else {INPUT: told.to_dict()}),
    }
    if result.skipped.total:
        record["skipped"] = skipped_record(result.skipped, corpus)
    if status == DIVERGED:
        save_run(folder / unit.path, config, result.params, result.normalizer, record, name=LAST_GOOD)
        return
    arrays: dict[str, Mapping[str, np.ndarray]] = {} if inspection is None else {INSPECTION: inspection}
    arrays[OUTPUTS] = _named(outputs)
    save_run(folder / unit.path, config, result.params, result.normalizer, record, arrays)


def write_classical_unit(
    folder: Path,
    unit: Unit,
    config: "ClassicalConfig",
    result: "ClassicalResult",
    corpus: Corpus,
    fold: FoldSplit,
    label_share: float = 1.0,
) -> None:
    """Writes one fold's classical models below the folder of a table: their arrays are in `models.npz`."""
    parts = [outputs_of(corpus, fold, part, getattr(result, f"{part}_logits")) for part in PARTS]
    val, test = (counts_by_speaker(part, np.unique(part.speaker)).sum(0) for part in parts)
    record = {
        "config": config.to_dict(),
        **_header(unit, corpus.modalities, STATUS[CONVERGED], test),
        **_labels(fold, label_share),
        "strength": result.strength,
        "val_counts": val,
    }
    save_record(folder / unit.path, record, {OUTPUTS: _named(parts), MODELS: result.models})


def outputs_of(corpus: Corpus, fold: FoldSplit, part: str, logits: np.ndarray | jax.Array) -> Outputs:
    """The outputs of one part of a fold, from logits `[P, n or more, K]` in the order of its rows."""
    rows = getattr(fold, part)
    is_regression = logits.shape[-1] == 1
    return Outputs(
        corpus.utterance_id[rows],
        corpus.speaker[rows],
        corpus.label[rows],
        corpus.present[rows],
        np.asarray(logits[:, : len(rows)]),  # the rest fills up the shorter folds
        corpus.target[rows] if is_regression and corpus.target is not None else None,
    )


def counts_by_speaker(outputs: Outputs, speakers: np.ndarray) -> np.ndarray:
    """Confusion counts of each of some speakers (sorted) in each condition, `[G, P, K, K]`; or sums `[G, P, 7]`."""
    if outputs.target is not None:
        return _sums_by_speaker(outputs, outputs.target, speakers)
    num_conditions, _, num_classes = outputs.logits.shape
    counts = np.zeros((len(speakers), num_conditions, num_classes, num_classes), int)
    group = np.searchsorted(speakers, outputs.speaker)
    for condition, pattern in enumerate(availability_patterns(outputs.present.shape[1])):
        counted = (outputs.present & pattern).any(axis=1)
        predicted = outputs.logits[condition].argmax(axis=-1)
        at = group[counted], np.full(counted.sum(), condition), outputs.label[counted], predicted[counted]
        np.add.at(counts, at, 1)
    return counts


def _sums_by_speaker(outputs: Outputs, target: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Sums of a regression (`cmarr_jax.metrics.agreement_sums`), float64."""
    patterns = availability_patterns(outputs.present.shape[1])
    counted = [(outputs.present & pattern).any(axis=1) for pattern in patterns]
    of_speaker = lambda name: [
        agreement_sums(target, logits[:, 0], where & (outputs.speaker == name))
        for logits, where in zip(outputs.logits, counted, strict=True)
    ]
    return np.stack([np.stack(of_speaker(name)) for name in speakers])


def _named(parts: Iterable[Outputs]) -> dict[str, np.ndarray]:
    return {
        f"{part}_{name}": value
        for part, outputs in zip(PARTS, parts, strict=True)
        for name, value in outputs._asdict().items()
        if value is not None
    }


def write_counts(folder: Path, unit: Unit, modalities: tuple[str, ...], counts: np.ndarray | jax.Array) -> None:
    """Writes a unit that is known by its test counts `[P, K, K]` only."""
    save_record(folder / unit.path, _header(unit, modalities, EXACT, counts))


def has_outputs(folder: Path, unit: Unit) -> bool:
    """Whether the folder of a table holds this unit with its outputs."""
    return (folder / unit.path / OUTPUTS).is_file()


def read_outputs(folder: Path, unit: Unit, part: str = "test") -> Outputs:
    """The outputs of one run. Raises FileNotFoundError if it has none."""
    path = folder / unit.path / OUTPUTS
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: the run diverged, or the folder is not that of a trained model")
    arrays = _read_arrays(path)
    found = {name: arrays.get(f"{part}_{name}") for name in Outputs._fields}
    return Outputs(**found)  # type: ignore[arg-type]  # only a target may be missing


def read_inspection(folder: Path, unit: Unit) -> dict[str, np.ndarray] | None:
    """What a method's `inspect` says of the test utterances of one run, if it says anything."""
    path = folder / unit.path / INSPECTION
    if not path.is_file():
        return None
    return _read_arrays(path)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        # Opened here, since np.load leaves a damaged file open that it opens itself.
        with path.open("rb") as file, np.load(file) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged zip file raises errors of many types
        raise ValueError(f"{path} is damaged ({error}); delete its folder and run again") from error


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of all units, in the order of the table's configuration: row, fold, seed.

    Raises:
      FileNotFoundError: if the folder holds no table.
      ValueError: if its configuration or a record cannot be read, or a record is that of another run than its folder.
    """
    config = read_config(folder, ("methods", "folds"))
    order = [*config["methods"]], [fold["name"] for fold in config["folds"]]
    place = lambda names, name: names.index(name) if name in names else -1
    records = []
    for path in sorted(folder.glob(f"*/*/{RECORD}")):
        if path.parent.name.startswith("."):  # half-written: killed before it got its name, or being written
            continue
        record = read_object(path, _AGAIN)
        check_format(path, record)
        check_kinds(path, record, {"name": str, "fold": str, "seed": int, "status": str}, "", _AGAIN)
        if record["status"] not in (*STATUS, EXACT):
            raise ValueError(f"{path} is damaged (status is {shown(record['status'])}); {_AGAIN}")
        unit = Unit(record["name"], record["fold"], record["seed"])
        if folder / unit.path != path.parent:
            raise ValueError(f"{path} is the record of {shown(str(unit.path))}, which is another run; {_AGAIN}")
        records.append(record)
    key = lambda record: (place(order[0], record["name"]), place(order[1], record["fold"]), record["seed"])
    yield from sorted(records, key=key)


def read_rows(folder: Path) -> list[Row]:
    """The rows of a table's folder, from the records of its units. Raises ValueError if one cannot be read."""
    rows = []
    for record in read_records(folder):
        unit = Unit(record["name"], record["fold"], record["seed"])
        path = folder / unit.path / RECORD
        check_kinds(path, record, {"modalities": list}, "", _AGAIN)
        rows += rows_from_counts(*unit, record["modalities"], _counts(path, record), record["status"])
    return rows


def _counts(path: Path, record: dict[str, Any]) -> np.ndarray:
    """Confusion counts `[P, K, K]` or sums `[P, 7]` of a record, for P patterns. Raises ValueError if they are none."""
    modalities = record["modalities"]
    names = {name for name in modalities if isinstance(name, str) and name}
    if len(modalities) < 2 or len(names) < len(modalities):
        raise ValueError(f"{path} is damaged (modalities are {shown(modalities)}); {_AGAIN}")
    try:
        counts = np.asarray(record.get("test_counts"))
    except ValueError:  # rows of several lengths
        counts = np.zeros(0)
    num = 2 ** len(modalities) - 1
    shapes = [(num, *counts.shape[1:2] * 2), (num, _NUM_SUMS)]
    is_good = counts.dtype.kind in "if" and counts.size > 0 and counts.shape in shapes and np.isfinite(counts).all()
    if not is_good or (counts.ndim == 3 and (counts < 0).any()):
        text = f"test_counts of the {num} conditions are {shown(record.get('test_counts'))}"
        raise ValueError(f"{path} is damaged ({text}); {_AGAIN}")
    return counts


def _header(unit: Unit, modalities: Any, status: str, counts: Any) -> dict[str, Any]:
    return {
        "name": unit.row,
        "fold": unit.fold,
        "seed": unit.seed,
        "modalities": list(modalities),
        "status": status,
        "test_counts": counts,
    }


def _labels(fold: FoldSplit, share: float) -> dict[str, Any]:
    """What a run's record says of its labels, if it did not use all of them."""
    if share == 1:
        return {}
    return {"labels": {"share": share, "train": len(fold.train), "val": len(fold.val)}}
