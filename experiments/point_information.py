"""What the embeddings of trained models carry: `python -m experiments.point_information RESULTS_FOLDER ROW`.

Two questions on points of test utterances, of methods that have some for missing modalities (`Method.complete`):

- Neighbours: is the nearest point of another modality, among other utterances, of the same class, of the same speaker?
  All losses of a method have a part in this; a row without its alignment says what the alignment has.
- Recovered points: what does a linear classifier read in them, and does one that knows true points understand them?
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics.pairwise import euclidean_distances

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.folds import FoldError, make_folds
from cmarr_jax.metrics import confusion_counts, uar
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_batch import UtteranceError
from cmarr_jax.training.schedule import DIVERGED, STATUS
from experiments.datasets import load_again
from experiments.jax_setup import keep_compiled_programs, user_errors_as_messages
from experiments.report.text import plain_table
from experiments.results_folder import read_config
from experiments.units import Unit, read_records

NEIGHBOURS = ("same class", "same class by chance", "same speaker", "same speaker by chance")
PROBES = ("available points", "true points", "recovered points", "recovered, read as true")


def neighbours(points: np.ndarray, present: np.ndarray, label: np.ndarray, speaker: np.ndarray) -> np.ndarray:
    """Of what class and speaker the nearest point of another modality is, among other utterances.

    Args:
      points: `[N, M, D]`.
      present: `[N, M]`; points of absent modalities do not count.
      label: `[N]`.
      speaker: `[N]`.

    Returns:
      `[4]` fractions in the order of `NEIGHBOURS`, means over all points.
    """
    same = np.stack([label[:, None] == label, speaker[:, None] == speaker])
    found = []
    for one in range(points.shape[1]):
        for other in range(points.shape[1]):
            rows, others = np.flatnonzero(present[:, one]), np.flatnonzero(present[:, other])
            if one == other or len(rows) < 2 or len(others) < 2:
                continue
            distance = euclidean_distances(points[rows, one], points[others, other])
            itself = rows[:, None] == others
            nearest = others[np.where(itself, np.inf, distance).argmin(1)]
            hits = same[:, rows, nearest]
            chance = np.where(itself, 0, same[:, rows][:, :, others]).sum(2) / (~itself).sum(1)
            found.append(np.stack([hits[0], chance[0], hits[1], chance[1]]))
    return np.concatenate(found, axis=1).mean(1)


def probe(
    true: np.ndarray,
    completed: np.ndarray,
    target: int,
    available: np.ndarray,
    label: np.ndarray,
    fitted: np.ndarray,
    read: np.ndarray,
) -> np.ndarray:
    """UAR of linear classifiers (shrinkage LDA) of points.

    Args:
      true: Points with all modalities, `[N, M, D]`.
      completed: With the available ones; points of the others are recovered, `[N, M, D]`.
      target: Number of the missing modality.
      available: The available modalities, `[M]`, bool, without the missing one.
      label: `[N]`.
      fitted: Rows that the classifiers are fitted to, of utterances that the model was not trained on: the points of
        those that it was trained on may have memorised their labels.
      read: Rows that they read.

    Returns:
      `[4]` fractions in the order of `PROBES`.
    """
    sources = completed[:, available].reshape(len(label), -1)
    pairs = [
        (sources, sources),
        (true[:, target], true[:, target]),
        (completed[:, target], completed[:, target]),
        (true[:, target], completed[:, target]),
    ]
    return np.array([_score(one[fitted], label[fitted], other[read], label[read]) for one, other in pairs])


def _score(points: np.ndarray, label: np.ndarray, read: np.ndarray, truth: np.ndarray) -> float:
    """UAR on `read [n, D]` of an LDA fitted to `points`."""
    predicted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(points, label).predict(read)
    num_classes = int(max(label.max(), truth.max())) + 1
    return float(
        uar(confusion_counts(jnp.asarray(truth), predicted, jnp.ones(len(truth), bool), num_classes=num_classes))
    )


def points_of(predictor: Predictor, corpus: Corpus, rows: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Points of some utterances in a condition, `[n, M, D]`; those of missing or absent modalities are recovered.

    Args:
      predictor: One unit, with `embeddings`.
      corpus: The utterances.
      rows: Of the corpus. Each has one of the available modalities, at least.
      available: Modalities of the condition, `[M]`, bool.

    Raises:
      UtteranceError: for an utterance that cannot be predicted.
    """
    found = []
    for answer in predictor.predict([_features(corpus, row, available & corpus.present[row]) for row in rows]):
        if isinstance(answer, UtteranceError):
            raise answer
        assert answer.embeddings is not None
        found.append([answer.embeddings[name] for name in corpus.modalities])
    return np.array(found)


def _features(corpus: Corpus, row: int, available: np.ndarray) -> dict[str, np.ndarray]:
    """What an utterance has of the available modalities."""
    found = {}
    for name, has in zip(corpus.modalities, available, strict=True):
        values = corpus.features[name]
        if not has:
            continue
        if name in corpus.length:
            end = int(corpus.length[name][: row + 1].sum())
            found[name] = values[end - int(corpus.length[name][row]) : end]
        else:
            found[name] = values[row]
    return found


