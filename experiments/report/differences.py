"""What tables and pages say of differences between rows: numbers with their sign, how they are judged, their limits."""

from collections.abc import Sequence

import numpy as np

from experiments.comparison import INTERVAL_ONLY, LEVEL, NO_INTERVAL, NOT_SHOWN, SHOWN, Comparison
from experiments.report.scores import CEILINGS, LABELS, counted, over_text
from experiments.results import Row
from experiments.statistics import Interval, smallest_p


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign; what rounds to zero is `+0.00`, and nan is empty."""
    return "" if np.isnan(value) else f"{round(value, digits) + 0.0:+.{digits}f}"


def signed_difference(found: Interval, factor: float = 100, digits: int = 2) -> tuple[str, str]:
    """A difference and its interval, `+1.50` and `+0.20 to +3.00`; each is empty where there is none."""
    mean, low, high = (signed(factor * value, digits) for value in found)
    return mean, f"{low} to {high}" if low else ""


def p_text(p: float, digits: int = 3) -> str:
    """A p value; nan is empty."""
    return "" if np.isnan(p) else f"{p:.{digits}f}"


def judged_text(comparisons: Sequence[Comparison], where: str = "In brackets") -> str:
    """How the differences of a table are judged, sentences.

    Args:
      comparisons: Of one row with others, at least one.
      where: The interval is in the table.
    """
    several = len({one.baseline for one in comparisons}) > 1
    num_seeds = 2 if any(one.num_runs > one.num_folds for one in comparisons) else 1
    corrected = ", corrected after Holm for the number of rows" if several else ""
    unjudged = ""
    if any(one.verdict == NO_INTERVAL for one in comparisons):
        unjudged = f" {_first_upper(NO_INTERVAL)}: there is no interval, since there are too few speakers or scores."
    return (
        f"{where}: 95 % interval {over_text(num_seeds)}. p: paired permutation test over speakers"
        f"{corrected}. {_first_upper(NOT_SHOWN)}: the interval has zero in it. {_first_upper(INTERVAL_ONLY)}: the "
        f"interval excludes zero, but p is at least {LEVEL:g}. Judged before rounding.{unjudged}"
    )


def difference_notes(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> list[str]:
    """What limits the differences of a table: one seed, few speakers, and runs that a row lacks; sentences.

    Args:
      comparisons: Of one row with others; may be empty.
      rows: Of the table.
    """
    notes = _seed_note(comparisons), speakers_note(comparisons), _runs_note(comparisons, rows)
    return [text for text in notes if text]


def _seed_note(comparisons: Sequence[Comparison]) -> str:
    """Said where speakers share a model and each fold has one: their differences vary with the training, too."""
    if not any(one.num_runs == one.num_folds < one.num_speakers for one in comparisons):
        return ""
    return (
        "With one seed, the variation between trainings is neither in these intervals nor in p, so too many "
        "differences are called shown; train several seeds (`--seeds 3`)."
    )


def speakers_note(comparisons: Sequence[Comparison]) -> str:
    """Said where even the largest difference has no p below the level: few speakers, or many rows for them."""
    # Holm's correction counts no row without a p, so a difference can be shown though all rows are too many.
    if not comparisons or any(one.verdict in SHOWN for one in comparisons):
        return ""
    num_rows = len({one.baseline for one in comparisons})
    num_speakers = max(one.num_speakers for one in comparisons)
    smallest = smallest_p(num_speakers)
    if num_rows * smallest < LEVEL:
        return ""
    text = f"With {counted(num_speakers, 'test speaker')}, p of the permutation test is at least {smallest:.2g}"
    if num_rows > 1:
        text += f", and {min(num_rows * smallest, 1):.2g} after the correction for {num_rows} rows"
    return f"{text}, so even a large difference is not shown at the level {LEVEL:g}."


def _runs_note(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    num_runs = len({(row.fold, row.seed) for row in rows if row.method not in CEILINGS})
    fewer = {
        one.baseline: f"{LABELS.get(one.baseline, one.baseline)} ({one.num_runs}, in {counted(one.num_folds, 'fold')})"
        for one in comparisons
        if one.num_runs < num_runs
    }
    if not fewer:
        return ""
    return (
        f"A difference is over the runs that both rows have. They have fewer than all {num_runs} with: "
        f"{', '.join(fewer.values())}."
    )


def _first_upper(text: str) -> str:
    return text[0].upper() + text[1:]
