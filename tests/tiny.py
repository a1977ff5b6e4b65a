"""Tiny corpora, models and batches for the tests: made from a seed, easy to learn, nobody's data."""

from collections import OrderedDict
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.config import EncoderConfig, Hyperparameters, ModalityConfig, RunConfig, TrainConfig
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.device import DeviceCorpus, modality_configs, to_device
from cmarr_jax.data.folds import Fold, make_folds, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.methods.base import Method
from cmarr_jax.training.run import Run, RunResult, TrainRun, make_run
from cmarr_jax.training.sweep import Runs
from cmarr_jax.types import Batch

CLASSES = ("angry", "happy", "neutral", "sad")
WIDTHS = {"audio": 5, "video": 3, "text": 6}
MODALITIES = (
    ModalityConfig("audio", 5, "lstm"),
    ModalityConfig("video", 3, "vector"),
    ModalityConfig("text", 6, "conv"),
)

NO_PROCESS = 2**22 + 1  # a number that no process of Linux has, for files that a killed one left


def make_corpus(*, sequences=("audio", "video", "text"), absent=0.0, sessions=3, per_speaker=8, seed=0) -> Corpus:
    """Two speakers a session, every class equally often; each modality knows the class and adds noise.

    Args:
      sequences: Modalities with frames, 1 to 7 an utterance; the others have one vector.
      absent: Share of utterances that lack one modality by nature.
      sessions: Number of sessions.
      per_speaker: Utterances of each speaker.
      seed: Of numpy's generator.
    """
    rng = np.random.default_rng(seed)
    num = 2 * sessions * per_speaker
    label = np.arange(num, dtype=np.int32) % len(CLASSES)
    present = np.ones((num, len(WIDTHS)), bool)
    lacking = rng.random(num) < absent
    present[lacking, rng.integers(len(WIDTHS), size=lacking.sum())] = False
    features, length = {}, {}
    for name, width in WIDTHS.items():
        frames = rng.integers(1, 8, num, dtype=np.int32) if name in sequences else np.ones(num, np.int32)
        centre = rng.normal(size=(len(CLASSES), width))[label]
        noise = rng.normal(size=(frames.sum(), width))
        features[name] = (np.repeat(centre, frames, axis=0) + 0.5 * noise).astype(np.float32)
        if name in sequences:
            length[name] = frames
    speaker = np.arange(num) // per_speaker
    return Corpus(
        utterance_id=np.array([f"u{row}" for row in range(num)]),
        speaker=np.array([f"speaker{number}" for number in speaker]),
        session=np.array([f"session{number // 2}" for number in speaker]),
        label=label,
        class_names=CLASSES,
        features=features,
        length=length,
        present=present,
    )


def run_config(
    modalities=MODALITIES, *, method="cm_arr", train=None, learning_rate=1e-2, dropout=0.2, weights=None, **changes
):
    """The smallest network with every part of it: `changes` are fields of `EncoderConfig` or options of the method."""
    sizes = {"embedding": 8, "conv_channels": 4, "conv_widths": (2, 3)}
    sizes |= {"flow_layers": 2, "flow_hidden": 8, "projection": 4} if method == "cm_arr" else {}
    sizes |= changes
    shared = EncoderConfig.__dataclass_fields__
    return RunConfig(
        method=method,
        encoders=EncoderConfig(modalities, **{name: value for name, value in sizes.items() if name in shared}),
        num_classes=len(CLASSES),
        options={name: value for name, value in sizes.items() if name not in shared},
        train=train or TrainConfig(),
        learning_rate=learning_rate,
        dropout=dropout,
        weights=weights or {},
    )


def make_batch(modalities=MODALITIES, *, size=6, num_frames=5, seed=0) -> Batch:
    """A batch with everything present, random features (also in the padding) and lengths from 1."""
    rng = np.random.default_rng(seed)
    features, length = OrderedDict(), {}
    for modality in modalities:
        frames = () if modality.encoder == "vector" else (num_frames,)
        features[modality.name] = jnp.asarray(rng.normal(size=(size, *frames, modality.width)), jnp.float32)
        if frames:
            length[modality.name] = jnp.asarray(rng.integers(1, num_frames + 1, size), jnp.int32)
    return Batch(
        features=features,
        length=length,
        present=jnp.ones((size, len(modalities)), bool),
        label=jnp.arange(size, dtype=jnp.int32) % len(CLASSES),
        where=jnp.ones(size, bool),
    )


def randomize(params, *, scale=0.3, seed=0):
    """Adds noise to every parameter: nothing is at its initial zero any more, no flow the identity."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noisy = [leaf + scale * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


def random_params(init, batch, *, scale=0.3, seed=0):
    """Random parameters of the shapes that `init(key, batch)` gives, without compiling it."""
    shapes = jax.eval_shape(init, jax.random.key(0), batch)
    return randomize(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), scale=scale, seed=seed)


class Setup(NamedTuple):
    """A corpus on the device, its stacked folds, a method, its run, the whole compiled, and how often it was traced."""

    corpus: Corpus
    data: DeviceCorpus
    folds: Fold
    config: RunConfig
    method: Method
    hyper: Hyperparameters
    parts: Run
    run: TrainRun
    traces: list[str]

    def fold(self, number: int) -> Fold:
        return jax.tree.map(lambda part: part[number], self.folds)


def make_setup(name: str, corpus: Corpus) -> Setup:
    """Four epochs of a method on a corpus; `run` is compiled at its first call."""
    train = TrainConfig(complete_epochs=1, missing_epochs=3, batch_size=12, eval_batch_size=6)
    config = run_config(modality_configs(corpus), method=name, train=train)
    method = make_method(config)
    parts = make_run(method, train)
    traces: list[str] = []

    def counted(*args):
        traces.append(name)
        return parts.whole(*args)

    folds = stack_folds(make_folds(corpus))
    hyper = hyperparameters_of(config)
    return Setup(corpus, to_device(corpus), folds, config, method, hyper, parts, jax.jit(counted), traces)


def loop(setup: Setup, runs: Runs) -> RunResult:
    """The runs of a sweep one after the other, by the compiled run of a setup; each leaf `[R, ...]`."""
    results = [setup.run(setup.data, *jax.tree.map(lambda x, i=number: x[i], runs)) for number in range(len(runs.key))]
    return jax.tree.map(lambda *x: np.stack(x), *results)


def in_order(chunks) -> RunResult:
    """The results of a compiled sweep in the order of its runs, each leaf `[R, ...]`; each run has one."""
    numbers, results = zip(*chunks, strict=True)
    order = np.argsort(np.concatenate(numbers))
    assert np.array_equal(np.concatenate(numbers)[order], np.arange(len(order)))
    return jax.tree.map(lambda *x: np.concatenate(x)[order], *results)


def assert_same_runs(result: RunResult, expected: RunResult) -> None:
    """Losses, scores and normalisers to 1e-5, the same predictions and epochs; parameters to 1e-4.

    Where a gradient is nearly zero, Adam makes a step of the learning rate's size out of its rounding: of thousands of
    parameters a few then differ by 2e-5 after 16 steps of 1e-3.
    """
    chex.assert_trees_all_close(result.params, expected.params, atol=1e-4)
    chex.assert_trees_all_close(result._replace(params=()), expected._replace(params=()), atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(result.best_epoch, expected.best_epoch)
    np.testing.assert_array_equal(result.test_counts, expected.test_counts)
