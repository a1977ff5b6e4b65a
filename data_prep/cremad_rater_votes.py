"""CREMA-D rater votes as a feature archive: votes of raters with the voice only, and of raters with the face only.

python -m data_prep.cremad_rater_votes CREMA-D/processedResults/tabulatedVotes.csv cremad.npz
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep.convert import Flag, Out, Source, run_command, write_new
from data_prep.corpora import cremad
from data_prep.corpora.common import Allow, check_counts, note
from data_prep.manifest_table import read_table

CLASS_NAMES = ("angry", "happy", "sad", "neutral")
VIEWS = {"1": "voice", "2": "face", "3": "both"}  # by the first digit of the number of a row
VOTES = ("A", "D", "F", "H", "N", "S")  # anger, disgust, fear, happy, neutral, sad
STRENGTHS = tuple(f"mean{name}RespNorm" for name in ("Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad"))
NOBODY = "-1"  # as the mean strength of an emotion that no rater chose

Votes = dict[str, dict[str, np.ndarray]]


def read_votes(path: Path) -> Votes:
    """Twelve numbers per clip and view: shares of the votes for six emotions, and their mean strengths in [0, 1].

    A strength is 0 where nobody chose the emotion, or where the table has none (`NA`), which is counted in a note.

    Raises:
      ArchiveError: if the table cannot be read, lacks a column, or has a row that is wrong or there twice.
    """
    columns, rows = read_table(path)
    missing = [name for name in ("", "fileName", *VOTES, *STRENGTHS) if name not in columns]
    if missing:
        text = "give processedResults/tabulatedVotes.csv of CheyneyComputerScience/CREMA-D"
        raise ArchiveError(f"{path}: column {missing[0]!r} is missing; {text}")
    votes: Votes = {}
    without = []
    for number, row in rows:
        clip, view = row["fileName"], VIEWS.get(row[""][:1])
        if view is None or not cremad.NAME.fullmatch(clip) or clip[9:12] not in cremad.EMOTIONS:
            raise ArchiveError(
                f"{path}: row {number}: {row['']!r} of {clip!r} is no row of the table; download it again"
            )
        if view in votes.setdefault(clip, {}):
            raise ArchiveError(f"{path}: row {number}: the {view} of {clip} is there already; download the table again")
        votes[clip][view] = _numbers(path, number, row)
        without += [clip for name in STRENGTHS if row[name] == "NA"]
    note("strengths that the table does not have, set to 0", without)
    return votes


def _numbers(path: Path, number: int, row: Mapping[str, str]) -> np.ndarray:
    try:
        counts = np.array([int(row[name]) for name in VOTES])
        strengths = [0.0 if row[name] in (NOBODY, "NA") else float(row[name]) / 100 for name in STRENGTHS]
    except ValueError as error:
        raise ArchiveError(
            f"{path}: row {number}: a vote or strength is no number; download the table again"
        ) from error
    if (counts < 0).any() or counts.sum() == 0:
        raise ArchiveError(f"{path}: row {number}: has no votes; download the table again")
    return np.concatenate([counts / counts.sum(), strengths]).astype(np.float32)


def to_corpus(path: Path, votes: Votes, *, views: Sequence[str], with_sentence: bool) -> Corpus:
    """The clips with one of the four emotions; speaker and session are the actor, so folds are groups of actors."""
    clips = sorted(clip for clip in votes if _label(clip) in CLASS_NAMES)
    for clip in clips:
        for view in views:
            if view not in votes[clip]:
                raise ArchiveError(f"{path}: holds no votes on the {view} of {clip}; download the table again")
    features = {view: np.stack([votes[clip][view] for clip in clips]) for view in views}
    if with_sentence:
        sentences = sorted({clip[5:8] for clip in votes})
        features["text"] = np.eye(len(sentences), dtype=np.float32)[[sentences.index(clip[5:8]) for clip in clips]]
    actor = np.array(
        [clip[:4] for clip in clips], "U21"
    )  # the width of earlier archives, so that the bytes are the same
    return Corpus(
        utterance_id=np.array(clips),
        speaker=actor,
        session=actor,
        label=np.array([CLASS_NAMES.index(_label(clip)) for clip in clips]),
        class_names=CLASS_NAMES,
        features=features,
        length={},
        present=np.ones((len(actor), len(features)), bool),
    )


def _label(clip: str) -> str:
    return cremad.EMOTIONS[clip[9:12]]


def convert(
    source: Source,
    out: Out,
    views: Annotated[tuple[Literal["voice", "face"], ...], tyro.conf.arg(metavar="{voice,face} ...")] = (
        "voice",
        "face",
    ),
    with_sentence: Flag = False,
    force: Flag = False,
    allow_count_differences: Allow = False,
) -> None:
    """Writes the CREMA-D rater votes (4 emotions, folds by actor) as a feature archive.

    The votes of raters who had sound and picture are a human's fusion, not a modality: they are left out.

    Args:
      source: processedResults/tabulatedVotes.csv of the repository CheyneyComputerScience/CREMA-D.
      out: The archive to write.
      views: Views to take, in this order.
      with_sentence: Adds a modality text, the one-hot of the spoken sentence. It says nothing about the emotion.
      force: Replaces an archive that is there.
      allow_count_differences: Goes on if the counts are not the known ones.
    """
    if len(views) + with_sentence < 2 or len(set(views)) < len(views):
        raise ArchiveError("--views: two different modalities are needed; give voice and face, or add --with-sentence")
    votes = read_votes(source)
    check_counts(source, map(_label, votes), cremad.KNOWN, allow=allow_count_differences)
    write_new(out, to_corpus(source, votes, views=views, with_sentence=with_sentence), force=force)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.cremad_rater_votes")


if __name__ == "__main__":
    sys.exit(main())
