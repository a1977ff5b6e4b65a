"""Kills a process that writes files with `write_texts`, as reports and searches do, and looks at every file after that.

    python tests/campaigns/kill_writing.py FOLDER [--kills 20] [--seed 0]

The process writes five files of 1 MB anew in a loop, all lines of a file with one number. It is killed in turn at any
moment and while a file is half-written. Exit code 0 if after each kill every file is whole: lines with one number.
Trains nothing, so it takes seconds. Not part of `make test`.
"""

import random
from pathlib import Path

import killing
import tyro
from killing import Arguments

LINES = 20_000
NAMES = [f"part{number}/table.csv" for number in range(5)]
WRITER = """
import itertools, pathlib, sys
from cmarr_jax.training.disk import write_texts
folder, lines, *names = sys.argv[1:]
for number in itertools.count():
    write_texts(pathlib.Path(folder), {name: f"{number:049}\\n" * int(lines) for name in names})
"""


def is_whole(path: Path) -> bool:
    """Whether a file is absent, or has all of its lines with one number."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else ["absent"] * LINES
    return len(lines) == LINES and len(set(lines)) == 1


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether every file was whole after every kill."""
    folder, moments, good = arguments.folder.absolute(), random.Random(arguments.seed), True
    folder.mkdir(parents=True)
    command = ("-c", WRITER, folder, LINES, *NAMES)
    for number in range(1, arguments.kills + 1):
        anywhere = killing.Moment(lambda: True, moments.uniform(1, 4))
        end = killing.kill(folder, command, anywhere if number % 2 else killing.half_written(folder))
        torn = [name for name in NAMES if not is_whole(folder / name)]
        good = good and end.hit and not torn
        print(f"{number}: {end}; {'TORN: ' + ', '.join(torn) if torn else 'all whole'}", flush=True)
    return good


if __name__ == "__main__":
    raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
