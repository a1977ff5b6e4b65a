"""Speed of evaluating all conditions at once against one after the other.

    python -m benchmarks.evaluate [--repeats 7]

`cmarr_jax.training.evaluation.evaluate` encodes an utterance once and predicts it in each of the 2^M - 1 conditions;
the slow path encodes it anew for every condition, as published code does. Sizes of MMIN's encoders, float32. Prints
plain Markdown for RESULTS.md, and fails if the two paths count differently.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks import measure
from benchmarks.measure import interleaved, markdown_table
from benchmarks.workload import FRAMES, NUM_CLASSES, fixed_batch, init_params, mmin_sized_config
from cmarr_jax.data.availability import availability_patterns, condition_names
from cmarr_jax.data.batching import PartPlan, take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer, normalize
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Method, Params
from cmarr_jax.metrics import confusion_counts
from cmarr_jax.training.evaluation import evaluate
from cmarr_jax.types import Array


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      repeats: Timed rounds; each runs both paths once.
      utterances: Utterances that are evaluated, a multiple of the batch size.
      batch_size: Utterances that are encoded together.
    """

    repeats: int = 7
    utterances: int = 512
    batch_size: int = 256


def main(options: Options) -> None:
    """Checks that both paths agree, times them and prints the table."""
    print(f"{measure.machine_text()}\n", flush=True)
    config = mmin_sized_config()
    method = make_method(config)
    batch = fixed_batch(options.utterances)
    data = DeviceCorpus(batch.features, batch.length, batch.present, batch.label)
    rows, where = jnp.arange(options.utterances), batch.where
    normalizer = jax.jit(fit_normalizer)(data, rows, where)
    args = init_params(config), normalizer, data, rows, where
    paths = {
        "each utterance encoded once": at_once(method, options),
        "encoded per condition": one_by_one(method, options),
    }
    np.testing.assert_array_equal(*(path(*args) for path in paths.values()))
    calls = {name: lambda path=path: path(*args) for name, path in paths.items()}
    timings = interleaved(calls, repeats=options.repeats)
    slowest = timings["encoded per condition"].median
    table = [
        [name, t.text(), f"{options.utterances / t.median:.0f}", f"{slowest / t.median:.2f}"]
        for name, t in timings.items()
    ]
    lengths = ", ".join(f"{name} {frames}" for name, frames in FRAMES.items())
    print(f"Evaluation of {options.utterances} utterances ({lengths} frames) in the {len(availability_patterns(3))}")
    print(f"conditions {' '.join(condition_names(tuple(data.features)))}, batch {options.batch_size}:\n")
    print(markdown_table(["", "ms (quartiles)", "utterances/s", "x one by one"], table))


def at_once(method: Method, options: Options) -> Callable[..., Any]:
    """The library's way."""

    def counts(params: Params, normalizer: Normalizer, data: DeviceCorpus, rows: Array, where: Array) -> Array:
        plan = PartPlan(options.batch_size)
        return evaluate(method, params, normalizer, data, rows, where, plan)[0].counts

    return jax.jit(counts)


def one_by_one(method: Method, options: Options) -> Callable[..., Any]:
    """A pass over all utterances for each condition, one program for all of them."""

    @jax.jit
    def one(
        params: Params, normalizer: Normalizer, data: DeviceCorpus, rows: Array, where: Array, pattern: Array
    ) -> Array:
        def add(counts: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
            batch = normalize(normalizer, take(data, *part))
            available = pattern[None] & batch.present
            predicted = method.predict(params, method.encode(params, batch), available).argmax(axis=-1)
            counted = batch.where & available.any(axis=-1)
            return counts + confusion_counts(batch.label, predicted, counted, num_classes=NUM_CLASSES), None

        chunks = jax.tree.map(lambda x: x.reshape(-1, options.batch_size), (rows, where))
        return jax.lax.scan(add, jnp.zeros((NUM_CLASSES, NUM_CLASSES), jnp.int32), chunks)[0]

    patterns = jnp.asarray(availability_patterns(3))
    return lambda *args: jnp.stack([one(*args, pattern) for pattern in patterns])


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
