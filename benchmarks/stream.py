"""Memory and speed of streamed training against data in memory.

    python -m benchmarks.stream [--repeats 7]

Writes data sets of generated utterances (noise) of two sizes into a temporary folder, trains CM-ARR on
each in a process of its own, and compares the speed with the same steps on the same batches held in memory, which must
give the same losses. Prints plain Markdown for RESULTS.md. The folder (0.4 GB) is deleted afterwards.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
import tyro

from benchmarks.measure import interleaved, machine_text, markdown_table
from cmarr_jax.config import EncoderConfig, RunConfig, TrainConfig
from cmarr_jax.data.batching import take
from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer_streamed
from cmarr_jax.data.streamed import Batches, DataSet, open_data_set, read_ahead, read_text
from cmarr_jax.methods import make_method
from cmarr_jax.training.step import make_train_step
from cmarr_jax.training.streamed_loop import Progress, Timing, first_progress, on_raw_features, train_steps
from data_prep.quiet_tfds import quiet_tfds
from experiments.train_streamed import resident_mib

WIDTHS = {"audio": 32, "video": 24, "text": 32}
MAX_FRAMES = 8
TRAIN = TrainConfig(complete_epochs=0, batch_size=128, decay=False)  # steps of the last stage, at a constant rate


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      sizes: Utterances of the data sets.
      steps: Training steps on each.
      repeats: Timed rounds of the comparison with data in memory, on the first data set.
      worker: Used by the command itself: measures one data set and prints JSON.
    """

    sizes: tuple[int, int] = (20_000, 200_000)
    steps: int = 200
    repeats: int = 7
    worker: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="internal")] = None


class Generated(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Noise in the form of the project's data sets: 2 to `MAX_FRAMES` frames per modality, ten speakers."""

    name = "generated"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = None  # not in a package folder of its own

    def __init__(self, size: int, **kwargs: Any):
        self.size = size
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        tensors = {name: tfds.features.Tensor(shape=(None, D), dtype=np.float32) for name, D in WIDTHS.items()}
        features = {"speaker": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=4), **tensors}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(modalities=list(WIDTHS)),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"utterances": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        rng = np.random.default_rng(0)
        for row in range(self.size):
            frames = {
                name: rng.standard_normal((rng.integers(2, MAX_FRAMES + 1), width), np.float32)
                for name, width in WIDTHS.items()
            }
            yield row, {"speaker": f"speaker{row % 10}", "label": row % 4, **frames}


class InMemory:
    """The batches of `Batches` from data on the device: an iterator with a position, as `read_ahead` gives."""

    def __init__(self, batches: Batches):
        self.batches, self.number, self.take = batches, 0, jax.jit(take)
        parts = list(read_ahead(in_order(batches.data_set), place=lambda batch: batch))
        joined = jax.tree.map(lambda *x: jnp.asarray(np.concatenate(x)), *parts)
        self.data = DeviceCorpus(joined.features, joined.length, joined.present, joined.label)

    def __next__(self):
        self.number += 1
        return self.take(self.data, *self.batches.rows_of(self.number - 1))

    def get_state(self) -> dict[str, int]:
        return {"next_index": self.number}


