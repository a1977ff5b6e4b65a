"""Everything that is measured on an accelerator, as one table: steps, models together, the whole row, the twin.

    benchmarks/gpu.sh             makes an environment first
    python -m benchmarks.gpu [--small]

CM-ARR with encoders of MMIN's sizes on 5,531 generated utterances of IEMOCAP-like lengths, all frames kept, in batches
as `plan_batches` plans them; 10 folds, one device. A step is one of stage 2 (modalities hidden), optimizer included.
Standard output holds the table in plain Markdown, row by row as they are measured, so that a command that is stopped
leaves what it has; progress is on standard error. A part that runs out of memory says so in its row and the next one
follows; one that fails otherwise also makes the exit status 1.
"""

import dataclasses
import functools
import gc
import itertools
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import measure
from benchmarks.gpu_parts import Measured, Work, make_work, time_steps, time_twin, time_whole_row, twin_device
from benchmarks.measure import HAS_TORCH, Timing, markdown_table
from cmarr_jax.config import TrainConfig

HEADER = ["", "time", "of one alone", "compile, s", "program, GiB", "peak so far, GiB", "twin", "x twin"]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      small: Everything small, to see that the script works; always so where JAX has no accelerator.
      tf32: TensorFloat-32 products where float32 is asked for, in both libraries, or in neither.
      repeats: Timed rounds of a step's row, an epoch each; the whole row is trained once.
      batch_sizes: Of the rows of one model; the first is that of all other rows.
      models: How many are trained together, beside one alone.
      seeds: Of the whole row, per fold.
      complete_epochs: Of the whole row, stage 1.
      missing_epochs: Of the whole row, stage 2.
      scale: Number of utterances, relative to 5,531.
    """

    small: bool = False
    tf32: bool = True
    repeats: int = 5
    batch_sizes: tuple[int, ...] = (128, 1024)
    models: tuple[int, ...] = (10, 50, 100)
    seeds: tuple[int, ...] = (1, 5)
    complete_epochs: int = 20
    missing_epochs: int = 60
    scale: float = 1.0


SMALL: dict[str, Any] = {
    "repeats": 2,
    "batch_sizes": (16,),
    "models": (4,),
    "seeds": (1,),
    "complete_epochs": 1,
    "missing_epochs": 1,
    "scale": 0.02,
}


def main(options: Options) -> None:
    """Measures part after part and prints the table; exits with 1 if a part failed for another reason than memory."""
    jax.config.update("jax_enable_compilation_cache", False)  # compile times are measured
    measure.use_all_cores()
    on_cpu = jax.default_backend() == "cpu"
    if options.small or on_cpu:
        options = dataclasses.replace(options, small=True, **SMALL)
    if not options.tf32:
        jax.config.update("jax_default_matmul_precision", "float32")
    machine = measure.machine_text()
    print(machine, file=sys.stderr, flush=True)
    train = TrainConfig(options.complete_epochs, options.missing_epochs, options.batch_sizes[0])
    work = make_work(train, scale=options.scale, small=options.small)
    failed: list[str] = []
    twin = {}
    for size in options.batch_sizes if HAS_TORCH else ():
        call = functools.partial(time_twin, work, size, tf32=options.tf32, repeats=options.repeats)
        twin[size] = attempt(f"twin, batch {size}", call, failed)
    if on_cpu:
        print("**No GPU here: these are not GPU numbers.** They show that the script works.\n")
    print(f"{machine}\n\n{caption(options, work)}\n\n{markdown_table(HEADER, [])}", flush=True)
    for cells in table_rows(options, work, twin, failed):
        print(markdown_table(cells, []).splitlines()[0], flush=True)
    if failed:
        print(f"\nFailed: {'; '.join(failed)}.")
        sys.exit(1)


def table_rows(options: Options, work: Work, twin: dict[int, Timing | str], failed: list[str]) -> Iterable[list[str]]:
    """The rows of the table, each as soon as it is measured."""
    first, alone = options.batch_sizes[0], None
    steps = functools.partial(time_steps, work, repeats=options.repeats)
    for size, dtype in itertools.product(options.batch_sizes, ("float32", "bfloat16")):
        name = f"step of a model alone, batch {size}, {dtype}"
        one = attempt(name, functools.partial(steps, size, dtype), failed)
        yield row(name, one, twin.get(size) if dtype == "float32" else None)
        if (size, dtype) == (first, "float32") and isinstance(one, Measured):
            alone = one.timing.median
    for models in options.models:
        name = f"step of each of {models} models together, batch {first}, float32"
        one = attempt(name, functools.partial(steps, first, "float32", models=models), failed)
        yield row(name, one, twin.get(first), alone=alone)
    for seeds in options.seeds:
        name = f"whole row: {len(work.splits)} folds x {seeds} {'seed' if seeds == 1 else 'seeds'}"
        one = attempt(name, functools.partial(time_whole_row, work, seeds), failed)
        yield whole_row(name, one, twin.get(first), seeds * twin_steps_per_seed(work))


def attempt(name: str, call: Callable[[], Any], failed: list[str]) -> Any:
    """The result of a part, or what its cell says instead, a text."""
    print(f"... {name}", file=sys.stderr, flush=True)
    try:
        return call()
    except Exception as error:  # whatever it is, the other parts are worth having
        text = str(error)
        if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
            return "out of memory"
        traceback.print_exc()
        failed.append(f"{name}: {type(error).__name__}")
        return "failed"
    finally:
        gc.collect()  # what a failed part held


def twin_steps_per_seed(work: Work) -> int:
    """Steps of a loop over the folds, all epochs of both stages."""
    per_epoch = sum(-(-len(split.train) // work.config.train.batch_size) for split in work.splits)
    return per_epoch * (work.config.train.complete_epochs + work.config.train.missing_epochs)


def row(name: str, one: Measured | str, twin: Timing | str | None, alone: float | None = None) -> list[str]:
    """Cells of a step; `alone`: seconds of a step of a model alone."""
    twin_text = twin.text() + " ms" if isinstance(twin, Timing) else twin or ""
    if isinstance(one, str):
        return [name, one, "", "", "", "", twin_text, ""]
    share = f"{one.timing.median / alone:.2f}" if alone else ""
    ratio = f"{twin.median / one.timing.median:.1f}" if isinstance(twin, Timing) else ""
    return [name, f"{one.timing.text()} ms", share, *costs(one), twin_text, ratio]


def whole_row(name: str, one: Measured | str, twin: Timing | str | None, twin_steps: int) -> list[str]:
    """Cells of the whole row; the twin's loop is projected, and compared with ours including compilation."""
    loop = twin.median * twin_steps if isinstance(twin, Timing) else None
    twin_text = f"{seconds_text(loop)} (projected)" if loop else twin if isinstance(twin, str) else ""
    if isinstance(one, str):
        return [name, one, "", "", "", "", twin_text, ""]
    total = one.timing.median + one.compiling
    text = f"{one.timing.median:.1f} s, compilation included {total:.1f} s"
    return [name, text, "", *costs(one), twin_text, f"{loop / total:.1f}" if loop else ""]


