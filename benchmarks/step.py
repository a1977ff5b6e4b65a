"""Speed of a training step of CM-ARR against a PyTorch twin of the same network, and of the machine's matmul limit.

    python -m benchmarks.step [--repeats 5] [--no-compiled]

Sizes of MMIN's encoders, float32, stage 2 (modalities hidden) with the optimizer's update. Then the step of CM-ARR
against that of zero-fill on one vector per utterance, at the sizes of `experiments.presets.VECTORS`. Prints plain
Markdown for RESULTS.md. Without PyTorch (`pip install -e '.[bench]'`) the twin's cells are empty.
"""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks import measure, ours
from benchmarks.measure import HAS_TORCH, Timing, interleaved, markdown_table, matmul_rates
from benchmarks.workload import (
    FRAMES,
    VECTOR_WIDTHS,
    encoder_train_flops,
    fixed_batch,
    iemocap_like_corpus,
    mmin_sized_config,
    vector_batch,
    vector_config,
)
from cmarr_jax.config import RunConfig
from cmarr_jax.cores import num_cores
from cmarr_jax.data.device import DeviceCorpus, to_device
from cmarr_jax.methods import hyperparameters_of
from cmarr_jax.types import Batch

SPLIT, MODELS = "ours, the batch split over a device a core", "ours, a model on each of these, per model"
PUBLISHED = "twin, eager, its convolutions as published (Conv2d)"
SQUARE = (2048, 2048, 2048)  # XLA's rate at this product is called the machine's limit


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      repeats: Timed rounds; each runs every row of a table once.
      batch_size: Utterances per step.
      steps: Steps of a round where they are one program, and on IEMOCAP-like lengths.
      vector_steps: Steps of a round on one vector per utterance, which are one program.
      scale: Number of IEMOCAP-like utterances, relative to 5,531.
      compiled: Also the twin under `torch.compile`, at fixed lengths.
    """

    repeats: int = 5
    batch_size: int = 128
    steps: int = 4
    vector_steps: int = 50
    scale: float = 1.0
    compiled: bool = True


def main(options: Options) -> None:
    """Runs the parts and prints each as it is done."""
    measure.use_all_cores()
    jax.config.update("jax_num_cpu_devices", num_cores())
    print(f"{measure.machine_text()}\n", flush=True)
    print_matmul_rates(options)
    config, batch = mmin_sized_config(), fixed_batch(options.batch_size)
    step = ours.our_step(config, batch)
    print_fixed_lengths(options, config, batch, step)
    print_varied_lengths(options, config)
    print_vectors(options)
    print_profile(options, config, batch, step)


def print_matmul_rates(options: Options) -> None:
    """The table of float32 matmul rates."""
    frames = options.batch_size * FRAMES["audio"]
    shapes = {
        "large squares": SQUARE,
        "all taps of the text convolutions": (options.batch_size * FRAMES["text"], 1024, 12 * 128),
        "input projection, video": (frames, 342, 512),
        "input projection, audio": (frames, 130, 512),
        "a frame of the recurrence": (options.batch_size, 128, 512),
    }
    rates = matmul_rates(list(shapes.values()), repeats=options.repeats)
    rows = []
    for column, (name, (n, k, m)) in enumerate(shapes.items()):
        rates_here = [f"{rates[library][column]:.0f}" if library in rates else "" for library in ("XLA", "PyTorch")]
        rows.append([f"{name}, [{n}, {k}] @ [{k}, {m}]", *rates_here])
    print("Float32 matrix products, GFLOP/s:\n")
    print(markdown_table(["shape", "XLA", "PyTorch"], rows), flush=True)


def print_fixed_lengths(options: Options, config: RunConfig, batch: Batch, step: Callable[[], Any]) -> None:
    """Steps on a batch without padding: ours in one program, in three forms, and one by one; the twin in three."""
    calls = {"matmul": measure.xla_products(*SQUARE)}
    calls["ours"] = ours.our_steps_of_one_program(config, batch, options.steps)
    calls[SPLIT] = ours.our_parallel_steps(config, batch, options.steps)
    calls[MODELS] = ours.our_steps_of_one_program(config, batch, options.steps, on_each_device=True)
    calls["ours, a call a step"] = step
    if HAS_TORCH:
        calls["twin, eager"] = twin_step(config, batch)
        calls[PUBLISHED] = twin_step(config, batch, planar=True)
    if HAS_TORCH and options.compiled:
        calls |= compiled_twin_step(config, batch)
    timings = interleaved(calls, repeats=options.repeats, warmups=2)
    flops = encoder_train_flops(config.encoders, jax.tree.map(np.asarray, batch.length))
    lengths = ", ".join(f"{name} {frames}" for name, frames in FRAMES.items())
    print(f"\nA training step, batch {options.batch_size}, fixed lengths ({lengths});")
    print(f"ours is {options.steps} steps in one program, as an epoch is:\n")
    names = ["ours", SPLIT, MODELS, "ours, a call a step", "twin, eager", PUBLISHED]
    names += ["twin, compiled"] if options.compiled else []
    steps = {"ours": options.steps, SPLIT: options.steps, MODELS: options.steps * jax.device_count()}
    timings = {name: timing.per(steps.get(name, 1)) for name, timing in timings.items()}
    print_steps(timings, names, options.batch_size, flops)


def print_varied_lengths(options: Options, config: RunConfig) -> None:
    """Steps on IEMOCAP-like lengths: our batches are planned, the twin pads shuffled ones to their longest."""
    corpus = iemocap_like_corpus(options.scale)
    data = to_device(corpus)
    steps = min(options.steps, len(corpus) // options.batch_size)
    num_rows = steps * options.batch_size
    orders = [np.random.default_rng(seed).permutation(len(corpus))[:num_rows] for seed in range(options.repeats + 2)]
    calls = {"matmul": measure.xla_products(*SQUARE)}
    calls["ours"] = ours.our_steps(config, data, steps, options.batch_size)
    calls[MODELS] = ours.our_steps(config, data, steps, options.batch_size, on_each_device=True)
    if HAS_TORCH:
        calls["twin, eager"] = twin_steps(config, data, iter(orders), options.batch_size)
        calls[PUBLISHED] = twin_steps(config, data, iter(orders), options.batch_size, planar=True)
    timings = interleaved(calls, repeats=options.repeats, warmups=2)  # pmap compiles again for what it gave
    lengths = ", ".join(f"{name} mean {n.mean():.0f}, longest {n.max()}" for name, n in corpus.length.items())
    padded = np.mean([corpus.length["audio"][rows].max() for rows in batches(orders[2:], options.batch_size)])
    print(f"\nA training step, batch {options.batch_size}, IEMOCAP-like lengths ({lengths}); ours plans its batches,")
    print(f"the twin pads shuffled ones to their longest, audio to {padded:.0f} on average; {steps} steps a repeat:\n")
    flops = encoder_train_flops(config.encoders, corpus.length) * options.batch_size / len(corpus)
    done = {"matmul": 1, MODELS: steps * jax.device_count()}
    timings = {name: timing.per(done.get(name, steps)) for name, timing in timings.items()}
    print_steps(timings, ["ours", MODELS, "twin, eager", PUBLISHED], options.batch_size, flops)


def print_vectors(options: Options) -> None:
    """Steps on one vector per utterance, the same batch; each method's in one program. The first is zero-fill's."""
    batch = vector_batch(options.batch_size)
    configs = {
        "zero-fill": vector_config("zero_fill"),
        "CM-ARR": vector_config("cm_arr"),
        "CM-ARR without flows": vector_config("cm_arr", recovery="zeros"),
        "CM-ARR, residual head": vector_config("cm_arr", head="residual"),
    }
    calls = {
        name: ours.our_steps_of_one_program(config, batch, options.vector_steps) for name, config in configs.items()
    }
    timings = interleaved(calls, repeats=options.repeats, warmups=2)
    products = {name: ours.step_multiply_adds(config, batch) for name, config in configs.items()}
    first, *_ = configs
    rows = []
    for name, timing in timings.items():
        times = f"{timing.median / timings[first].median:.1f}", f"{products[name] / products[first]:.1f}"
        rows.append([name, timing.per(options.vector_steps).text(), times[0], f"{products[name] / 1e6:.0f}", times[1]])
    widths = ", ".join(f"{name} {width}" for name, width in VECTOR_WIDTHS.items())
    print(f"\nA training step, batch {options.batch_size}, one vector per utterance ({widths}), embedding")
    print(f"{configs['CM-ARR'].encoders.embedding}; {options.vector_steps} steps in one program:\n")
    header = ["", "ms per step (quartiles)", "x zero-fill", "million multiply-adds in products", "x zero-fill"]
    print(markdown_table(header, rows), flush=True)


def batches(orders: list[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The batches of several orders, one after another."""
    return itertools.chain.from_iterable(rows.reshape(-1, size) for rows in orders)


