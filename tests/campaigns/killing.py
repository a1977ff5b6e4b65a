"""Starts a command of the repository and kills it with SIGKILL, which no program can answer."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tyro

ROOT = Path(__file__).parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Of a campaign; see the head of its file."""

    folder: tyro.conf.Positional[Path]
    """New."""
    kills: int = 20
    """That must hit. One that comes after the end of the command does not count."""
    seed: int = 0
    """Of the moments."""


class Moment(NamedTuple):
    """When a command is killed.

    Attributes:
      reached: Whether the moment is there.
      delay: Seconds that the kill then waits.
      pause: Seconds between two calls of `reached`. 0 for moments that are short: that takes a core.
    """

    reached: Callable[[], bool]
    delay: float
    pause: float = 0.02


class Killed(NamedTuple):
    """What became of a command.

    Attributes:
      hit: Whether it was running when the signal came.
      seconds: From its start.
      partial: Files that it left half-written, hidden beside their place.
    """

    hit: bool
    seconds: float
    partial: list[str]

    def __str__(self) -> str:
        how = "killed" if self.hit else "had ended before"
        return f"{how} after {self.seconds:.2f} s" + "".join(f", left {name}" for name in self.partial)


def start(*command: object) -> subprocess.Popen[bytes]:
    """Starts `python ...` in the root of the repository."""
    return subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.DEVNULL)


def run(*command: object) -> float:
    """Runs `python ...` undisturbed and returns its seconds."""
    begin = time.monotonic()
    if start(*command).wait() != 0:
        raise SystemExit(f"failed, undisturbed: python {' '.join(map(str, command))}")
    return time.monotonic() - begin


def kill(folder: Path, command: tuple[object, ...], moment: Moment) -> Killed:
    """Starts a command that writes to a folder, and kills it at a moment."""
    before, begin = set(partial_files(folder)), time.monotonic()
    process = start(*command)
    while process.poll() is None and not moment.reached():
        time.sleep(moment.pause)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment.delay)
    process.send_signal(signal.SIGKILL)
    hit = process.wait() == -signal.SIGKILL
    return Killed(hit, time.monotonic() - begin, sorted(set(partial_files(folder)) - before))


def partial_files(folder: Path) -> list[str]:
    """Names of the half-written files of a folder and the folders in it."""
    return [path.name for path in folder.rglob(".*.partial")]


def half_written(folder: Path, name: str = "") -> Moment:
    """The moment at which a file is half-written that is not so now; with a name, a file of this name."""
    before = set(partial_files(folder))
    new = lambda: (path for path in partial_files(folder) if path not in before and path.startswith(f".{name}"))
    return Moment(lambda: any(new()), 0, pause=0)
