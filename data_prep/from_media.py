"""Extracts features of a raw corpus and writes archive, details file and tfds data set; used by both commands."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape

from cmarr_jax.data.corpus import ArchiveError, Corpus
from data_prep import known_counts
from data_prep.convert import Flag
from data_prep.details import NUMBERS, Details
from data_prep.media import Media
from data_prep.sounds import check_sounds
from data_prep.utterances import Parsed, Utterance, choose, examples
from data_prep.write import check_out, make_console, write_all

Root = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ROOT")]
MODALITIES = ("audio", "video", "text")  # and the fields of Media that they are made from
# Rough guesses for --dry-run: seconds of one core per second of speech, and bytes of features per second of speech.
_COST = {"audio": (0.1, 10 * 130 * 4), "video": (3.0, 10 * 342 * 4), "text": (0.1, 3 * 1024 * 4)}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which features are extracted, and which differences from the known corpus are allowed.

    Attributes:
      audio: Extractor of the sound, as NAME or NAME:key=value,key=value; none leaves the modality out.
      video: Extractor of the picture.
      text: Extractor of the transcript.
      num_classes: 4, or 5 (IEMOCAP: excited apart from happy; MSP-IMPROV: other as a class).
      cache_dir: Where extracted features are kept, so that a second start continues; by default NAME_cache beside OUT.
      num_workers: Number of processes; 0: one per core.
      allow_count_differences: Goes on when the counts per speaker and class are not the known ones.
      tfds_dir: Where tfds keeps data sets; by default the folder tfds beside OUT.
      without_tfds: Writes no tfds data set.
      dry_run: Reads labels, counts, estimates time and space, and writes nothing.
      force: Replaces an archive that is there.
    """

    audio: str = "compare_2016"
    video: str = "face_onnx"
    text: str = "text_transformer"
    num_classes: int = 4
    cache_dir: Path | None = None
    num_workers: int = 0
    allow_count_differences: Flag = False
    tfds_dir: Path | None = None
    without_tfds: Flag = False
    dry_run: Flag = False
    force: Flag = False


DEFAULTS = Options()


def convert_media(
    name: str, root: Path, out: Path, parsed: Parsed, classes: Mapping[int, Mapping[str, str]], options: Options,
    record: dict[str, Any],
) -> None:  # fmt: skip
    """Chooses utterances, extracts their features and writes everything.

    Args:
      name: `iemocap` or `msp_improv`.
      root: The raw corpus, for messages.
      out: The archive to write.
      parsed: What the parser found.
      classes: Per number of classes, which of the corpus's labels become which class.
      options: The command line.
      record: Options of the parser, for the record.

    Raises:
      ArchiveError: for any error in the data or the options.
    """
    console = make_console()
    specs = parse_specs(options)
    if options.num_classes not in classes:
        raise ArchiveError(f"--num-classes: 4 or 5, found {options.num_classes}")
    for note in parsed.notes:
        console.print(f"note: {escape(note)}")
    emotions = classes[options.num_classes]
    chosen, left_out = choose(parsed.utterances, emotions)
    listed = ", ".join(f"{label} {count}" for label, count in sorted(left_out.items()))
    console.print(f"{len(parsed.utterances)} utterances, {len(chosen)} of the {options.num_classes} classes")
    console.print(f"left out by label: {listed or 'none'}")
    if not chosen:
        raise ArchiveError(f"{root}: no utterance is of the classes {', '.join(sorted(set(emotions.values())))}")
    found = known_counts.count([item.speaker for item in chosen], [emotions[item.emotion] for item in chosen])
    known_counts.check_counts(name, found, source=str(root), allow=options.allow_count_differences, console=console)
    chosen = check_sounds(chosen, console) if "audio" in specs else chosen
    if options.dry_run:
        _print_estimate(chosen, specs, options, console)
        return
    frames, failures, records = _extract(chosen, specs, out, options, console)
    short = lambda text: text.replace(f"{root}/", "")  # nothing of the user's folders in what is written
    failures = {key: {item: short(reason) for item, reason in found.items()} for key, found in failures.items()}
    record |= {"left_out": dict(left_out), "failures": failures, "extractors": records}
    record["notes"] = [short(note) for note in parsed.notes]
    corpus, details = to_corpus(chosen, emotions, frames, record, console)
    write_all(name, out, corpus, details, tfds_dir=options.tfds_dir, without_tfds=options.without_tfds, console=console)


def check_options(out: Path, options: Options) -> None:
    """Checks the options before anything is read. Raises ArchiveError."""
    parse_specs(options)
    if not options.dry_run:
        check_out(out, force=options.force)


def parse_specs(options: Options) -> dict[str, tuple[str, dict[str, Any]]]:
    """Extractor name and its options per modality that is wanted.

    Raises:
      ArchiveError: if one is not written as NAME:key=value,key=value, or fewer than two modalities remain.
    """
    specs = {}
    for modality in MODALITIES:
        extractor, _, rest = getattr(options, modality).partition(":")
        pairs = [pair.partition("=") for pair in rest.split(",") if pair]
        if not extractor or any(not key or not equals for key, equals, _ in pairs):
            text = "write NAME, NAME:key=value,key=value, or none"
            raise ArchiveError(f"--{modality}: {getattr(options, modality)!r} is no extractor; {text}")
        if extractor != "none":
            specs[modality] = (extractor, {key: _value(key, value) for key, _, value in pairs})
    if len(specs) < 2:
        text = "at least two modalities are needed; name an extractor for two of --audio, --video and --text"
        raise ArchiveError(f"{text}, found {', '.join(specs) or 'none'}")
    return specs


