"""Trains many runs in a fixed number of slots: a slot whose run has ended takes the next one.

Runs end after different numbers of epochs. All slots are advanced together by a few epochs, a stretch, and are looked
at in between: no slot waits longer than a stretch for the others, and a long run can be kept on disk on its way.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.training.processes import gather
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import RUNNING, RunState
from cmarr_jax.training.sweep import Runs

STRETCH = 2.0  # seconds: long enough that looking at the slots costs nothing, short against a run


class Programs(NamedTuple):
    """Compiled programs over all slots of this process; leaves are `[devices, slots of a device, ...]`.

    Attributes:
      init: `(data, runs) -> states`.
      epochs: `(data, fold, states, until) -> states`; the states that go in are donated.
      finish: `(data, fold, states) -> RunResult`.
      choose: `(anything, fresh, new, states) -> states`, `new` where `fresh`.
    """

    init: Any
    epochs: Any
    finish: Any
    choose: Any


class Kept(NamedTuple):
    """Where states of unfinished runs are kept, so that they go on after the program was stopped.

    Attributes:
      load: `(number of the run, a state of the same shapes) -> state or None`; numpy arrays, typed keys.
      save: `(number, state)`.
      every: Seconds between two savings.
    """

    load: Callable[[int, RunState], RunState | None]
    save: Callable[[int, RunState], None]
    every: float


def train_in_slots(
    programs: Programs, shape: tuple[int, int], data: DeviceCorpus, runs: Runs, kept: Kept | None = None
) -> Iterator[tuple[list[int], RunResult]]:
    """Trains all runs; each of several processes does its part of them, and gets the results of all.

    Args:
      programs: Compiled for these shapes.
      shape: Devices of this process, and slots of each.
      data: The corpus, on the devices.
      runs: The arguments of all runs, `[R, ...]`.
      kept: States of earlier calls, with one process only.

    Yields:
      Which runs have ended, and their results as numpy arrays `[len(numbers), ...]`. The devices go on meanwhile.
    """
    waiting = deque(range(jax.process_index(), len(runs.key), jax.process_count()))
    slots = np.full(shape[0] * shape[1], -1)  # the run in each slot
    arguments = lambda: jax.tree.map(lambda x: x[np.maximum(slots, 0).reshape(shape)], runs)
    flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
    states, ended = None, None
    done, stretch, saved = np.zeros(len(slots), int), 1, time.monotonic()
    while True:
        fresh = np.zeros(len(slots), bool)
        for slot in np.flatnonzero(slots < 0)[: len(waiting)]:
            slots[slot], fresh[slot], done[slot] = waiting.popleft(), True, 0
        if states is None or fresh.any():
            own = arguments()
            new = programs.init(data, own)
            states = new if states is None else programs.choose(np.zeros(()), fresh.reshape(shape), new, states)
            if kept is not None:
                states = _restored(states, slots, fresh, done, kept)
        until = np.where(slots >= 0, done + stretch, 0).astype(np.int32).reshape(shape)
        began = time.monotonic()
        states = programs.epochs(data, own.fold, states, until)
        if ended is not None:
            yield ended
            ended = None
        status, now_done = (np.array(x).reshape(-1) for x in jax.device_get((states.status, states.done)))
        if most := int((now_done - done)[slots >= 0].max(initial=0)):
            stretch = max(1, round(STRETCH * most / (time.monotonic() - began)))
        done = now_done
        over = (slots >= 0) & (status != RUNNING)
        numbers = gather(np.where(over, slots, -1))
        if (numbers >= 0).any():
            results = flat(gather(programs.finish(data, own.fold, states)))
            places = np.flatnonzero(numbers >= 0)
            ended = numbers[places].tolist(), jax.tree.map(lambda x, places=places: x[places], results)
            slots[over] = -1
        if not gather(np.array([(slots >= 0).any() or bool(waiting)])).any():
            break
        if kept is not None and time.monotonic() - saved >= kept.every:
            for slot, state in _on_host(states, np.flatnonzero(slots >= 0)):
                kept.save(int(slots[slot]), state)
            saved = time.monotonic()
    if ended is not None:
        yield ended


def _on_host(states: RunState, slots: np.ndarray) -> Iterator[tuple[int, RunState]]:
    """The states of some slots as numpy arrays with typed keys."""
    plain = jax.device_get(states._replace(key=jax.random.key_data(states.key)))
    plain = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), plain)
    for slot in slots:
        state = jax.tree.map(lambda x, slot=slot: x[slot], plain)
        yield int(slot), state._replace(key=jax.random.wrap_key_data(state.key))


def _restored(states: RunState, slots: np.ndarray, fresh: np.ndarray, done: np.ndarray, kept: Kept) -> RunState:
    """The states, with what was kept of the runs that have just begun; `done` is changed to their epochs."""
    found = {}
    for slot, like in _on_host(states, np.flatnonzero(fresh)):
        state = kept.load(int(slots[slot]), like)
        if state is not None:
            found[slot] = state
    if not found:
        return states
    plain = jax.device_get(states._replace(key=jax.random.key_data(states.key)))
    plain = jax.tree.map(np.array, plain)
    for slot, state in found.items():
        done[slot] = state.done
        for all_slots, value in zip(
            jax.tree.leaves(plain), jax.tree.leaves(state._replace(key=jax.random.key_data(state.key))), strict=True
        ):
            all_slots.reshape(-1, *all_slots.shape[2:])[slot] = value
    return plain._replace(key=jax.random.wrap_key_data(plain.key))
