"""With how many labels a baseline has the same score: lines made by hand, with a known crossing."""

import numpy as np
import pytest

from experiments.comparison import Comparison
from experiments.report.label_equivalence import (
    Equivalence,
    equivalence_text,
    equivalences,
    labels_needed,
    needed_text,
)
from experiments.statistics import Interval

LABELS = (10, 100, 1000)


def compared(*interval, p=0.01):
    return Comparison("a", "b", "uar", Interval(*interval), p, p, num_runs=6, num_folds=3, num_speakers=9)


SHOWN, NOT_SHOWN = compared(0.02, 0.01, 0.03), compared(0.02, -0.01, 0.05)


@pytest.mark.parametrize(
    ("scores", "score", "expected"),
    [
        ((0.4, 0.6, 0.8), 0.5, np.sqrt(10 * 100)),  # half of the way on a log axis: the geometric mean
        ((0.4, 0.6, 0.8), 0.65, 100 * 10**0.25),
        ((0.4, 0.6, 0.8), 0.6, 100),
        ((0.4, 0.6, 0.8), 0.4, 10),
        ((0.4, 0.6, 0.8), 0.3, 10),  # the fewest have more already
        ((0.4, 0.6, 0.8), 0.81, np.inf),
        ((0.4, 0.6, 0.5), 0.5, np.sqrt(10 * 100)),  # it falls again: the first time
        ((0.6, 0.4, 0.8), 0.7, 100 * 10**0.75),
        ((0.4, np.nan, 0.8), 0.6, np.sqrt(10 * 1000)),  # without a point the line goes on to the next one
        ((np.nan, 0.6, 0.8), 0.5, 100),
        ((np.nan, np.nan, np.nan), 0.5, np.nan),
    ],
)
def test_the_crossing_of_a_line(scores, score, expected):
    np.testing.assert_allclose(labels_needed(LABELS, scores, score), expected, rtol=1e-12)


def test_points_with_equal_labels():
    assert labels_needed((10, 10, 100), (0.4, 0.5, 0.6), 0.45) == pytest.approx(10)


def test_one_equivalence_for_each_score_of_ours():
    found = equivalences(LABELS, (0.5, np.nan, 0.9), (0.4, 0.6, 0.8), (SHOWN, None, NOT_SHOWN))
    assert [(one.labels, one.fewest, one.most, one.compared) for one in found] == [
        (10, 10, 1000, SHOWN),
        (1000, 10, 1000, NOT_SHOWN),
    ]
    assert found[0].needed == pytest.approx(np.sqrt(1000))
    assert found[1].needed == np.inf
    assert equivalences(LABELS, (0.5, 0.6, 0.7), (np.nan,) * 3, (None,) * 3) == []


@pytest.mark.parametrize(
    ("needed", "difference", "sentence", "cell"),
    [
        (31.6, SHOWN, "A with 10 labels equals B with 32 (with equal labels: +2.00 points, 95 % interval +1.00 to "
                      "+3.00).", "32"),
        (31.6, NOT_SHOWN, "A with 10 labels equals B with 32; with equal labels no difference shown (+2.00 points, "
                          "95 % interval -1.00 to +5.00).", "(32)"),
        (31.6, compared(0.02, 0.01, 0.03, p=0.05), "A with 10 labels equals B with 32; with equal labels a difference "
                                                   "by the interval only (+2.00 points, 95 % interval +1.00 to +3.00, "
                                                   "p 0.050).", "(32)"),
        (31.6, compared(-0.00001, -0.03, 0.03), "A with 10 labels equals B with 32; with equal labels no difference "
                                                "shown (+0.00 points, 95 % interval -3.00 to +3.00).", "(32)"),
        (31.6, compared(0.02, np.nan, np.nan), "A with 10 labels equals B with 32; with equal labels a difference "
                                               "that is not judged (+2.00 points).", "(32)"),
        (np.inf, SHOWN, "A with 10 labels has a UAR of 50.00 %, which B does not reach with up to 1000 (with equal "
                        "labels: +2.00 points, 95 % interval +1.00 to +3.00).", "not reached"),
        (5, None, "A with 10 labels has a UAR of 50.00 %, which B reaches with the fewest labels, 5.", "at most 5*"),
    ],
)  # fmt: skip
def test_sentence_and_cell(needed, difference, sentence, cell):
    one = Equivalence(10, 0.5, needed, 5, 1000, difference)
    assert equivalence_text("A", "B", one) == sentence
    assert needed_text(one) == cell


def test_the_cell_of_labels_without_a_score_is_empty():
    assert needed_text(None) == ""