def costs(one: Measured) -> list[str]:
    """Cells of compilation and memory."""
    gib = lambda value: f"{value / 2**30:.2f}" if value else ""
    return [f"{one.compiling:.1f}", gib(one.program), gib(one.peak)]


def seconds_text(seconds: float) -> str:
    """Seconds, from ten minutes on as hours."""
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"


def caption(options: Options, work: Work) -> str:
    """What the numbers of the table are."""
    frames = {name: np.asarray(length) for name, length in work.data.length.items()}
    lengths = ", ".join(f"{name} mean {n.mean():.0f}, longest {n.max()}" for name, n in frames.items())
    where = f"PyTorch on {twin_device()}" if HAS_TORCH else "PyTorch is not installed, its cells are empty"
    if HAS_TORCH and (twin_device() == "cpu") != (jax.default_backend() == "cpu"):
        where += " (**not on the device that ours is on**: the ratios compare two machines)"
    tf32 = "allowed in both libraries (ours keep float32 in flow and distances)" if options.tf32 else "off in both"
    train = work.config.train
    epochs = f"{train.complete_epochs} + {train.missing_epochs} epochs"
    return (
        f"{'Small sizes. ' if options.small else ''}{len(work.data.label)} generated utterances ({lengths}); one "
        f"device. A step: stage 2, forward, backward and update, of one model; median (quartiles) of "
        f"{options.repeats} epochs. Whole row: float32, batch {train.batch_size}, {epochs}, validated every "
        f"epoch and tested, trained once. Program: what the compiler states for arguments, results and between. "
        f"Twin: {where}, float32, eager, each shuffled batch padded to its longest; TensorFloat-32 {tf32}. Its loop "
        f"is projected: steps of all epochs, folds and seeds x its step, without validation and tests; stage 1 taken "
        f"as slow as stage 2."
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