def main(options: Options) -> None:
    """Writes, measures in processes of their own, and prints."""
    if options.worker is not None:
        print(json.dumps(measure_one(options.worker, options.steps)))
        return
    with tempfile.TemporaryDirectory(prefix="cmarr_stream_") as folder:
        table = []
        for size in options.sizes:
            path, seconds = write(Path(folder) / str(size), size)
            command = [sys.executable, "-m", "benchmarks.stream", "--worker", str(path), "--steps", str(options.steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(done.stdout.splitlines()[-1])
            disk = sum(file.stat().st_size for file in path.rglob("*")) / 2**20
            padded = size * MAX_FRAMES * sum(WIDTHS.values()) * 4 / 2**20
            memory = [f"{found[key]:.0f}" for key in ("start", "after_passes", "warm", "peak", "end")]
            share = f"{100 * found['waited']:.1f} %"
            table.append([f"{size:,}", f"{disk:.0f}", f"{padded:.0f}", *memory, share, f"{found['read']:.0f}"])
            print(f"{size:,} utterances written in {seconds:.0f} s", file=sys.stderr)
        speed = compare(Path(folder) / str(options.sizes[0]) / "generated" / "1.0.0", options.repeats)
    print(f"{machine_text()}\n")
    print(
        f"CM-ARR, batch {TRAIN.batch_size}, {MAX_FRAMES} frames, generated utterances: {options.steps} steps after two"
    )
    print("passes over all utterances (speakers, normaliser); resident memory in MiB, of a process of its own:\n")
    header = [
        "utterances",
        "MiB on disk",
        "MiB if in memory",
        "start",
        "after the passes",
        "after warm-up",
        "peak since",
    ]
    print(markdown_table([*header, "end", "waited for input", "read alone, utterances/s"], table))
    print(f"\nThe same steps on the same batches ({options.sizes[0]:,} utterances), first losses equal:\n")
    print(markdown_table(["input", "ms a step (quartiles)", "utterances/s", "x in memory"], speed))


def write(folder: Path, size: int) -> tuple[Path, float]:
    """Writes a data set; returns its folder and the seconds it took."""
    start = time.perf_counter()
    with quiet_tfds():
        builder = Generated(size, data_dir=folder)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return Path(builder.data_dir), time.perf_counter() - start


def measure_one(path: Path, steps: int) -> dict[str, float]:
    """Resident memory over a training, the share of time waited for input, and the rate of reading alone."""
    found = {"start": resident_mib()}
    data_set = open_data_set(path)
    read_text(data_set, "speaker")
    start = time.perf_counter()
    normalizer = fit_normalizer_streamed(read_ahead(in_order(data_set), place=lambda batch: batch))
    found |= {"read": len(data_set) / (time.perf_counter() - start), "after_passes": resident_mib()}
    run, progress = make_run(data_set, normalizer)
    iterator = read_ahead(shuffled(data_set))
    progress, _, _ = run(progress, iterator, 20)
    found |= {"warm": resident_mib()}
    peak, total = found["warm"], Timing(0.0, 0.0)
    while progress.step < steps:
        progress, _, timing = run(progress, iterator, 10)
        total = Timing(*np.add(total, timing))
        peak = max(peak, resident_mib())
    return found | {"peak": peak, "end": resident_mib(), "waited": total.waited / total.seconds}


def compare(path: Path, repeats: int, steps: int = 15) -> list[list[str]]:
    """Rows of the table of speeds: streamed and in memory, in turn. Fails if the losses differ."""
    data_set = open_data_set(path)
    normalizer = fit_normalizer_streamed(read_ahead(in_order(data_set), place=lambda batch: batch))
    run, progress = make_run(data_set, normalizer)
    inputs = {"streamed": read_ahead(shuffled(data_set)), "in memory": InMemory(shuffled(data_set))}
    states, losses = {name: with_own_model(progress) for name in inputs}, {name: [] for name in inputs}

    def call(name: str) -> None:
        states[name], aux, _ = run(states[name], inputs[name], steps)
        losses[name].append(aux["loss"])

    timings = interleaved({name: lambda name=name: call(name) for name in inputs}, repeats=repeats)
    np.testing.assert_allclose(losses["streamed"][0], losses["in memory"][0], rtol=1e-5)
    rate = {name: steps * TRAIN.batch_size / timing.median for name, timing in timings.items()}
    return [
        [name, timing.per(steps).text(), f"{rate[name]:.0f}", f"{rate[name] / rate['in memory']:.2f}"]
        for name, timing in timings.items()
    ]


def make_run(data_set: DataSet, normalizer: Normalizer) -> tuple[Callable[..., Any], Progress]:
    """`run(progress, iterator, num_steps)`, steps of CM-ARR's last stage, and where it starts."""
    config = RunConfig("cm_arr", EncoderConfig(data_set.modalities), len(data_set.class_names), train=TRAIN)
    method = on_raw_features(make_method(config), normalizer)
    train_step = jax.jit(make_train_step(method, TRAIN), donate_argnums=0)
    per_epoch = shuffled(data_set).steps_per_epoch

    def run(progress, iterator, num_steps):
        return train_steps(train_step, method, progress, iterator, num_steps=num_steps, steps_per_epoch=per_epoch)

    return run, with_own_model(first_progress(config, method, normalizer, seed=0))


def with_own_model(progress: Progress) -> Progress:
    """The progress with a copy of its model, which a step gives up."""
    return progress._replace(run=progress.run._replace(model=jax.tree.map(jnp.copy, progress.run.model)))


def shuffled(data_set: DataSet) -> Batches:
    """Batches of training, more epochs than are used."""
    return Batches(data_set, np.arange(len(data_set)), TRAIN.batch_size, MAX_FRAMES, num_epochs=10_000, seed=0)


def in_order(data_set: DataSet) -> Batches:
    """One pass."""
    return Batches(data_set, np.arange(len(data_set)), TRAIN.batch_size, MAX_FRAMES)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
