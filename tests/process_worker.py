"""One of two processes: `process_worker.py PORT NUM_PROCESSES PROCESS_ID TASK OUT`. Started by test_processes.py."""

import dataclasses
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tiny

from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.parallel import make_parallel_eval_step, make_parallel_train_step, replicate, split_batch
from cmarr_jax.training.processes import end_together, first_process_first, gather, is_first, smallest, start
from cmarr_jax.training.step import first_state

STEPS, ROWS = 4, 14


def train(devices=None, part=slice(None), num_parts=None):
    """A few data-parallel steps and an evaluation, of this part of a batch that does not divide by the devices."""
    modalities = tuple(dataclasses.replace(modality, encoder="vector") for modality in tiny.MODALITIES)  # soon compiled
    config = tiny.run_config(modalities, learning_rate=3e-3)
    method, batch = make_method(config), tiny.make_batch(modalities, size=ROWS)
    split = jax.tree.map(lambda x: x[part], split_batch(batch, num_parts or len(devices)))
    params = tiny.random_params(method.init, batch)
    state = replicate(first_state(method, config.train, params), devices)
    step = make_parallel_train_step(method, config.train, devices)
    losses, hyper = [], hyperparameters_of(config)
    hyper = hyper._replace(weights={**hyper.weights, **method.stages[0].weights})
    for number in range(STEPS):
        key = jax.random.fold_in(jax.random.key(0), number)
        state, aux = step(state, split, key, False, hyper)
        losses.append(float(aux["loss"]))
    evaluation, _ = make_parallel_eval_step(method, devices)(state.params, split)
    return {
        "losses": losses,
        "counts": evaluation.counts,
        "norm": float(np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(state.params)))),
    }


def data_parallel(out: Path) -> None:
    """Each process has its devices' part of one batch."""
    index, local = jax.process_index(), jax.local_device_count()
    result = train(part=slice(index * local, (index + 1) * local), num_parts=jax.device_count())
    np.savez(out / f"process{index}.npz", **result)


def exchange(out: Path) -> None:
    """What processes tell each other, and who writes and prints."""
    index = jax.process_index()
    order = out / "order"

    def make():
        time.sleep(0.5 if is_first() else 0.0)
        with order.open("a") as file:
            file.write(f"{index}\n")
        return order.read_text()

    assert first_process_first(make).startswith("0\n")
    np.testing.assert_array_equal(gather({"x": np.array([index, 10])})["x"], [0, 10, 1, 10])
    assert smallest(3.0 - index) == 2.0
    if is_first():
        print("only the first speaks")


def fail(out: Path) -> None:
    """One process fails while the other waits for it."""
    if jax.process_index() == 1:
        raise ValueError("a fault of process 1")
    gather(np.zeros(1))


if __name__ == "__main__":
    port, num_processes, process_id, task, folder = sys.argv[1:]
    # Joining included, as the commands do it: the other may end while this one still meets it, and a process that fails
    # outside would wait for the other's heartbeat.
    with end_together():
        start(f"127.0.0.1:{port}", int(num_processes), int(process_id))
        {"data_parallel": data_parallel, "exchange": exchange, "fail": fail}[task](Path(folder))
