"""The parts of `benchmarks.gpu`: what is computed on, and the functions that time one program each."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Timing, interleaved
from benchmarks.workload import NUM_CLASSES, iemocap_like_corpus, init_params, lineage_config
from cmarr_jax.batching import PartPlan, make_plan, place, shuffle
from cmarr_jax.config import Hyperparameters, ModelConfig, TrainConfig
from cmarr_jax.folds import Fold, FoldSplit, make_folds, stack_folds
from cmarr_jax.input import Data, Normalizer, fit_normalizer, normalize, take, to_data
from cmarr_jax.objectives import make_method
from cmarr_jax.sweep import make_sweep, stack_runs
from cmarr_jax.train import make_train_run, make_train_step, make_tx
from cmarr_jax.types import Array
from experiments.settings import SMOKE

HYPER = Hyperparameters()


class Work(NamedTuple):
    """What all parts compute on; `normalizer` has a leading axis of folds."""

    config: ModelConfig
    train: TrainConfig
    data: Data
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
    data, splits = to_data(corpus), make_folds(corpus)
    folds = stack_folds(splits)
    fit = lambda fold: fit_normalizer(data, fold.train, fold.train_where)
    config = dataclasses.replace(lineage_config(), **(SMOKE.model if small else {}))
    return Work(config, train, data, splits, folds, jax.jit(lambda folds: jax.lax.map(fit, folds))(folds))


def time_steps(work: Work, batch_size: int, dtype: str, *, models: int = 1, repeats: int) -> Measured:
    """The steps of an epoch of stage 2 in one program, for models of one fold after another."""
    config = dataclasses.replace(work.config, encoder_dtype=dtype)
    train = dataclasses.replace(work.train, batch_size=batch_size)
    plan = make_plan(work.data, work.folds, train).train
    index = jnp.arange(models) % len(work.splits)
    folds, normalizer = jax.tree.map(lambda x: x[index], (work.folds, work.normalizer))
    keys = jax.random.split(jax.random.key(0), models)

    def draw(key: Array, fold: Fold) -> tuple[Array, Array]:
        return shuffle(key, place(work.data.length, fold.train, fold.train_where, plan)[0], plan)

    params = init_params(config)
    state = [params, make_tx(train).init(params)]
    state[:] = jax.tree.map(lambda x: jnp.repeat(x[None], models, axis=0), state)
    rest = normalizer, jax.jit(jax.vmap(draw))(keys, folds), keys
    steps = epoch_of_steps(config, train, plan)
    if models == 1:
        state[:], rest = jax.tree.map(lambda x: x[0], (state, rest))
    else:
        steps = jax.vmap(steps, in_axes=(0, 0, None, 0, 0, 0))
    program, compiling = compile_timed(jax.jit(steps, donate_argnums=(0, 1)), *state, work.data, *rest)

    def call() -> Array:
        *state[:], losses = program(*state, work.data, *rest)
        return losses

    timing = interleaved({"": call}, repeats=repeats)[""]
    check_finite(state)
    num_batches = rest[1][0].shape[-2]
    return Measured(timing.per(models * num_batches), compiling, program_bytes(program), peak_bytes())


def epoch_of_steps(config: ModelConfig, train: TrainConfig, plan: PartPlan) -> Callable[..., Any]:
    """`(params, opt_state, data, normalizer, batches, key) -> (params, opt_state, losses)`, as training does it."""
    tx = make_tx(train)
    method = make_method("cm_arr", config, train)
    train_step = make_train_step(method.loss, tx, train)

    def steps(params, opt_state, data: Data, normalizer: Normalizer, batches: tuple[Array, Array], key: Array):
        def body(state, inputs):
            number, rows, where = inputs
            batch = normalize(normalizer, take(data, rows, where, plan))
            *state, aux = train_step(*state, batch, jax.random.fold_in(key, number), True, HYPER)
            return tuple(state), aux["loss"]

        state, losses = jax.lax.scan(body, (params, opt_state), (jnp.arange(len(batches[0])), *batches))
        return *state, losses

    return steps


def time_whole_row(work: Work, seeds: int) -> Measured:
    """Every fold and seed trained and tested in one program, all at once."""
    units = [(fold, seed) for seed in range(seeds) for fold in range(len(work.splits))]
    fold_index, seed_index = (list(column) for column in zip(*units, strict=True))
    runs = stack_runs(work.folds, fold_index, seed_index, [HYPER] * len(units))
    method = make_method("cm_arr", work.config, work.train)
    plan = make_plan(work.data, work.folds, work.train)
    sweep = make_sweep(make_train_run(method, work.train, NUM_CLASSES, plan), at_once=len(units))
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

    from benchmarks import torch_twin

    torch.backends.fp32_precision = "tf32" if tf32 else "ieee"
    device = twin_device()
    everything = jax.tree.map(lambda x: torch.tensor(np.asarray(x), device=device), work.data)
    everything = torch_twin.Batch(*everything)
    step = torch_twin.make_step(torch_twin.Twin(work.config).to(device), work.train, HYPER)
    rng, train = np.random.default_rng(0), work.splits[0].train
    num_steps = len(train) // batch_size

    def call() -> None:
        rows = torch.from_numpy(rng.permutation(train)[: num_steps * batch_size].astype(np.int64)).to(device)
        for chunk in rows.split(batch_size):
            step(torch_twin.take(everything, chunk))
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
