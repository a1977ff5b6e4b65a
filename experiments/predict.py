"""Predicts with trained units. See `--help`.

    python -m experiments.predict --run RUNS/ROW/FOLD_seedN --input FILE.npz --out FILE.csv

Units are the folders ROW/FOLD_seedN of a table. Each utterance may have any of the modalities.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cmarr_jax.data.archive_blocks import BLOCK, read_utterances
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_batch import UtteranceError
from data_prep.convert import Flag, run_command
from experiments.jax_setup import keep_compiled_programs
from experiments.predict_manifest import make_sources, manifest_items
from experiments.prediction_file import check_out, prediction_file

PROG = "python -m experiments.predict"


class Item(NamedTuple):
    """One utterance to answer: its name, its features, and a note on what could not be read of it."""

    utterance_id: str
    features: dict[str, Any]
    note: str = ""


def predict(
    run: tuple[Path, ...],
    input: Path,
    out: Path,
    coverage: float | None = None,
    samples: int = 8,
    only: tuple[str, ...] = (),
    modality: tuple[str, ...] = (),
    other_versions: Flag = False,
    num_workers: int = 0,
    embeddings: Flag = False,
    force: Flag = False,
) -> None:
    """Writes class, probabilities, uncertainty and `abstain` for each utterance; of a regression, value and `std`.

    An utterance with a fault has a sentence in the column `error`; the others are answered.

    Args:
      run: Folders of units; several answer together, by the mean of their probabilities.
      input: Features, as in an archive (.npz), or a manifest of recordings (.csv, .parquet), from which features are
        made as in training. Labels and speakers are not needed.
      out: What to write, .csv or .jsonl.
      coverage: Share of the utterances that are answered without abstaining, as far as they are like the validation
        part; by default 0.9; 1: abstains only where a feature is far from the training. A regression never abstains.
      samples: Times that points are drawn from the Gaussians, for the column `disagreement` (`std` of a
        regression).
      only: Modalities to read; by default all that the input has.
      modality: For a manifest, what the training's record cannot know, each NAME=EXTRACTOR:weights=PATH or
        NAME=features:FILE, as in data_prep.manifest.
      other_versions: Goes on where an extractor's libraries have other versions than in training.
      num_workers: For a manifest, number of processes; 0: one per core.
      embeddings: Writes the embeddings of all modalities, missing ones recovered, to the .jsonl.
      force: Replaces a file that is there.
    """
    check_out(out, embeddings=embeddings, force=force)
    if num_workers < 0:
        raise ArchiveError(f"--num-workers must be 0 (one per core) or more, found {num_workers}")
    keep_compiled_programs()
    share = 0.9 if coverage is None else coverage
    predictor = Predictor.load(*run, coverage=share, num_samples=samples, embeddings=embeddings)
    if predictor.is_regression and coverage is not None:
        raise ArchiveError(f"--coverage: {run[0]}: is a regression, which never abstains; leave the option out")
    if embeddings and not predictor.recovers:
        raise ArchiveError(f"--embeddings: {run[0]}: this method recovers no embeddings; leave the option out")
    check_only(predictor, only)
    if input.suffix == ".npz":
        if modality:
            raise ArchiveError(f"--modality: {input}: holds features already; leave the option out")
        write_predictions(predictor, (Item(*named) for named in read_utterances(input, only)), out)
    elif input.suffix in (".csv", ".parquet"):
        sources = make_sources(predictor, modality, only, other_versions=other_versions)
        named = manifest_items(input, sources, num_workers or None)
        write_predictions(predictor, (Item(*one) for one in named), out)
    else:
        raise ArchiveError(f"--input: {input}: must be features, .npz, or a manifest, .csv or .parquet")


def check_only(predictor: Predictor, only: Sequence[str]) -> None:
    """Raises ArchiveError for a modality that the model does not have."""
    names = [modality.name for modality in predictor.modalities]
    for name in only:
        if name not in names:
            raise ArchiveError(f"--only: there is no modality {name!r}; this model has {', '.join(names)}")


def write_predictions(predictor: Predictor, items: Iterable[Item], out: Path) -> None:
    """Answers a stream of utterances; memory does not grow with their number.

    Raises:
      ArchiveError: if none can be answered.
    """
    total, faults, first = 0, 0, ""
    with prediction_file(out, () if predictor.is_regression else predictor.class_names) as write:
        for block in _blocks(items):
            for item, answer in zip(block, predictor.predict([item.features for item in block]), strict=True):
                far = "" if isinstance(answer, UtteranceError) else answer.far
                write(item.utterance_id, answer, "; ".join(filter(None, (item.note, far))))
                total += 1
                if isinstance(answer, UtteranceError):
                    faults, first = faults + 1, first or f"{item.utterance_id!r}: {answer}"
    print(f"wrote {out}: {total - faults} of {total} utterances answered")
    if faults == total:
        raise ArchiveError(f"{out}: no utterance was answered; {first}")
    if faults:
        print(f"Not answered: {faults} of {total}, see the column error; the first, {first}", file=sys.stderr)


def _blocks(items: Iterable[Item]) -> Iterator[list[Item]]:
    stream = iter(items)
    while block := list(itertools.islice(stream, BLOCK)):
        yield block


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run_command(predict, argv, prog=PROG)


if __name__ == "__main__":
    raise SystemExit(main())
