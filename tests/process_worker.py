"""One of two processes: `process_worker.py PORT NUM_PROCESSES PROCESS_ID TASK OUT`. Started by test_processes.py."""

import dataclasses
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tiny

from cmarr_jax.config import TrainConfig
from cmarr_jax.objectives import make_method
from cmarr_jax.parallel import make_parallel_eval_step, make_parallel_train_step, replicate, split_batch
from cmarr_jax.processes import ended_together, first_then_others, gather, is_first, smallest, start
from cmarr_jax.train import make_tx

STEPS, ROWS = 4, 14


def train(devices=None, part=slice(None), num_parts=None):
    """A few data-parallel steps and an evaluation, of this part of a batch that does not divide by the devices."""
    modalities = tuple(dataclasses.replace(modality, encoder="vector") for modality in tiny.MODALITIES)  # soon compiled
    method, config = make_method("cm_arr", tiny.model_config(modalities), TrainConfig()), TrainConfig()
    tx, batch = make_tx(config), tiny.make_batch(modalities, size=ROWS)
    split = jax.tree.map(lambda x: x[part], split_batch(batch, num_parts or len(devices)))
    params = replicate(tiny.random_params(method.init, batch), devices)
    opt_state = replicate(tx.init(params), devices)
    step = make_parallel_train_step(method.loss, tx, config, devices)
    losses, hyper = [], method.stages[0].weights(tiny.HYPER)._replace(learning_rate=3e-3)
    for number in range(STEPS):
        key = jax.random.fold_in(jax.random.key(0), number)
        params, opt_state, aux = step(params, opt_state, split, key, False, hyper)
        losses.append(float(aux["loss"]))
    counts = make_parallel_eval_step(method, len(tiny.CLASSES), 3, devices)(params, split)
    return {
        "losses": losses,
        "counts": counts,
        "norm": float(np.sqrt(sum((x**2).sum() for x in jax.tree.leaves(params)))),
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

    assert first_then_others(make).startswith("0\n")
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
    # outside would wait for the other's heartbeat, 100 s.
    with ended_together():
        start(f"127.0.0.1:{port}", int(num_processes), int(process_id))
        {"data_parallel": data_parallel, "exchange": exchange, "fail": fail}[task](Path(folder))