def probes_of(predictor: Predictor, corpus: Corpus, rows: np.ndarray, true: np.ndarray, num_fitted: int) -> np.ndarray:
    """`probe` of every missing modality and condition, in the order of `cases`, `[cases, 4]`.

    A case counts the utterances that have the missing modality and all available ones; nan if a class has only one of
    them to fit to, or if there is none to read.

    Args:
      predictor: One unit, with `embeddings`.
      corpus: The utterances.
      rows: Of the corpus, `[n]`: those that the classifiers are fitted to, then those that they read.
      true: Points of these rows with all modalities, `[n, M, D]`.
      num_fitted: How many of the rows the classifiers are fitted to.
    """
    found = []
    present, label = corpus.present[rows], corpus.label[rows]
    for available in availability_patterns(len(corpus.modalities))[:-1]:
        seen = np.flatnonzero((present | ~available).all(1))
        completed = np.zeros_like(true)
        if len(seen):
            completed[seen] = points_of(predictor, corpus, rows[seen], available)
        for target in np.flatnonzero(~available).tolist():
            used = seen[present[seen, target]]
            fitted, read = used[used < num_fitted], used[used >= num_fitted]
            counts = np.bincount(label[fitted])
            if np.count_nonzero(counts) < 2 or counts[counts > 0].min() < 2 or not len(read):
                found.append(np.full(len(PROBES), np.nan))
            else:
                found.append(probe(true, completed, target, available, label, fitted, read))
    return np.array(found)


def cases(num_modalities: int) -> list[tuple[int, np.ndarray]]:
    """Every missing modality with every condition that lacks it."""
    patterns = availability_patterns(num_modalities)
    return [(target, pattern) for pattern in patterns for target in range(num_modalities) if not pattern[target]]


def main(folder: tyro.conf.Positional[Path], row: tyro.conf.Positional[str], data: str | None = None) -> None:
    """Prints what the points of a row carry, in per cent, means over its runs, as two tables in Markdown.

    Args:
      folder: What `python -m experiments.reproduce --out` wrote. Of a table with shares of the labels, give the folder
        of one share.
      row: Such as `cm_arr`. Its method must make points of missing modalities.
      data: The feature archive, if it has moved since.
    """
    keep_compiled_programs()
    config = read_config(folder)
    _, source = load_again(config, data)
    corpus = source.corpus
    splits = {fold.name: fold for fold in make_folds(corpus, num_folds=max(len(config["folds"]), 3))}
    records = [one for one in read_records(folder) if one["name"] == row and one["status"] != STATUS[DIVERGED]]
    if not records:
        raise ValueError(f"{folder} has no run of row {row} that did not diverge")
    near, read = [], []
    for one in records:
        if one["fold"] not in splits:
            raise ValueError(f"{folder} has a run of fold {one['fold']}; these data have {', '.join(splits)}")
        unit, fold = Unit(row, one["fold"], one["seed"]), splits[one["fold"]]
        predictor = Predictor.load(folder / unit.path, num_samples=1, embeddings=True)
        if not predictor.recovers:
            raise ValueError(f"{folder}: row {row} has no points of missing modalities")
        rows, test, num_fitted = np.concatenate([fold.val, fold.test]), fold.test, len(fold.val)
        true = points_of(predictor, corpus, rows, np.ones(len(corpus.modalities), bool))
        near.append(neighbours(true[num_fitted:], corpus.present[test], corpus.label[test], corpus.speaker[test]))
        read.append(probes_of(predictor, corpus, rows, true, num_fitted))
    print(f"{row}, {len(records)} runs. Nearest point of another modality, among other test utterances:\n")
    print(_table(NEIGHBOURS, [([], np.mean(near, axis=0))]))
    print("\nUAR, on test utterances, of a linear classifier that was fitted to validation utterances and reads:\n")
    names = np.array(corpus.modalities)
    counted = np.isfinite(read)
    with np.errstate(invalid="ignore"):  # no run has this case
        means = np.where(counted, read, 0).sum(0) / counted.sum(0)
    lines = [
        ([names[target], ", ".join(names[pattern])], values)
        for (target, pattern), values in zip(cases(len(names)), means, strict=True)
    ]
    print(_table(("missing", "available", *PROBES), lines))


def _table(heads: tuple[str, ...], lines: list[tuple[list[str], np.ndarray]]) -> str:
    """A table in Markdown: texts, then numbers in per cent."""
    rows = [[*texts, *(f"{100 * x:.1f}" if np.isfinite(x) else "-" for x in values)] for texts, values in lines]
    return plain_table(heads, rows)


if __name__ == "__main__":
    with user_errors_as_messages(ArchiveError, FoldError, OSError, ValueError):
        tyro.cli(main)
