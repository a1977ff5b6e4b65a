"""Where the features of each modality come from: an extractor over the media, or a file of finished features."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.data.corpus import ArchiveError, check_modalities
from data_prep.feature_files import FeatureFile
from data_prep.utterances import Utterance

Features = dict[str, np.ndarray]
ZEROS = "zeros_are_present"  # option of every extractor: features of zeros only are kept


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a command line says of one modality.

    Attributes:
      option: The option, for messages: `--audio`.
      kind: Name of an extractor, or `features`.
      values: Options of the extractor, or of the file.
    """

    option: str
    kind: str
    values: Mapping[str, Any]


class Extraction:
    """Features made from the media by an extractor; its weights are loaded and checked when this is made.

    An utterance whose features are zeros only (a video in which no face was found) has none, unless `spec.values` has
    `zeros_are_present`. This is in the record with the options of the extractor, so that a prediction does the same.
    """

    def __init__(self, spec: Spec) -> None:
        values = dict(spec.values)
        self.zeros_are_present = _yes_or_no(spec, values.pop(ZEROS, False))
        self.spec, self.extractor = spec, make_extractor(dataclasses.replace(spec, values=values))

    def has(self, item: Utterance) -> bool:
        """Whether the utterance has what the extractor reads."""
        return getattr(item.media, self.extractor.modality) is not None

    def features(
        self, items: Sequence[Utterance], cache: Path, num_workers: int | None
    ) -> tuple[Features, dict[str, str]]:
        """Features `[T, D]`, or `[D]` of the whole utterance, by utterance id; and for each other one the reason."""
        from data_prep.extractors.run import extract_all

        media = [item.media for item in items]
        found, failed = extract_all(self.extractor, media, cache, num_workers=num_workers, progress=True)
        reasons = {failure.utterance_id: failure.reason for failure in failed}
        zero = [] if self.zeros_are_present else [key for key, array in found.items() if not array.any()]
        reasons |= dict.fromkeys(zero, self.extractor.zeros_mean)
        if self.extractor.is_vector:
            found = {key: array[0] for key, array in found.items()}
        return {key: array for key, array in found.items() if key not in reasons}, reasons

    def record(self) -> dict[str, Any]:
        """How the features are made."""
        record = self.extractor.record()
        return record | {"options": {**record["options"], ZEROS: True}} if self.zeros_are_present else record


class FromFile:
    """Features of a file; the id of an utterance there is a column of the manifest.

    Args:
      spec: What the command line says.
      frames: What the rows of a table are, as in `FeatureFile`.
    """

    def __init__(self, spec: Spec, frames: bool | None = None) -> None:
        values = dict(spec.values)
        self.spec, self.column = spec, values.pop("id", "utterance_id")
        try:
            self.file = FeatureFile(**values, frames=frames)
        except TypeError:
            known = "features:FILE,key=NAME,values=NAME,id=COLUMN"
            raise ArchiveError(f"{spec.option}: has an option that is unknown; write {known}") from None
        if not self.file.path.is_file():
            raise ArchiveError(f"{spec.option}: {self.file.path}: there is no such file; check the path")

    def name(self, item: Utterance) -> str:
        """The utterance's name in the file; empty where its cell is."""
        if self.column == "utterance_id":
            return item.media.utterance_id
        if self.column not in item.extra:
            known = ", ".join(("utterance_id", *item.extra))
            raise ArchiveError(f"{self.spec.option}: id={self.column} is none of the columns that serve: {known}")
        return item.extra[self.column]

    def has(self, item: Utterance) -> bool:
        """Whether the utterance has a name to look for."""
        return bool(self.name(item))

    def features(
        self, items: Sequence[Utterance], cache: Path | None = None, num_workers: int | None = None
    ) -> tuple[Features, dict[str, str]]:
        """Features `[T, D]` or `[D]` by utterance id; and for each other utterance the reason.

        `cache` and `num_workers` are those of `Extraction.features`, and not used.

        Raises:
          ArchiveError: if the file cannot be read; `NoneFoundError` if it has none of these utterances.
        """
        del cache, num_workers
        found, reasons = self.file.read(sorted({self.name(item) for item in items}))
        names = {item.media.utterance_id: self.name(item) for item in items}
        features = {key: found[name] for key, name in names.items() if name in found}
        return features, {key: reasons[name] for key, name in names.items() if name not in found}

    def record(self) -> dict[str, Any]:
        """Which file it is."""
        return self.file.record()


