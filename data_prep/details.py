"""The details file: metadata of utterances (transcripts, ratings, times), next to the archive and never in it.

Transcripts are licensed text. They are written to the details file and the tfds data set only, and never printed.
"""

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cmarr_jax.data.corpus import RESERVED as ARCHIVE_KEYS
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.whole_file import whole_file

TEXT = ("dialogue", "sex", "transcript")
NUMBERS = ("valence", "arousal", "dominance", "start", "end")
EXTRA = "extra_columns"  # key with the names of further columns; their values are under names made of it
ARCHIVE = "archive_sha256"
DATASET_VERSION = "1.0.0"
RESERVED = ("transcript", "record", EXTRA, ARCHIVE, *ARCHIVE_KEYS)  # no further column may have such a name


@dataclasses.dataclass(frozen=True, eq=False)
class Details:
    """Details of N utterances, in the order of `utterance_id`.

    Attributes:
      utterance_id: Names as in the archive, `[N]`, str.
      dialogue: The conversation or scene that the utterance is from, `[N]`, str.
      sex: `F` or `M`, as the corpus gives it, `[N]`, str; empty where unknown.
      transcript: What is said, `[N]`, str; empty where unknown.
      valence: Mean rating in the corpus's own scale, `[N]`, float32; NaN where unknown, as in the next four.
      arousal: Mean rating (called activation by the corpora), `[N]`, float32.
      dominance: Mean rating, `[N]`, float32.
      start: Second of the dialogue's recording where the utterance starts, `[N]`, float32.
      end: Second where it ends, `[N]`, float32.
      record: How the features were made, a dict for JSON.
      extra: Further columns of a manifest, each `[N]`, str.
    """

    utterance_id: np.ndarray
    dialogue: np.ndarray
    sex: np.ndarray
    transcript: np.ndarray
    valence: np.ndarray
    arousal: np.ndarray
    dominance: np.ndarray
    start: np.ndarray
    end: np.ndarray
    record: dict
    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def check_modality_names(names: Iterable[str]) -> None:
    """Checks that a tfds data set has room for the modalities beside the details of an utterance.

    Raises:
      ArchiveError: if a modality has the name of a detail.
    """
    for name in names:
        if name in (*TEXT, *NUMBERS, EXTRA):
            text = "has the name of a detail, which a tfds data set holds beside it; rename it, or give --without-tfds"
            raise ArchiveError(f"modality {name!r}: {text}")


def details_path(archive: Path) -> Path:
    """`NAME_details.npz` beside `NAME.npz`."""
    return archive.with_name(f"{archive.stem}_details.npz")


def dataset_folder(name: str, archive: Path, data_dir: Path) -> Path:
    """The folder of an archive's tfds data set.

    Args:
      name: Of the builder.
      archive: Its name becomes that of the configuration.
      data_dir: Where tfds keeps data sets.
    """
    return data_dir / name / config_name(archive) / DATASET_VERSION


def config_name(archive: Path) -> str:
    """The archive's name with `_` for what tfds may not take; then a hash keeps names apart that look the same."""
    name = re.sub(r"[^A-Za-z0-9_-]", "_", archive.stem)
    digest = hashlib.sha256(os.fsencode(archive.stem)).hexdigest()[:8]
    return name if name == archive.stem else f"{name}_{digest}"


def write_details(path: Path, details: Details, archive_sha256: str = "") -> None:
    """Writes the details as an `.npz`, complete or not at all.

    Args:
      path: The file.
      details: What is written.
      archive_sha256: Of the archive that they belong to.

    Raises:
      ArchiveError: if the file cannot be written.
    """
    arrays = {key: getattr(details, key) for key in ("utterance_id", *TEXT, *NUMBERS)}
    extra = {f"{EXTRA}_{index}": column for index, column in enumerate(details.extra.values())}
    extra |= {EXTRA: np.array(list(details.extra), str)} if extra else {}
    with whole_file(path) as temporary:
        record = {"record": np.array(json.dumps(details.record)), ARCHIVE: np.array(archive_sha256)}
        np.savez(temporary, **arrays | extra | record)


def read_details(path: Path, archive_sha256: str = "") -> Details:
    """Reads what `write_details` wrote; never unpickles.

    Args:
      path: The file.
      archive_sha256: Of the archive beside it.

    Raises:
      ArchiveError: if the file is missing, damaged, lacks a key or says that it belongs to another archive.
    """
    try:
        # Opened here, since np.load leaves a damaged file open that it opens itself.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("utterance_id", *TEXT, *NUMBERS)}
            record = json.loads(str(file["record"]))
            belongs_to = str(file[ARCHIVE]) if ARCHIVE in file else ""
            names = file[EXTRA].tolist() if EXTRA in file else []
            extra = {name: file[f"{EXTRA}_{index}"] for index, name in enumerate(names)}
    except OSError as error:
        reason = error.strerror or error
        raise ArchiveError(f"{path}: cannot be read ({reason}); it is written beside the archive") from error
    except Exception as error:  # damaged bytes make numpy, zipfile, zlib and json raise many types
        raise ArchiveError(f"{path}: is not a details file ({error}); write the archive again") from error
    if belongs_to and archive_sha256 and belongs_to != archive_sha256:
        raise ArchiveError(f"{path}: belongs to another archive than the one beside it; write both again")
    return Details(**arrays, record=record, extra=extra)
