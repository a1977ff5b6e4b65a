"""How many CPU cores this process may use."""

import os


def num_cores() -> int:
    """CPU cores that this process was given (by Slurm, taskset or a container's cpuset), not all that the machine has.

    A container's quota (`docker --cpus`, limits of Kubernetes) is not seen.
    macOS and Windows do not say what a process was given; there it is the number of cores of the machine.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