def print_steps(timings: dict[str, Timing], names: list[str], batch_size: int, flops: float) -> None:
    """Time, throughput, ratio to the eager twin, and share of the matmul limit, whose rate is from the same rounds."""
    rate = 2 * math.prod(SQUARE) / timings["matmul"].median
    floor = flops / rate
    twin = timings.get("twin, eager")
    rows = []
    for name in names:
        if name not in timings:
            rows.append([name, "", "", "", ""])
            continue
        seconds = timings[name].median
        ratio = "" if twin is None else f"{twin.median / timings[name].median:.2f}"
        share = f"{100 * floor / seconds:.0f} %"
        rows.append([name, timings[name].text(), f"{batch_size / seconds:.0f}", ratio, share])
    header = ["", "ms per step (quartiles)", "utterances/s", "x eager twin", "of the matmul limit"]
    print(markdown_table(header, rows))
    print(
        f"\nThe limit: {flops / 1e9:.1f} GFLOP of matrix products in the encoders on valid frames, at {rate / 1e9:.0f} "
        f"GFLOP/s {1e3 * floor:.0f} ms, {batch_size / floor:.0f} utterances/s; heads, flows and losses are not in it.",
        flush=True,
    )


def twin_step(config: RunConfig, batch: Batch, *, compiled: bool = False, planar: bool = False) -> Callable[[], Any]:
    """The twin's step on the same batch."""
    from benchmarks import torch_batch, torch_twin

    tensors = torch_batch.from_jax(batch)
    twin = torch_twin.Twin(config, planar=planar)
    step = torch_twin.make_step(twin, config.train, hyperparameters_of(config), compiled=compiled)
    return lambda: step(tensors)


