"""Slots: runs of different lengths keep the devices busy, and go on from what was kept of them."""

import errno
import os
import threading

import chex
import jax
import numpy as np
import pytest
from test_sweep_memory import DATA, expected, toy_run, toy_runs
from tiny import in_order

from cmarr_jax.training import slots, state_file, sweep_memory
from cmarr_jax.training.disk import DiskError
from cmarr_jax.training.slots import Kept
from cmarr_jax.training.state_file import delete_states, load_newest_state, load_state, save_state
from cmarr_jax.training.sweep import stack_runs
from cmarr_jax.training.sweep_memory import GIB, compile_sweep

LENGTHS = (7, 1, 2, 3, 1)


@pytest.fixture
def two_slots():
    runs = toy_runs(9)
    plan = compile_sweep(toy_run(LENGTHS), DATA, runs, devices=jax.local_devices()[:2], memory=GIB)
    return plan, runs


def one_epoch_at_a_time(monkeypatch):
    monkeypatch.setattr(slots, "STRETCH", 0.0)


def test_a_slot_takes_the_next_run_when_its_own_has_ended(two_slots, monkeypatch):
    one_epoch_at_a_time(monkeypatch)
    plan, runs = two_slots
    chunks = list(plan.run(DATA, runs))
    # By hand: run 0 has 7 epochs; beside it end 1 (after 1 epoch), 2 (3), 3 (6); 4 and 0 together (7); then 5 has 7,
    # beside it 6 (1), 7 (3), 8 (6).
    assert [numbers for numbers, _ in chunks] == [[1], [2], [3], [0, 4], [6], [7], [8], [5]]
    chex.assert_trees_all_close(in_order(chunks), expected(runs, LENGTHS), rtol=1e-6)


def test_the_length_of_a_stretch_changes_no_bit(two_slots, monkeypatch):
    plan, runs = two_slots
    results = []
    for seconds in (0.0, 1e-4, 100.0):
        monkeypatch.setattr(slots, "STRETCH", seconds)
        results.append(in_order(plan.run(DATA, runs)))
    chex.assert_trees_all_equal(*results)


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr(sweep_memory, "num_cores", lambda: 3)
    runs = toy_runs(9)
    plan = compile_sweep(toy_run(LENGTHS), DATA, runs, devices=jax.local_devices()[:1], memory=GIB)
    assert plan.layout.threads == plan.layout.num_slots == 3
    return plan, runs


def test_threads_share_the_runs(three_threads, monkeypatch):
    one_epoch_at_a_time(monkeypatch)
    plan, runs = three_threads
    before, seen, all_begin = threading.active_count(), set(), threading.Barrier(3, timeout=60)

    def load(*_):
        if threading.get_ident() not in seen:  # its first run: each thread has one before any has a second one
            seen.add(threading.get_ident())
            all_begin.wait()

    chunks = list(plan.run(DATA, runs, Kept(load, lambda *_: None, every=1e9)))
    assert sorted(numbers for numbers, _ in chunks) == [[number] for number in range(9)]
    assert len(seen) == 3
    assert threading.active_count() == before
    chex.assert_trees_all_close(in_order(chunks), expected(runs, LENGTHS), rtol=1e-6)


def test_a_fault_in_one_thread_ends_the_others(three_threads, monkeypatch):
    one_epoch_at_a_time(monkeypatch)
    plan, runs = three_threads
    before = threading.active_count()

    def save(number, state):
        if number == 5:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        list(plan.run(DATA, runs, Kept(lambda *_: None, save, every=0.0)))
    assert threading.active_count() == before


def test_a_caller_that_stops_ends_the_threads(three_threads):
    plan, runs = three_threads
    before = threading.active_count()
    found = plan.run(DATA, runs)
    next(found)
    found.close()
    assert threading.active_count() == before


def test_a_stopped_sweep_goes_on_from_what_was_kept(two_slots, monkeypatch, tmp_path):
    one_epoch_at_a_time(monkeypatch)
    plan, runs = two_slots
    path = lambda number: tmp_path / f"{number}.npz"
    loaded = []

    def load(number, like):
        state = load_state(path(number), like)
        loaded.append((number, None if state is None else int(state.done)))
        return state

    kept = Kept(load, lambda number, state: save_state(path(number), state), every=0.0)
    begun, finished = plan.run(DATA, runs, kept), []
    for _ in range(3):  # 1, 2 and 3 have ended, 0 has had 6 epochs and 4 none
        finished.append(next(begun))
    begun.close()
    rest = [number for number in range(9) if number not in {n for numbers, _ in finished for n in numbers}]
    loaded.clear()
    kept = Kept(lambda number, like: load(rest[number], like), kept.save, every=1e9)
    chosen = jax.tree.map(lambda x: x[np.array(rest)], runs)
    others = [([rest[n] for n in numbers], result) for numbers, result in plan.run(DATA, chosen, kept)]
    assert loaded[0] == (0, 6)
    assert dict(loaded)[5] is None
    chex.assert_trees_all_equal(in_order([*finished, *others]), in_order(plan.run(DATA, runs)))


