"""Speed and memory of predictions.

    python -m benchmarks.predict [--utterances 1000000]

Latency of one utterance after warm-up, at several lengths; throughput in blocks; memory while a file of utterances goes
through the command. CM-ARR with the sizes of MMIN's features, or one vector per modality; random parameters, generated
features. For one core: `taskset -c 0 python -m benchmarks.predict`. Prints plain Markdown for RESULTS.md.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import tyro

from benchmarks import measure
from benchmarks.measure import markdown_table
from benchmarks.workload import FRAMES, NUM_CLASSES, VECTOR_WIDTHS, init_params, mmin_sized_config, vector_config
from cmarr_jax.calibration import Calibration
from cmarr_jax.config import RunConfig
from cmarr_jax.data.archive_blocks import read_utterances
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.normalizer import identity_normalizer
from cmarr_jax.predict import InputRecord, LoadedUnit, Predictor
from experiments.jax_setup import keep_compiled_programs
from experiments.predict import Item, write_predictions

BLOCK = 256


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      repeats: Timed calls with one utterance.
      blocks: Timed calls with a block.
      utterances: Of the stream.
      samples: Times that points are drawn from the Gaussians.
    """

    repeats: int = 200
    blocks: int = 5
    utterances: int = 20_000
    samples: int = 8


def main(options: Options) -> None:
    """Times and prints."""
    keep_compiled_programs()
    print(f"{measure.machine_text()}\n", flush=True)
    vectors, sequences = vector_config("cm_arr"), mmin_sized_config()
    lines = []
    for text, config, factor in (
        ("one vector per modality", vectors, 1),
        ("frames, a quarter of MMIN's", sequences, 0.25),
        ("frames as MMIN's, 50, 50 and 22", sequences, 1),
        ("frames, four times MMIN's", sequences, 4),
    ):
        predictor = Predictor((random_unit(config),), num_samples=options.samples)
        single = seconds(predictor, [features(config, factor)], options.repeats)
        block = seconds(predictor, [features(config, factor)] * BLOCK, options.blocks)
        low, median, high = np.quantile(single[:, 0], [0.05, 0.5, 0.95]) * 1e3
        own = np.median(single[:, 1]) * 1e3
        rates = BLOCK / np.median(block, axis=0)
        lines.append([text, f"{median:.2f} ({low:.2f}-{high:.2f})", f"{own:.2f}", *(f"{rate:.0f}" for rate in rates)])
    print(f"CM-ARR, one unit, {options.samples} draws from the Gaussians; after warm-up:\n")
    header = ["input", "one utterance, ms, median (5 to 95 %)", "ms of the processor"]
    header += [f"utterances/s in blocks of {BLOCK}", "per second of the processor"]
    print(markdown_table(header, lines), flush=True)
    stream(options.utterances, Predictor((random_unit(vectors),), num_samples=options.samples))


def random_unit(config: RunConfig) -> LoadedUnit:
    """A unit that was never trained."""
    modalities = config.encoders.modalities
    told = InputRecord(tuple(f"class{number}" for number in range(NUM_CLASSES)), None, {})
    confidence = tuple(np.linspace(0.3, 1.0, 100) for _ in availability_patterns(len(modalities)))
    params, normalizer = jax.device_put((init_params(config), identity_normalizer(modalities)))
    return LoadedUnit(Path("random"), config, params, normalizer, told, Calibration(1.0, confidence))


def features(config: RunConfig, factor: float) -> dict[str, np.ndarray]:
    """One utterance with every modality."""
    rng, found = np.random.default_rng(0), {}
    for modality in config.encoders.modalities:
        frames = () if modality.encoder == "vector" else (max(1, round(factor * FRAMES[modality.name])),)
        found[modality.name] = rng.standard_normal((*frames, modality.width), np.float32)
    return found


def seconds(predictor: Predictor, utterances: list[dict[str, Any]], repeats: int) -> np.ndarray:
    """Of each call, after one that compiles and one that warms up: on the clock, and of the processor, `[repeats, 2]`.

    On a machine that others use, a call waits for its core; the processor's time leaves that out.
    """
    taken = []
    for _ in range(2 + repeats):
        start = time.perf_counter(), time.process_time()
        predictor.predict(utterances)
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.array(taken[2:])


def stream(num: int, predictor: Predictor) -> None:
    """Sends a file of utterances through the command and prints how far its memory grows after the first tenth."""
    rng, process, sizes = np.random.default_rng(0), psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "many.npz"
        arrays = {name: rng.standard_normal((num, width), np.float32) for name, width in VECTOR_WIDTHS.items()}
        np.savez(source, utterance_id=np.array([f"u{row}" for row in range(num)]), **arrays)
        del arrays

        def watched():
            for row, named in enumerate(read_utterances(source)):
                if row % max(1, num // 100) == 0:
                    sizes.append(process.memory_info().rss / 2**20)
                yield Item(*named)

        start = time.perf_counter()
        write_predictions(predictor, watched(), Path(folder) / "p.csv")
        taken = time.perf_counter() - start
    early, late = max(sizes[:10]), max(sizes[10:])
    print(
        f"\n{num} utterances with one vector per modality from an .npz to a .csv: {taken:.0f} s, {num / taken:.0f} "
        f"utterances/s; memory {early:.0f} MiB at most in the first tenth, {late:.0f} MiB at most after it."
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