def compiled_twin_step(config: RunConfig, batch: Batch) -> dict[str, Callable[[], Any]]:
    """The twin's step under `torch.compile`, or nothing, with a line that says why, where that does not run."""
    call = twin_step(config, batch, compiled=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of PyTorch's own compiler
            call()
    except Exception as error:  # of many kinds: no compiler, a backend that fails
        print(f"\ntorch.compile does not run here: {type(error).__name__}: {str(error)[:200]}")
        return {}
    return {"twin, compiled": call}


def twin_steps(
    config: RunConfig, data: DeviceCorpus, orders: Iterator[np.ndarray], batch_size: int, *, planar: bool = False
) -> Callable[[], Any]:
    """The twin's steps: batches are cut from tensors in memory, each padded to its longest utterance only.

    Features are taken as standardised already, as published code does it when it loads.
    """
    import torch

    from benchmarks import torch_batch, torch_twin

    everything = torch_batch.from_jax(data)
    step = torch_twin.make_step(torch_twin.Twin(config, planar=planar), config.train, hyperparameters_of(config))

    def call() -> None:
        for rows in torch.from_numpy(next(orders)).split(batch_size):
            step(torch_batch.take(everything, rows))

    return call


def print_profile(options: Options, config: RunConfig, batch: Batch, step: Callable[[], Any]) -> None:
    """Parts of our step at fixed lengths, each a program of its own that computes its gradients."""
    calls = {"whole step": step}
    for modality in config.encoders.modalities:
        calls[f"encoder of {modality.name} ({modality.encoder})"] = ours.encoder_gradient(modality, config, batch)
    for name in ("audio", "video"):
        calls[f"of it the input projection of {name}"] = ours.projection_gradient(
            batch.features[name], 4 * config.encoders.embedding
        )
    calls["heads, flows, losses, classifier, optimizer"] = ours.our_step_without_encoders(config, batch)
    calls["of it the optimizer"] = ours.optimizer_update(config)
    timings = interleaved(calls, repeats=options.repeats, warmups=2)
    whole = timings["whole step"].median
    rows = [[name, t.text(), f"{100 * t.median / whole:.0f} %"] for name, t in timings.items()]
    print("\nWhere the time of our step goes. Each part is timed as a program of its own, so parts need not add up:\n")
    print(markdown_table(["part", "ms (quartiles)", "of the step"], rows), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
