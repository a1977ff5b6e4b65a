"""Raw MSP-IMPROV as a feature archive and a tfds data set.

python -m data_prep.msp_improv MSP-IMPROV msp_improv.npz
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from data_prep.convert import Out, run_command
from data_prep.msp_improv.parse import CLASSES, parse
from data_prep.prepare import Root, check_options
from data_prep.raw_corpus import DEFAULTS, CorpusOptions, convert_raw


def convert(
    root: Root,
    out: Out,
    options: Annotated[CorpusOptions, tyro.conf.arg(name="")] = DEFAULTS,
    condition: Literal["P", "R", "S", "T"] = "S",
    prefer: str | None = None,
    transcripts: str | None = None,
) -> None:
    """Writes raw MSP-IMPROV as a feature archive and a tfds data set.

    Labels are the majority labels; O (other) and X (no majority) are counted, and left out or kept as unlabelled.
    Counts per speaker and class are compared with the known ones. A sound, video or transcript that is missing or
    broken is reported, and that modality is absent for the utterance.

    Args:
      root: The folder of the corpus, with Evalution.txt, sounds, videos and transcripts below it.
      out: The archive to write; NAME_details.npz is written beside it.
      options: What is extracted, and how far differences are allowed.
      condition: Utterances to take, by the letter in their name: S improvised; P between the scenes; R, T the target
        sentence read and within the improvisation. The known counts are those of S.
      prefer: Folder, below ROOT, whose file is taken where a name is there twice (resampled wavs, for example).
      transcripts: Folder of the transcripts, below ROOT; by default those in a folder called human something.
    """
    check_options(out, options)
    parsed = parse(root, condition=condition, prefer=prefer, transcripts=transcripts)
    record = {"command": "data_prep.msp_improv", "condition": condition}
    convert_raw("msp_improv", root, out, parsed, CLASSES, options, record)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.msp_improv")


if __name__ == "__main__":
    sys.exit(main())
