"""Sweeps cut to what the memory holds: the numbers of a loop, one program for all slots, a sentence that says so."""

import re
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_same_runs, in_order, loop

from cmarr_jax.config import Hyperparameters
from cmarr_jax.data.folds import Fold
from cmarr_jax.training import sweep_memory
from cmarr_jax.training.parallel import share_read_only
from cmarr_jax.training.run import Run
from cmarr_jax.training.schedule import CONVERGED, RUNNING
from cmarr_jax.training.sweep import Runs, stack_runs
from cmarr_jax.training.sweep_memory import GIB, available_memory, compile_sweep

SIZE = 2**14  # numbers that a toy run holds at once: 64 KiB


def toy_runs(num: int) -> Runs:
    rows, where = jnp.arange(num * 2).reshape(num, 2), jnp.ones((num, 2), bool)
    return Runs(
        fold=Fold(rows, where, rows, where, rows, where),
        key=jax.vmap(jax.random.key)(jnp.arange(num)),
        hyper=Hyperparameters(jnp.arange(num, dtype=jnp.float32), jnp.zeros(num), {}),
    )


class ToyState(NamedTuple):
    key: jax.Array
    status: jax.Array
    done: jax.Array
    number: jax.Array
    rows: jax.Array
    noise: jax.Array


class Toy:
    """In place of a training run: compiles at once, and sorts 64 KiB of noise, which XLA cannot do without memory.

    Run number n has `lengths[n % len(lengths)]` epochs.
    """

    def __init__(self, lengths=(1,)):
        self.traces, self.lengths = 0, jnp.asarray(lengths)

    def init(self, data, fold, key, hyper):
        self.traces += 1
        zero = jnp.zeros((), jnp.int32)
        return ToyState(key, zero, zero, hyper.learning_rate, fold.train.sum(), jnp.zeros(4))

    def epochs(self, data, fold, state, until):
        self.traces += 1
        length = self.lengths[state.number.astype(int) % len(self.lengths)]

        def epoch(state):
            noise = jnp.sort(jax.random.normal(jax.random.fold_in(state.key, state.done), (SIZE,)))
            done = state.done + 1
            status = jnp.where(done == length, CONVERGED, RUNNING)
            return state._replace(done=done, status=status, noise=state.noise + noise[:: SIZE // 4])

        return jax.lax.while_loop(lambda s: (s.status == RUNNING) & (s.done < until), epoch, state)

    def finish(self, data, fold, state):
        return {"number": state.number, "noise": state.noise, "sum": data.sum() + state.rows, "done": state.done}


def toy_run(lengths=(1,)) -> Run:
    toy = Toy(lengths)
    return Run(toy.init, toy.epochs, toy.finish)


DATA = jnp.ones(7)


def expected(runs: Runs, lengths=(1,)):
    run = jax.jit(toy_run(lengths).whole)
    results = [run(DATA, *jax.tree.map(lambda x, i=number: x[i], runs)) for number in range(len(runs.key))]
    return jax.tree.map(lambda *x: np.stack(x), *results)


def run_all(plan, runs):
    """How many runs ended together, each time, and all results."""
    chunks = list(plan.run(DATA, runs))
    for numbers, result in chunks:
        assert {len(leaf) for leaf in jax.tree.leaves(result)} == {len(numbers)}
    return [len(numbers) for numbers, _ in chunks], in_order(chunks)


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
def test_slots_of_a_wanted_number(num, per_device, num_devices, sizes):
    said, toy, runs = [], Toy(), toy_runs(num)
    devices = jax.local_devices()[:num_devices]
    plan = compile_sweep(
        Run(toy.init, toy.epochs, toy.finish),
        DATA,
        runs,
        per_device=per_device,
        devices=devices,
        memory=GIB,
        log=said.append,
    )
    traces = toy.traces
    found, result = run_all(plan, runs)
    assert found == sizes
    assert toy.traces == traces  # what was compiled served every slot
    assert said == []
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)


def test_a_single_slot_compiles_no_choice_between_states():
    plan = compile_sweep(toy_run(), DATA, toy_runs(3), devices=jax.local_devices()[:1], per_device=1, memory=GIB)
    new, old = object(), object()  # a compiled program would refuse both
    assert plan.programs.choose(None, np.array([[True]]), new, old) is new
    assert plan.programs.choose(None, np.array([[False]]), new, old) is old


def test_a_sweep_that_does_not_fit_is_cut_and_says_so():
    said, toy, runs = [], Toy(), toy_runs(10)
    one = jax.local_devices()[:1]
    whole = compile_sweep(toy_run(), DATA, runs, per_device=10, devices=one, memory=GIB)
    assert whole.num_bytes > 10 * 4 * SIZE
    memory = 0.72 * whole.num_bytes  # seven would fit, in two calls: five and five are as fast
    plan = compile_sweep(
        Run(toy.init, toy.epochs, toy.finish), DATA, runs, per_device=10, devices=one, memory=memory, log=said.append
    )
    assert plan.layout.per_device == 5
    assert plan.num_bytes <= memory
    traces = toy.traces
    sizes, result = run_all(plan, runs)
    assert sizes == [5, 5]
    assert toy.traces == traces
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert said == [
        f"10 models at once need about {whole.num_bytes / GIB:.2f} GiB a device, which has {memory / GIB:.2f} GiB: "
        "10 models are trained, 5 at a time."
    ]


def test_a_cut_sweep_with_more_runs_than_slots_hold_evenly():
    runs, said = toy_runs(11), []
    devices = jax.local_devices()[:2]
    whole = compile_sweep(toy_run(), DATA, runs, per_device=6, devices=devices, memory=GIB)
    # Two devices of a CPU share its memory: each has half of it.
    plan = compile_sweep(
        toy_run(), DATA, runs, per_device=6, devices=devices, memory=2 * 0.4 * whole.num_bytes, log=said.append
    )
    sizes, result = run_all(plan, runs)
    assert sizes == [4, 4, 3]
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert "12 models at once" in said[0]
    assert said[0].endswith("11 models are trained, 4 at a time.")


def test_too_little_memory_for_all_devices_of_a_cpu_uses_fewer():
    runs, said = toy_runs(8), []
    one = compile_sweep(toy_run(), DATA, runs, devices=jax.local_devices()[:1], memory=GIB)
    plan = compile_sweep(
        toy_run(), DATA, runs, devices=jax.local_devices(), memory=3.5 * one.num_bytes, log=said.append
    )
    assert plan.layout.num_slots == 3
    sizes, result = run_all(plan, runs)
    assert sizes == [3, 3, 2]
    chex.assert_trees_all_close(result, expected(runs), rtol=1e-6)
    assert said[0].endswith("8 models are trained, 3 at a time.")


def test_too_little_memory_for_all_threads_uses_fewer(monkeypatch):
    monkeypatch.setattr(sweep_memory, "num_cores", lambda: 6)
    toy, runs, said, one = Toy(), toy_runs(8), [], jax.local_devices()[:1]
    run = Run(toy.init, toy.epochs, toy.finish)
    whole = compile_sweep(run, DATA, runs, devices=one, memory=GIB)
    assert whole.layout.num_slots == 6
    traces = toy.traces
    plan = compile_sweep(run, DATA, runs, devices=one, memory=3.5 * whole.num_bytes, log=said.append)
    assert toy.traces == 2 * traces  # one program, whatever the number of threads
    assert plan.layout.num_slots == 3
    chex.assert_trees_all_close(run_all(plan, runs)[1], expected(runs), rtol=1e-6)
    assert said[0].endswith("8 models are trained, 3 at a time.")


def test_a_model_too_large_alone_is_tried_all_the_same():
    runs, said = toy_runs(2), []
    plan = compile_sweep(toy_run(), DATA, runs, memory=1000.0, log=said.append)
    sizes, _ = run_all(plan, runs)
    assert sizes == [1, 1]
    assert re.search(r"trained, 1 at a time, although even that needs 0.00 GiB\.$", said[0])


def test_a_cut_sweep_of_training_runs_equals_a_loop(zero_fill_setup):
    # On two devices two vmapped together, where three were wanted: four slots for five runs.
    setup, said, devices = zero_fill_setup, [], jax.local_devices()[:2]
    runs = stack_runs(setup.folds, [1, 4, 2, 0, 3], [0, 0, 7, 1, 2], [setup.hyper] * 5)
    whole = compile_sweep(setup.parts, setup.data, runs, per_device=3, devices=devices, memory=64 * GIB)
    memory = 2 * 0.9 * whole.num_bytes  # the two devices of a CPU share it
    plan = compile_sweep(setup.parts, setup.data, runs, per_device=3, devices=devices, memory=memory, log=said.append)
    assert said[0].endswith("5 models are trained, 4 at a time.")
    assert_same_runs(in_order(plan.run(setup.data, runs)), loop(setup, runs))


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
