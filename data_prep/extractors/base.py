"""Base class of extractors: from the media of one utterance to frames of features, and a record for reproduction."""

import abc
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from cmarr_jax.data.archive import sha256
from cmarr_jax.data.corpus import ArchiveError
from data_prep.media import Media

Modality = Literal["audio", "video", "text"]
INSTALL = {
    "extract": "python -m pip install -c constraints.txt -e '.[extract]'",
    "experiments": "python -m pip install -c constraints.txt -e '.[experiments]'",
    "corpora": "python -m pip install -c constraints.txt -e '.[corpora]'",
    "extract-torch": "python -m pip install -c constraints.txt -e '.[extract,extract-torch]'",
}


class MediaError(ValueError):
    """An error in the media of one utterance; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class Extractor(abc.ABC):
    """Extracts the features of one modality. The fields are the options.

    A subclass loads libraries and weights in `functools.cached_property`s, which are not pickled for worker processes.

    Attributes:
      name: Name in the registry. A class of your own needs none: its module and its name, `my_features.Pitch`.
      modality: Modality that it reads.
      libraries: Packages that the features depend on; their versions are recorded.
      gives_vector: Whether `extract` gives one vector of the whole utterance, T = 1.
      zeros_mean: What features of zeros only say of an utterance: why it does not have this modality.
      pool: `mean` averages the frames of an utterance to one vector; frames of zeros (no face was found) do not count.
      revision: Number to increase when a change of the code changes the features: it starts a new cache folder.
    """

    name: ClassVar[str]
    modality: ClassVar[Modality]
    libraries: ClassVar[tuple[str, ...]]
    revision: ClassVar[int] = 1
    gives_vector: ClassVar[bool] = False
    zeros_mean: ClassVar[str] = "the features are zeros only"
    pool: str = dataclasses.field(default="none", kw_only=True)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}.{cls.__qualname__}"

    @property
    def is_vector(self) -> bool:
        """Whether T is always 1: an archive then holds one vector per utterance, not a sequence."""
        return self.gives_vector or self.pool == "mean"

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """D."""

    @abc.abstractmethod
    def extract(self, media: Media) -> np.ndarray:
        """The features `[T, D]` of any float type, not yet checked."""

    def __call__(self, media: Media) -> np.ndarray:
        """The features of one utterance.

        Returns:
          Features, `[T, D]`, float32, T >= 1, finite; T = 1 if `is_vector`.

        Raises:
          MediaError: if the media are missing, damaged, too short, or give values that are not finite.
        """
        features = np.asarray(self.extract(media), np.float32)
        if features.ndim != 2 or features.shape[0] < 1 or features.shape[1] != self.width:
            raise MediaError(f"{self.name} gave shape {list(features.shape)} where [T, {self.width}] is expected")
        if not np.isfinite(features).all():
            raise MediaError(f"{self.name} gave values that are not finite")
        return _mean_frame(features) if self.pool == "mean" else features

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Files of the user that the features depend on."""
        return ()

    def check(self) -> None:
        """Loads libraries and weights, compares them with what is expected, and tries them on something small.

        `record` does this once, before anything is extracted.

        Raises:
          ValueError, OSError: if something is damaged or does not fit; one sentence with the file and what to do.
        """
        _ = self.width

    def record(self) -> dict[str, Any]:
        """How the features are made, a dict for JSON: everything that changes a number, but no path.

        Raises:
          ValueError, OSError: if `check` finds a fault, or a file changes meanwhile.
        """
        return dict(self._record)

    def check_unchanged(self) -> None:
        """Raises ArchiveError if a file of the weights is not the one that `record` checked and hashed."""
        try:
            found = _stamps(self.weight_files)
        except (
            OSError,
            ValueError,
        ):  # the folder is gone, or the model does not say any more which files are beside it
            found = frozenset()
        if found != self._checked:
            changed = sorted({path for path, _ in found ^ self._checked})
            raise ArchiveError(
                f"{changed[0]}: was changed after it was checked; leave the weights alone and start again"
            )

    @functools.cached_property
    def _checked(self) -> frozenset[tuple[Path, tuple[int, int] | None]]:
        return _stamps(self.weight_files)

    @functools.cached_property
    def _record(self) -> dict[str, Any]:
        _ = self._checked  # before anything is loaded
        if self.pool not in ("none", "mean"):
            raise ValueError(f"pool must be one of none, mean; found {self.pool!r}")
        self.check()
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if self.pool == "none":  # so that records and caches from before there was this option stay as they are
            del options["pool"]
        record = {
            "name": self.name,
            "modality": self.modality,
            "width": self.width,
            "revision": self.revision,
            "options": {key: value for key, value in options.items() if not isinstance(value, Path)},
            "libraries": {name: self._version(name) for name in (*self.libraries, "numpy")},
            "weights": {path.name: sha256(path) for path in self.weight_files},
        }
        self.check_unchanged()
        return record

    def _version(self, library: str) -> str:
        try:
            return importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError as error:
            text = f"the package {library!r}, which `libraries` of {self.name} names, is not installed"
            raise ImportError(f"{text}; install it, or give its name for pip") from error

    def __getstate__(self) -> dict[str, Any]:
        """The options, and which files were checked: a worker process loads the same ones or stops."""
        checked = {"_checked": self._checked} if "_checked" in self.__dict__ else {}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | checked


def _mean_frame(features: np.ndarray) -> np.ndarray:
    """The mean of the frames that are not all zeros, `[1, D]`."""
    found = features.any(axis=1)
    return features[found].mean(axis=0, keepdims=True) if found.any() else features[:1]


def _stamps(paths: tuple[Path, ...]) -> frozenset[tuple[Path, tuple[int, int] | None]]:
    """Size and time of change of each file; `None` if it is not there."""
    found: list[tuple[Path, tuple[int, int] | None]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            found.append((path, None))
        else:
            found.append((path, (stat.st_size, stat.st_mtime_ns)))
    return frozenset(found)


def record_hash(record: dict[str, Any]) -> str:
    """Twelve hexadecimal digits that change with any part of a record."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def need(module: str, extra: str = "extract") -> Any:
    """Imports a module of an optional dependency.

    Raises:
      ImportError: if it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the package {module!r} cannot be imported ({error}); run {INSTALL[extra]}") from error


def need_file(path: Path, what: str) -> Path:
    """Returns the path if it exists.

    Raises:
      FileNotFoundError: if it does not; nothing is downloaded.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{what}: {path.name!r} is not there; it is looked for at {path.absolute()} and is never downloaded, "
            "so put it there or give its path"
        )
    return path


def one_line(error: BaseException) -> str:
    """What a library's error says, on one line of at most 160 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."


def average_frames(features: np.ndarray, group: int) -> np.ndarray:
    """Means of `group` successive frames, `[T, D]` to `[ceil(T / group), D]`; the last one may be of fewer frames."""
    starts = np.arange(0, len(features), group)
    counts = np.diff(np.r_[starts, len(features)])
    return np.add.reduceat(features.astype(np.float64), starts, axis=0) / counts[:, None]
