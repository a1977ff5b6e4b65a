"""Damages saved runs, states and checkpoints at random places, and counts what loading them says.

    chrt --idle 0 python tests/campaigns/damage_checkpoints.py FOLDER [--tries 200] [--seed 0]

Each try copies one of the three, and cuts one of its files or flips one bit in it. Loading must then give a sentence
(ValueError or FileNotFoundError), or the same values as before: some bytes mean nothing. Exit code 1 if another error,
or another value, was given. Not part of `make test`.
"""

import collections
import dataclasses
import functools
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import jax  # noqa: E402
from test_checkpoint import RECORD, make_run  # noqa: E402

from cmarr_jax.config import RunConfig  # noqa: E402
from cmarr_jax.training.checkpoint import digest, load_progress, load_run, save_progress, save_run  # noqa: E402
from cmarr_jax.training.state_file import load_state, save_state  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Arguments:
    """See the head of the file."""

    folder: tyro.conf.Positional[Path]
    """New."""
    tries: int = 200
    """Of each kind."""
    seed: int = 0
    """Of the places."""


@functools.cache
def example() -> tuple[RunConfig, Any, Any, dict[str, Any]]:
    """Configuration, parameters and normaliser of a small run, and the tree of a state."""
    config, params, normalizer = make_run("zero_fill")
    return config, params, normalizer, {"params": jax.device_get(params), "key": jax.random.key(0)}


WRITERS: dict[str, Callable[[Path], None]] = {  # each writes into a subfolder of its name
    "run": lambda folder: save_run(folder / "run", *example()[:3], RECORD),
    "state": lambda folder: save_state(folder / "state" / "state.npz", example()[3]),
    "progress": lambda folder: save_progress(folder / "progress", 1, example()[3], {"position": 1}),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "run": lambda at: digest(load_run(at)[1:3]),  # a digit of the record can change unseen
    "state": lambda at: digest(load_state(at / "state.npz", example()[3])),
    "progress": lambda at: digest(load_progress(at, example()[3], lambda text: None)[1]),
}


def damage(folder: Path, places: random.Random) -> str:
    """Cuts a file or flips a bit in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    path = places.choice(files)
    content = bytearray(path.read_bytes())
    at = places.randrange(len(content))
    if places.random() < 0.3:
        path.write_bytes(content[:at])
        return "cut"
    content[at] ^= 1 << places.randrange(8)
    path.write_bytes(content)
    return "flipped"


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether nothing was taken for what it is not."""
    arguments.folder.mkdir(parents=True)
    for write in WRITERS.values():
        write(arguments.folder.absolute())
    places, wrong = random.Random(arguments.seed), 0
    copy = arguments.folder.absolute() / "copy"
    for kind, read in READERS.items():
        expected, counts = read(arguments.folder / kind), collections.Counter[str]()
        for _ in range(arguments.tries):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(arguments.folder / kind, copy)
            how = damage(copy, places)
            try:
                found = "the same values" if read(copy) == expected else "OTHER VALUES"
            except (ValueError, FileNotFoundError):
                found = "a sentence"
            except Exception as error:
                found = f"ANOTHER ERROR: {type(error).__name__}: {str(error)[:80]}"
            wrong += found not in ("the same values", "a sentence")
            counts[f"{how}: {found}"] += 1
        print(f"{kind}, {arguments.tries} tries: {dict(sorted(counts.items()))}", flush=True)
    print("nothing was taken for what it is not" if not wrong else f"{wrong} tries went WRONG")
    return not wrong


if __name__ == "__main__":
    raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
