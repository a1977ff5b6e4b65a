"""What the embeddings of trained models carry: `python -m experiments.point_information RESULTS_FOLDER ROW`.

Two questions on points of test utterances, of methods that have some for missing modalities (`Method.complete`):

- Neighbours: is the nearest point of another modality, among other utterances, of the same class, of the same speaker?
  The alignment decides this; what it draws together can be the class or the speaker.
- Recovered points: what does a linear classifier read in them, and does one that knows true points understand them?
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import recall_score

from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds
from cmarr_jax.predict import Predictor
from cmarr_jax.predict_batch import UtteranceError
from experiments.datasets import load_again
from experiments.jax_setup import keep_compiled_programs, user_errors_as_messages
from experiments.results_folder import read_config
from experiments.units import Unit, read_records

NEIGHBOURS = ("same class", "by chance", "same speaker", "by chance")
PROBES = ("available points", "its true points", "recovered points", "recovered, read as true")


class Points(NamedTuple):
    """What a model makes of some utterances.

    Attributes:
      true: `[N, M, D]`, with all modalities.
      completed: `[P, N, M, D]` by condition: points of missing modalities are recovered.
    """

    true: np.ndarray
    completed: np.ndarray


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
            distance = _squared_distances(points[rows, one], points[others, other])
            itself = rows[:, None] == others
            nearest = others[np.where(itself, np.inf, distance).argmin(1)]
            hits = same[:, rows, nearest]
            chance = np.where(itself, 0, same[:, rows][:, :, others]).sum(2) / (~itself).sum(1)
            found.append(np.stack([hits[0], chance[0], hits[1], chance[1]]))
    return np.concatenate(found, axis=1).mean(1)


def probe(points: Points, target: int, available: np.ndarray, label: np.ndarray, fold: FoldSplit) -> np.ndarray:
    """UAR of linear classifiers (shrinkage LDA) on the test part of a fold.

    They know the labels of the whole training part, also of those utterances whose labels the model did not know: the
    question is what the points carry.

    Args:
      points: Of all utterances.
      target: Number of the missing modality.
      available: Modalities of the condition, `[M]`, bool, without the missing one.
      label: `[N]`.
      fold: Without rows that lack a modality.

    Returns:
      `[4]` fractions in the order of `PROBES`.
    """
    at = _condition(available)
    recovered, true = points.completed[at, :, target], points.true[:, target]
    sources = points.completed[at][:, available].reshape(len(label), -1)
    return np.array(
        [
            _score(sources, sources, label, fold),
            _score(true, true, label, fold),
            _score(recovered, recovered, label, fold),
            _score(true, recovered, label, fold),
        ]
    )


def _score(fitted: np.ndarray, read: np.ndarray, label: np.ndarray, fold: FoldSplit) -> float:
    """UAR on the test rows of `read` of an LDA fitted to the training rows of `fitted`."""
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(fitted[fold.train], label[fold.train])
    return float(recall_score(label[fold.test], model.predict(read[fold.test]), average="macro"))


def _condition(available: np.ndarray) -> int:
    """Number of a condition."""
    return int(np.flatnonzero((availability_patterns(len(available)) == available).all(1))[0])


def _squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`[N, D]` and `[K, D]` to `[N, K]`."""
    return np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T


def points_of(folder: Path, corpus: Corpus) -> Points:
    """Points of all utterances of the corpus in every condition, from the folder of one run.

    Raises:
      ValueError: if its method has none for missing modalities.
      ArchiveError: as `Predictor.load`.
    """
    predictor = Predictor.load(folder, num_samples=1, embeddings=True)
    if not predictor.recovers:
        raise ValueError(f"{folder}: method {predictor.units[0].config.method} has no points of missing modalities")
    completed = []
    for pattern in availability_patterns(len(corpus.modalities)):
        answers = predictor.predict([_features(corpus, row, pattern) for row in range(len(corpus))])
        points = [answer.embeddings for answer in answers if not isinstance(answer, UtteranceError)]
        completed.append(np.array([[one[name] for name in corpus.modalities] for one in points if one is not None]))
    return Points(completed[-1], np.stack(completed))


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
    if not (corpus.present.all() and corpus.labelled.all()):
        raise ValueError(f"{source.name} has utterances without a label or a modality; this needs complete data")
    splits = {fold.name: fold for fold in make_folds(corpus, num_folds=max(len(config["folds"]), 3))}
    units = [Unit(one["name"], one["fold"], one["seed"]) for one in read_records(folder) if one["name"] == row]
    if not units:
        raise ValueError(f"{folder} has no run of row {row}")
    patterns = availability_patterns(len(corpus.modalities))
    cases = [
        (target, pattern) for pattern in patterns for target in range(len(corpus.modalities)) if not pattern[target]
    ]
    near, read = [], []
    for unit in units:
        points, fold = points_of(folder / unit.path, corpus), splits[unit.fold]
        test = fold.test
        near.append(neighbours(points.true[test], corpus.present[test], corpus.label[test], corpus.speaker[test]))
        read.append([probe(points, *case, corpus.label, fold) for case in cases])
    print(f"{row}, {len(units)} runs. Nearest point of another modality, among other test utterances:\n")
    print(_markdown(NEIGHBOURS, [([], np.mean(near, axis=0))]))
    print("\nUAR of a linear classifier that reads, on test utterances:\n")
    names = np.array(corpus.modalities)
    lines = [
        ([names[target], ", ".join(names[pattern])], values)
        for (target, pattern), values in zip(cases, np.mean(read, axis=0), strict=True)
    ]
    print(_markdown(("missing", "available", *PROBES), lines))


def _markdown(heads: tuple[str, ...], lines: list[tuple[list[str], np.ndarray]]) -> str:
    rows = [[*texts, *(f"{100 * value:.1f}" for value in values)] for texts, values in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in [list(heads), ["---"] * len(heads), *rows])


if __name__ == "__main__":
    with user_errors_as_messages(ArchiveError, FoldError, OSError, ValueError):
        tyro.cli(main)
