"""The parts of `benchmarks.gpu`: what is computed on, and the functions that time one program each."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Timing, interleaved
from benchmarks.workload import NUM_CLASSES, iemocap_like_corpus, init_params, mmin_sized_config
from cmarr_jax.config import RunConfig, TrainConfig
from cmarr_jax.data.batching import PartPlan, arrange, plan_batches, shuffle, take
from cmarr_jax.data.device import DeviceCorpus, to_device
from cmarr_jax.data.folds import Fold, FoldSplit, make_folds, stack_folds
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer, normalize
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.run import make_train_run
from cmarr_jax.training.step import ModelState, first_state, make_train_step
from cmarr_jax.training.sweep import make_sweep, stack_runs
from cmarr_jax.types import Array
from experiments.presets import SMOKE


class Work(NamedTuple):
    """What all parts compute on; `normalizer` has a leading axis of folds."""

    config: RunConfig
    data: DeviceCorpus
    splits: list[FoldSplit]
    folds: Fold
    normalizer: Normalizer


class Measured(NamedTuple):
    """A program: seconds of a step of one model, or of a whole run; seconds of compilation; bytes."""

    timing: Timing
    compiling: float
    program: int | None
    peak: int | None


def make_work(train: TrainConfig, *, scale: float, small: bool) -> Work:
    """Generates the corpus and moves it to the device; with `small` a network of a few units."""
    corpus = iemocap_like_corpus(scale)
    data, splits = to_device(corpus), make_folds(corpus)
    folds = stack_folds(splits)
    fit = lambda fold: fit_normalizer(data, fold.train, fold.train_where)
    config = mmin_sized_config()
    config = SMOKE.run_config("cm_arr", config.encoders.modalities, NUM_CLASSES) if small else config
    config = dataclasses.replace(config, train=train)
    return Work(config, data, splits, folds, jax.jit(lambda folds: jax.lax.map(fit, folds))(folds))


def time_steps(work: Work, batch_size: int, dtype: str, *, models: int = 1, repeats: int) -> Measured:
    """The steps of an epoch of stage 2 in one program, for models of one fold after another."""
    config = dataclasses.replace(
        work.config,
        encoders=dataclasses.replace(work.config.encoders, dtype=dtype),
        train=dataclasses.replace(work.config.train, batch_size=batch_size),
    )
    plan = plan_batches(work.data, work.folds, config.train).train
    index = jnp.arange(models) % len(work.splits)
    folds, normalizer = jax.tree.map(lambda x: x[index], (work.folds, work.normalizer))
    keys = jax.random.split(jax.random.key(0), models)

    def draw(key: Array, fold: Fold) -> tuple[Array, Array]:
        return shuffle(key, arrange(work.data.length, fold.train, fold.train_where, plan)[0], plan)

    state = first_state(make_method(config), config.train, init_params(config))
    state = jax.tree.map(lambda x: jnp.repeat(x[None], models, axis=0), state)
    rest = normalizer, jax.jit(jax.vmap(draw))(keys, folds), keys
    steps = epoch_of_steps(config, plan)
    if models == 1:
        state, rest = jax.tree.map(lambda x: x[0], (state, rest))
    else:
        steps = jax.vmap(steps, in_axes=(0, None, 0, 0, 0))
    program, compiling = compile_timed(jax.jit(steps, donate_argnums=0), state, work.data, *rest)
    held = [state]

    def call() -> Array:
        held[0], losses = program(held[0], work.data, *rest)
        return losses

    timing = interleaved({"": call}, repeats=repeats)[""]
    check_finite(held)
    num_batches = rest[1][0].shape[-2]
    return Measured(timing.per(models * num_batches), compiling, program_bytes(program), peak_bytes())


def epoch_of_steps(config: RunConfig, plan: PartPlan) -> Callable[..., Any]:
    """`(state, data, normalizer, batches, key) -> (state, losses)`, as training does it."""
    train_step, hyper = make_train_step(make_method(config), config.train), hyperparameters_of(config)

    def steps(state: ModelState, data: DeviceCorpus, normalizer: Normalizer, batches: tuple[Array, Array], key: Array):
        def body(state, inputs):
            number, rows, where = inputs
            batch = normalize(normalizer, take(data, rows, where, plan))
            state, aux = train_step(state, batch, jax.random.fold_in(key, number), True, hyper)
            return state, aux["loss"]

        return jax.lax.scan(body, state, (jnp.arange(len(batches[0])), *batches))

    return steps


def time_whole_row(work: Work, seeds: int) -> Measured:
    """Every fold and seed trained and tested in one program, all at once."""
    units = [(fold, seed) for seed in range(seeds) for fold in range(len(work.splits))]
    fold_index, seed_index = (list(column) for column in zip(*units, strict=True))
    runs = stack_runs(work.folds, fold_index, seed_index, [hyperparameters_of(work.config)] * len(units))
    plan = plan_batches(work.data, work.folds, work.config.train)
    train_run = make_train_run(make_method(work.config), work.config.train, plan)
    sweep = make_sweep(train_run, at_once=len(units))
    program, compiling = compile_timed(jax.jit(sweep), work.data, runs)
    start = time.perf_counter()
    result = jax.block_until_ready(program(work.data, runs))
    seconds = time.perf_counter() - start
    check_finite(result.params)
    return Measured(Timing(seconds, seconds, seconds), compiling, program_bytes(program), peak_bytes())


def compile_timed(jitted: Any, *args: Any) -> tuple[Any, float]:
    """The compiled program and the seconds that tracing and compilation took."""
    start = time.perf_counter()
    program = jitted.lower(*args).compile()
    return program, time.perf_counter() - start


def time_twin(work: Work, batch_size: int, *, tf32: bool, repeats: int) -> Timing:
    """Seconds of the twin's step in float32: shuffled batches of a fold, each padded to its longest utterance.

    On CUDA if PyTorch has it. The data are on the device and standardised already, and only full batches are timed.
    """
    import torch

    from benchmarks import torch_batch, torch_twin

    torch.backends.fp32_precision = "tf32" if tf32 else "ieee"
    device = twin_device()
    everything = jax.tree.map(lambda x: torch.tensor(np.asarray(x), device=device), work.data)
    everything = torch_batch.Batch(*everything)
    twin = torch_twin.Twin(work.config).to(device)
    step = torch_twin.make_step(twin, work.config.train, hyperparameters_of(work.config))
    rng, train = np.random.default_rng(0), work.splits[0].train
    num_steps = len(train) // batch_size

    def call() -> None:
        rows = torch.from_numpy(rng.permutation(train)[: num_steps * batch_size].astype(np.int64)).to(device)
        for chunk in rows.split(batch_size):
            step(torch_batch.take(everything, chunk))
        if device == "cuda":
            torch.cuda.synchronize()

    return interleaved({"": call}, repeats=repeats)[""].per(num_steps)


def twin_device() -> str:
    """Where the twin is trained."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def program_bytes(program: Any) -> int | None:
    """Memory of arguments, results and what is between, as the compiler states it."""
    sizes = program.memory_analysis()
    if sizes is None:
        return None
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    return sizes.argument_size_in_bytes + sizes.temp_size_in_bytes + results


def peak_bytes() -> int | None:
    """Most device memory in use since the start of the process, unknown on a CPU."""
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def check_finite(tree: Any) -> None:
    """Raises FloatingPointError if a number of the tree is not finite."""
    finite = lambda x: not jnp.issubdtype(x.dtype, jnp.floating) or bool(jnp.isfinite(x).all())
    if not all(finite(x) for x in jax.tree.leaves(tree)):
        raise FloatingPointError("training gave numbers that are not finite")
