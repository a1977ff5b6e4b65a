"""Cost per model of a sweep in one program against a Python loop over single runs.

    python -m benchmarks.sweep [--repeats 3]

The models are the folds of the synthetic corpus at `experiments.presets.SYNTHETIC`'s sizes, in few epochs and few
utterances; an epoch reads each training row once. Three paths, compiled before: a loop that calls the jitted
`train_run` once per model; `make_sweep`, all models in one program on one device; `compile_sweep`, as tables are
trained: the models split over the devices, on a CPU one for each core, one call after another. Prints plain Markdown
for RESULTS.md, with the largest differences of losses and scores from the loop's.
"""

import dataclasses
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import measure
from benchmarks.measure import interleaved, markdown_table
from cmarr_jax.cores import num_cores
from cmarr_jax.data.batching import plan_batches
from cmarr_jax.data.device import DeviceCorpus, modality_configs, to_device
from cmarr_jax.data.folds import make_folds, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.run import Run, RunResult, make_run
from cmarr_jax.training.sweep import Runs, make_sweep, stack_runs
from cmarr_jax.training.sweep_memory import CompiledSweep, compile_sweep
from cmarr_jax.types import Array
from data_prep.synthetic import generative
from experiments.presets import SYNTHETIC

LOOP = "a loop over single runs"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      repeats: Timed rounds; each trains all models once on every path.
      models: How many; the folds come one after another, then again with the next seed.
      at_once: Models vmapped together on one device; 0 is one on a CPU and all on an accelerator.
      scale: Number of utterances, relative to 5,531.
      complete_epochs: Of stage 1.
      missing_epochs: Of stage 2.
    """

    repeats: int = 3
    models: int = 10
    at_once: int = 0
    scale: float = 0.15
    complete_epochs: int = 1
    missing_epochs: int = 1


def main(options: Options) -> None:
    """Compiles, times and compares the paths and prints the table."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are measured
    print(f"{measure.machine_text()}\n", flush=True)
    data, runs, run = make_work(options)
    paths = make_paths(run, options.at_once, options.models)
    first, results = {}, {}
    for name, path in paths.items():
        start = time.perf_counter()
        results[name] = jax.device_get(path(data, runs))
        first[name] = time.perf_counter() - start
        to_stderr(f"... {name}: first call {first[name]:.1f} s")
    calls = {name: lambda path=path: path(data, runs) for name, path in paths.items()}
    timings = interleaved(calls, repeats=options.repeats, warmups=0)
    loop = timings[LOOP].median
    rows = [
        [
            name,
            timing.per(options.models).text(),
            f"{timing.median / loop:.2f}",
            f"{first[name] - timing.median:.1f}",
            *differences(results[name], results[LOOP]),
        ]
        for name, timing in timings.items()
    ]
    epochs = f"{options.complete_epochs} + {options.missing_epochs} epochs"
    print(f"{options.models} models, synthetic data and network of `make reproduce`, {len(data.label)} utterances,")
    print(f"{epochs}, each epoch validated; compilation is what the first call took longer, and is not in the times.")
    print("Losses and scores: the largest differences from the loop's, of all epochs and of the tests.\n")
    header = ["", "ms per model (quartiles)", "of the loop", "compilation, s", "losses", "scores"]
    print(markdown_table(header, rows))


def make_work(options: Options) -> tuple[DeviceCorpus, Runs, Run]:
    """The corpus on the device, the arguments of all runs, and the run."""
    corpus = generative.sample(generative.make_parameters(), scale=options.scale)
    data = to_device(corpus, max_frames=SYNTHETIC.max_frames)
    splits = make_folds(corpus)
    folds = stack_folds(splits)
    config = SYNTHETIC.run_config("cm_arr", modality_configs(corpus), corpus.num_classes)
    train = dataclasses.replace(
        config.train,
        complete_epochs=options.complete_epochs,
        missing_epochs=options.missing_epochs,
        min_epoch_steps=0,
    )
    config = dataclasses.replace(config, train=train)
    plan = plan_batches(data, folds, train)
    seeds, fold_index = zip(*(divmod(number, len(splits)) for number in range(options.models)), strict=True)
    runs = stack_runs(folds, list(fold_index), list(seeds), [hyperparameters_of(config)] * options.models)
    return data, runs, make_run(make_method(config), train, plan)


def make_paths(run: Run, at_once: int, num_models: int) -> dict[str, Callable[[DeviceCorpus, Runs], RunResult]]:
    """Functions that train all runs, by name; results have a leading axis."""
    on_cpu, devices = jax.default_backend() == "cpu", jax.local_devices()
    vmapped = at_once or (1 if on_cpu else num_models)
    one = jax.jit(run.whole)

    def loop(data: DeviceCorpus, runs: Runs) -> RunResult:
        pick = lambda number: jax.tree.map(lambda x: x[number], runs)
        results = [jax.block_until_ready(one(data, *pick(number))) for number in range(len(runs.key))]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *results)

    compiled: list[CompiledSweep] = []

    def split_over_devices(data: DeviceCorpus, runs: Runs) -> RunResult:
        if not compiled:
            compiled.append(compile_sweep(run, data, runs, per_device=at_once or None, log=to_stderr))
        numbers, parts = zip(*compiled[0].run(data, runs), strict=True)
        order = np.argsort(np.concatenate(numbers))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *parts)

    together = f"one program, one device, {vmapped} at once"
    places = f"{num_cores()} threads" if on_cpu and not at_once else f"{len(devices)} x {devices[0].platform}"
    split = f"one program, {places}, {vmapped} on each at a time"
    return {
        LOOP: loop,
        together: jax.jit(make_sweep(run.whole, at_once=vmapped)),
        split: split_over_devices,
    }


def to_stderr(text: str) -> None:
    """Shows a sentence on standard error."""
    print(text, file=sys.stderr, flush=True)


def differences(result: RunResult, other: RunResult) -> list[str]:
    """Largest differences of the losses of all epochs, and of test recalls `[R, P, K]`, as text."""
    apart = lambda a, b: float(np.abs(a - b).max())  # every epoch of the budget is done: nothing is nan
    losses = max(jax.tree.leaves(jax.tree.map(apart, result.history, other.history)))
    return [f"{losses:.1e}", f"{apart(recall(result.test_counts), recall(other.test_counts)):.1e}"]


def recall(counts: Array) -> np.ndarray:
    """Recall of each class, `[..., K, K] -> [..., K]`."""
    return np.diagonal(np.asarray(counts), axis1=-2, axis2=-1) / np.maximum(counts.sum(-1), 1)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
