"""Where the data of a table come from: the synthetic set, or a feature archive."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.corpus import Corpus
from experiments.presets import Preset

SYNTHETIC_NAME = "synthetic"


class Source(NamedTuple):
    """A data set of a table.

    Attributes:
      name: `synthetic` or the archive's file name without its ending.
      corpus: The utterances.
      digest: SHA-256 of the archive, or of the generated arrays.
      oracle: Synthetic data only: log-likelihood `[N, P, K]` and class log-prior `[K]`, nats, for Bayes' rule.
    """

    name: str
    corpus: Corpus
    digest: str
    oracle: tuple[np.ndarray, np.ndarray] | None


def load_archive(path: Path) -> Source:
    """Reads a feature archive. Raises ArchiveError with one sentence for a file that cannot be used."""
    return Source(path.stem, read_archive(path), sha256(path), None)


def load_synthetic(preset: Preset) -> Source:
    """Makes the synthetic data on first use, and reads them."""
    from data_prep.synthetic.load import load  # takes tfds along, which an archive does not need

    corpus, log_likelihood, log_prior = load(scale=preset.scale, frame_scale=preset.frame_scale)
    return Source(SYNTHETIC_NAME, corpus, _digest(corpus), (log_likelihood, log_prior))


def _digest(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for array in (corpus.label, *corpus.features.values(), *corpus.length.values()):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
