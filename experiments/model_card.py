"""The model card of an exported unit: data, protocol, scores with intervals, limits, licences."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import PARTS
from cmarr_jax.data.names import as_file_name
from cmarr_jax.estimator_shared import ESTIMATOR
from cmarr_jax.methods import make_method
from cmarr_jax.metrics import confusion_counts
from cmarr_jax.predict import LoadedUnit
from cmarr_jax.training.checkpoint import OUTPUTS, RECORD
from experiments.comparison import METRICS, cell_intervals
from experiments.report.scores import AVERAGE
from experiments.report.text import plain_table
from experiments.results import Row, rows_from_counts
from experiments.results_folder import CONFIG, read_config
from experiments.rows import ABOUT, LABELS
from experiments.statistics import Interval

USE = """```python
from load import load  # load.py of this folder; needs jax and numpy

model = load("FOLDER")
answer = model({features}, {length})
answer["probabilities"]  # [B, {num_classes}], in the order of the classes above
```

Features are those of the training, not standardised, padded to any number of frames; `length` says how many count. A
modality that is left out is missing; `present` says so for single utterances."""
LIMITS = """Trained and scored on this data set alone: scores on other speakers, languages, recordings or extractors may
be far lower. The intervals are over the speakers of the test folds, not over data sets. Probabilities have a
temperature that was fitted to the validation part. What a person feels cannot be read off reliably: do not decide about
people by it."""
LICENCES = """The program is Apache-2.0. Parameters are derived from the data named above, whose licence may forbid to
pass them on or to use them commercially (IEMOCAP and MSP-IMPROV: research only, by agreement). So may the licences of
feature extractors (openSMILE: research and private use) and of pretrained encoders."""


def model_card(unit: LoadedUnit) -> str:
    """The card as Markdown. What only the folder of its table knows is left out where the unit was taken from there."""
    record = json.loads((unit.folder / RECORD).read_text())
    if ESTIMATOR in record:
        return _card_of_classifier(unit, record)
    table = unit.folder.resolve().parent.parent
    known = (table / CONFIG).is_file()
    told: dict[str, Any] = read_config(table, ()) if known else {}
    name = record["name"]
    title = f"{LABELS.get(name, name)}, fold {record['fold']}, seed {record['seed']}"
    parts = {
        "Data": _data(unit, told),
        "Protocol": _protocol(unit, record, told),
        "Scores": _scores(unit, record, table if known else None),
    }
    return _card(unit, title, ABOUT.get(name, unit.config.method), parts)


def _card_of_classifier(unit: LoadedUnit, record: dict[str, Any]) -> str:
    """Of what `MissingModalityClassifier.save` wrote: no table, no test part."""
    with np.load(unit.folder / OUTPUTS) as outputs:
        logits, label, present = (outputs[f"val_{name}"] for name in ("logits", "label", "present"))
    modalities = [modality.name for modality in unit.config.encoders.modalities]
    counts = np.stack(
        [
            confusion_counts(label, one.argmax(-1), (present & pattern).any(1), num_classes=unit.config.num_classes)
            for one, pattern in zip(logits, availability_patterns(len(modalities)), strict=True)
        ]
    )
    rows = rows_from_counts(unit.config.method, "validation", 0, modalities, counts)
    head = ["available", "WAR", "UAR"]
    table = [[f"`{row.condition}`", f"{100 * row.war:.1f}", f"{100 * row.uar:.1f}"] for row in rows]
    scores = (
        f"Per cent on the {len(label)} validation utterances, by available modalities. The epoch was chosen on them, "
        f"so scores on new speakers are lower.\n\n{plain_table(head, table)}"
    )
    protocol = (
        "* Fitted by `cmarr_jax.estimator.MissingModalityClassifier`; no test part was scored\n"
        f"* Training: {record['status']}; learning rate {unit.config.learning_rate:g}, dropout {unit.config.dropout:g}"
    )
    parts = {"Data": _data(unit, {}), "Protocol": protocol, "Scores": scores}
    method = unit.config.method
    return _card(unit, f"{LABELS.get(method, method)}, a fitted classifier", ABOUT.get(method, method), parts)


def _card(unit: LoadedUnit, title: str, about: str, parts: dict[str, str]) -> str:
    parts = {**parts, "Use": _use(unit), "Limits": LIMITS, "Licences": LICENCES}
    about = f"Emotion recognition with missing modalities: {about}."
    return "\n\n".join([f"# {title}", about, *(f"## {head}\n\n{text}" for head, text in parts.items())]) + "\n"


def _data(unit: LoadedUnit, told: dict[str, Any]) -> str:
    data = told.get("data", {})
    widths = ", ".join(f"{m.name} ({m.width}, {m.encoder})" for m in unit.config.encoders.modalities)
    lines = [
        f"* Data set: `{data.get('name', 'unknown')}`, {data.get('utterances', 'unknown number of')} utterances, "
        f"SHA-256 `{data.get('sha256', 'unknown')}`",
        f"* Classes: {', '.join(unit.input.class_names)}",
        f"* Modalities (width, encoder): {widths}",
        f"* Longer sequences are averaged down to: {unit.input.max_frames or 'no limit'} (frames)",
    ]
    for name, how in unit.input.extractors.items():
        lines.append(f"* {name}: `{json.dumps(how, sort_keys=True)}`")
    return "\n".join(lines)


def _protocol(unit: LoadedUnit, record: dict[str, Any], told: dict[str, Any]) -> str:
    sizes: dict[str, Any] = next((fold for fold in told.get("folds", []) if fold["name"] == record["fold"]), {})
    counted = ", ".join(f"{part} {sizes[part]}" for part in (*PARTS, "unlabelled") if part in sizes)
    chosen = "How it was tuned is not known here"
    if told:
        is_tuned = record["name"] in told.get("tuned", {})
        chosen = "Learning rate, dropout and loss weights " + ("were, too" if is_tuned else "are the preset's")
    return "\n".join(
        [
            f"* One of {len(told.get('folds', [])) or 'several'} folds; utterances: {counted or 'unknown'}. The epoch "
            f"was chosen on validation. {chosen}. The test part was scored once",
            *_labels(unit, record, sizes),
            f"* Training: {record['status']}; chosen: {_chosen_epoch(record)}",
            f"* Commit `{told.get('commit', 'unknown')}`, JAX {told.get('versions', {}).get('jax', 'unknown')}",
        ]
    )


def _chosen_epoch(record: dict[str, Any]) -> str:
    epoch = record["best_epoch"]  # of the last stage, from 0
    return "none" if epoch < 0 else f"epoch {epoch + 1} of the last stage"


def _labels(unit: LoadedUnit, record: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    """Lines on a share of the labels, and on unlabelled utterances; none where all have a label."""
    lines = []
    if labels := record.get("labels"):
        lines.append(
            f"* Labels: {100 * labels['share']:g} % of those of the training and validation parts, the subset of seed "
            f"{record['seed']}: train {labels['train']}, val {labels['val']}"
        )
    if labels or sizes.get("unlabelled"):
        trained = "the method trains on" if make_method(unit.config).unlabelled else "the method does not train on"
        lines.append(f"* Unlabelled training utterances: features are standardised with them, too; {trained} them")
    return lines


def _scores(unit: LoadedUnit, record: dict[str, Any], table: Path | None) -> str:
    """Of this unit's test fold; and of all units of its row, with intervals, where the folder of its table is known."""
    here = rows_from_counts(
        record["name"], record["fold"], record["seed"], record["modalities"], np.array(record["test_counts"])
    )
    head = ["available", "WAR, this fold", "UAR, this fold"]
    lines = [[f"`{row.condition}`", f"{100 * row.war:.1f}", f"{100 * row.uar:.1f}"] for row in here]
    text = "Per cent on test utterances, by available modalities."
    if table is not None:
        intervals = cell_intervals(table, _rows_of(unit, table), AVERAGE)
        cell = lambda found: f"{100 * found.mean:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"
        of = lambda metric, row: intervals.get((record["name"], metric, row.condition), Interval(*[np.nan] * 3))
        head += ["WAR, all folds", "UAR, all folds"]
        lines = [[*line, *(cell(of(metric, row)) for metric in METRICS)] for line, row in zip(lines, here, strict=True)]
        text += (
            " All folds: the mean over the finished units of this row, with a 95 % interval over speakers and seeds; "
            "nan: too few of them."
        )
    return f"{text}\n\n{plain_table(head, lines)}"


def _rows_of(unit: LoadedUnit, table: Path) -> list[Row]:
    rows = []
    for path in sorted(unit.folder.resolve().parent.glob(f"[!.]*/{RECORD}")):
        record = json.loads(path.read_text())
        if record.get("test_counts") and path.parent.name == f"{as_file_name(record['fold'])}_seed{record['seed']}":
            counts = np.array(record["test_counts"])
            rows += rows_from_counts(record["name"], record["fold"], record["seed"], record["modalities"], counts)
    return rows


def _use(unit: LoadedUnit) -> str:
    modalities = unit.config.encoders.modalities
    shape = lambda m: f"[B, {m.width}]" if m.encoder == "vector" else f"[B, T, {m.width}]"
    features = ", ".join(f'"{m.name}": {m.name}' for m in modalities)
    length = ", ".join(f'"{m.name}": {m.name}_length' for m in modalities if m.encoder != "vector")
    shapes = ", ".join(f"{m.name} `{shape(m)}`" for m in modalities)
    text = USE.replace("{features}", "{" + features + "}").replace("{length}", "{" + length + "}")
    return f"Shapes: {shapes}.\n\n{text.replace('{num_classes}', str(unit.config.num_classes))}"
