"""Where the data of a table come from: the synthetic set, or a feature archive."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.corpus import Corpus, read_archive, sha256
from experiments.settings import Settings

SYNTHETIC_NAME = "synthetic"


class Source(NamedTuple):
    """A data set of a table.

    Attributes:
      name: `synthetic` or the archive's file name without its ending.
      corpus: The utterances.
      digest: SHA-256 of the archive, or of the generated arrays.
      ceiling: Synthetic data only: predictions of the Bayes oracle per metric, `[N, P]` int.
    """

    name: str
    corpus: Corpus
    digest: str
    ceiling: dict[str, np.ndarray] | None


def load_source(data: str, settings: Settings) -> Source:
    """Reads a data set by name or path. Raises ArchiveError with one sentence for a file that cannot be used."""
    if data == SYNTHETIC_NAME:
        return _load_synthetic(settings)
    path = Path(data)
    return Source(path.stem, read_archive(path), sha256(path), None)


def _load_synthetic(settings: Settings) -> Source:
    from data_prep.synthetic.load import load  # takes tfds along, which an archive does not need

    corpus, log_likelihood, log_prior = load(scale=settings.scale, frame_scale=settings.frame_scale)
    # Each metric has its own optimal rule: the most probable class for WAR, the likeliest one for UAR.
    ceiling = {"war": (log_likelihood + log_prior).argmax(-1), "uar": log_likelihood.argmax(-1)}
    return Source(SYNTHETIC_NAME, corpus, _digest(corpus), ceiling)


def _digest(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for array in (corpus.label, *corpus.features.values(), *corpus.length.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