def test_training_goes_on_with_the_same_bits(zero_fill_setup, monkeypatch, tmp_path):
    one_epoch_at_a_time(monkeypatch)
    setup = zero_fill_setup
    runs = stack_runs(setup.folds, [1, 4, 2], [0, 0, 7], [setup.hyper] * 3)
    plan = compile_sweep(setup.parts, setup.data, runs, devices=jax.local_devices()[:2], memory=GIB)
    undisturbed = in_order(plan.run(setup.data, runs))
    path = lambda number: tmp_path / f"{number}.npz"
    saved = {}

    def save(number, state):
        save_state(path(number), state)
        saved[number] = int(state.done)

    def stop(number, state):
        save(number, state)
        if saved[number] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(plan.run(setup.data, runs, Kept(lambda number, like: None, stop, every=0.0)))
    assert saved == {0: 2, 1: 1}
    load = lambda number, like: load_state(path(number), like)
    resumed = in_order(plan.run(setup.data, runs, Kept(load, save, every=1e9)))
    chex.assert_trees_all_equal(resumed, undisturbed)


def test_a_damaged_or_foreign_state_is_an_error_that_names_it(tmp_path):
    path, state = tmp_path / "state.npz", {"key": jax.random.key(0), "x": np.arange(3.0)}
    assert load_state(path, state) is None
    save_state(path, state)
    found = load_state(path, state)
    np.testing.assert_array_equal(found["x"], state["x"])
    assert found["key"] == state["key"]
    for other in ({"key": state["key"], "x": np.arange(4.0)}, {"x": state["x"]}, {"key": state["x"], "x": state["x"]}):
        with pytest.raises(ValueError, match=r"state\.npz holds the state of another run"):
            load_state(path, other)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"state\.npz is damaged"):
            load_state(path, state)


@pytest.mark.parametrize("about", ["[]", "3", "null", "{}", '{"format": "1"}', '{"format": []}', '{"format": true}'])
def test_a_state_whose_format_cannot_be_read_is_damaged(tmp_path, about):
    np.savez(tmp_path / "state.npz", np.zeros(3), about=np.array(about))
    with pytest.raises(ValueError, match=r"state\.npz is damaged \(about is "):
        load_state(tmp_path / "state.npz", {"x": np.zeros(3)})


def test_the_state_before_a_damaged_one_is_used(tmp_path):
    path, like, said = tmp_path / ".run.state.npz", {"x": np.zeros(3)}, []
    find = lambda: load_newest_state(path, like, said.append)
    assert find() is None
    for number in (1.0, 2.0, 3.0):
        save_state(path, {"x": np.full(3, number)})
    assert find()["x"][0] == 3
    assert said == []
    path.write_bytes(path.read_bytes()[:-30])
    assert find()["x"][0] == 2
    assert said[0].startswith(f"{path} is damaged (")
    assert said[1:] == [f"{path}.before is used."]
    path.unlink()  # killed between the two renamings
    assert find()["x"][0] == 2
    (tmp_path / ".run.state.npz.before").write_text("nothing")
    assert find() is None
    assert said[-1] == f"{path}: no state can be read; this run begins anew."
    delete_states(path)
    assert not list(tmp_path.iterdir())


def test_a_state_of_a_newer_version_is_named(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    with monkeypatch.context() as patch:
        patch.setattr(state_file, "FORMAT", 2)
        save_state(path, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match=r"written by a newer version \(format 2, this one reads 1\)"):
        load_state(path, {"x": np.zeros(3)})
    np.savez(path, np.zeros(3))  # of something else
    with pytest.raises(ValueError, match="holds the state of another run"):
        load_state(path, {"x": np.zeros(3)})


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make its folder writable")]
)
def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch, number, advice):
    path, like = tmp_path / ".run.state.npz", {"x": np.zeros(3)}
    save_state(path, like)

    def half(file, *_, **__):
        file.write(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(
        DiskError, match=rf"\.run\.state\.npz cannot be written \(.*\); {advice}, or name another folder"
    ):
        save_state(path, {"x": np.ones(3)})
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert load_state(path, like)["x"][0] == 0
