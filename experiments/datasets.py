"""Where the data of a table come from: the synthetic set, or a feature archive."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cmarr_jax.config import check_choice
from cmarr_jax.data.archive import read_archive, sha256
from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep.details import details_path, read_details
from experiments.presets import PRESETS, Changes, Preset, default_preset

SYNTHETIC_NAME = "synthetic"
SYNTHETIC_NAMES = (SYNTHETIC_NAME, "synthetic_hard")
CORPORA = ("iemocap", "msp_improv")  # names of archives in the working folder, and of presets


class Source(NamedTuple):
    """A data set of a table.

    Attributes:
      name: One of `SYNTHETIC_NAMES`, or the archive's file name without its ending.
      corpus: The utterances.
      digest: SHA-256 of the archive, or of the generated arrays, rounded.
      oracle: Synthetic data only: log-likelihood `[N, P, K]` and class log-prior `[K]`, nats, for Bayes' rule.
      extractors: How the features were made, by modality, from the details file beside the archive; empty: unknown.
    """

    name: str
    corpus: Corpus
    digest: str
    oracle: tuple[np.ndarray, np.ndarray] | None
    extractors: Mapping[str, Any] = {}


def load_data(data: str, preset: str | None, *, smoke: bool, changes: Changes) -> tuple[Preset, Source]:
    """A data set and its preset, with what the command line changes.

    Args:
      data: One of `SYNTHETIC_NAMES`; one of `CORPORA`, whose archive `NAME.npz` is in the working folder; or the path
        of a feature archive.
      preset: Name in `PRESETS`; by default the one of the corpus that the file is called after, or else the one for
        the kind of data.
      smoke: Whether to take the smallest preset.
      changes: Of the command line.

    Raises:
      ValueError: for an unknown preset, with the known ones.
      ArchiveError: for a file that cannot be used.
    """
    if preset is not None:
        check_choice("--preset", preset, PRESETS)
    if data in SYNTHETIC_NAMES:
        chosen = PRESETS["smoke" if smoke else preset or data].changed(changes)
        return chosen, load_synthetic(data, chosen)
    path = _path_of(data)
    source = load_archive(path)
    sequences = bool(source.corpus.length)
    name = preset or (path.stem if path.stem in CORPORA and sequences else default_preset(sequences=sequences))
    return PRESETS["smoke" if smoke else name].changed(changes), source


def _path_of(data: str) -> Path:
    """The archive of a name or a path. Raises ArchiveError for a corpus that was not prepared."""
    path = Path(data if data not in CORPORA else f"{data}.npz")
    if data in CORPORA and not path.is_file():
        raise ArchiveError(f"{path}: is not in this folder; make it with python -m data_prep.{data}, or give its path")
    return path


def load_archive(path: Path) -> Source:
    """Reads a feature archive. Raises ArchiveError with one sentence for a file that cannot be used."""
    corpus = read_archive(path)
    digest = sha256(path)
    return Source(path.stem, corpus, digest, None, _extractors(path, corpus, digest))


def load_again(config: Mapping[str, Any], data: str | None = None) -> tuple[Preset, Source]:
    """The preset and the data of a table that was made before.

    Args:
      config: The table's `config.json`.
      data: The feature archive, if it has moved since; also a name, as in `load_data`. Synthetic data are made again.

    Raises:
      ValueError: if the data are others now.
      ArchiveError: for a file that cannot be used.
    """
    preset = Preset.from_dict(config["preset"])
    name = data or config["data"]["path"]
    source = load_synthetic(name, preset) if name in SYNTHETIC_NAMES else load_archive(_path_of(name))
    if source.digest != config["data"]["sha256"]:
        raise ValueError(
            f"these data are not those the model was trained on (SHA-256 {source.digest[:16]}, "
            f"then {config['data']['sha256'][:16]}); give the archive of that time with --data"
        )
    return preset, source


def _extractors(path: Path, corpus: Corpus, digest: str) -> Mapping[str, Any]:
    """How the features were made, if the archive has a details file that says so.

    Raises:
      ArchiveError: if the details file is damaged or of another archive.
    """
    beside = details_path(path)
    if not beside.is_file():
        return {}
    details = read_details(beside, digest)
    if not np.array_equal(details.utterance_id, corpus.utterance_id):
        raise ArchiveError(f"{beside}: has other utterances than {path.name}; write both again, or move it away")
    found = details.record.get("extractors") or {}
    return {name: found[name] for name in corpus.modalities if name in found}


def load_synthetic(name: str, preset: Preset) -> Source:
    """Makes the synthetic data of this name on first use, and reads them."""
    from data_prep.synthetic.load import load  # takes tfds along, which an archive does not need

    corpus, log_likelihood, log_prior = load(
        scale=preset.scale, frame_scale=preset.frame_scale, hard=name != SYNTHETIC_NAME
    )
    return Source(name, corpus, _digest(corpus), (log_likelihood, log_prior))


def _digest(corpus: Corpus) -> str:
    """Of generated data: labels, lengths, and features to two decimals.

    The last bits of a feature depend on the machine's matrix products, so data made on two machines are the same to
    six digits, not bit by bit.
    """
    digest = hashlib.sha256(corpus.label.tobytes())
    for features in corpus.features.values():
        for row in features:  # one at a time: a copy in float64 of all is large
            digest.update(np.rint(100 * row.astype(np.float64)).astype(np.int32).tobytes())
    for lengths in corpus.length.values():
        digest.update(lengths.tobytes())
    return digest.hexdigest()