def _value(key: str, text: str) -> Path | int | float | str:
    if key in ("weights", "detector"):
        return Path(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def to_corpus(
    utterances: Sequence[Utterance],
    emotions: Mapping[str, str],
    frames: Mapping[str, Mapping[str, np.ndarray]],
    record: dict[str, Any],
    console: Console,
) -> tuple[Corpus, Details]:
    """Joins the features of each utterance. Utterances without any features are left out and printed.

    Raises:
      ArchiveError: if nothing remains, or the frames of a modality differ in width.
    """
    rows = [item for item in utterances if any(item.media.utterance_id in found for found in frames.values())]
    gone = sorted({item.media.utterance_id for item in utterances} - {item.media.utterance_id for item in rows})
    if gone:
        console.print(f"left out, without any features: {', '.join(gone)}")
    if not rows:
        raise ArchiveError("no utterance has features; see the failures above")
    record["without_features"] = gone
    ids = [item.media.utterance_id for item in rows]
    class_names = tuple(sorted(set(emotions.values())))
    features, length = join_frames(ids, frames, console)
    corpus = Corpus(
        utterance_id=np.array(ids),
        speaker=np.array([item.speaker for item in rows]),
        session=np.array([item.session for item in rows]),
        label=np.array([class_names.index(emotions[item.emotion]) for item in rows], np.int32),
        class_names=class_names,
        features=features,
        length=length,
        present=np.stack([array > 0 for array in length.values()], axis=1),
    )
    numbers = {key: np.array([getattr(item, key) for item in rows], np.float32) for key in NUMBERS}
    details = Details(
        utterance_id=corpus.utterance_id,
        dialogue=np.array([item.dialogue for item in rows]),
        sex=np.array([item.sex for item in rows]),
        transcript=np.array([item.media.text or "" for item in rows]),
        record=record,
        **numbers,
    )
    return corpus, details


def join_frames(
    ids: Sequence[str], frames: Mapping[str, Mapping[str, np.ndarray]], console: Console
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Per modality, the frames of all utterances one after the other, `[frames, width]`, and how many each has.

    Raises:
      ArchiveError: if no utterance has features of a modality.
    """
    features, length = {}, {}
    for name, found in frames.items():
        if not found:
            raise ArchiveError(f"no utterance has {name} features; see the failures above, or give --{name} none")
        width = next(iter(found.values())).shape[1]
        empty = np.empty((0, width), np.float32)
        parts = [found.get(item, empty) for item in ids]
        features[name] = np.concatenate(parts).astype(np.float32, copy=False)
        length[name] = np.array([len(part) for part in parts], np.int32)
        zero = [item for item, part in zip(ids, parts, strict=True) if len(part) and not part.any()]
        if zero:
            console.print(f"{name}: zeros in every frame of {examples(zero)}; in a video: no face was found")
    return features, length


def _extract(
    chosen: Sequence[Utterance],
    specs: Mapping[str, tuple[str, dict[str, Any]]],
    out: Path,
    options: Options,
    console: Console,
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, dict[str, str]], dict[str, Any]]:
    from data_prep.extractors.run import extract_all

    frames: dict[str, dict[str, np.ndarray]] = {}
    failures: dict[str, dict[str, str]] = {}
    records: dict[str, Any] = {}
    made = {modality: _make_extractor(modality, *spec) for modality, spec in specs.items()}
    cache = options.cache_dir or out.with_name(f"{out.stem}_cache")
    for modality, extractor in made.items():
        items = [item.media for item in chosen if _source(item.media, modality) is not None]
        console.print(f"{modality}: {len(items)} utterances by {specs[modality][0]}")
        found, failed = extract_all(
            extractor, items, cache / modality, num_workers=options.num_workers or os.cpu_count() or 1, progress=True
        )
        frames[modality] = found
        failures[modality] = {failure.utterance_id: failure.reason for failure in failed}
        for failure in failed:
            console.print(escape(f"{modality} of {failure.utterance_id} taken as missing: {failure.reason}"))
        records[modality] = extractor.record()
    return frames, failures, records


def _make_extractor(modality: str, name: str, values: Mapping[str, Any]) -> Any:
    """Makes an extractor and loads its weights. Raises ArchiveError if a package or file is missing."""
    from data_prep import extractors

    try:
        extractor = extractors.get(name, **values)
        extractor.record()  # reads the weights
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise ArchiveError(f"--{modality}: {error}") from error
    if extractor.modality != modality:
        raise ArchiveError(f"--{modality}: {name!r} is an extractor of {extractor.modality}")
    return extractor


def _source(media: Media, modality: str) -> Any:
    return getattr(media, modality)


def _print_estimate(chosen: Sequence[Utterance], specs: Mapping[str, Any], options: Options, console: Console) -> None:
    seconds = sum(_seconds(item) for item in chosen)
    workers = options.num_workers or os.cpu_count() or 1
    time = sum(_COST[name][0] for name in specs) * seconds / workers
    size = sum(_COST[name][1] for name in specs) * seconds
    for name, spec in specs.items():
        count = sum(_source(item.media, name) is not None for item in chosen)
        try:
            _make_extractor(name, *spec)
            state = "ready"
        except ArchiveError as error:
            state = f"not ready: {error}"
        console.print(escape(f"{name}: {count} of {len(chosen)} utterances have a source; {spec[0]} is {state}"))
    console.print(
        f"{seconds / 3600:.2f} hours of speech; roughly {time / 60:.0f} minutes with {workers} processes and "
        f"{3 * size / 1e9:.2f} GB of disk (cache, archive, tfds data set); nothing was written"
    )


def _seconds(item: Utterance) -> float:
    if item.end > item.start:
        return item.end - item.start
    try:
        return item.media.audio.stat().st_size / (2 * 44100) if item.media.audio else 4.0  # 16 bits, 44.1 kHz
    except OSError:
        return 4.0
