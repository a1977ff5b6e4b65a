"""Extractors by name. The library of an extractor is imported when `get` is called for it.

A class of your own needs no registration: its name is that of its module and its own, such as `my_features.Pitch`.
"""

import dataclasses
import importlib
import typing
from pathlib import Path
from typing import Any

from cmarr_jax.own_module import find_module
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

    Args:
      name: One of `NAMES`, or `MODULE.CLASS` of a class of your own.
      options: Values of its fields.

    Raises:
      ValueError: if there is no such extractor or option, or a value is out of range.
      ImportError: if a package is not installed, with the command that installs it.
      FileNotFoundError: if weights are missing, with the path that was tried.
    """
    if name in _CLASSES:
        module, attribute = _CLASSES[name]
        extractor = getattr(importlib.import_module(f"data_prep.extractors.{module}"), attribute)
    else:
        extractor = _own(name)
    fields = sorted(
        dataclasses.fields(extractor), key=lambda field: bool(field.kw_only)
    )  # those of all extractors last
    known = {field.name: field.default for field in fields}
    for option in options:
        if option not in known:
            raise ValueError(f"extractor {name!r} has no option {option!r}; it has {', '.join(known)}")
    types = typing.get_type_hints(extractor)
    given = {option: _value(option, value, known[option], types[option]) for option, value in options.items()}
    return extractor(**given)


def _own(name: str) -> type[Extractor]:
    """The class MODULE.CLASS. Raises ValueError if there is none, or it is no extractor whose options are fields."""
    module, _, attribute = name.rpartition(".")
    found = getattr(find_module(module), attribute, None)
    if found is None:
        own = "; a class of your own is MODULE.CLASS, its module in the working folder or installed" if module else ""
        raise ValueError(f"there is no extractor {name!r}; there are {', '.join(NAMES)}{own}")
    if not (isinstance(found, type) and issubclass(found, Extractor) and "__dataclass_params__" in vars(found)):
        raise ValueError(f"{name} is no frozen dataclass derived from data_prep.extractors.Extractor; make it one")
    if found.name != name:
        raise ValueError(f"{name} has the name {found.name!r}, which a prediction would not find; leave `name` out")
    return found


def _value(option: str, value: Any, default: Any, kind: Any) -> Any:
    """The value, of the type of the option and its default. A command line gives text, which is read as that type.

    A name may look like a number, as ONNX's tensor `123` does.
    """
    if isinstance(value, str) and Path in (kind, *typing.get_args(kind)):
        return Path(value).expanduser()
    if isinstance(value, str) and kind is not str and not isinstance(default, str):
        value = _number(value)
    if default is dataclasses.MISSING:
        return value
    if isinstance(default, str):
        return str(value)
    if isinstance(default, bool):
        if value not in (0, 1):
            raise ValueError(f"option {option!r} must be 0 or 1, found {value!r}")
        return bool(value)
    kinds = (int, float) if isinstance(default, float) else type(default)
    if default is not None and not isinstance(value, kinds):
        wanted = {int: "a whole number", float: "a number"}.get(type(default), "a pathlib.Path")
        raise ValueError(f"option {option!r} must be {wanted}, found {value!r}")
    return value


def _number(text: str) -> int | float | str:
    """The number that the text is, or the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
