"""Kills a training at random moments, in its steps and while it saves, goes on each time, and compares in the end.

    python tests/campaigns/kill_training.py FOLDER [--kills 20] [--seed 0]

Trains three runs of the smallest network undisturbed, then again with SIGKILL (which no program can answer): as often
in the midst of training as while a state or a model is half-written. Exit code 0 if parameters, history, scores and
logits of all runs are the same, bit by bit. Not part of `make test`.
"""

import dataclasses
import os
import random
import sys
import time
from pathlib import Path

import killing
import tyro
from killing import Moment

TESTS = Path(__file__).parent.parent
RUNS = 3


@dataclasses.dataclass(frozen=True)
class Arguments(killing.Arguments):
    """Of this campaign; `kills` while it trains, and as many while it saves."""

    epochs: int = 20_000
    """Of each run: so many that the training outlives the kills."""


def train(folder: Path, epochs: int) -> None:
    """What is killed: trains the runs that the folder lacks, from the states that it holds."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    import jax
    import tiny

    from cmarr_jax.config import TrainConfig
    from cmarr_jax.methods import make_method
    from cmarr_jax.training import slots
    from cmarr_jax.training.checkpoint import save_run
    from cmarr_jax.training.disk import delete_partial
    from cmarr_jax.training.run import make_run
    from cmarr_jax.training.state_file import load_newest_state, save_state
    from cmarr_jax.training.sweep import stack_runs
    from cmarr_jax.training.sweep_memory import compile_sweep

    slots.STRETCH = 0.02  # seconds; a state is saved after each stretch
    setup = tiny.make_setup("zero_fill", tiny.make_corpus(sequences=(), absent=0.2))
    schedule = TrainConfig(complete_epochs=1, missing_epochs=epochs, batch_size=12)
    config = dataclasses.replace(setup.config, train=schedule)
    run = make_run(make_method(config), schedule)
    folder.mkdir(exist_ok=True)
    delete_partial(folder)
    left = [number for number in range(RUNS) if not (folder / str(number)).exists()]
    if not left:
        return
    runs = stack_runs(setup.folds, left, left, [setup.hyper] * len(left))
    path = lambda place: folder / f".{left[place]}.state.npz"
    kept = slots.Kept(lambda place, like: load_newest_state(path(place), like, print),
                      lambda place, state: save_state(path(place), state), every=0.0)  # fmt: skip
    for places, result in compile_sweep(run, setup.data, runs, per_device=1).run(setup.data, runs, kept):
        for row, place in enumerate(places):
            one = jax.tree.map(lambda x, row=row: x[row], result)
            arrays = {"outputs.npz": {"val": one.val_logits, "test": one.test_logits}}
            record = {"history": one.history, "test_counts": one.test_counts, "best_epoch": one.best_epoch}
            save_run(folder / str(left[place]), config, one.params, one.normalizer, record, arrays)


def states(folder: Path) -> dict[str, int]:
    """When each state was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(".*.state.npz")}


def make_moment(folder: Path, moments: random.Random, *, saving: bool) -> Moment:
    """Up to half a second after something new was saved; when saving, as soon as a file is then half-written."""
    before, delay = states(folder), moments.uniform(0, 0.5)
    if not saving:
        return Moment(lambda: states(folder) != before, delay)
    since: list[float] = []

    def half_written_later() -> bool:
        if not since and states(folder) != before:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() > since[0] + delay and bool(killing.partial_files(folder))

    return Moment(half_written_later, 0, pause=0)


def same(whole: Path, killed: Path) -> bool:
    """Whether the runs of both folders are the same: records (with the SHA-256 of the parameters) and logits."""
    names = [f"{number}/{name}" for number in range(RUNS) for name in ("run.json", "outputs.npz")]
    return all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names)


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether all runs are the same."""
    whole, killed = (arguments.folder.absolute() / name for name in ("whole", "killed"))
    arguments.folder.mkdir(parents=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(whole.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = lambda folder: (__file__, "--train", folder, arguments.epochs)
    print(f"undisturbed: {RUNS} runs in {killing.run(*command(whole)):.1f} s", flush=True)
    killed.mkdir()
    moments, hits = random.Random(arguments.seed), 0
    while hits < 2 * arguments.kills:
        saving = hits % 2 == 1
        end = killing.kill(killed, command(killed), make_moment(killed, moments, saving=saving))
        finished = sum(path.name.isdigit() for path in killed.iterdir())
        if not end.hit:
            raise SystemExit(f"after {hits} kills, {finished} runs were finished: give more --epochs, or it failed")
        hits += 1
        print(f"{hits}: {'saving' if saving else 'training'}: {end}; {finished} runs finished", flush=True)
    killing.run(*command(killed))
    equal = same(whole, killed)
    print("the same runs, bit by bit" if equal else "the runs DIFFER")
    return equal


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
