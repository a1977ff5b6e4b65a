"""Kills `experiments.tune` at random moments, starts it again each time, and compares the choices in the end.

    python tests/campaigns/kill_tuning.py FOLDER [--kills 20] [--seed 0]

Tunes two rows on the digits in three views, undisturbed into FOLDER/whole, then into FOLDER/killed with kills in turn
while it starts, while it trains, as it keeps a trial, and as it writes a file anew. Exit code 0 if `trials.jsonl` and
`tuned.json` are the same, byte for byte (but for the command line that `tuned.json` names). Not part of `make test`.
"""

import dataclasses
import json
import random
import time
from pathlib import Path

import killing
import tyro
from killing import Moment

MOMENTS = ("starting", "training", "keeping a trial", "writing a file")
WRITTEN = ("tune.json", "trials.jsonl", "tuned.json")


@dataclasses.dataclass(frozen=True)
class Arguments(killing.Arguments):
    """Of this campaign."""

    trials: int = 24
    """Of each row and fold: so many that the search outlives the kills."""


def count(folder: Path) -> int:
    """Ended trials."""
    path = folder / "trials.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def make_moment(name: str, folder: Path, moments: random.Random, seconds: float) -> Moment:
    """When the search is killed.

    Args:
      name: Of `MOMENTS`.
      folder: Of the search.
      moments: Draws the delay.
      seconds: That the start takes.
    """
    path, before = folder / "trials.jsonl", count(folder)
    size = path.stat().st_size if path.exists() else 0
    file = moments.choice(WRITTEN)
    return {
        "starting": Moment(lambda: True, moments.uniform(0, seconds)),
        "training": Moment(lambda: count(folder) > before, moments.uniform(0, 1)),
        "keeping a trial": Moment(lambda: path.exists() and path.stat().st_size > size, 0, pause=0),
        "writing a file": killing.half_written(folder, file),
    }[name]


def outputs(folder: Path) -> tuple[bytes, str]:
    """The trials, and the choices without the command line."""
    chosen = json.loads((folder / "tuned.json").read_text())
    del chosen["command"]
    return (folder / "trials.jsonl").read_bytes(), json.dumps(chosen)


def seconds_to_first_trial(folder: Path, command: tuple[object, ...]) -> float:
    """Runs a search undisturbed; how long its start took."""
    begin, process = time.monotonic(), killing.start(*command)
    while process.poll() is None and not count(folder):
        time.sleep(0.05)
    seconds = time.monotonic() - begin
    if process.wait() != 0:
        raise SystemExit("the undisturbed search failed")
    print(f"undisturbed: {count(folder)} trials in {time.monotonic() - begin:.0f} s, the first after {seconds:.1f} s")
    return seconds


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether the choices are the same."""
    whole, killed, data = (arguments.folder.absolute() / name for name in ("whole", "killed", "digits.npz"))
    arguments.folder.mkdir(parents=True)
    killing.run("-m", "data_prep.digits_views", data)
    options = ("--data", data, "--smoke", "--methods", "zero_fill", "mmin", "--trials", arguments.trials)
    command = lambda out: ("-m", "experiments.tune", "--out", out, *options)
    seconds = seconds_to_first_trial(whole, command(whole))
    moments, hits, tries = random.Random(arguments.seed), 0, 0
    while hits < arguments.kills and tries < 3 * arguments.kills:
        # Files are written anew at the end of a row: these kills come last, or no trials would be left for the others.
        last = hits >= arguments.kills * 3 // 4
        name = MOMENTS[3] if last else MOMENTS[hits % 3]
        end = killing.kill(killed, command(killed), make_moment(name, killed, moments, seconds))
        hits, tries = hits + end.hit, tries + 1
        print(f"{hits}: {name}: {end}, {count(killed)} of {count(whole)} trials ended", flush=True)
    if hits < arguments.kills:
        raise SystemExit(f"only {hits} kills hit; give more --trials")
    killing.run(*command(killed))
    same = outputs(whole) == outputs(killed)
    print("the same trials and choices, byte for byte" if same else "the trials or choices DIFFER")
    return same and not killing.partial_files(killed)


if __name__ == "__main__":
    raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
