"""Compiles a sweep with as many runs at once as fit into memory."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from cmarr_jax.cores import num_cores
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.methods.base import Params
from cmarr_jax.training.parallel import map_runs, share_read_only
from cmarr_jax.training.processes import is_first, smallest
from cmarr_jax.training.run import Run, RunResult
from cmarr_jax.training.slots import Kept, Programs, train_in_slots
from cmarr_jax.training.sweep import Runs

USABLE = 0.9  # share of the memory to plan for: XLA's estimate leaves fragmentation out
GIB = 2**30


class Layout(NamedTuple):
    """Where runs are trained.

    Attributes:
      devices: Of this process, those that take part.
      per_device: Runs of a device in one call.
      threads: That make such calls at the same time; more than one on the one device of a CPU only.
    """

    devices: tuple[jax.Device, ...]
    per_device: int
    threads: int

    @property
    def num_slots(self) -> int:
        """Over all processes."""
        return self.per_device * len(self.devices) * self.threads * jax.process_count()

    def share(self, memory: float) -> float:
        """What one call has of the memory on a device: on a CPU all share it, an accelerator has its own."""
        return memory / (len(self.devices) * self.threads) if _on_cpu(self.devices) else memory


class CompiledSweep(NamedTuple):
    """A compiled sweep with a fixed number of slots for runs.

    Attributes:
      layout: Devices, and slots of each.
      num_bytes: Memory that XLA's estimate gives a device, data included.
      programs: Of this process.
    """

    layout: Layout
    num_bytes: int
    programs: Programs

    def run(self, data: DeviceCorpus, runs: Runs, kept: Kept | None = None) -> Iterator[tuple[list[int], RunResult]]:
        """`train_in_slots` with data and runs of the shapes that the sweep was planned with."""
        devices, per_device, threads = self.layout
        shape = len(devices), per_device
        return train_in_slots(self.programs, shape, share_read_only(data, devices), runs, kept, threads)

    def initial_params(self, data: DeviceCorpus, runs: Runs, number: int) -> Params:
        """The parameters that a run begins with, as numpy arrays."""
        devices, per_device, _ = self.layout
        own = jax.tree.map(lambda x: x[np.full((len(devices), per_device), number)], runs)
        states = self.programs.init(share_read_only(data, devices), own)
        return jax.tree.map(lambda x: np.asarray(x[0, 0]), states.model.params)


def compile_sweep(
    run: Run,
    data: DeviceCorpus,
    runs: Runs,
    *,
    per_device: int | None = None,
    memory: float | None = None,
    devices=None,
    compiler_options: dict[str, Any] | None = None,
    log: Callable[[str], None] = print,
) -> CompiledSweep:
    """Compiles a sweep over the devices of all processes, with as many slots for runs as wanted and the memory holds.

    Compiles for the wanted number. If XLA's estimate of the memory exceeds what there is, compiles for as many as
    should fit by this estimate, until it does not, and says so.

    Args:
      run: From `make_run`.
      data: The corpus.
      runs: The arguments of all runs, `[R, ...]`.
      per_device: Slots of a device, vmapped together. By default an accelerator, idle with one small model,
        has all of its runs together. On a CPU they would cost as much each, and end later: there each device has one,
        or, if it is the only device, each core.
      memory: Bytes of one accelerator, or of the machine where the devices are CPUs, the same in all processes. By
        default `available_memory`, the least of all processes.
      devices: Of this process; by default all of them, but one if a single process has CPUs and `per_device` is not
        given: a thread per core needs no other.
      compiler_options: XLA's, for this program.
      log: Called with one sentence if there are fewer slots than wanted.
    """
    num_runs = len(runs.key)
    by_core = per_device is None and jax.process_count() == 1  # where the devices are CPUs
    if devices is None:
        one_is_enough = by_core and jax.default_backend() == "cpu"
        devices = jax.local_devices()[:1] if one_is_enough else jax.local_devices()
    devices = tuple(devices)[: _ceil(num_runs, jax.process_count())]
    most = _ceil(num_runs, len(devices) * jax.process_count())
    memory = smallest(available_memory(devices[0])) if memory is None else memory
    threads = min(num_cores(), num_runs) if by_core and _on_cpu(devices) and len(devices) == 1 else 1
    layout = wanted = Layout(devices, min(per_device or (1 if _on_cpu(devices) else most), most), threads)
    plan = first = _compile(run, data, runs, layout, compiler_options)
    while plan.num_bytes > layout.share(memory):
        smaller = _smaller(plan, data, num_runs, memory)
        if smaller is None:
            break
        same_program = smaller._replace(threads=1) == layout._replace(threads=1)
        layout = smaller
        plan = plan._replace(layout=layout) if same_program else _compile(run, data, runs, layout, compiler_options)
    if is_first() and first.num_bytes > wanted.share(memory):
        fits = plan.num_bytes <= layout.share(memory)
        log(
            f"{wanted.num_slots} models at once need about {first.num_bytes / GIB:.2f} GiB a device, which has "
            f"{wanted.share(memory) / GIB:.2f} GiB: {num_runs} models are trained, {layout.num_slots} at a time"
            + ("." if fits else f", although even that needs {plan.num_bytes / GIB:.2f} GiB.")
        )
    return plan


def available_memory(device: jax.Device) -> float:
    """Bytes to plan for: of an accelerator's memory that JAX may use, or, for a CPU, of what the machine has free."""
    stats = device.memory_stats() or {}
    return USABLE * stats.get("bytes_limit", psutil.virtual_memory().available)


