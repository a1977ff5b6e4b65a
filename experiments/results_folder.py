"""The folder of a table: its `config.json`, which says how the numbers were made, and what may be added to it later.

Rows and seeds may be added. Data, folds, preset, configuration of a row, versions and commit may not change: the table
would mix numbers that were made in different ways.
"""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import filelock

from cmarr_jax.data.json_object import check_kinds, is_kind, read_object, shown
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.disk import is_unused, named_disk_errors, write_text

CONFIG, LOCKS, SHARE = "config.json", ".locks", "label_share"
_KINDS = {
    "data": dict,
    "folds": list,
    "preset": dict,
    "versions": dict,
    "tuned": dict,
    "methods": dict,
    "seeds": list,
    "commit": str,
    "commands": list,
    "devices": str,
    "started": str,
}
T = TypeVar("T")
_ADVICE = "copy it again, or train the table again in a new folder"


def read_config(folder: Path, needed: Iterable[str] = tuple(_KINDS)) -> dict[str, Any]:
    """The `config.json` of a table.

    Args:
      folder: Of the table.
      needed: Keys that must be there; the others are checked where they are there.

    Raises:
      FileNotFoundError: if the folder has none.
      ValueError: if it is damaged or that of something else.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no table: {CONFIG} is missing; give the folder that experiments.reproduce wrote"
        )
    config = read_object(path, _ADVICE)
    if "command" in config:  # folders from before November 2026 know the first command only
        config["commands"] = [config.pop("command")]
    check_kinds(path, config, {key: kind for key, kind in _KINDS.items() if key in (*needed, *config)}, "", _ADVICE)
    if "data" in config:
        check_kinds(path, config["data"], {"sha256": str}, "data", _ADVICE)
    for number, fold in enumerate(config.get("folds", [])):
        check_kinds(path, fold, {"name": str}, f"folds[{number}]", _ADVICE)
    for number, words in enumerate(config.get("commands", [])):
        if not (is_kind(words, list) and words and all(is_kind(word, str) for word in words)):
            raise ValueError(
                f"{path} is damaged (commands[{number}] is {shown(words)}, no words of a command); {_ADVICE}"
            )
    if not all(is_kind(seed, int) for seed in config.get("seeds", [])):
        raise ValueError(f"{path} is damaged (seeds are {shown(config['seeds'])}, no whole numbers); {_ADVICE}")
    if not is_kind(config.get(SHARE, 1.0), float):
        raise ValueError(f"{path} is damaged ({SHARE} is {shown(config[SHARE])}, no number); {_ADVICE}")
    return config


def new_name(name: str) -> Path:
    """A folder in `runs/`, named by the data set and the time."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def open_folder(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Makes the folder, or checks that it can be added to; writes `config.json`.

    Args:
      folder: New, empty, or the folder of a table.
      config: What `config.json` should hold.

    Returns:
      What it holds now: rows, seeds, commands and devices of both.

    Raises:
      FileExistsError: if the folder holds something else than a table.
      ValueError: if the table there was made in another way, with the difference.
    """
    if not (folder / CONFIG).is_file() and not is_unused(folder):
        raise FileExistsError(f"{folder} is not empty and holds no table; name a new folder with --out, or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCKS).mkdir(exist_ok=True)
    with filelock.FileLock(folder / LOCKS / CONFIG):
        if (folder / CONFIG).is_file():
            before = read_config(folder)
            check_same(folder, before, json.loads(to_json(config)))
            config = before | {
                "methods": before["methods"] | config["methods"],
                "tuned": before["tuned"] | config["tuned"],
                "seeds": sorted({*before["seeds"], *config["seeds"]}),
                "commands": with_new(before["commands"], config["commands"], what=lambda words: words[1:]),
                "devices": ", ".join(with_new(before["devices"].split(", "), [config["devices"]])),
            }
        write_text(folder / CONFIG, to_json(config, indent=1) + "\n")
    return config


def with_new(before: list[T], now: list[T], what: Callable[[T], Any] = lambda one: one) -> list[T]:
    """What was there and then what is new, compared by `what`."""
    known = [what(one) for one in before]
    return [*before, *(one for one in now if what(one) not in known)]


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises ValueError with the first difference, if a table cannot be added to."""
    both = before["methods"].keys() & now["methods"].keys()
    pairs = {SHARE: (before.get(SHARE, 1.0), now.get(SHARE, 1.0))}
    pairs |= {name: (before[name], now[name]) for name in ("folds", "preset", "versions", "commit")}
    pairs["data"] = before["data"]["sha256"], now["data"]["sha256"]
    pairs["task"] = before.get("task"), now.get("task")
    for part in ("methods", "tuned"):
        for name in sorted(both):
            pairs[f"{part}.{name}"] = before.get(part, {}).get(name), now.get(part, {}).get(name)
    for name, (old, new) in pairs.items():
        if difference := first_difference(old, new, name):
            raise ValueError(
                f"{folder} holds a table that was made with another setting: {difference}; give the settings of that "
                "time, or name a new folder with --out"
            )


def first_difference(old: Any, new: Any, name: str) -> str | None:
    """For example `preset.train.patience was 8 and is 15 now`; None if there is none."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            if found := first_difference(old.get(key), new.get(key), f"{name}.{key}"):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            if found := first_difference(one, other, f"{name}[{index}]"):
                return found
        return None
    return None if old == new else f"{name} was {old} and is {new} now"


@contextlib.contextmanager
def own_report(folder: Path) -> Iterator[None]:
    """Waits until no other command writes the report of a folder: the last one to write has then read all runs."""
    if not (folder / CONFIG).is_file() and not any(folder.glob(f"*/{CONFIG}")):  # the reader says what is wrong
        yield
        return
    with named_disk_errors(folder):
        (folder / LOCKS).mkdir(exist_ok=True)
    with filelock.FileLock(folder / LOCKS / "report"):
        yield


@contextlib.contextmanager
def own_row(folder: Path, row: str) -> Iterator[bool]:
    """Whether this command may train a row: no other one is doing so. Ends with the process, however it ends."""
    lock = filelock.FileLock(folder / LOCKS / row)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
