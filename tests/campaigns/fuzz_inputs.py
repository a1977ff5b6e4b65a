"""Spoils inputs at random and counts what reading them says.

    nice -n 8 python tests/campaigns/fuzz_inputs.py FOLDER [--tries 500] [--seed 0] [--only KIND ...] [--processes 4]

Each try spoils one file of one input: bytes anywhere, or a value, key, cell, array or data set of its format. It is
read in a process with a limit of memory and time. Reading must give the values of the whole input, or refuse with one
sentence that names the file. Other valid values are fine only where nothing can show the change: a digit of a CSV file.
All else is a fault and is printed: another error, a crash, a hang, code that is run, a file opened outside the folder.
`--only KIND --seed N --tries 1` repeats one. Exit code 1 if there is a fault. Not part of `make test`.
"""

import collections
import dataclasses
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tyro

sys.path[:0] = [str(Path(__file__).parent)]

from input_kinds import KINDS  # noqa: E402
from watched_process import FAULT, OTHER, REFUSED, SAME, Verdict, WatchedProcess  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Arguments:
    """See the head of the file."""

    folder: tyro.conf.Positional[Path]
    """For the inputs; what the campaign wrote there before is replaced."""
    tries: int = 500
    """Of each kind."""
    seed: int = 0
    """Of the first try; each further one has the next number."""
    only: tuple[str, ...] = tuple(KINDS)
    """Kinds of input."""
    processes: int = 4
    """How many kinds are read at a time."""
    limit_mib: int = 1024
    """Memory that a process may use above what it has before the first try."""
    seconds: float = 60
    """Of a try, after which it counts as hanging."""


def run_kind(name: str, arguments: Arguments) -> list[Verdict]:
    """All tries of one kind; faults are printed at once."""
    process = WatchedProcess(name, arguments.folder.absolute() / name, arguments.limit_mib, arguments.seconds)
    verdicts = []
    for seed in range(arguments.seed, arguments.seed + arguments.tries):
        verdicts.append(process.attempt(seed))
        if verdicts[-1].found == FAULT or arguments.tries == 1:
            print(f"{verdicts[-1].found}: --only {name} --seed {seed} --tries 1: {verdicts[-1].text}", flush=True)
    process.stop()
    print(f"{time.strftime('%H:%M:%S')} {name}: {dict(collections.Counter(v.found for v in verdicts))}", flush=True)
    return verdicts


def table(results: dict[str, list[Verdict]]) -> str:
    """One row per kind, as Markdown."""
    columns = (SAME, REFUSED, OTHER, FAULT)
    lines = [f"| kind | tries | {' | '.join(columns)} | longest, s | grown by at most, MiB |", "|---|" + "--:|" * 7]
    everything = [verdict for verdicts in results.values() for verdict in verdicts]
    for name, verdicts in (*results.items(), ("all", everything)):
        counts = collections.Counter(verdict.found for verdict in verdicts)
        longest, grown = max(v.seconds for v in verdicts), max(v.grown_mib for v in verdicts)
        numbers = " | ".join(str(counts[column]) for column in columns)
        lines.append(f"| {name} | {len(verdicts)} | {numbers} | {longest:.2f} | {grown:.0f} |")
    return "\n".join(lines)


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether there was no fault."""
    with ThreadPoolExecutor(arguments.processes) as pool:
        found = pool.map(lambda name: run_kind(name, arguments), arguments.only)
        results = dict(zip(arguments.only, found, strict=True))
    print(table(results))
    return all(verdict.found != FAULT for verdicts in results.values() for verdict in verdicts)


if __name__ == "__main__":
    raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