def _compile(run: Run, data: DeviceCorpus, runs: Runs, layout: Layout, options: dict[str, Any] | None) -> CompiledSweep:
    devices, per_device, _ = layout
    data = share_read_only(data, devices)
    shape = len(devices), per_device
    own = jax.tree.map(lambda x: x[np.zeros(shape, int)], runs)
    each = lambda function, num, **donated: map_runs(function, num, devices, **donated)
    init = each(lambda data, run_: run.init(data, *run_), 1).lower(data, own)
    states = jax.tree.map(lambda x: _zeros(x.shape, x.dtype), init.out_info)
    until, fresh = np.zeros(shape, np.int32), np.zeros(shape, bool)
    lowered = [
        init,
        each(run.epochs, 3, donate=(2,)).lower(data, own.fold, states, until),
        each(run.finish, 2).lower(data, own.fold, states),
    ]
    if fresh.size > 1:
        choose = each(lambda _, fresh, new, old: jax.tree.map(lambda a, b: jnp.where(fresh, a, b), new, old), 3)
        lowered.append(choose.lower(np.zeros(()), fresh, states, states))
    compiled = [program.compile(compiler_options=options) for program in lowered]
    init, epochs, finish, *choose = compiled
    programs = Programs(init, epochs, finish, choose[0] if choose else _choose_alone)
    return CompiledSweep(layout, max(map(_num_bytes, compiled)), programs)


def _choose_alone(_: Any, fresh: np.ndarray, new: Any, old: Any) -> Any:
    """`Programs.choose` of a single slot: one state or the other as it is, without a program to compile."""
    return new if fresh.all() else old


def _zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """With several processes, pmap's `lower` takes arrays only."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return jnp.broadcast_to(jax.random.key(0), shape)
    return np.zeros(shape, dtype)


def _num_bytes(program: Any) -> int:
    sizes = program.memory_analysis()
    total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return total - sizes.alias_size_in_bytes


def _smaller(plan: CompiledSweep, data: DeviceCorpus, num_runs: int, memory: float) -> Layout | None:
    """What should fit: fewer runs a device, evenly over the calls, or less of a CPU at once; None: nothing is less."""
    devices, per_device, threads = plan.layout
    if per_device > 1:
        fixed = sum(x.nbytes for x in jax.tree.leaves(data))
        each = (plan.num_bytes - fixed) / per_device
        fitting = min(max(int((plan.layout.share(memory) - fixed) / each), 1), per_device - 1)
        of_device = _ceil(num_runs, len(devices) * jax.process_count())
        return Layout(devices, _ceil(of_device, _ceil(of_device, fitting)), threads)
    fitting = max(int(memory / plan.num_bytes), 1)
    if threads > 1:
        return Layout(devices, 1, min(fitting, threads - 1))
    if _on_cpu(devices) and len(devices) > 1:
        return Layout(devices[: min(fitting, len(devices) - 1)], 1, 1)
    return None


def _on_cpu(devices: tuple[jax.Device, ...]) -> bool:
    return devices[0].platform == "cpu"


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
