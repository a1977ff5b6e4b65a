"""Checks of `Corpus.target`, the numbers that a regression predicts."""

import numpy as np

LARGEST_ROUNDING = 1e-3  # of the standard deviation
LARGEST = 1e18  # of targets and features: float32 holds the squares, of which the normaliser makes variances


def rounding_fault(target: np.ndarray) -> str | None:
    """Says it where float32, in which targets are kept, loses a part of their differences; `[N]`, nan is left out."""
    known = target[~np.isnan(target)].astype(np.float64)
    if not len(known) or np.abs(known).max() > LARGEST:
        return None
    rounding, spread = np.abs(known.astype(np.float32) - known).max(), known.std()
    if rounding <= LARGEST_ROUNDING * spread:
        return None
    return f"rounded by up to {rounding:g} as float32, where the standard deviation is {spread:g}; subtract a constant"


def find_fault(target: np.ndarray, labelled: np.ndarray) -> tuple[str, int | None] | None:
    """The first fault of targets, as text and row; `None` if there is none.

    Args:
      target: `[N]`; nan where nobody has given a number.
      labelled: Utterances that have a label, `[N]`, bool.
    """
    if target.dtype.kind != "f":
        return f"must be float32, found {target.dtype}; convert it with .astype('float32')", None
    if target.shape != labelled.shape:
        return f"must have one entry per utterance_id, {len(labelled)}, found shape {target.shape}", None
    for wrong, text in (
        (np.abs(target) > LARGEST, f"is beyond {LARGEST:g}; correct it, or give all in a larger unit"),
        (np.isnan(target) & labelled, "is no number, but the utterance has a label; give the number, or the label -1"),
        (~np.isnan(target) & ~labelled, "is given, but the label is -1, not labelled; give the label, or nan here"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            return f"{target[row]} {text}", row
    if len(np.unique(known := target[labelled].astype(np.float32))) == 1:  # as it is stored
        return f"is {known[0]} for every labelled utterance; correct it or leave target out", None
    if (rounded := rounding_fault(target[labelled])) is not None:
        return f"is {rounded}", None
    return None
