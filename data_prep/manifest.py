"""A manifest of anybody's recordings as a feature archive and a tfds data set.

    python -m data_prep.manifest --from-folders RECORDINGS manifest.csv
    python -m data_prep.manifest manifest.csv mine.npz --audio compare_2016 --video face_hog

The columns of a manifest are described in data_prep/README.md.
"""

import dataclasses
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.corpus import ArchiveError
from data_prep.convert import Flag, run_command
from data_prep.manifest_file import read_manifest
from data_prep.manifest_folders import Level, manifest_from_folders
from data_prep.prepare import Job, Options, check_options, prepare
from data_prep.utterances import DIFFER, Utterance, by_label, near_names, told_apart

Manifest = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST")]
OptionalOut = Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
Levels = Annotated[tuple[Level, ...], tyro.conf.arg(metavar="{label,speaker,session} ...")]
DEFAULTS = Options()


def convert(
    manifest: Manifest,
    out: OptionalOut = None,
    options: Annotated[Options, tyro.conf.arg(name="")] = DEFAULTS,
    classes: tuple[str, ...] = (),
    from_folders: Path | None = None,
    levels: Levels = ("label",),
    labelled_only: Flag = False,
) -> None:
    """Writes the utterances of a manifest as a feature archive and a tfds data set.

    A medium that is missing or broken is reported, and that modality is absent for the utterance. Utterances with an
    empty label are kept as unlabelled. Those of other labels than the classes are left out. Both are counted.

    Args:
      manifest: CSV or Parquet, one row per utterance; with --from-folders, the CSV to write.
      out: The archive to write; NAME_details.npz is written beside it.
      options: What the features are made of, and where everything is written.
      classes: Classes in their order, each NAME or NAME=label,label; by default every label, sorted.
      from_folders: Writes a first manifest of the media below this folder, to be looked through and edited.
      levels: What the folders below it are, from the outermost.
      labelled_only: Leaves out utterances with an empty label; without it they are kept as unlabelled.
    """
    if from_folders is not None:
        manifest_from_folders(from_folders.expanduser(), manifest, levels, out=out, force=options.force)
        return
    if out is None:
        raise ArchiveError("OUT: the archive to write is missing; give a path that ends in .npz after the manifest")
    if labelled_only and options.others_unlabelled:
        raise ArchiveError("--labelled-only leaves out what --others-unlabelled keeps; give one of them")
    check_options(out, options)
    parsed = read_manifest(manifest)
    labels = {item.label for item in parsed.utterances} - {""}
    if not labels:
        raise ArchiveError(f"{manifest}: column 'label': is empty in every row; label some utterances of every class")
    mapping, names = _classes(classes, labels)
    notes = (*_near_names(manifest, parsed.utterances, mapping), *parsed.notes)
    record = {"command": "data_prep.manifest", "manifest_sha256": sha256(manifest), "classes": mapping}
    job = Job("recordings", manifest, out, mapping, names, record, labelled_only=labelled_only)
    prepare(job, dataclasses.replace(parsed, notes=notes), options)


def _near_names(manifest: Path, utterances: Sequence[Utterance], mapping: Mapping[str, str]) -> Iterator[str]:
    """Sentences on labels and speakers that are written in nearly one way, and yet are different classes or people."""
    labels, speakers = Counter(item.label for item in utterances), Counter(item.speaker for item in utterances)
    for group in near_names(labels):
        if len({mapping.get(name) for name in group}) > 1:
            listed = by_label({shown: labels[name] for shown, name in zip(told_apart(group), group, strict=True)})
            joined = shlex.quote(f"{group[0]}={','.join(group)}")
            text = f"labels that {DIFFER} are different classes: {listed}"
            yield f"{manifest}: {text}; correct them, or join them in --classes with {joined}"
    for group in near_names(speakers):
        listed = by_label({shown: speakers[name] for shown, name in zip(told_apart(group), group, strict=True)})
        text = f"speakers that {DIFFER} are different people, whom folds do not keep together: {listed}"
        yield f"{manifest}: {text}; correct them if they are one"


def _classes(given: Sequence[str], labels: set[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Which label becomes which class, and the classes in their order.

    Raises:
      ArchiveError: if a label is given twice or no utterance has it.
    """
    mapping: dict[str, str] = {}
    for item in given or sorted(labels):
        name, equals, listed = item.partition("=") if given else (item, "", "")
        for label in listed.split(",") if equals else [item]:
            if label in mapping:
                raise ArchiveError(f"--classes: the label {label!r} is given twice; give it once")
            if label not in labels:
                text = f"no utterance has the label {label!r}; the labels are {', '.join(sorted(labels))}"
                raise ArchiveError(f"--classes: {text}")
            mapping[label] = name
    return mapping, tuple(dict.fromkeys(mapping.values()))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return run_command(convert, argv, prog="python -m data_prep.manifest")


if __name__ == "__main__":
    sys.exit(main())
