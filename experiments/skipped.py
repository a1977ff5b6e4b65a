"""Updates that a run skipped, because its loss or a gradient was not finite: in its record, and as a sentence."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cmarr_jax.data.corpus import Corpus
from cmarr_jax.training.checkpoint import LAST_GOOD
from cmarr_jax.training.debug import StepFault
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import DIVERGED, Skipped

if TYPE_CHECKING:  # which imports this file
    from experiments.units import Unit

T = TypeVar("T")
SHOWN = 8  # utterances of a batch that a sentence names; all are in the record


def skipped_record(skipped: Skipped, corpus: Corpus) -> dict[str, Any]:
    """How many updates were skipped; epoch (from 0), step (from 0) and utterances of the last one."""
    return {
        "count": skipped.total,
        "epoch": skipped.epoch,
        "step": skipped.step,
        "utterances": _utterances(skipped, corpus),
    }


def skipped_text(unit: "Unit", result: RunResult, corpus: Corpus) -> str:
    """For example `cm_arr, fold 01F, seed 0: 3 updates skipped, because ...; the last in epoch 4, step 2, with u1.`."""
    skipped, ended = result.skipped, ""
    updates = "1 update" if skipped.total == 1 else f"{int(skipped.total)} updates"
    if result.status == DIVERGED:
        ended = f" The run ended; its parameters before that are in {unit.path / LAST_GOOD}."
    names = named(_utterances(skipped, corpus))
    return (
        f"{unit.row}, fold {unit.fold}, seed {unit.seed}: {updates} skipped, because the loss "
        f"or a gradient was not finite; the last in epoch {int(skipped.epoch)}, step {int(skipped.step)}, with {names}."
        + ended
    )


def with_utterances(items: Iterator[T], row: str, corpus: Corpus) -> Iterator[T]:
    """The items; a fault of a step (`--debug`) then names its row of the table and the utterances of the batch."""
    try:
        yield from items
    except StepFault as fault:
        raise ValueError(
            f"{row}: {fault.text}; the batch: {named(corpus.utterance_id[fault.rows].tolist())}"
        ) from fault


def named(utterances: list[str]) -> str:
    """The first ids, and how many more there are."""
    more = len(utterances) - SHOWN
    return ", ".join(utterances[:SHOWN]) + (f" and {more} more utterances" if more > 0 else "")


def _utterances(skipped: Skipped, corpus: Corpus) -> list[str]:
    rows = np.asarray(skipped.rows)
    return corpus.utterance_id[rows[rows >= 0]].tolist()
