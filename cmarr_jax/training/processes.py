"""Several processes, on one machine or many, as `jax.distributed` starts them. With one process nothing here waits.

A script calls `start` first of all, does its work in `end_together`, reads its data in `first_process_first`, and
writes and prints where `is_first()`.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
HEARTBEAT = 30  # seconds; a process that is not heard of for so long is taken for dead, and all others end
LAST = 1.0  # seconds for which the first process outlives the others


def start(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes, before JAX is used for anything else.

    From here on Ctrl-C reaches the first process only, which ends in good order; the others end with it. SIGTERM ends a
    process at once: JAX's own handler for it, which waits for a checkpoint, is left out.

    Args:
      coordinator_address: `HOST:PORT` of the first process, a free port. All three are found by JAX itself under Slurm,
        Open MPI, on a TPU pod and in a Kubernetes Job or JobSet.
      num_processes: How many there are.
      process_id: Which one this is, from 0.

    Raises:
      ValueError: if JAX does not know such a cluster, or the processes have different numbers of devices.
    """
    jax.config.update("jax_enable_preemption_service", False)
    try:
        # Gloo, the transport between CPUs, sometimes misses that a peer has ended, and waits for ever: then
        # only the missing heartbeat ends the others.
        jax.distributed.initialize(coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT)
    except ValueError as error:
        raise ValueError(
            f"this process cannot join others ({error}); JAX finds them by itself under Slurm, Open MPI, on TPU pods "
            "and in Kubernetes, otherwise give the coordinator's address, the number of processes and that of this one"
        ) from None
    if not is_first():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    counts = Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        found = ", ".join(str(counts[index]) for index in sorted(counts))
        raise ValueError(
            f"every process must have the same number of devices, found {found}; on CPUs set JAX_NUM_CPU_DEVICES"
        )
    gather(
        np.zeros(1)
    )  # processes on CPUs have to meet within 30 s of the first exchange, but may be late at later ones


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def first_process_first(make: Callable[[], T]) -> T:
    """Calls `make` in the first process, then in the others: they find what it left in a shared folder."""
    if not is_first():
        _wait("first_process_first")
    made = make()
    if is_first():
        _wait("first_process_first")
    return made


def gather(tree: Any) -> Any:
    """Arrays `[n, ...]` of each process -> those of all, `[processes * n, ...]`, as numpy arrays, in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def smallest(value: float) -> float:
    """The smallest of all processes' values, to float32."""
    return float(gather(np.array([value], np.float32)).min())


@contextlib.contextmanager
def end_together() -> Iterator[None]:
    """Ends this process with the body: at once if the body fails, and so the others with it, else when all are done.

    What comes after the body runs with one process only, where this does nothing and errors pass through.
    """
    try:
        yield
    except BaseException as error:
        if not _has_others():
            raise
        # JAX alone would wait minutes for the others to end, and they for this one's part of the work.
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        code = error.code if isinstance(error, SystemExit) else 1
        end_process(code if isinstance(code, int) else 1)
    if _has_others():
        # JAX's own way out destroys the service that the processes meet at. A late request of another process then
        # sometimes makes gRPC abort the first one, when all its work is done. So nothing is destroyed, and the first
        # process, which has the service, ends last.
        _wait("end")
        if is_first():
            time.sleep(LAST)
        end_process(0)


def end_process(code: int) -> NoReturn:
    """Ends the process at once. The usual way out waits for compilations in other threads, which nothing interrupts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _has_others() -> bool:
    """Whether this is one of several processes; a command that never uses JAX starts no device for the question."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _wait(place: str) -> None:
    if _has_others():
        multihost_utils.sync_global_devices(place)
