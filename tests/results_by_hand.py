"""Scores made by hand, for the tests of the table."""

from experiments.results import Row

# Statistics, from rows made by hand: two folds, two seeds, conditions a, b, ab.
SCORES = {
    ("m", "f1", 0): (0.1, 0.3, 0.9),
    ("m", "f1", 1): (0.3, 0.5, 0.9),
    ("m", "f2", 0): (0.5, 0.7, 0.9),
    ("m", "f2", 1): (0.7, 0.9, 0.9),
}


def rows_of(scores) -> list[Row]:
    return [
        Row(method, fold, seed, condition, score, score / 2, [[1, 0], [0, 1]])
        for (method, fold, seed), three in scores.items()
        for condition, score in zip(("a", "b", "ab"), three, strict=True)
    ]
