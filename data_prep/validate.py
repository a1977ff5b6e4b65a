"""Checks a feature archive and prints its contents.

    python -m data_prep.validate FILE.npz

An error gives exit code 1 and one sentence on stderr. A warning names something that is allowed, and often a mistake.
"""

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.corpus import PARTS, Corpus, frame_where
from cmarr_jax.data.folds import FoldSplit, make_folds, unpaired_sessions
from data_prep.convert import run_command
from data_prep.utterances import DIFFER, near_names, told_apart
from data_prep.write import make_console

File = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


def validate(file: File, folds: int = 5) -> None:
    """Checks a feature archive: counts, widths, lengths, presence, folds, SHA-256, warnings.

    Args:
      file: The .npz to check. The format is in data_prep/README.md.
      folds: Number of speaker groups, where neither a split nor sessions of two speakers give the folds.
    """
    corpus = read_archive(file)
    console = make_console()
    size = os.path.getsize(file) / 1e6
    console.print(f"{escape(str(file))}: {len(corpus)} utterances, {size:.1f} MB\nSHA-256 {sha256(file)}")
    if not corpus.labelled.all():
        console.print(_unlabelled_text(corpus))
    if corpus.target is not None:
        console.print(_target_text(corpus.target[corpus.labelled]))
    for table in count_tables(corpus):  # before the folds, which a fault of the counts makes impossible
        console.print(table)
    _print_warnings(_near_names(corpus), console)
    fold_splits = make_folds(corpus, num_folds=folds)
    console.print(fold_table(corpus, fold_splits))
    _print_warnings(warnings_of(corpus, fold_splits), console)
    console.print("The archive is valid.")


def count_tables(corpus: Corpus) -> Iterator[Table]:
    """The tables of what the archive holds."""
    if not np.array_equal(corpus.session, corpus.speaker):
        yield _class_counts(corpus, "session", corpus.session)
    yield _class_counts(corpus, "speaker", corpus.speaker)
    yield _modality_table(corpus)


def fold_table(corpus: Corpus, folds: Sequence[FoldSplit]) -> Table:
    """The sizes of the parts of each fold, and the classes of its test part."""
    parts = PARTS if corpus.labelled.all() else (*PARTS, "unlabelled")
    table = _table("Folds", "fold", *parts, *(f"test {name}" for name in corpus.class_names))
    for fold in folds:
        test = np.bincount(corpus.label[fold.test], minlength=corpus.num_classes)
        _add_row(table, fold.name, *(len(getattr(fold, part)) for part in parts), *test)
    return table


def _near_names(corpus: Corpus) -> Iterator[str]:
    """One sentence for each group of classes or speakers that may be one, written in different ways."""
    for key, names in {"class_names": corpus.class_names, "speaker": corpus.speaker.tolist()}.items():
        for group in near_names(names):
            listed = ", ".join(f"'{name}'" for name in told_apart(group))
            yield f"{key}: {listed} {DIFFER} and are taken as different"


def warnings_of(corpus: Corpus, folds: Sequence[FoldSplit]) -> Iterator[str]:
    """Yields one sentence for each property that is allowed, and often a mistake."""
    yield from unpaired_sessions(corpus)
    for part in ("val", "train"):
        for fold in folds:
            shared = np.intersect1d(corpus.speaker[getattr(fold, part)], corpus.speaker[fold.test])
            if len(shared):
                yield f"fold {fold.name!r}: speakers in both {part} and test: {len(shared)} ({str(shared[0])!r} first)"
    for fold in folds:
        lacking = np.flatnonzero(np.bincount(corpus.label[fold.test], minlength=corpus.num_classes) == 0)
        for label in lacking:
            yield f"fold {fold.name!r}: no test utterance of class {corpus.class_names[label]!r}; its UAR leaves it out"
    unused = np.setdiff1d(np.flatnonzero(~corpus.labelled), np.concatenate([fold.unlabelled for fold in folds]))
    if len(unused):
        first = str(corpus.utterance_id[unused[0]])
        yield f"unlabelled utterances that no fold trains on: {len(unused)} ({first!r} first)"
    for column, name in enumerate(corpus.modalities):
        yield from _feature_warnings(corpus, name, corpus.present[:, column])


