"""Reads a file that holds one JSON object, and checks what is in it."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_NUMBER = sys.float_info.max


def read_object(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      path: The file.
      advice: What to do if it is damaged; the end of that sentence.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if it cannot be read, or holds no JSON, or something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); give a file that you may read") from error
    except (ValueError, RecursionError) as error:  # also bytes that are no text, and brackets without end
        raise ValueError(f"{path} is damaged ({error}); {advice}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (it holds no JSON object); {advice}")
    return value


def check_kinds(path: Path, value: Any, kinds: Mapping[str, type], where: str, advice: str) -> None:
    """Raises ValueError unless a value from a JSON file is an object that has these keys with values of these types.

    Args:
      path: The file.
      value: From the file.
      kinds: Type of each key; `float` takes whole numbers, too, and no `nan` or infinity.
      where: Place of the value in the file; empty: the whole.
      advice: What to do; the end of the sentence.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged ({where} is no JSON object); {advice}")
    for key, kind in kinds.items():
        place = f"{where}.{key}" if where else key
        if key not in value:
            raise ValueError(f"{path} is damaged ({place} is missing); {advice}")
        if not is_kind(value[key], kind):
            raise ValueError(f"{path} is damaged ({place} is {shown(value[key])}, no {kind.__name__}); {advice}")


def is_kind(value: Any, kind: type) -> bool:
    """Whether a value of JSON has a type. A bool is no number, and a number is finite and fits into a float."""
    if kind is float:
        return type(value) in (int, float) and abs(value) <= MAX_NUMBER
    return type(value) is kind


def shown(value: Any) -> str:
    """A value in a message, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:60]}..."
