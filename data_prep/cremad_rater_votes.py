"""CREMA-D rater votes as a feature archive: votes of raters with the voice only, and of raters with the face only.

python -m data_prep.cremad_rater_votes cremad_rater_votes.npz cremad.npz
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import tyro

from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep.convert import Flag, Out, Source, read_source, run_command, write_new

CLASS_NAMES = ("angry", "happy", "sad", "neutral")  # the order of label4 in the source


def to_corpus(source: dict[str, np.ndarray], *, views: Sequence[str], with_sentence: bool) -> Corpus:
    """The clips with one of the four emotions; speaker and session are the actor, so folds are groups of actors."""
    keep = source["label4"] >= 0
    actor = source["actor"][keep].astype(str)
    features = {name: source[name][keep] for name in views}
    if with_sentence:
        sentences, index = np.unique(source["sentence"], return_inverse=True)
        features["text"] = np.eye(len(sentences), dtype=np.float32)[index[keep]]
    return Corpus(
        utterance_id=source["clip_id"][keep],
        speaker=actor,
        session=actor,
        label=source["label4"][keep],
        class_names=CLASS_NAMES,
        features=features,
        length={},
        present=np.ones((len(actor), len(features)), bool),
    )


def convert(
    source: Source,
    out: Out,
    views: Annotated[tuple[Literal["voice", "face"], ...], tyro.conf.arg(metavar="{voice,face} ...")] = (
        "voice",
        "face",
    ),
    with_sentence: Flag = False,
    force: Flag = False,
) -> None:
    """Writes the CREMA-D rater votes (4 emotions, folds by actor) as a feature archive.

    The votes of raters who had sound and picture (av) are a human's fusion, not a modality: they are left out.

    Args:
      source: cremad_rater_votes.npz.
      out: The archive to write.
      views: Views to take, in this order.
      with_sentence: Adds a modality text, the one-hot of the spoken sentence. It says nothing about the emotion.
      force: Replaces an archive that is there.
    """
    if len(views) + with_sentence < 2 or len(set(views)) < len(views):
        raise ArchiveError("--views: two different modalities are needed; give voice and face, or add --with-sentence")
    keys = ("clip_id", "actor", "label4", *views, *(("sentence",) if with_sentence else ()))
    write_new(out, to_corpus(read_source(source, keys), views=views, with_sentence=with_sentence), force=force)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.cremad_rater_votes")


if __name__ == "__main__":
    sys.exit(main())
