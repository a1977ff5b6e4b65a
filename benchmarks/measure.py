"""Interleaved timings, the machine's matmul rate, and plain text to paste into RESULTS.md."""

import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.cores import num_cores
from experiments.provenance import commit, cpu_name, device_text

HAS_TORCH = importlib.util.find_spec("torch") is not None


class Timing(NamedTuple):
    """Seconds of a call: median and quartiles over the repeats."""

    median: float
    low: float
    high: float

    def per(self, number: int) -> "Timing":
        """Of one of the `number` steps or models that a call does."""
        return Timing(*(value / number for value in self))

    def text(self) -> str:
        """Milliseconds, `median (low-high)`."""
        median, low, high = (1e3 * value for value in self)
        digits = 1 if median < 100 else 0
        return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def interleaved(calls: Mapping[str, Callable[[], Any]], *, repeats: int = 7, warmups: int = 1) -> dict[str, Timing]:
    """Times functions without arguments in turn, so that a slow moment of the machine meets all of them.

    Args:
      calls: What is timed, by name. Arrays of JAX in a result are waited for; other results must be ready.
      repeats: Timed rounds, each of which calls every function once.
      warmups: Rounds before, which compile.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(warmups + repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    quartiles = {name: np.quantile(values[warmups:], [0.5, 0.25, 0.75]) for name, values in seconds.items()}
    return {name: Timing(*map(float, values)) for name, values in quartiles.items()}


def matmul_rates(shapes: Sequence[tuple[int, int, int]], *, repeats: int = 7) -> dict[str, list[float]]:
    """GFLOP/s of float32 products `[n, k] @ [k, m]` by library; the shapes are `(n, k, m)`.

    A call does several products one after the other where one takes less than about a millisecond. PyTorch is left out
    where it is not installed.
    """
    rates: dict[str, list[float]] = {name: [] for name in ("XLA", *(["PyTorch"] if HAS_TORCH else []))}
    for n, k, m in shapes:
        flops = 2 * n * k * m
        count = max(1, int(2e8 / flops))
        calls = {"XLA": xla_products(n, k, m, count)}
        if HAS_TORCH:
            calls["PyTorch"] = _torch_products(n, k, m, count)
        for name, timing in interleaved(calls, repeats=repeats).items():
            rates[name].append(count * flops / timing.median / 1e9)
    return rates


def xla_products(n: int, k: int, m: int, count: int = 1) -> Callable[[], Any]:
    """`count` float32 products `[n, k] @ [k, m]`, one program each."""
    a, b = map(jnp.asarray, _matrices(n, k, m))
    product = jax.jit(jnp.matmul)
    return lambda: [product(a, b) for _ in range(count)]


def _torch_products(n: int, k: int, m: int, count: int) -> Callable[[], Any]:
    import torch

    a, b = map(torch.from_numpy, _matrices(n, k, m))  # on the CPU

    def products() -> None:
        for _ in range(count):
            a @ b

    return products


def _matrices(n: int, k: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, k), np.float32), rng.standard_normal((k, m), np.float32)


def use_all_cores() -> None:
    """Gives PyTorch as many threads as this process has cores; JAX takes them by itself."""
    if HAS_TORCH:
        import torch

        torch.set_num_threads(num_cores())


def machine_text() -> str:
    """One line: processor, cores, load, devices, versions and commit.

    Of two libraries that share busy cores, one may lose much more than the other (PyTorch's threads wait for each other
    by spinning): ratios are worth something only if the load was near zero before the run.
    """
    version = lambda name: f"{name} {importlib.metadata.version(name)}"
    host = "" if jax.default_backend() == "cpu" else f"{cpu_name()}, "
    parts = [
        f"{host}{num_cores()} cores, load average {os.getloadavg()[0]:.1f} at the start",
        f"JAX on {device_text()}",
        f"Python {platform.python_version()}",
        version("jax"),
        version("torch") if HAS_TORCH else "torch not installed: its cells are empty",
        f"commit `{commit()}`",
    ]
    return "; ".join(parts) + "."


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in plain Markdown: the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
