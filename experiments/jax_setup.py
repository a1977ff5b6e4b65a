"""What happens before the first step: other processes, compiled programs kept on disk, how long it took until then."""

import contextlib
import dataclasses
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jax
import psutil
import tyro

from cmarr_jax.cores import num_cores
from cmarr_jax.training.disk import disk_error
from cmarr_jax.training.processes import end_together, start

EVENTS = "/jax/compilation_cache/"
CPU_COMPILE: dict[str, dict[str, int | bool]] = {  # XLA's options for a CPU: less time to compile, slower steps
    "full": {},
    "quick": {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True},
    "quickest": {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True},
}
if jax.__version_info__ < (0, 11):  # jaxlib 0.12 refuses it as unknown
    CPU_COMPILE["quickest"]["xla_cpu_use_fusion_emitters"] = False


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """Options of every command: compiled programs and other processes."""

    compilation_cache: bool = True
    """Keep compiled programs on disk: a second start compiles nothing."""
    cache_folder: Path | None = None
    """Where; by default `JAX_COMPILATION_CACHE_DIR`, or `cmarr_jax/xla` in the user's cache."""
    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """This is one of several processes that share the work, started by Slurm, Open MPI, Kubernetes or on a TPU pod."""
    coordinator_address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """With another launcher: address of process 0, a free port. Then with the following two, in every process."""
    num_processes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many processes there are."""
    process_id: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of this process, from 0."""


def set_up_jax(options: StartOptions, *, one_cpu_device_per_core: bool) -> None:
    """Settings of JAX, before its first use.

    Args:
      options: Of the command.
      one_cpu_device_per_core: With several processes on CPUs; one process has threads instead.

    Raises:
      ValueError: if other processes or a folder cannot be reached.
    """
    where = (options.coordinator_address, options.num_processes, options.process_id)
    joins = options.distributed or any(part is not None for part in where)
    if joins and one_cpu_device_per_core and "JAX_NUM_CPU_DEVICES" not in os.environ:
        jax.config.update("jax_num_cpu_devices", num_cores())
    if options.compilation_cache:
        keep_compiled_programs(options.cache_folder)
    else:
        jax.config.update("jax_enable_compilation_cache", False)
    if joins:
        start(*where)


def check_memory(memory: float | None) -> None:
    """Raises ValueError unless the GiB of `--memory` are above 0, or not given."""
    if memory is not None and not memory > 0:
        raise ValueError(f"--memory must be above 0, found {memory}")


@contextlib.contextmanager
def user_errors_as_messages(*errors: type[Exception]) -> Iterator[None]:
    """Prints errors that a user can mend as one sentence on standard error, and exits with code 2, in all processes."""
    with end_together():
        try:
            yield
        except errors as error:
            which = f"process {jax.process_index()}: " if jax.process_count() > 1 else ""
            text = (isinstance(error, OSError) and disk_error(error)) or error
            print(f"{which}error: {text}", file=sys.stderr)
            raise SystemExit(2) from None


def default_cache_folder() -> Path:
    """`cmarr_jax/xla` in the user's cache: `$XDG_CACHE_HOME`, or `~/.cache` where it is not set."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cmarr_jax" / "xla"


def keep_compiled_programs(folder: Path | None = None) -> None:
    """Turns on JAX's persistent compilation cache, for programs of any size.

    What a program depends on is in its key: versions, flags, the kind of device, a CPU's instruction set; so machines
    may share the folder. Whoever can write to it can run code as its reader. It may be deleted at any time.

    Args:
      folder: By default what `JAX_COMPILATION_CACHE_DIR` says, or else `default_cache_folder()`.

    Raises:
      ValueError: if a folder was named that cannot be written. Without one, nothing is kept then.
    """
    chosen = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR") or default_cache_folder()
    if "://" not in str(chosen) and not _writable(Path(chosen)):
        if folder is not None:
            raise ValueError(f"cannot write compiled programs to {folder}; name another folder or turn the cache off")
        jax.config.update("jax_enable_compilation_cache", False)
        return
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


class StartUp:
    """Takes the time from the start of the process to the first step, and counts the programs found in the cache."""

    def __init__(self) -> None:
        self.began = time.time() - psutil.Process().create_time()
        self.clock = time.perf_counter() - self.began
        self.parts = {"imports": self.began}
        self.counts: Counter[str] = Counter()
        jax.monitoring.register_event_listener(lambda event, **_: self.counts.update([event.removeprefix(EVENTS)]))

    def lap(self, name: str) -> None:
        """What was done since the last call is called `name`."""
        self.parts[name] = self.parts.get(name, 0.0) + self.seconds() - sum(self.parts.values())

    def seconds(self) -> float:
        """Since the start of the process."""
        return time.perf_counter() - self.clock

    def text(self) -> str:
        """`First step after 41.2 s: imports 3.9 s, data 1.3 s, compiling 36.0 s (cache: 0 of 57 programs found).`"""
        found = self.counts["cache_hits"]
        done = found + self.counts["cache_misses"]  # others may be on their way in the background
        cache = f"cache: {found} of {done} programs found" if done else "without cache"
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.parts.items())
        return f"First step after {sum(self.parts.values()):.1f} s: {parts} ({cache})."


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
