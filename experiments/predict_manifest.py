"""Features of a manifest's recordings for prediction, made by the extractors of the training."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cmarr_jax.config import ModalityConfig
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.predict import Predictor
from data_prep.feature_files import NoneFoundError
from data_prep.manifest_file import read_manifest
from data_prep.sounds import check_sounds
from data_prep.sources import Extraction, FromFile, Spec, make_source, parse_spec
from data_prep.utterances import Utterance
from experiments.results_folder import first_difference

BLOCK = 256  # utterances whose features are in memory
Source = Extraction | FromFile
Named = tuple[str, dict[str, Any], str]


def make_sources(
    predictor: Predictor, given: Sequence[str], only: Sequence[str], *, other_versions: bool
) -> dict[str, Source]:
    """What makes the features of each modality, as the units' record says.

    Args:
      predictor: Its first unit says how the features of the training were made.
      given: What the command line adds, each NAME=EXTRACTOR:key=value or NAME=features:FILE: paths of weights.
      only: Modalities to make; all by default.
      other_versions: Whether other versions of libraries are only noted.

    Raises:
      ArchiveError: if the record does not say how, or the features would be made in another way.
    """
    records = predictor.units[0].input.extractors
    names = [modality.name for modality in predictor.modalities]
    specs: dict[str, Spec] = {}
    for item in given:
        name, _, text = item.partition("=")
        if name not in names:
            raise ArchiveError(f"--modality: {item!r}: write NAME=EXTRACTOR:key=value, NAME one of {', '.join(names)}")
        specs[name] = parse_spec(f"--modality {name}", text)
    sources = {}
    for modality in predictor.modalities:
        name = modality.name
        if only and name not in only:
            continue
        if name not in records:
            text = f"does not say how {name!r} was made, since its archive had no details file"
            advice = "make the features as in training and give them as an .npz"
            raise ArchiveError(f"{predictor.units[0].folder}: {text}; {advice}, or leave it out with --only")
        sources[name] = _make_source(modality, records[name], specs.get(name), other_versions)
    return sources


def _make_source(
    modality: ModalityConfig, record: Mapping[str, Any], given: Spec | None, other_versions: bool
) -> Source:
    name, kind, option = modality.name, record["name"], f"--modality {modality.name}"
    if given is not None and given.kind != kind:
        raise ArchiveError(f"{option}: the model was trained with {kind!r}, found {given.kind!r}; give {kind!r}")
    if kind == "features":
        if given is None:
            raise ArchiveError(
                f"{option}: its features come from a file; give {name}=features:FILE for these utterances"
            )
        from_file = FromFile(given, frames=modality.encoder != "vector")
        columns, then = from_file.file.columns, record.get("columns", "")  # named arrays have none
        if columns and then and columns != then:
            text = f"has not the columns of {record['file']}, on which the model was trained, in the same order"
            raise ArchiveError(f"{option}: {from_file.file.path}: {text}; write them as there")
        return from_file
    values = {**record["options"], **(given.values if given else {})}
    source = make_source(Spec(option, kind, values))
    then, now = dict(record), json.loads(json.dumps(source.record()))
    differs = f"{option}: features would differ from those of the training"
    versions = list(_other_versions(then.pop("libraries", {}), now.pop("libraries", {}), f"{name}.libraries"))
    if difference := first_difference(then, now, name):
        advice = "give the weights and options of the training with --modality"
        if difference.startswith(f"{name}.revision "):
            advice = "its code has changed since: use the code of then, or make the archive again and train on it"
        raise ArchiveError(f"{differs}: {difference}; {advice}")
    if versions and not other_versions:
        raise ArchiveError(f"{differs}: {', '.join(versions)}; install the versions of then, or see --other-versions")
    for difference in versions:
        print(f"note: {difference}, where the model was trained", file=sys.stderr)
    return source


def _other_versions(then: Mapping[str, Any], now: Mapping[str, Any], name: str) -> Iterator[str]:
    for library in {**then, **now}:
        if difference := first_difference(then.get(library), now.get(library), f"{name}.{library}"):
            yield difference


def manifest_items(path: Path, sources: Mapping[str, Source], num_workers: int | None) -> Iterator[Named]:
    """Yields id, features and a note of each utterance; what cannot be read is absent, and the note says why.

    Raises:
      ArchiveError: if the manifest or a file of features has a fault.
    """
    parsed = read_manifest(path, labelled=False)
    for note in parsed.notes:
        print(f"note: {note}", file=sys.stderr)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for start in range(0, len(parsed.utterances), BLOCK):
        with tempfile.TemporaryDirectory() as cache:
            part = parsed.utterances[start : start + BLOCK]
            notes: dict[str, list[str]] = {item.media.utterance_id: [] for item in part}
            for name, files in parsed.not_there.items():
                for key in notes.keys() & files.keys():
                    notes[key].append(f"{name}: {files[key]}: is not there")
            yield from _block(part, notes, sources, Path(cache), num_workers, console)


def _block(
    items: Sequence[Utterance],
    notes: Mapping[str, list[str]],
    sources: Mapping[str, Source],
    cache: Path,
    num_workers: int | None,
    console: Console,
) -> Iterator[Named]:
    """As `manifest_items`; further notes of each utterance are added to `notes`."""
    if any(isinstance(source, Extraction) and source.extractor.modality == "audio" for source in sources.values()):
        items, broken, _ = check_sounds(items, console)
        for key, reason in broken.items():
            notes[key].append(reason)
    features = {}
    for name, source in sources.items():
        having = [item for item in items if source.has(item)]
        features[name], reasons = _features(source, having, cache / name, num_workers)
        for key, reason in reasons.items():
            notes[key].append(f"{name}: {reason}")
    for key, texts in notes.items():
        yield key, {name: found[key] for name, found in features.items() if key in found}, "; ".join(texts)


def _features(
    source: Source, items: Sequence[Utterance], cache: Path, num_workers: int | None
) -> tuple[dict[str, Any], dict[str, str]]:
    if not items:
        return {}, {}
    if isinstance(source, Extraction):
        return source.features(items, cache, num_workers)
    try:
        return source.features(items, cache, num_workers)
    except NoneFoundError as error:  # none of this block; other blocks may have some
        return {}, {item.media.utterance_id: error.reasons[source.name(item)] for item in items}
