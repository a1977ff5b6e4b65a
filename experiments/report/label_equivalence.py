"""How many labels one method needs for the score of another, read off lines of scores against the number of labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison import INTERVAL_ONLY, NO_INTERVAL, NOT_SHOWN, SHOWN, Comparison
from experiments.report.differences import p_text, signed_difference
from experiments.report.scores import counted


class Equivalence(NamedTuple):
    """One method with some labels against a baseline.

    Attributes:
      labels: Labelled utterances of the method.
      score: Its score, a fraction.
      needed: Labels with which the baseline has this score; `fewest` if it has it, or more, with these; inf if it does
        not reach it.
      fewest: Fewest labels that the baseline was trained with.
      most: Most labels that the baseline was trained with.
      compared: Method minus baseline, both with `labels`; None if the baseline was not trained with these.
    """

    labels: float
    score: float
    needed: float
    fewest: float
    most: float
    compared: Comparison | None

    @property
    def is_shown(self) -> bool:
        """Whether a difference is shown with equal labels, as the table of that share says; True if none is known."""
        return self.compared is None or self.compared.verdict in SHOWN


def labels_needed(labels: Sequence[float], scores: Sequence[float], score: float) -> float:
    """The fewest labels with which a line reaches a score.

    Between two points the line is straight over the logarithm of the number of labels. It may fall in between: then the
    first time counts.

    Args:
      labels: Of the points, ascending, above 0.
      scores: Of the points; nan: no point.
      score: To be reached.

    Returns:
      The number; that of the first point if this reaches the score already; inf if no point does; nan without points.
    """
    points = [(one, other) for one, other in zip(labels, scores, strict=True) if not np.isnan(other)]
    if not points:
        return np.nan
    before = None
    for number, found in points:
        if found >= score:
            if before is None:
                return number
            share = (score - before[1]) / (found - before[1])
            return float(np.exp(np.log(before[0]) + share * (np.log(number) - np.log(before[0]))))
        before = number, found
    return np.inf


def equivalences(
    labels: Sequence[float],
    ours: Sequence[float],
    theirs: Sequence[float],
    compared: Sequence[Comparison | None],
) -> list[Equivalence]:
    """One for each number of labels that our method has a score for.

    Args:
      labels: Ascending, above 0.
      ours: Scores of a method with these labels; nan: none.
      theirs: Scores of a baseline.
      compared: Ours minus theirs, where both were trained.
    """
    known = [number for number, score in zip(labels, theirs, strict=True) if not np.isnan(score)]
    if not known:
        return []
    return [
        Equivalence(number, score, labels_needed(labels, theirs, score), known[0], known[-1], one)
        for number, score, one in zip(labels, ours, compared, strict=True)
        if not np.isnan(score)
    ]


def equivalence_text(ours: str, theirs: str, one: Equivalence) -> str:
    """The sentence: `CM-ARR with 44 labels equals Zero-fill with 97.`, and whether a difference is shown."""
    with_labels = f"{ours} with {counted(round(one.labels), 'label')}"
    if np.isinf(one.needed):
        text = f"{with_labels} has a UAR of {100 * one.score:.2f} %, which {theirs} does not reach with up to "
        text += f"{round(one.most)}"
    elif one.needed <= one.fewest:
        text = f"{with_labels} has a UAR of {100 * one.score:.2f} %, which {theirs} reaches with the fewest labels, "
        text += f"{round(one.fewest)}"
    else:
        text = f"{with_labels} equals {theirs} with {round(one.needed)}"
    return f"{text}{_difference_text(one)}."


def needed_text(one: Equivalence | None) -> str:
    """The cell of a table: `97`, `at most 4`, `not reached`.

    In brackets where no difference is shown; with a star where the other method was not trained with these labels.
    """
    if one is None:
        return ""
    text = f"{round(one.needed)}" if np.isfinite(one.needed) else "not reached"
    if one.needed <= one.fewest:
        text = f"at most {round(one.fewest)}"
    if one.compared is None:
        return f"{text}*"
    return text if one.is_shown else f"({text})"


def _difference_text(one: Equivalence) -> str:
    if one.compared is None:
        return ""
    mean, around = signed_difference(one.compared.difference)
    points = f"{mean} points, 95 % interval {around}" if around else f"{mean} points"
    if one.is_shown:
        return f" (with equal labels: {points})"
    if one.compared.verdict == INTERVAL_ONLY:
        return f"; with equal labels a difference {INTERVAL_ONLY} ({points}, p {p_text(one.compared.p)})"
    if one.compared.verdict == NO_INTERVAL:
        return f"; with equal labels a difference that is {NO_INTERVAL} ({points})"
    return f"; with equal labels {NOT_SHOWN} ({points})"
