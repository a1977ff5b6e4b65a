"""Writes predictions as CSV or JSON lines, one utterance a row, in the order of the input."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.whole_file import whole_file
from cmarr_jax.predict_batch import UtteranceError
from cmarr_jax.predict_class import Prediction
from cmarr_jax.predict_value import ValuePrediction

KINDS = (".csv", ".jsonl")
Answer = Prediction | ValuePrediction | UtteranceError
Write = Callable[[str, Answer, str], None]


def check_out(path: Path, *, embeddings: bool, force: bool) -> None:
    """Raises ArchiveError if the file cannot be written as wanted."""
    if path.suffix not in KINDS:
        raise ArchiveError(f"--out: {path}: must end in {' or '.join(KINDS)}")
    if embeddings and path.suffix == ".csv":
        raise ArchiveError(f"--embeddings: {path}: a CSV has no place for embeddings; write to a .jsonl")
    if path.exists() and not force:
        raise ArchiveError(f"--out: {path}: is there already; give --force to replace it")


@contextlib.contextmanager
def prediction_file(path: Path, class_names: Sequence[str]) -> Iterator[Write]:
    """`write(utterance_id, answer, note)`; the file gets its name at the end: it is complete or not there at all.

    Args:
      path: The file.
      class_names: Of the model; empty: it is a regression.

    Raises:
      ArchiveError: if the file cannot be written.
    """
    with whole_file(path, "--out") as partial, partial.open("w", encoding="utf-8", newline="") as file:
        columns = [*_row("", UtteranceError(), "", class_names)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if path.suffix == ".csv":
            writer.writeheader()

        def write(name: str, answer: Answer, note: str) -> None:
            if path.suffix == ".csv":
                writer.writerow(_row(name, answer, note, class_names))
            else:
                file.write(json.dumps(_line(name, answer, note, class_names), ensure_ascii=False) + "\n")

        yield write


def _line(name: str, answer: Answer, note: str, class_names: Sequence[str]) -> dict[str, Any]:
    """One utterance for JSON; what is unknown is null."""
    if isinstance(answer, UtteranceError):
        return {"utterance_id": name, "error": str(answer), "note": note}
    shared = {"modalities": list(answer.modalities), "spread": _short_or_none(answer.spread)}
    found: dict[str, Any]
    if isinstance(answer, ValuePrediction):
        found = {"value": _short(answer.value), **shared, "std": _short_or_none(answer.std)}
    else:
        found = {
            "class": answer.class_name,
            "probabilities": dict(zip(class_names, map(_short, answer.probabilities), strict=True)),
            **shared,
            "disagreement": _short_or_none(answer.disagreement),
            "abstain": answer.abstains,
        }
    line: dict[str, Any] = {"utterance_id": name, **found, "error": "", "note": note}
    if answer.embeddings is not None:
        line["embeddings"] = {key: list(map(_short, values)) for key, values in answer.embeddings.items()}
    return line


def _row(name: str, answer: Answer, note: str, class_names: Sequence[str]) -> dict[str, Any]:
    """One utterance for CSV, all columns; what is unknown is empty."""
    line = _line(name, answer, note, class_names)
    if not class_names:
        return {
            "utterance_id": name,
            "value": line.get("value"),
            "modalities": "+".join(line.get("modalities", ())),
            "spread": line.get("spread"),
            "std": line.get("std"),
            "error": line["error"],
            "note": note,
        }
    probabilities = line.get("probabilities", {})
    return {
        "utterance_id": name,
        "class": line.get("class", ""),
        **{f"p_{label}": probabilities.get(label, "") for label in class_names},
        "modalities": "+".join(line.get("modalities", ())),
        "spread": line.get("spread"),
        "disagreement": line.get("disagreement"),
        "abstain": {True: "yes", False: "no", None: ""}[line.get("abstain")],
        "error": line["error"],
        "note": note,
    }


def _short_or_none(value: Any) -> float | None:
    return None if value is None else _short(value)


def _short(value: Any) -> float:
    """Seven digits, as many as float32 has."""
    return float(f"{float(value):.7g}")
