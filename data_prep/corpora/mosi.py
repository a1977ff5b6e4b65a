"""CMU-MOSI: 2,199 opinions in 93 videos, from a pickle of MMSA or MulT, or from the CMU-MultimodalSDK.

    python -m data_prep.corpora.mosi unaligned_50.pkl mosi.csv
    python -m data_prep.corpora.mosi FOLDER_OF_CSD mosi.csv --folds cmu_mosi_std_folds.py

Zadeh et al., MOSI: Multimodal Corpus of Sentiment Intensity, 2016. Free for research; videos belong to their makers.
Pickles are linked from the repositories thuiar/MMSA and yaohungt/Multimodal-Transformer, `.csd` files and folds from
CMU-MultiComp-Lab/CMU-MultimodalSDK. Where its three parts are used, a video, and so a speaker, is in one of them only.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep.convert import Flag, run_command
from data_prep.corpora.common import Allow, Manifest
from data_prep.corpora.sentiment import Source, write_sentiment

KNOWN = ({"train": 1284, "val": 229, "test": 686},)
KNOWN_WITHOUT_SPLIT = ({"all": 2199},)


def convert(
    source: Source,
    manifest: Manifest,
    drop_neutral: Flag = False,
    folds: Path | None = None,
    force: Flag = False,
    allow_count_differences: Allow = False,
) -> None:
    """Writes the manifest of the 2,199 utterances of CMU-MOSI, and its features beside it (negative, positive).

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
    return run_command(convert, argv, prog="python -m data_prep.corpora.mosi")


if __name__ == "__main__":
    sys.exit(main())
