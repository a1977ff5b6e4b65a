"""Extractors by name. The library of an extractor is imported when `get` is called for it."""

import dataclasses
import importlib
from typing import Any

from data_prep.extractors.base import Extractor, MediaError

__all__ = ["NAMES", "Extractor", "MediaError", "get"]

_CLASSES = {
    "compare_2016": ("audio_opensmile", "Compare2016"),
    "egemaps": ("audio_opensmile", "Egemaps"),
    "egemaps_functionals": ("audio_opensmile", "EgemapsFunctionals"),
    "wav2vec2": ("audio_wav2vec2", "Wav2Vec2"),
    "text_transformer": ("text_transformer", "TextTransformer"),
    "face_onnx": ("video_onnx", "FaceOnnx"),
    "face_hog": ("video_hog", "FaceHog"),
    "text_hashing": ("text_hashing", "TextHashing"),
}
NAMES = tuple(_CLASSES)


def get(name: str, **options: Any) -> Extractor:
    """The extractor of that name with these options (the fields of its class).

    Raises:
      ValueError: if there is no such extractor or option, or a value is out of range.
      ImportError: if a package is not installed, with the command that installs it.
      FileNotFoundError: if weights are missing, with the path that was tried.
    """
    if name not in _CLASSES:
        raise ValueError(f"there is no extractor {name!r}; there are {', '.join(NAMES)}")
    module, attribute = _CLASSES[name]
    extractor = getattr(importlib.import_module(f"data_prep.extractors.{module}"), attribute)
    fields = sorted(
        dataclasses.fields(extractor), key=lambda field: bool(field.kw_only)
    )  # those of all extractors last
    known = {field.name: field.default for field in fields}
    for option in options:
        if option not in known:
            raise ValueError(f"extractor {name!r} has no option {option!r}; it has {', '.join(known)}")
    return extractor(**{option: _value(option, value, known[option]) for option, value in options.items()})


def _value(option: str, value: Any, default: Any) -> Any:
    """The value, of the type of the option's default; a name may look like a number, as ONNX's tensor `123` does."""
    if isinstance(default, str):
        return str(value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if default is not None and not isinstance(value, kinds):
        wanted = {int: "a whole number", float: "a number"}.get(type(default), "a pathlib.Path")
        raise ValueError(f"option {option!r} must be {wanted}, found {value!r}")
    return value
