"""CMU-MOSEI: about 23,000 opinions in 3,200 videos, from a pickle of MMSA or MulT, or from the CMU-MultimodalSDK.

    python -m data_prep.corpora.mosei unaligned_50.pkl mosei.csv
    python -m data_prep.corpora.mosei FOLDER_OF_CSD mosei.csv --folds cmu_mosei_std_folds.py

Zadeh et al., Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph, ACL
2018. Free for research; the videos belong to their makers. Pickles are linked from the repositories thuiar/MMSA and
yaohungt/Multimodal-Transformer, `.csd` files and folds from CMU-MultiComp-Lab/CMU-MultimodalSDK. The task is sentiment;
a pickle with emotions has several labels an utterance and is refused. The numbers of MulT's file were not verified.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.convert import Flag, run_command
from data_prep.corpora.common import Allow, Manifest
from data_prep.corpora.sentiment import Source, write_sentiment

KNOWN = (
    {"train": 16326, "val": 1871, "test": 4659},  # MMSA, and the folds of the SDK
    {"train": 16265, "val": 1869, "test": 4643},  # MulT
)
KNOWN_WITHOUT_SPLIT = ()


def convert(
    source: Source,
    manifest: Manifest,
    drop_neutral: Flag = False,
    folds: Path | None = None,
    force: Flag = False,
    allow_count_differences: Allow = False,
) -> None:
    """Writes the manifest of CMU-MOSEI, and its features beside it (negative, positive).

    A pickle is read without running code. The label is positive for a score >= 0; the score is the
    target of a regression.

    Args:
      source: A pickle of MMSA or MulT, or a folder with .csd files.
      manifest: The manifest to write; MANIFEST_audio.h5, _video.h5 and _text.h5 are written beside it.
      drop_neutral: Leaves out utterances of the score 0, as papers do that compare negative with positive.
      folds: With .csd files: the Python file of the SDK with the lists of videos per part. It is read, never run.
      force: Replaces files that are there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    options = {"drop_neutral": drop_neutral, "force": force, "allow": allow_count_differences}
    write_sentiment(source, manifest, KNOWN, KNOWN_WITHOUT_SPLIT, folds=folds, **options)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.corpora.mosei")


if __name__ == "__main__":
    sys.exit(main())
