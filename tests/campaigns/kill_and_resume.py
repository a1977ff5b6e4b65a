"""Kills `experiments.reproduce` at random moments, starts it again each time, and compares the table in the end.

    python tests/campaigns/kill_and_resume.py FOLDER [--kills 10] [--seed 0] -- --smoke --keep-every 0.5

Runs the command once undisturbed into FOLDER/whole, then into FOLDER/killed with SIGKILL (which no program can answer)
a random time after a random number of new runs was finished. Prints when it was killed and what was finished by then.
Exit code 0 if `table.csv` and `results.jsonl` are the same, byte for byte. Not part of `make test`.
"""

import contextlib
import dataclasses
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import tyro

ROOT = Path(__file__).parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Arguments:
    """See the head of the file."""

    folder: tyro.conf.Positional[Path]
    """New."""
    kills: int = 10
    """How often the command is killed."""
    seed: int = 0
    """Of the moments."""


def start(out: Path, options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "experiments.reproduce", "--out", str(out), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def main(arguments: Arguments, options: list[str]) -> bool:
    """Runs the campaign; returns whether both tables are the same."""
    whole, killed = (arguments.folder.absolute() / name for name in ("whole", "killed"))
    count = lambda folder: sum(not path.parent.name.startswith(".") for path in folder.glob("*/*/run.json"))
    if start(whole, options).wait() != 0:
        raise SystemExit("the undisturbed command failed")
    print(f"undisturbed: {count(whole)} runs", flush=True)
    moments = random.Random(arguments.seed)
    kept = lambda: len(list(killed.glob("*/.*.state.npz")))
    for number in range(1, arguments.kills + 1):
        before, begin = count(killed), time.monotonic()
        # So many new runs that some are left for the kills that follow; then a moment in the next ones.
        new = moments.randint(0, (count(whole) - before) // (arguments.kills + 2 - number))
        delay = moments.uniform(0, 3)
        process = start(killed, options)
        while process.poll() is None and not (count(killed) >= before + max(new, 1) or (new == 0 and kept())):
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        how = "killed" if process.poll() is None else "had ended before"
        process.send_signal(signal.SIGKILL)
        process.wait()
        partial, seconds = len(list(killed.glob("*/.*.partial"))), time.monotonic() - begin
        print(
            f"{number}: {how} after {seconds:.1f} s, {count(killed)} of {count(whole)} runs are finished, {kept()} "
            f"kept on their way, {partial} half-written",
            flush=True,
        )
    if start(killed, options).wait() != 0:
        raise SystemExit("the command failed in the folder of the killed ones")
    same = all((whole / name).read_bytes() == (killed / name).read_bytes() for name in ("table.csv", "results.jsonl"))
    print("the same table, byte for byte" if same else "the tables DIFFER")
    return same


if __name__ == "__main__":
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    raise SystemExit(0 if main(tyro.cli(Arguments, args=sys.argv[1:at]), sys.argv[at + 1 :]) else 1)