def _print_warnings(texts: Iterable[str], console: Console) -> None:
    for text in texts:
        console.print(f"[yellow]warning:[/yellow] {escape(text)}")


def _unlabelled_text(corpus: Corpus) -> str:
    count, num = np.count_nonzero(~corpus.labelled), len(corpus)
    only = np.setdiff1d(corpus.speaker, corpus.speaker[corpus.labelled])
    without = f"; speakers without a labelled one: {len(only)}" if len(only) else ""
    return f"{num - count} of {num} utterances are labelled, {count} are not and are used in training only{without}"


def _target_text(target: np.ndarray) -> str:
    low, high, mean, std = (float(value) for value in (target.min(), target.max(), target.mean(), target.std()))
    return f"target of a regression: {low:g} to {high:g}, mean {mean:.4g}, standard deviation {std:.4g}"


def _feature_warnings(corpus: Corpus, name: str, present: np.ndarray) -> Iterator[str]:
    features, counts = corpus.features[name], frame_where(corpus, name, present)[:, None]
    low = features.min(axis=0, where=counts, initial=np.inf)
    high = features.max(axis=0, where=counts, initial=-np.inf)
    constant = np.flatnonzero(low == high)
    if len(constant):
        yield f"{name}: constant columns: {len(constant)} of {features.shape[1]} (column {constant[0]} first)"
    rows = np.flatnonzero(present)
    end = np.cumsum(corpus.length.get(name, np.ones(len(corpus), int)), dtype=np.int64)
    start = np.r_[0, end[:-1]]
    zero = [row for row in rows if not features[start[row] : end[row]].any()]
    if zero:
        text = f"{name}: present entries of zeros only: {len(zero)} ({str(corpus.utterance_id[zero[0]])!r} first)"
        yield f"{text}; if they are missing, say so in {name}_present"
    digests = [hashlib.sha256(features[start[row] : end[row]].tobytes()).digest() for row in rows]
    _, first, count = np.unique(np.array(digests, "S32"), return_index=True, return_counts=True)
    repeats = len(rows) - len(first)
    if repeats:
        original = str(corpus.utterance_id[rows[first[count > 1].min()]])
        yield f"{name}: entries with the features of an earlier one: {repeats} of {len(rows)} ({original!r} first)"


def _class_counts(corpus: Corpus, title: str, group: np.ndarray) -> Table:
    """Utterances per group and class, with a last row of totals."""
    names, index = np.unique(group, return_inverse=True)
    columns = corpus.class_names if corpus.labelled.all() else (*corpus.class_names, "unlabelled")
    counts = np.zeros((len(names), len(columns)), int)
    np.add.at(counts, (index, corpus.label), 1)  # label -1 is the last column
    table = _table(f"Utterances per {title} and class", title, *columns, "all")
    for name, row in zip(names, counts, strict=True):
        _add_row(table, name, *row, row.sum())
    table.add_section()
    _add_row(table, f"all {len(names)}", *counts.sum(0), counts.sum())
    return table


def _modality_table(corpus: Corpus) -> Table:
    heads = ["min", *(f"{round(100 * q)} %" for q in QUANTILES[1:-1]), "max"]
    table = _table(
        "Modalities (frames per present utterance)", "modality", "width", "dtype", "present", "frames", *heads
    )
    for column, (name, features) in enumerate(corpus.features.items()):
        present = corpus.present[:, column]
        share = f"{present.sum()} ({100 * present.mean():.1f} %)"
        frames: list[object] = ["one vector", *[""] * len(QUANTILES)]
        if name in corpus.length:
            quantiles = np.quantile(corpus.length[name][present], QUANTILES)
            frames = [len(features), *(f"{value:g}" for value in quantiles)]
        _add_row(table, name, features.shape[1], features.dtype, share, *frames)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(escape(other), justify="right")
    return table


def _add_row(table: Table, *cells: object) -> None:
    table.add_row(*(escape(str(cell)) for cell in cells))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(validate, argv, prog="python -m data_prep.validate")


if __name__ == "__main__":
    sys.exit(main())
