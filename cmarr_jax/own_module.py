"""Finds modules that users write beside the library."""

import importlib
from types import ModuleType


def find_module(name: str) -> ModuleType | None:
    """The module of that name; None if there is none, or the name is empty or relative.

    Raises:
      Exception: what the module itself raises when it is imported, such as ModuleNotFoundError for a package it needs.
    """
    if not name or name.startswith("."):
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        return None
