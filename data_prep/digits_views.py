"""scikit-learn's handwritten digits cut into three views: `python -m data_prep.digits_views digits.npz`.

1,797 images of 8 x 8 pixels, 10 classes: a small real data set to try methods on, not an emotion corpus. The views are
bands of columns: left (24 numbers), middle (16) and right (24). scikit-learn's copy does not name the writers; its rows
are in the order of the writers, so ten equal ranges of rows are used as speakers.
"""

import sys
from collections.abc import Sequence

import numpy as np

from cmarr_jax.data.corpus import Corpus
from data_prep.convert import Flag, Out, run_command, write_new

BANDS = {"left": slice(0, 3), "middle": slice(3, 5), "right": slice(5, 8)}
NUM_STRETCHES = 10


def to_corpus() -> Corpus:
    """The digits as a corpus of three views."""
    from sklearn.datasets import load_digits  # in the extra `dev`

    digits = load_digits()
    num = len(digits.target)
    stretch = np.arange(num) * NUM_STRETCHES // num
    writer = np.array([f"rows{number}" for number in stretch])
    views = {name: digits.images[:, :, band].reshape(num, -1).astype(np.float32) for name, band in BANDS.items()}
    return Corpus(
        utterance_id=np.array([f"digit{row:04d}" for row in range(num)]),
        speaker=writer,
        session=writer,
        label=digits.target.astype(np.int32),
        class_names=tuple(str(number) for number in range(10)),
        features=views,
        length={},
        present=np.ones((num, len(views)), bool),
    )


def convert(out: Out, force: Flag = False) -> None:
    """Writes the digits as a feature archive.

    Args:
      out: The archive to write.
      force: Replaces an archive that is there.
    """
    write_new(out, to_corpus(), force=force)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.digits_views")


if __name__ == "__main__":
    sys.exit(main())
