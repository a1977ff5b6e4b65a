"""Kills `experiments.report` at random moments, and looks at every output file after each kill.

    python tests/campaigns/kill_reporting.py FOLDER [--kills 20] [--seed 0]

Trains a small table of one seed and keeps its report, the old one; adds a seed and keeps the report of both, the new
one. Then the command is killed again and again, in turn at any moment and while it writes, in a folder that holds the
old report or none. Exit code 0 if after each kill every output file is as it was before or the new one, byte for byte,
and a last undisturbed call gives the new report and leaves nothing else. Not part of `make test`.
"""

import random
import shutil
from pathlib import Path

import killing
import tyro
from killing import Arguments, Moment

Report = dict[str, bytes]
OUTPUTS = ("report.html", "table.md", "table.csv", "table.tex", "results.jsonl", "figures/*.svg")


def read_report(folder: Path) -> Report:
    """The output files that are there."""
    paths = [path for pattern in OUTPUTS for path in folder.glob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def lay_out(folder: Path, report: Report) -> None:
    """Puts a report into a folder in place of the one that is there."""
    shutil.rmtree(folder / "figures", ignore_errors=True)
    for name in read_report(folder):
        (folder / name).unlink()
    for name, content in report.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def make_reports(table: Path) -> tuple[Report, Report]:
    """Trains the table. Returns its report of one seed, and that of two."""
    train = ("-m", "experiments.reproduce", "--smoke", "--methods", "cm_arr", "zero_fill", "--out", table)
    reports = []
    for seeds in (1, 2):
        killing.run(*train, "--seeds", seeds)
        lay_out(table, {})
        killing.run("-m", "experiments.report", table)
        reports.append(read_report(table))
    old, new = reports
    differ = sum(old.get(name) != content for name, content in new.items())
    print(f"the report: {len(new)} files, {differ} of them other than in the old one", flush=True)
    return old, new


def written(table: Path, before: Report) -> list[str]:
    """The output files that are other ones than before."""
    return [name for name, content in read_report(table).items() if before.get(name) != content]


def judge(table: Path, before: Report, new: Report) -> tuple[int, list[str]]:
    """How many files are the new ones, and the names of those that are neither the new one nor as before."""
    now = read_report(table)
    names = sorted(before.keys() | new.keys() | now.keys())
    torn = [name for name in names if now.get(name) not in (before.get(name), new.get(name))]
    return sum(now.get(name) == new[name] for name in new), torn


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether every file was whole after every kill, and the last report is the new one."""
    table = arguments.folder.absolute() / "table"
    command = ("-m", "experiments.report", table)
    old, new = make_reports(table)
    seconds = killing.run(*command)
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    moments, hits, whole = random.Random(arguments.seed), 0, True
    for number in range(3 * arguments.kills):
        if hits == arguments.kills:
            break
        before = old if number % 4 < 2 else {}
        lay_out(table, before)
        first = lambda before=before: bool(written(table, before))
        anywhere = Moment(lambda: True, moments.uniform(0, seconds))
        moment = moments.choice([killing.half_written(table), Moment(first, moments.uniform(0, 0.1), pause=0)])
        end = killing.kill(table, command, moment if number % 2 else anywhere)
        done, torn = judge(table, before, new)
        hits, whole = hits + end.hit, whole and not torn
        where, what = "writing" if number % 2 else "at any moment", "old report" if before else "no report"
        text = f"NEITHER OLD NOR NEW: {', '.join(torn)}" if torn else "all whole"
        print(f"{hits}: {where}, {what} before: {end}; {done} of {len(new)} files are new, {text}", flush=True)
    if hits < arguments.kills:
        raise SystemExit(f"only {hits} kills hit")
    killing.run(*command)
    same = read_report(table) == new and not killing.partial_files(table)
    print("the same report, byte for byte, and nothing else" if same else "the last report DIFFERS, or files are left")
    return whole and same


if __name__ == "__main__":
    raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
