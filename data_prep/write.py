"""Writes archive, details file and tfds data set of a corpus."""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus, check_corpus
from data_prep.convert import check_new
from data_prep.details import Details, dataset_folder, details_path, write_details


def make_console() -> Console:
    """A console on stdout; 160 columns without colours if stdout is not a terminal."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)


def check_out(out: Path, *, force: bool) -> None:
    """Checks the output path before any slow work.

    Raises:
      ArchiveError: if the archive or its details file exists (without `force`), if it is not an `.npz`, or its folder
        does not exist.
    """
    if out.suffix != ".npz":
        raise ArchiveError(f"{out}: the archive is an .npz; give a path that ends in .npz")
    check_new(out, force=force)
    check_new(details_path(out), force=force)


def check_dataset(name: str, out: Path, *, tfds_dir: Path | None, without_tfds: bool, force: bool) -> None:
    """Checks the folder of the tfds data set before any slow work. The arguments are those of `write_all`.

    Raises:
      ArchiveError: if it exists (without `force`).
    """
    if without_tfds or force:
        return
    builder = name if name in ("iemocap", "msp_improv") else "recordings"  # as in `write_all`
    folder = dataset_folder(builder, out, tfds_dir or out.parent / "tfds")
    if folder.exists():
        raise ArchiveError(f"{folder}: is there already; give --force to replace it, or another --tfds-dir")


def write_all(
    name: str,
    out: Path,
    corpus: Corpus,
    details: Details,
    *,
    tfds_dir: Path | None,
    without_tfds: bool,
    console: Console,
) -> None:
    """Writes the archive, its details file and the tfds data set, and prints where they are.

    Args:
      name: `iemocap` or `msp_improv`; another one is called recordings in the tfds data set.
      out: The archive.
      corpus: The corpus.
      details: Its details, in the same order.
      tfds_dir: Data folder of tfds; `None`: the folder `tfds` next to the archive.
      without_tfds: Whether to skip the data set.
      console: Console to print to.

    Raises:
      ArchiveError: if the corpus has an error or a file cannot be written.
    """
    check_corpus(corpus, str(out))
    write_archive(out, corpus)
    digest = sha256(out)
    write_details(details_path(out), details, digest)
    views = ", ".join(f"{name} ({width})" for name, width in corpus.widths.items())
    speakers, count = len(np.unique(corpus.speaker)), np.count_nonzero(~corpus.labelled)
    number = f"{len(corpus)} utterances" + (f" ({count} unlabelled)" if count else "")
    console.print(f"wrote {out}: {number}, {speakers} speakers, {corpus.num_classes} classes, {views}")
    console.print(f"SHA-256 {digest}\nwrote {details_path(out)}: ratings, times and transcripts; keep it to yourself")
    if not without_tfds:
        from data_prep.iemocap.iemocap_dataset_builder import Builder as Iemocap  # tfds takes a second to import
        from data_prep.msp_improv.msp_improv_dataset_builder import Builder as MspImprov
        from data_prep.tfds_corpus import Recordings, write_dataset

        builder = {"iemocap": Iemocap, "msp_improv": MspImprov}.get(name, Recordings)
        path = write_dataset(builder, out, tfds_dir or out.parent / "tfds", corpus=read_archive(out))
        console.print(f"wrote {path}: the same as a tfds data set")
    labelled = len(np.unique(corpus.speaker[corpus.labelled]))
    folds = f" --folds {labelled}" if 3 <= labelled < 5 and corpus.split is None else ""
    console.print(f"Next: python -m data_prep.validate {out}{folds}")
