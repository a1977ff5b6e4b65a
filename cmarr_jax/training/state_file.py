"""The state of an unfinished run in one npz file, with the one before it kept beside it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmarr_jax.data.json_object import is_kind, shown
from cmarr_jax.training.disk import whole_file

FORMAT = 1  # of the file; a later one may hold what this version does not know
ABOUT = "about"
BEFORE = ".before"  # end of the name of the state before the newest one


def save_state(path: Path, tree: Any) -> None:
    """Writes arrays, typed PRNG keys among them, into one file, which is complete or not there at all.

    The state that was there is kept as the one before.

    Raises:
      DiskError: if the disk is full or the folder cannot be written; what was there is still there.
    """
    about = json.dumps({"format": FORMAT})
    with whole_file(path) as partial:
        with partial.open("wb") as file:
            np.savez(file, *map(storable, jax.tree.leaves(tree)), **{ABOUT: np.array(about)})  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        if path.is_file():
            path.replace(_before(path))


def load_state(path: Path, like: Any) -> Any | None:
    """Reads what `save_state` wrote; None if there is no file.

    Args:
      path: Of the file.
      like: A tree of the same structure, shapes and dtypes.

    Raises:
      ValueError: if the file is damaged, of a newer version, or holds something else.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            about = json.loads(str(file[ABOUT])) if ABOUT in file.files else {"format": 0}
            stored = [file[f"arr_{number}"] for number in range(len(file.files) - 1)]
        if not isinstance(about, dict) or not is_kind(about.get("format"), int):
            raise ValueError(f"{ABOUT} is {shown(about)}")
    except Exception as error:  # a damaged zip file raises errors of many types
        raise ValueError(f"{path} is damaged ({error or type(error).__name__})") from error
    if about["format"] > FORMAT:
        raise ValueError(f"{path} was written by a newer version (format {about['format']}, this one reads {FORMAT})")
    leaves, tree = jax.tree.flatten(like)
    form = lambda x: (np.shape(x), x.dtype)
    if about["format"] < FORMAT or [form(x) for x in stored] != [form(storable(x)) for x in leaves]:
        raise ValueError(f"{path} holds the state of another run")
    restored = [jax.random.wrap_key_data(x) if is_key(old) else x for x, old in zip(stored, leaves, strict=True)]
    return jax.tree.unflatten(tree, restored)


def load_newest_state(path: Path, like: Any, log: Callable[[str], None]) -> Any | None:
    """The newest state that can be read, or None; says what could not be read, and what follows from it."""
    refused = False
    for candidate in (path, _before(path)):
        try:
            state = load_state(candidate, like)
        except ValueError as error:
            log(f"{error}; the state before it is looked for.")
            refused = True
            continue
        if state is not None:
            if refused:
                log(f"{candidate} is used.")
            return state
    if refused:
        log(f"{path}: no state can be read; this run begins anew.")
    return None


def delete_states(path: Path) -> None:
    """Deletes the state of a run that is finished, and the one before."""
    path.unlink(missing_ok=True)
    _before(path).unlink(missing_ok=True)


def is_key(x: Any) -> bool:
    """Whether this is an array of typed PRNG keys."""
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def storable(x: Any) -> np.ndarray:
    """An array that numpy and Orbax take: no numpy scalar, no typed key."""
    return np.asarray(jax.random.key_data(x) if is_key(x) else x)


def _before(path: Path) -> Path:
    return path.with_name(path.name + BEFORE)
