"""Sweeps cut to what the memory holds: the numbers of a loop, one program for all chunks, a sentence that says so."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_same_runs, loop

from cmarr_jax.config import Hyperparameters
from cmarr_jax.data.folds import Fold
from cmarr_jax.training.parallel import share_read_only
from cmarr_jax.training.sweep import Runs, stack_runs
from cmarr_jax.training.sweep_memory import GIB, available_memory, compile_sweep

SIZE = 2**14  # numbers that a toy run holds at once: 64 KiB


def toy_runs(num: int) -> Runs:
    rows, where = jnp.arange(num * 2).reshape(num, 2), jnp.ones((num, 2), bool)
    return Runs(
        fold=Fold(rows, where, rows, where, rows, where),
        key=jax.vmap(jax.random.key)(jnp.arange(num)),
        hyper=Hyperparameters(jnp.arange(num, dtype=jnp.float32), {}),
    )


class ToyRun:
    """In place of a training run: compiles at once, and sorts 64 KiB of noise, which XLA cannot do without memory."""

    def __init__(self):
        self.traces = 0

    def __call__(self, data, fold, key, hyper):
        self.traces += 1
        noise = jnp.sort(jax.random.normal(key, (SIZE,)))
        return {"number": hyper.learning_rate, "noise": noise[:: SIZE // 4], "sum": data.sum() + fold.train.sum()}


DATA = jnp.ones(7)


def expected(runs: Runs):
    run = jax.jit(ToyRun())
    results = [run(DATA, *jax.tree.map(lambda x, i=number: x[i], runs)) for number in range(len(runs.key))]
    return jax.tree.map(lambda *x: np.stack(x), *results)


def run_all(plan, runs):
    chunks = list(plan.run(DATA, runs))
    assert [number for numbers, _ in chunks for number in numbers] == list(range(len(runs.key)))
    for numbers, result in chunks:
        assert {len(leaf) for leaf in jax.tree.leaves(result)} == {len(numbers)}
    return [len(numbers) for numbers, _ in chunks], jax.tree.map(lambda *x: np.concatenate(x), *(r for _, r in chunks))


@pytest.mark.parametrize(
    ("num", "per_device", "num_devices", "sizes"),
    [
        (11, None, 8, [8, 3]),
        (3, None, 8, [3]),
        (11, 2, 4, [8, 3]),
        (11, 11, 1, [11]),
        (11, 99, 2, [11]),
        (1, 3, 2, [1]),
    ],
    ids=["one-each", "fewer-than-devices", "two-each", "all-on-one", "no-more-than-there-are", "one"],
)
def test_chunks_of_a_wanted_size(num, per_device, num_devices, sizes):
    said, run, runs = [], ToyRun(), toy_runs(num)
    devices = jax.local_devices()[:num_devices]
    plan = compile_sweep(run, DATA, runs, per_device=per_device, devices=devices, memory=GIB, log=said.append)
    traces = run.traces
    found, result = run_all(plan, runs)
    assert found == sizes
    assert run.traces == traces  # what was compiled served every chunk
    assert said == []
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)


def test_a_sweep_that_does_not_fit_is_cut_and_says_so():
    said, run, runs = [], ToyRun(), toy_runs(10)
    one = jax.local_devices()[:1]
    whole = compile_sweep(ToyRun(), DATA, runs, per_device=10, devices=one, memory=GIB)
    assert whole.num_bytes > 10 * 4 * SIZE
    memory = 0.72 * whole.num_bytes  # seven would fit, in two calls: five and five are as fast
    plan = compile_sweep(run, DATA, runs, per_device=10, devices=one, memory=memory, log=said.append)
    assert plan.layout.per_device == 5
    assert plan.num_bytes <= memory
    traces = run.traces
    sizes, result = run_all(plan, runs)
    assert sizes == [5, 5]
    assert run.traces == traces
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert said == [
        f"10 models at once need about {whole.num_bytes / GIB:.2f} GiB a device, which has {memory / GIB:.2f} GiB: "
        "10 models are trained in chunks of 5."
    ]


def test_a_cut_sweep_with_an_uneven_last_chunk():
    runs, said = toy_runs(11), []
    devices = jax.local_devices()[:2]
    whole = compile_sweep(ToyRun(), DATA, runs, per_device=6, devices=devices, memory=GIB)
    # Two devices of a CPU share its memory: each has half of it.
    plan = compile_sweep(
        ToyRun(), DATA, runs, per_device=6, devices=devices, memory=2 * 0.4 * whole.num_bytes, log=said.append
    )
    sizes, result = run_all(plan, runs)
    assert sizes == [4, 4, 3]
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert "12 models at once" in said[0]
    assert said[0].endswith("11 models are trained in chunks of 4.")


def test_too_little_memory_for_all_cores_uses_fewer():
    runs, said = toy_runs(8), []
    one = compile_sweep(ToyRun(), DATA, runs, devices=jax.local_devices()[:1], memory=GIB)
    plan = compile_sweep(ToyRun(), DATA, runs, memory=3.5 * one.num_bytes, log=said.append)
    assert plan.layout.runs_per_call == 3
    sizes, result = run_all(plan, runs)
    assert sizes == [3, 3, 2]
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert said[0].endswith("8 models are trained in chunks of 3.")


def test_a_model_too_large_alone_is_tried_all_the_same():
    runs, said = toy_runs(2), []
    plan = compile_sweep(ToyRun(), DATA, runs, memory=1000.0, log=said.append)
    sizes, _ = run_all(plan, runs)
    assert sizes == [1, 1]
    assert re.search(r"trained in chunks of 1, although even that needs 0.00 GiB\.$", said[0])


def test_a_cut_sweep_of_training_runs_equals_a_loop(zero_fill_setup):
    # On two devices two vmapped together, where three were wanted: chunks of four and one.
    setup, said = zero_fill_setup, []
    runs = stack_runs(setup.folds, [1, 4, 2, 0, 3], [0, 0, 7, 1, 2], [setup.hyper] * 5)
    plan = compile_sweep(
        setup.train_run, setup.data, runs, per_device=2, devices=jax.local_devices()[:2], memory=GIB, log=said.append
    )
    chunks = [result for _, result in plan.run(setup.data, runs)]
    assert [len(result.test_counts) for result in chunks] == [4, 1]
    assert_same_runs(jax.tree.map(lambda *x: np.concatenate(x), *chunks), loop(setup, runs))


def test_the_devices_of_a_cpu_share_one_copy_of_the_corpus():
    data = jnp.arange(1024.0)
    shared = share_read_only({"a": data}, jax.local_devices())["a"]
    pointers = {part.data.unsafe_buffer_pointer() for part in shared.addressable_shards}
    assert len(shared.addressable_shards) == 8
    assert pointers == {data.unsafe_buffer_pointer()}


def test_memory_of_a_machine():
    # Of a CPU JAX says nothing: the machine's free memory, between a hundredth of a GiB and a thousand TiB.
    assert 0.01 * GIB < available_memory(jax.local_devices()[0]) < 2**20 * GIB


def test_memory_of_an_accelerator():
    class Device:
        def memory_stats(self):
            return {"bytes_limit": 80 * GIB}

    assert available_memory(Device()) == pytest.approx(72 * GIB)
