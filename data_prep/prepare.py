"""From utterances to an archive: features of each modality, details file, tfds data set. All corpora go this way."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from cmarr_jax.cores import num_cores
from cmarr_jax.data.corpus import UNLABELLED, ArchiveError, Corpus
from cmarr_jax.data.folds import unpaired_sessions
from data_prep.convert import Flag
from data_prep.details import NUMBERS, Details, check_modality_names
from data_prep.dry_run import print_estimate
from data_prep.join_features import join_features
from data_prep.sounds import check_sounds
from data_prep.sources import ZEROS, Extraction, FromFile, Spec, make_source, parse_specs
from data_prep.utterances import Parsed, Utterance, by_label, choose, examples, print_missing
from data_prep.write import check_dataset, check_out, make_console, write_all

Root = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
Source = Extraction | FromFile


@dataclasses.dataclass(frozen=True)
class Options:
    """What the features are made of, and where everything is written.

    Attributes:
      audio: Extractor of the sound, as NAME or NAME:key=value,key=value; or features:FILE for finished features; none
        leaves the modality out.
      video: The same for the picture.
      text: The same for the transcript.
      modality: Further modalities, each NAME=EXTRACTOR or NAME=features:FILE.
      cache_dir: Where extracted features are kept, so that a second start continues; by default NAME_cache beside OUT.
      num_workers: Number of processes; 0: one per core.
      tfds_dir: Where tfds keeps data sets; by default the folder tfds beside OUT.
      without_tfds: Writes no tfds data set.
      dry_run: Reads labels, opens what features are made of, estimates time and space, and writes nothing.
      force: Replaces an archive, details file and data set that are there.
      others_unlabelled: Keeps utterances whose label is in no class as unlabelled; without it they are left out.
      zeros_are_present: Takes utterances for which an extractor gives zeros only (a video in which no face was found)
        as present; without it they are absent in that modality.
    """

    audio: str = "none"
    video: str = "none"
    text: str = "none"
    modality: tuple[str, ...] = ()
    cache_dir: Path | None = None
    num_workers: int = 0
    tfds_dir: Path | None = None
    without_tfds: Flag = False
    dry_run: Flag = False
    force: Flag = False
    others_unlabelled: Flag = False
    zeros_are_present: Flag = False

    @property
    def specs(self) -> dict[str, Spec]:
        """What each modality comes from. Raises ArchiveError."""
        specs = parse_specs(self.audio, self.video, self.text, self.modality)
        return {name: self._with_zeros(spec) for name, spec in specs.items()}

    def _with_zeros(self, spec: Spec) -> Spec:
        if spec.kind == "features" or not self.zeros_are_present:
            return spec
        return dataclasses.replace(spec, values={**spec.values, ZEROS: True})


@dataclasses.dataclass(frozen=True)
class Job:
    """A corpus that becomes an archive.

    Attributes:
      name: `iemocap`, `msp_improv`, or another name: which tfds data set it becomes.
      source: Folder or manifest, for messages.
      out: The archive to write.
      classes: Which label becomes which class.
      class_names: The classes in their order.
      record: Options of the parser, for the record.
      check: Compares speakers and classes of the labelled utterances with known numbers; `None`: nothing is known.
      labelled_only: Whether utterances with an empty label are left out, instead of kept as unlabelled.
    """

    name: str
    source: Path
    out: Path
    classes: Mapping[str, str]
    class_names: tuple[str, ...]
    record: dict[str, Any]
    check: Callable[[Sequence[str], Sequence[str], Console], None] | None = None
    labelled_only: bool = False


def check_options(out: Path, options: Options) -> None:
    """Checks the options before anything is read. Raises ArchiveError."""
    specs = options.specs
    if options.num_workers < 0:
        raise ArchiveError(f"--num-workers must be 0 (one per core) or more, found {options.num_workers}")
    if not options.without_tfds:
        check_modality_names(specs)
    if not options.dry_run:
        check_out(out, force=options.force)


def prepare(job: Job, parsed: Parsed, options: Options) -> None:
    """Chooses utterances, makes their features and writes everything.

    Raises:
      ArchiveError: for any error in the data or the options.
    """
    console = make_console()
    if not options.dry_run:
        check_dataset(
            job.name, job.out, tfds_dir=options.tfds_dir, without_tfds=options.without_tfds, force=options.force
        )
    for note in parsed.notes:
        console.print(f"note: {escape(note)}")
    chosen = choose(
        parsed.utterances, job.classes, labelled_only=job.labelled_only, others_unlabelled=options.others_unlabelled
    )
    labelled, utterances = chosen.labelled, chosen.all
    counts = Counter(job.classes[item.label] for item in labelled)
    listed = ", ".join(f"{name} {counts[name]}" for name in job.class_names)
    text = f"{len(parsed.utterances)} utterances, {len(labelled)} of the {len(job.class_names)} classes: {listed}"
    console.print(escape(text))
    console.print(escape(f"kept as unlabelled, by label: {by_label(chosen.unlabelled)}"))
    console.print(escape(f"left out by label: {by_label(chosen.left_out)}"))
    _check_labelled(job, labelled, counts)
    if job.check:
        job.check([item.speaker for item in labelled], [job.classes[item.label] for item in labelled], console)
    specs = options.specs
    if options.dry_run:
        print_estimate(utterances, specs, options.num_workers or num_cores(), console)
        return
    sources = {name: make_source(spec) for name, spec in specs.items()}
    features, failures = _all_features(utterances, sources, parsed.not_there, job.out, options, console)
    record = job.record | {
        "unlabelled": dict(chosen.unlabelled),
        "left_out": dict(chosen.left_out),
        "failures": without_folders(failures, utterances, parsed.not_there, job.source),
        "extractors": {name: source.record() for name, source in sources.items()},
        "notes": [_below(note, job.source) for note in parsed.notes],
    }
    corpus, details = to_corpus(utterances, dataclasses.replace(job, record=record), features, console)
    for session in unpaired_sessions(corpus):
        console.print(f"[yellow]warning:[/yellow] {escape(session)}")
    write_all(
        job.name, job.out, corpus, details,
        tfds_dir=options.tfds_dir, without_tfds=options.without_tfds, console=console,
    )  # fmt: skip


def _check_labelled(job: Job, labelled: Sequence[Utterance], counts: Mapping[str, int]) -> None:
    """Raises ArchiveError for what would spoil the archive after hours of extraction."""
    if not labelled:
        raise ArchiveError(f"{job.source}: no utterance is of the classes {', '.join(job.class_names)}")
    if len(job.class_names) < 2:
        text = f"every labelled utterance is of class {job.class_names[0]!r}; label some of another class, too"
        raise ArchiveError(f"{job.source}: {text}")
    if lacking := [name for name in job.class_names if not counts[name]]:
        raise ArchiveError(f"{job.source}: no utterance is of class {lacking[0]!r}; leave it out, or label some")
    speakers = {item.speaker for item in labelled}
    if len(speakers) == 1 and not labelled[0].split:
        text = f"every labelled utterance is of speaker {labelled[0].speaker!r}; folds need more speakers, or a split"
        raise ArchiveError(f"{job.source}: {text}")


def without_folders(
    failures: Mapping[str, Mapping[str, str]],
    utterances: Sequence[Utterance],
    not_there: Mapping[str, Mapping[str, Path]],
    source: Path,
) -> dict[str, dict[str, str]]:
    """Reasons without the user's folders, which are nobody's business: paths below `source`, or names of files."""
    folder = _folder(source)
    media = {item.media.utterance_id: item.media for item in utterances}

    def short(key: str, text: str) -> str:
        for path in (media[key].audio, media[key].video, *(files.get(key) for files in not_there.values())):
            if path is not None:
                is_below = path.is_relative_to(folder) and ".." not in path.relative_to(folder).parts
                text = text.replace(str(path), str(path.relative_to(folder)) if is_below else path.name)
        return _below(text, source)

    return {name: {key: short(key, text) for key, text in found.items()} for name, found in failures.items()}


def _below(text: str, source: Path) -> str:
    """The text with paths relative to `source`. A path starts at the beginning, or after a space, quote or bracket."""
    folder = _folder(source)
    if folder == Path():
        return text  # paths are relative to it already
    start = rf"(?<![^\s'\"(]){re.escape(str(folder))}"
    return re.sub(rf"{start}(/|(?=:))", lambda found: "" if found[1] else folder.name, text)


def _folder(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def to_corpus(
    utterances: Sequence[Utterance], job: Job, features: Mapping[str, Mapping[str, np.ndarray]], console: Console
) -> tuple[Corpus, Details]:
    """Joins the features of each utterance. Utterances without any features are left out and printed.

    Raises:
      ArchiveError: if nothing remains, or a modality has no features or bears the name of a column.
    """
    rows = [item for item in utterances if any(item.media.utterance_id in found for found in features.values())]
    gone = sorted({item.media.utterance_id for item in utterances} - {item.media.utterance_id for item in rows})
    if gone:
        console.print(escape(f"left out, without any features: {', '.join(gone)}"))
    if not rows:
        raise ArchiveError("no utterance has features; see the failures above")
    ids = [item.media.utterance_id for item in rows]
    joined = {name: join_features(name, ids, found, console) for name, found in features.items()}
    splits = np.array([item.split for item in rows])
    index = {label: job.class_names.index(name) for label, name in job.classes.items()}
    label = np.array([index.get(item.label, UNLABELLED) for item in rows], np.int32)
    target = np.where(label == UNLABELLED, np.nan, [item.target for item in rows])
    corpus = Corpus(
        utterance_id=np.array(ids),
        speaker=np.array([item.speaker for item in rows]),
        session=np.array([item.session for item in rows]),
        label=label,
        class_names=job.class_names,
        features={name: array for name, (array, _, _) in joined.items()},
        length={name: length for name, (_, length, _) in joined.items() if length is not None},
        present=np.stack([present for _, _, present in joined.values()], axis=1),
        split=splits if splits[0] else None,
        target=None if np.isnan(target).all() else target,
    )
    return corpus, _details(rows, job.record | {"without_features": gone})


def _details(rows: Sequence[Utterance], record: dict[str, Any]) -> Details:
    spans = [item.media.span for item in rows]
    times = {"start": [start for start, _ in spans], "end": [end for _, end in spans]}
    numbers = {key: times.get(key) or [getattr(item, key) for item in rows] for key in NUMBERS}
    return Details(
        utterance_id=np.array([item.media.utterance_id for item in rows]),
        dialogue=np.array([item.dialogue for item in rows]),
        sex=np.array([item.sex for item in rows]),
        transcript=np.array([item.media.text or "" for item in rows]),
        **{key: np.array(column, np.float32) for key, column in numbers.items()},  # None becomes nan
        record=record,
        extra={key: np.array([item.extra[key] for item in rows]) for key in rows[0].extra},
    )


def _all_features(
    chosen: Sequence[Utterance],
    sources: Mapping[str, Source],
    not_there: Mapping[str, Mapping[str, Path]],
    out: Path,
    options: Options,
    console: Console,
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, str]]]:
    """Features and reasons of failures, per modality, by utterance id."""
    features, failures = dict[str, Any](), dict[str, Any]()
    ids = {item.media.utterance_id for item in chosen}
    cache = options.cache_dir or out.with_name(f"{out.stem}_cache")
    sound = [name for name, source in sources.items() if _reads(source) == "audio"]
    chosen, broken, _ = check_sounds(chosen, console) if sound else (chosen, {}, {})
    for name in sorted(sources, key=lambda name: isinstance(sources[name], Extraction)):  # a file is read at once
        source = sources[name]
        items = [item for item in chosen if source.has(item)]
        if not items:
            raise ArchiveError(f"{source.spec.option}: {_nothing(source, chosen)}")
        console.print(f"{name}: {len(items)} utterances by {source.spec.kind}")
        features[name], reasons = source.features(items, cache / name, options.num_workers or None)
        lost = {key: f"{path}: is not there" for key, path in not_there.get(_reads(source), {}).items() if key in ids}
        print_missing(name, lost | reasons, console)
        if note := _note(source, reasons):
            console.print(escape(f"{name}: {note}"))
        failures[name] = (broken if name in sound else {}) | lost | reasons
    return {name: features[name] for name in sources}, {name: failures[name] for name in sources}


def _nothing(source: Source, utterances: Sequence[Utterance]) -> str:
    """Why a modality can be made of no utterance. Only manifests have further columns."""
    if isinstance(source, FromFile):
        return f"the column {source.column!r} of the manifest is empty; fill it in, or leave the modality out"
    columns = {"audio": "'audio' or 'video'", "video": "'video'", "text": "'text' or 'transcript_file'"}
    text = f"no utterance has what it is made of, in a manifest the column {columns[_reads(source)]}"
    if kept := ", ".join(map(repr, utterances[0].extra)):
        text += f" (columns kept as text, and not read: {kept})"
    return f"{text}; fill it in, or leave the modality out"


def _note(source: Source, reasons: Mapping[str, str]) -> str:
    """What is worth a look in the features just made; empty: nothing is."""
    if isinstance(source, FromFile):
        note = source.file.note()
        return f"{source.file.path.name}: {note}" if note else ""
    mean = source.extractor.zeros_mean
    zero = [key for key, reason in reasons.items() if reason == mean]
    return f"{mean}: {examples(zero)}, taken as absent (--zeros-are-present takes them as present)" if zero else ""


def _reads(source: Source) -> str:
    """The medium that features are made of; empty: they come from a file."""
    return source.extractor.modality if isinstance(source, Extraction) else ""
