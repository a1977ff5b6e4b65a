"""Trains many runs in a fixed number of slots: a slot whose run has ended takes the next one.

Runs end after different numbers of epochs. All slots are advanced together by a few epochs, a stretch, and are looked
at in between: no slot waits longer than a stretch for the others, and a long run can be kept on disk on its way.

On an accelerator all slots are one program. On a CPU each core has a slot, and a thread that calls the program for it.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from cmarr_jax.data.device import DeviceCorpus
from cmarr_jax.data.folds import Fold
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


Ended = tuple[list[int], RunResult]
"""Which runs have ended, and their results as numpy arrays `[len(numbers), ...]`."""


def train_in_slots(
    programs: Programs,
    shape: tuple[int, int],
    data: DeviceCorpus,
    runs: Runs,
    kept: Kept | None = None,
    threads: int = 1,
) -> Iterator[Ended]:
    """Trains all runs; each of several processes does its part of them, and gets the results of all.

    Args:
      programs: Compiled for these shapes.
      shape: Devices of this process, and slots of each.
      data: The corpus, on the devices.
      runs: The arguments of all runs, `[R, ...]`.
      kept: States of earlier calls, with one process only.
      threads: How many threads have such slots, with one process only.

    Yields:
      What has ended. The devices go on meanwhile.
    """
    waiting = deque(range(jax.process_index(), len(runs.key), jax.process_count()))
    stopped = threading.Event()
    parts = [_train(programs, shape, data, runs, waiting, stopped, kept) for _ in range(threads)]
    yield from parts[0] if threads == 1 else _together(parts, stopped)


def _together(parts: list[Iterator[Ended]], stopped: threading.Event) -> Iterator[Ended]:
    """The items of several iterators as they come, each computed in a thread of its own."""
    found: queue.SimpleQueue[Ended | BaseException | None] = queue.SimpleQueue()

    def compute(part: Iterator[Ended]) -> None:
        try:
            for item in part:
                found.put(item)
            found.put(None)
        except BaseException as error:
            found.put(error)

    threads = [threading.Thread(target=compute, args=(part,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    try:
        left = len(threads)
        while left:
            item = found.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                left -= 1
            else:
                yield item
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _train(
    programs: Programs,
    shape: tuple[int, int],
    data: DeviceCorpus,
    runs: Runs,
    waiting: deque[int],
    stopped: threading.Event,
    kept: Kept | None,
) -> Iterator[Ended]:
    """Trains runs that wait, which other threads take from too, until there are none or it is to stop."""
    slots = np.full(shape[0] * shape[1], -1)  # the run in each slot
    arguments = lambda: jax.tree.map(lambda x: x[np.maximum(slots, 0).reshape(shape)], runs)
    states, ended = None, None
    done, stretch, saved = np.zeros(len(slots), int), 1, time.monotonic()
    while not stopped.is_set():
        fresh = _fill(slots, done, waiting)
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
        ended = _results(programs, data, own.fold, states, np.where(over, slots, -1))
        slots[over] = -1
        if not gather(np.array([(slots >= 0).any() or bool(waiting)])).any():
            break
        if kept is not None and time.monotonic() - saved >= kept.every:
            for slot, state in _on_host(states, np.flatnonzero(slots >= 0)):
                kept.save(int(slots[slot]), state)
            saved = time.monotonic()
    if ended is not None:
        yield ended


def _fill(slots: np.ndarray, done: np.ndarray, waiting: deque[int]) -> np.ndarray:
    """Gives free slots the next runs, and returns which slots these are; `slots` and `done` are changed."""
    fresh = np.zeros(len(slots), bool)
    for slot in np.flatnonzero(slots < 0):
        try:
            slots[slot] = waiting.popleft()
        except IndexError:  # another thread may have taken the last one just now
            break
        fresh[slot], done[slot] = True, 0
    return fresh


def _results(programs: Programs, data: DeviceCorpus, fold: Fold, states: RunState, own: np.ndarray) -> Ended | None:
    """The results of the runs that have ended in any process; `own` are this one's by slot, -1 for none."""
    numbers = gather(own)
    places = np.flatnonzero(numbers >= 0)
    if not len(places):
        return None
    results = gather(programs.finish(data, fold, states))
    return numbers[places].tolist(), jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[places], results)


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
