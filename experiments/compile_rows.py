"""Compiles the programs of a table's rows in the background."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import jax

from cmarr_jax.config import RunConfig
from cmarr_jax.data.batching import plan_batches
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
from cmarr_jax.methods import make_method
from cmarr_jax.training.debug import StepChecks
from cmarr_jax.training.processes import smallest
from cmarr_jax.training.run import make_run
from cmarr_jax.training.sweep import Runs
from cmarr_jax.training.sweep_memory import GIB, CompiledSweep, available_memory, compile_sweep
from experiments.inspection import Inspect, make_inspect
from experiments.jax_setup import CPU_COMPILE
from experiments.table import Table


class Programs(NamedTuple):
    """What is compiled for a row: the training, and what is read from the embeddings, if the method has any."""

    sweep: CompiledSweep
    inspect: Inspect | None


def compile_all(
    compiler: Executor,
    data: DeviceCorpus,
    folds: Fold,
    table: Table,
    runs: dict[str, Runs],
    log: Callable[[str], None],
) -> dict[str, Future[Programs]]:
    """The programs of each row, compiled in the background. Rows that differ in numbers only share them."""
    memory = table.memory * GIB if table.memory else smallest(available_memory(jax.local_devices()[0]))

    def compile_row(config: RunConfig, runs: Runs) -> Programs:
        sweep = compile_method(
            config, data, folds, runs, memory, table.cpu_compile, log, debug=table.debug, deciding=len(table.folds)
        )  # the folds of the first seed: seeds that are added change no batch of the others
        return Programs(sweep, make_inspect(config, data, folds, compiler_options(table.cpu_compile)))

    compiling: dict[str, Future[Programs]] = {}
    for name in runs:
        config = table.config(name, 0)
        program = repr(config.without_numbers())
        if program not in compiling:
            compiling[program] = compiler.submit(compile_row, config, runs[name])
        compiling[name] = compiling[program]
    return {name: compiling[name] for name in runs}


def compiler_options(cpu_compile: str) -> dict[str, Any] | None:
    """XLA's options where programs run on a CPU."""
    return CPU_COMPILE[cpu_compile] if jax.local_devices()[0].platform == "cpu" else None


def compile_method(
    config: RunConfig,
    data: DeviceCorpus,
    folds: Fold,
    runs: Runs,
    memory: float,
    cpu_compile: str,
    log: Callable[[str], None],
    *,
    debug: bool = False,
    deciding: int | None = None,
) -> CompiledSweep:
    """The program of one configuration for runs of these shapes.

    Args:
      config: Its numbers may be others in a run.
      data: The corpus.
      folds: All folds, which the batches are planned for.
      runs: The arguments of the runs.
      memory: Bytes to plan for.
      cpu_compile: Name in `CPU_COMPILE`.
      log: Called with one sentence if fewer runs than wanted fit into memory.
      debug: Whether a nan in a step raises `StepFault`, which says where it came from.
      deciding: How many of the folds, the first ones, decide the order of rows in batches; all by default.
    """
    plan = plan_batches(data, folds, config.train, deciding)
    checks = StepChecks() if debug else None
    run = make_run(make_method(config), config.train, plan, checks)
    sweep = compile_sweep(run, data, runs, memory=memory, compiler_options=compiler_options(cpu_compile), log=log)
    if checks is None:
        return sweep
    return sweep._replace(programs=sweep.programs._replace(epochs=checks.raising(sweep.programs.epochs)))
