"""Kills a training at random moments, in its steps and while it saves, goes on each time, and compares in the end.

    chrt --idle 0 python tests/campaigns/kill_training.py FOLDER [--kills 20] [--seed 0]

Trains three runs of the smallest network undisturbed, then again with SIGKILL (which no program can answer): as often
in the midst of training as while a state or a model is half-written. Exit code 0 if parameters, history, scores and
logits of all runs are the same, bit by bit. Not part of `make test`.
"""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import tyro

TESTS = Path(__file__).parent.parent
RUNS = 3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """See the head of the file."""

    folder: tyro.conf.Positional[Path]
    """New."""
    kills: int = 20
    """How often it is killed while it trains, and how often while it saves."""
    epochs: int = 6000
    """Of each run: so many that the training outlives the kills."""
    seed: int = 0
    """Of the moments."""


def train(folder: Path, epochs: int) -> None:
    """What is killed: trains the runs that the folder lacks, from the states that it holds."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    import jax
    import tiny

    from cmarr_jax.config import TrainConfig
    from cmarr_jax.training import slots
    from cmarr_jax.training.checkpoint import save_run
    from cmarr_jax.training.disk import delete_partial
    from cmarr_jax.training.run import make_run
    from cmarr_jax.training.state_file import load_newest_state, save_state
    from cmarr_jax.training.sweep import stack_runs
    from cmarr_jax.training.sweep_memory import compile_sweep

    slots.STRETCH = 0.02  # seconds; a state is saved after each stretch
    setup = tiny.make_setup("zero_fill", tiny.make_corpus(sequences=(), absent=0.2))
    run = make_run(setup.method, TrainConfig(complete_epochs=1, missing_epochs=epochs, batch_size=12))
    folder.mkdir(exist_ok=True)
    delete_partial(folder)
    left = [number for number in range(RUNS) if not (folder / str(number)).exists()]
    runs = stack_runs(setup.folds, left, left, [setup.hyper] * len(left))
    path = lambda place: folder / f".{left[place]}.state.npz"
    kept = slots.Kept(lambda place, like: load_newest_state(path(place), like, print),
                      lambda place, state: save_state(path(place), state), every=0.0)  # fmt: skip
    for places, result in compile_sweep(run, setup.data, runs, per_device=1).run(setup.data, runs, kept):
        for row, place in enumerate(places):
            one = jax.tree.map(lambda x, row=row: x[row], result)
            arrays = {"outputs.npz": {"val": one.val_logits, "test": one.test_logits}}
            record = {"history": one.history, "test_counts": one.test_counts, "best_epoch": one.best_epoch}
            save_run(folder / str(left[place]), setup.config, one.params, one.normalizer, record, arrays)


def start(folder: Path, epochs: int) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen([sys.executable, __file__, "--train", str(folder), str(epochs)], env=env)


def states(folder: Path) -> dict[str, int]:
    """When each state was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob(".*.state.npz")}


def kill_once(folder: Path, arguments: Arguments, moments: random.Random, *, saving: bool) -> str:
    """Starts the training, kills it once it has saved something new, and says when that was."""
    before, begin = states(folder), time.monotonic()
    process = start(folder, arguments.epochs)
    while process.poll() is None and states(folder) == before:
        time.sleep(0.01)
    time.sleep(moments.uniform(0, 0.5))
    while saving and process.poll() is None and not list(folder.glob(".*.partial")):
        pass
    how = "killed" if process.poll() is None else "had ended before"
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = len(list(folder.glob(".*.partial")))
    finished = sum(path.name.isdigit() for path in folder.iterdir())
    where = "saving" if saving else "training"
    return f"{where}: {how} after {time.monotonic() - begin:.1f} s, {finished} runs finished, {partial} half-written"


def same(whole: Path, killed: Path) -> bool:
    """Whether the runs of both folders are the same: records (with the SHA-256 of the parameters) and logits."""
    names = [f"{number}/{name}" for number in range(RUNS) for name in ("run.json", "outputs.npz")]
    return all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names)


def main(arguments: Arguments) -> bool:
    """Runs the campaign; returns whether all runs are the same."""
    whole, killed = (arguments.folder.absolute() / name for name in ("whole", "killed"))
    whole.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    if start(whole, arguments.epochs).wait() != 0:
        raise SystemExit("the undisturbed training failed")
    print(f"undisturbed: {RUNS} runs in {time.monotonic() - begin:.1f} s", flush=True)
    killed.mkdir()
    moments = random.Random(arguments.seed)
    for number in range(1, 2 * arguments.kills + 1):
        print(f"{number}: {kill_once(killed, arguments, moments, saving=number % 2 == 0)}", flush=True)
    if start(killed, arguments.epochs).wait() != 0:
        raise SystemExit("the training failed in the folder of the killed ones")
    equal = same(whole, killed)
    print("the same runs, bit by bit" if equal else "the runs DIFFER")
    return equal


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        raise SystemExit(0 if main(tyro.cli(Arguments)) else 1)
