"""Compiles a sweep with as many runs per call as fit into memory, and calls it chunk by chunk."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import psutil

from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.training.parallel import map_sweep, share_read_only, split_runs
from cmarr_jax.training.processes import gather, is_first, smallest
from cmarr_jax.training.run import RunResult, TrainRun
from cmarr_jax.training.sweep import Runs

USABLE = 0.9  # share of the memory to plan for: XLA's estimate leaves fragmentation out
GIB = 2**30


class Layout(NamedTuple):
    """The devices of this process that take part, and how many runs each has in one call."""

    devices: tuple[jax.Device, ...]
    per_device: int

    @property
    def runs_per_call(self) -> int:
        """Over all processes."""
        return self.per_device * len(self.devices) * jax.process_count()

    def share(self, memory: float) -> float:
        """What one device has of the memory: the devices of a CPU share it, an accelerator has its own."""
        return memory / len(self.devices) if _on_cpu(self.devices) else memory


class CompiledSweep(NamedTuple):
    """A compiled sweep with a fixed number of runs in a call.

    Attributes:
      layout: Devices, and runs of each in one call.
      num_bytes: Memory that XLA's estimate gives a device for one call, data included.
      compiled: The program of this process, `(data, runs [devices, per_device, ...])`.
    """

    layout: Layout
    num_bytes: int
    compiled: Any

    def run(self, data: DeviceCorpus, runs: Runs) -> Iterator[tuple[range, RunResult]]:
        """Calls the program until all runs are done, for data and runs of the shapes it was planned with.

        Yields:
          Which runs were done, and their results as numpy arrays `[len(numbers), ...]`. Each of several processes does
          its part of them and gets the results of all. The last call is filled up with the last run, which is left out.
        """
        devices, per_device = self.layout
        data = share_read_only(data, devices)
        called = None
        for start in range(0, len(runs.key), self.layout.runs_per_call):
            own_start = start + jax.process_index() * len(devices) * per_device
            result = self.compiled(data, split_runs(runs, own_start, len(devices), per_device))
            if called is not None:  # the devices go on while the results before are seen to
                yield _finished(*called)
            called = range(start, min(start + self.layout.runs_per_call, len(runs.key))), result
        if called is not None:
            yield _finished(*called)


def _finished(numbers: range, result: RunResult) -> tuple[range, RunResult]:
    return numbers, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: len(numbers)], gather(result))


def compile_sweep(
    train_run: TrainRun,
    data: DeviceCorpus,
    runs: Runs,
    *,
    per_device: int | None = None,
    memory: float | None = None,
    devices=None,
    compiler_options: dict[str, Any] | None = None,
    log: Callable[[str], None] = print,
) -> CompiledSweep:
    """Compiles a sweep over the devices of all processes, with as many runs in a call as wanted and the memory holds.

    Compiles for the wanted number. If XLA's estimate of the memory exceeds what there is, compiles for as many as
    should fit by this estimate, until it does not, and says so.

    Args:
      train_run: From `make_train_run`.
      data: The corpus.
      runs: The arguments of all runs, `[R, ...]`.
      per_device: Runs of a device in a call, vmapped together. By default an accelerator, idle with one small model,
        has all of its runs together, and a CPU one: more would cost as much each, and end later.
      memory: Bytes of one accelerator, or of the machine where the devices are CPUs, the same in all processes. By
        default `available_memory`, the least of all processes.
      devices: Of this process; by default all of them.
      compiler_options: XLA's, for this program.
      log: Called with one sentence if there are fewer runs in a call than wanted.
    """
    num_runs = len(runs.key)
    devices = tuple(devices or jax.local_devices())[: _ceil(num_runs, jax.process_count())]
    most = _ceil(num_runs, len(devices) * jax.process_count())
    memory = smallest(available_memory(devices[0])) if memory is None else memory
    layout = wanted = Layout(devices, min(per_device or (1 if _on_cpu(devices) else most), most))
    plan = first = _compile(train_run, data, runs, layout, compiler_options)
    while plan.num_bytes > layout.share(memory):
        smaller = _smaller(plan, data, num_runs, memory)
        if smaller is None:
            break
        layout = smaller
        plan = _compile(train_run, data, runs, layout, compiler_options)
    if is_first() and first.num_bytes > wanted.share(memory):
        fits = plan.num_bytes <= layout.share(memory)
        log(
            f"{wanted.runs_per_call} models at once need about {first.num_bytes / GIB:.2f} GiB a device, which has "
            f"{wanted.share(memory) / GIB:.2f} GiB: {num_runs} models are trained in chunks of {layout.runs_per_call}"
            + ("." if fits else f", although even that needs {plan.num_bytes / GIB:.2f} GiB.")
        )
    return plan


def available_memory(device: jax.Device) -> float:
    """Bytes to plan for: of an accelerator's memory that JAX may use, or, for a CPU, of what the machine has free."""
    stats = device.memory_stats() or {}
    return USABLE * stats.get("bytes_limit", psutil.virtual_memory().available)


def _compile(
    train_run: TrainRun, data: DeviceCorpus, runs: Runs, layout: Layout, options: dict[str, Any] | None
) -> CompiledSweep:
    devices, per_device = layout
    program = map_sweep(train_run, per_device, devices)
    lowered = program.lower(share_read_only(data, devices), split_runs(runs, 0, len(devices), per_device))
    compiled = lowered.compile(compiler_options=options)
    sizes = compiled.memory_analysis()
    num_bytes = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return CompiledSweep(layout, num_bytes - sizes.alias_size_in_bytes, compiled)


def _smaller(plan: CompiledSweep, data: DeviceCorpus, num_runs: int, memory: float) -> Layout | None:
    """What should fit: fewer runs a device, evenly over the calls, or fewer devices of a CPU; None: nothing is less."""
    devices, per_device = plan.layout
    if per_device > 1:
        fixed = sum(x.nbytes for x in jax.tree.leaves(data))
        each = (plan.num_bytes - fixed) / per_device
        fitting = min(max(int((plan.layout.share(memory) - fixed) / each), 1), per_device - 1)
        of_device = _ceil(num_runs, len(devices) * jax.process_count())
        return Layout(devices, _ceil(of_device, _ceil(of_device, fitting)))
    if _on_cpu(devices) and len(devices) > 1:
        return Layout(devices[: min(max(int(memory / plan.num_bytes), 1), len(devices) - 1)], 1)
    return None


def _on_cpu(devices: tuple[jax.Device, ...]) -> bool:
    return devices[0].platform == "cpu"


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