def parse_specs(audio: str, video: str, text: str, modality: Sequence[str]) -> dict[str, Spec]:
    """What the options say, per modality that is wanted, in their order.

    Args:
      audio: NAME, NAME:key=value,key=value, features:FILE, or none; so are the next two.
      video: Of the picture.
      text: Of the transcript.
      modality: Further ones, each NAME=SPEC.

    Raises:
      ArchiveError: if one is written otherwise, a name is unfit or given twice, or fewer than two remain.
    """
    given = [("--audio", "audio", audio), ("--video", "video", video), ("--text", "text", text)]
    for item in modality:
        name, equals, spec = item.partition("=")
        if not equals:
            raise ArchiveError(f"--modality: write NAME=EXTRACTOR or NAME=features:FILE, found {item!r}")
        given.append((f"--modality {name}", name, spec))
    specs: dict[str, Spec] = {}
    for option, name, text_ in given:
        if name in specs:
            raise ArchiveError(f"{option}: the modality {name!r} is given twice; give it once")
        if text_ != "none":
            specs[name] = parse_spec(option, text_)
    if len(specs) < 2:
        advice = "at least two modalities are needed; name an extractor or a file for two of --audio, --video, --text"
        raise ArchiveError(f"{advice} and --modality, found {', '.join(specs) or 'none'}")
    check_modalities("--modality", np.array(list(specs)))
    return specs


def make_source(spec: Spec) -> Extraction | FromFile:
    """Opens what a modality comes from. Raises ArchiveError if a package, file or weight is missing or unfit."""
    return FromFile(spec) if spec.kind == "features" else Extraction(spec)


def make_extractor(spec: Spec) -> Any:
    """Makes an extractor, loads and tries it. Raises ArchiveError if a package or file is missing or does not fit."""
    from data_prep import extractors

    try:
        extractor = extractors.get(spec.kind, **spec.values)
        extractor.record()  # loads, checks and hashes the weights
    except (ImportError, ValueError, TypeError, OSError) as error:
        raise ArchiveError(f"{spec.option}: {error}") from error
    modality = spec.option.removeprefix("--")
    if modality in ("audio", "video", "text") and extractor.modality != modality:
        raise ArchiveError(f"{spec.option}: {spec.kind!r} is an extractor of {extractor.modality}")
    return extractor


def parse_spec(option: str, text: str) -> Spec:
    """What one option says. Raises ArchiveError if it is written in none of the known forms."""
    kind, _, rest = text.partition(":")
    parts = [part for part in rest.split(",") if part]
    values: dict[str, Any] = {}
    if kind == "features" and parts:
        end = next((i for i, part in enumerate(parts) if i and "=" in part), len(parts))  # a path may have commas
        values["path"] = Path(",".join(parts[:end])).expanduser()
        parts = parts[end:]
    pairs = [part.partition("=") for part in parts]
    if not kind or any(not key or not equals for key, equals, _ in pairs) or (kind == "features" and not values):
        forms = "NAME, NAME:key=value,key=value, features:FILE, or none"
        raise ArchiveError(f"{option}: {text!r} is no extractor; write {forms}")
    return Spec(option, kind, values | {key: value for key, _, value in pairs})


def _yes_or_no(spec: Spec, value: object) -> bool:
    if str(value) not in ("0", "1", "False", "True"):
        raise ArchiveError(f"{spec.option}: option {ZEROS!r} must be 0 or 1, found {value!r}")
    return str(value) in ("1", "True")
