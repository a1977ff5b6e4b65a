"""How much the modalities of a data set share: `python -m experiments.shared_variance ARCHIVE`.

What one modality says of another can be the class, the speaker, or what is particular to the utterance; so it is
measured again with the means of speakers, of classes, or of both taken away. All is linear and an average over columns:
an estimate from below, which overlooks a few shared dimensions among many. What the speaker decides counts as far as it
is the same for speakers that the regression was not fitted to, so with few speakers it is underrated.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.preprocessing import StandardScaler

from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.folds import FoldError, FoldSplit, make_folds
from experiments.classical import pooled
from experiments.datasets import load_archive
from experiments.jax_setup import user_errors_as_messages
from experiments.report.text import plain_table

PENALTIES = {"alpha": np.logspace(1, 7, 7)}
CENTRINGS = {  # whose means are taken away
    "all": (),
    "within speakers": ("speaker",),
    "within classes": ("class",),
    "within both": ("speaker", "class"),
}


def shared_variance(
    corpus: Corpus, folds: Sequence[FoldSplit], source: str, target: str, centring: tuple[str, ...]
) -> float:
    """R^2 of ridge regression from one modality to another, of the test parts of all folds together; a fraction.

    Frames are pooled to mean and standard deviation over time. Columns are standardised, then centred. The penalty is
    chosen by cross-validation over the speakers of the training part.

    Args:
      corpus: The utterances; those without label, or without one of the two modalities, are left out.
      folds: Its folds.
      source: Name of the modality that predicts.
      target: Name of the modality that is predicted.
      centring: Whose means are taken away, `speaker` and `class`. What a class adds is of the training part, what a
        speaker adds of all their utterances.

    Returns:
      At most 1. Below 0: the prediction is worse than the mean of the training part. nan where nothing is left to
      predict.

    Raises:
      ValueError: if a training part has fewer than two speakers with both modalities.
    """
    columns = [list(corpus.modalities).index(name) for name in (source, target)]
    usable = corpus.present[:, columns].all(1) & corpus.labelled
    x, y = pooled(corpus, source), pooled(corpus, target)
    sums = [_squares(corpus, usable, x, y, fold, centring) for fold in folds]
    error, total = np.sum(sums, axis=0)
    return 1 - float(error / total) if total > 0 else float("nan")


def _squares(
    corpus: Corpus, usable: np.ndarray, x: np.ndarray, y: np.ndarray, fold: FoldSplit, centring: tuple[str, ...]
) -> tuple[float, float]:
    """Of the test part of a fold, the sum of squares that the prediction leaves, and that the training mean leaves."""
    train, test = fold.train[usable[fold.train]], fold.test[usable[fold.test]]
    groups = min(5, len(np.unique(corpus.speaker[train])))
    if groups < 2:
        raise ValueError(
            f"fold {fold.name} has {groups} training speakers with both modalities; at least two are needed"
        )
    if not len(test):
        return 0.0, 0.0
    x, y = (StandardScaler().fit(values[train]).transform(values) for values in (x, y))
    x, y = (_centred(values, corpus, usable, train, centring) for values in (x, y))
    search = GridSearchCV(Ridge(), PENALTIES, scoring="neg_mean_squared_error", cv=GroupKFold(groups))
    model = search.fit(x[train], y[train], groups=corpus.speaker[train])
    return np.square(y[test] - model.predict(x[test])).sum(), np.square(y[test] - y[train].mean(0)).sum()


def _centred(
    values: np.ndarray, corpus: Corpus, usable: np.ndarray, train: np.ndarray, centring: tuple[str, ...]
) -> np.ndarray:
    """`values` less what speaker and class add to them, together where both are taken away.

    Where speakers have different shares of the classes, means of one after the other would leave a part of the class.
    So what a class adds is fitted to the training part beside what its speakers add (Frisch and Waugh, 1933).
    """
    classes = np.eye(corpus.num_classes)[corpus.label]  # a row without label has another one's, and is never used
    if "class" in centring:
        shown, wanted = classes[train], values[train]
        if "speaker" in centring:
            shown, wanted = (_less_means(part, corpus.speaker[train]) for part in (shown, wanted))
        values = values - classes @ np.linalg.lstsq(shown, wanted, rcond=None)[0]
    if "speaker" in centring:
        values = values.copy()
        values[usable] = _less_means(values[usable], corpus.speaker[usable])
    return values


def _less_means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`values` less the means of their groups."""
    _, place, count = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), values.shape[1]))
    np.add.at(sums, place, values)
    return values - (sums / count[:, None])[place]


def main(archive: tyro.conf.Positional[Path], folds: int = 5) -> None:
    """Prints how much of each modality another one predicts, in per cent of its variance, as a table in Markdown.

    Each number is R^2 of ridge regression on utterances of speakers that it was not fitted to, all folds together.
    Below zero: the prediction is worse than the mean of the training part. With the means of speakers taken away, only
    what differs between the utterances of a speaker counts; so for classes.

    Args:
      archive: Feature archive. All labels are used, for this measures the data and trains no method.
      folds: Groups of speakers, as in experiments.reproduce.
    """
    corpus = load_archive(archive).corpus
    splits = make_folds(corpus, num_folds=folds)
    lines = []
    for source, target in itertools.permutations(corpus.modalities, 2):
        found = [shared_variance(corpus, splits, source, target, centring) for centring in CENTRINGS.values()]
        lines.append([source, target, *(f"{100 * x:.1f}" if np.isfinite(x) else "-" for x in found)])
    print(plain_table(["from", "to", *CENTRINGS], lines))


if __name__ == "__main__":
    with user_errors_as_messages(ArchiveError, FoldError, OSError, ValueError):
        tyro.cli(main)
