"""Raw IEMOCAP as a feature archive and a tfds data set.

python -m data_prep.iemocap IEMOCAP_full_release iemocap.npz
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from data_prep.convert import Out, run_command
from data_prep.iemocap.parse import CLASSES, parse
from data_prep.prepare import Root, check_options
from data_prep.raw_corpus import DEFAULTS, CorpusOptions, convert_raw


def convert(
    root: Root,
    out: Out,
    options: Annotated[CorpusOptions, tyro.conf.arg(name="")] = DEFAULTS,
    marked_half: Literal["left", "right"] = "left",
) -> None:
    """Writes raw IEMOCAP as a feature archive and a tfds data set.

    Labels are the majority labels; xxx (no majority), oth and the other emotions are counted, and left out or kept as
    unlabelled. Counts per speaker and class are compared with the known ones. A sound, video or transcript that is
    missing or broken is reported, and that modality is absent for the utterance.

    Args:
      root: The folder IEMOCAP_full_release, with Session1 to Session5.
      out: The archive to write; NAME_details.npz is written beside it.
      options: What is extracted, and how far differences are allowed.
      marked_half: Half of the picture with the actor who wears the markers. Look at a video before you trust it.
    """
    check_options(out, options)
    parsed = parse(root, marked_half=marked_half)
    halves = {f"{item.dialogue}_{item.sex}": item.media.half for item in parsed.utterances}
    record = {"command": "data_prep.iemocap", "marked_half": marked_half, "half": halves}
    convert_raw("iemocap", root, out, parsed, CLASSES, options, record)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.iemocap")


if __name__ == "__main__":
    sys.exit(main())
