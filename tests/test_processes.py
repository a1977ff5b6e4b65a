"""Two processes on one machine give the results of one: training steps, sweeps, and a table that one of them writes."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import chex
import jax
import numpy as np
import process_worker
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.training import processes
from cmarr_jax.training.checkpoint import load_run
from experiments import reproduce
from experiments.provenance import cpu_name
from experiments.units import read_rows

LOCAL_DEVICES = 2
ROOT = Path(__file__).parent.parent
SECONDS = 150  # after which something hangs


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_two(command) -> list[subprocess.CompletedProcess[str]]:
    """Runs `command(port, process_id)` as two processes of two devices each; none outlives the call."""
    port = free_port()
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(LOCAL_DEVICES)}
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command(port, number), cwd=ROOT, env=env, **pipe) for number in (0, 1)]
    deadline, done = time.monotonic() + SECONDS, []
    try:
        for one in running:
            out, err = one.communicate(timeout=max(deadline - time.monotonic(), 1.0))
            done.append(subprocess.CompletedProcess(one.args, one.returncode, out, err))
    except subprocess.TimeoutExpired:
        for one in running:
            one.kill()
        pytest.fail("\n".join(f"process {n} hangs: {one.communicate()}" for n, one in enumerate(running)))
    return done


def run_worker(task: str, out: Path) -> list[subprocess.CompletedProcess[str]]:
    worker = str(ROOT / "tests" / "process_worker.py")
    return run_two(lambda port, number: [sys.executable, worker, str(port), "2", str(number), task, str(out)])


def assert_ended_well(done: list[subprocess.CompletedProcess[str]]) -> None:
    assert [one.returncode for one in done] == [0, 0], "\n".join(one.stdout + one.stderr for one in done)


GLOO = re.compile(
    r"\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : |\d+|\n"
)


def spoken(done: subprocess.CompletedProcess[str]) -> str:
    """Standard output without what gloo, the transport between CPUs, prints: in pieces, two threads at once."""
    return GLOO.sub("", done.stdout).strip()


def test_two_processes_train_one_model_to_the_losses_of_one(tmp_path):
    assert_ended_well(run_worker("data_parallel", tmp_path))
    expected = process_worker.train(jax.devices()[: 2 * LOCAL_DEVICES])
    assert expected["losses"][-1] < expected["losses"][0]
    assert expected["counts"][-1].sum() == process_worker.ROWS
    for number in (0, 1):  # both get the results of the whole batch
        result = np.load(tmp_path / f"process{number}.npz")
        np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-5)
        np.testing.assert_allclose(result["norm"], expected["norm"], rtol=1e-5)
        np.testing.assert_array_equal(result["counts"], expected["counts"])


def test_what_processes_tell_each_other(tmp_path):
    done = run_worker("exchange", tmp_path)
    assert_ended_well(done)
    assert spoken(done[0]) == "only the first speaks"
    assert spoken(done[1]) == ""
    assert (tmp_path / "order").read_text() == "0\n1\n"


def test_a_fault_of_one_process_ends_both(tmp_path):
    begin = time.monotonic()
    done = run_worker("fail", tmp_path)
    assert time.monotonic() - begin < 60  # at most the heartbeat; JAX alone would wait five minutes
    assert all(one.returncode != 0 for one in done)
    assert "ValueError: a fault of process 1" in done[1].stderr


def test_two_processes_write_the_table_of_one(tmp_path):
    # Six runs over four devices: the second call is filled up.
    archive = tmp_path / "toy.npz"
    write_archive(archive, make_corpus(sequences=(), absent=0.1))
    options = ["--data", str(archive), "--methods", "zero_fill", "--smoke"]

    def command(port, number):
        # A process that wrote would write to a folder of its own, and find that of the other not empty.
        where = ["--coordinator-address", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id", str(number)]
        return [
            sys.executable,
            "-m",
            "experiments.reproduce",
            *options,
            *where,
            "--out",
            str(tmp_path / f"two{number}"),
        ]

    done = run_two(command)
    assert_ended_well(done)
    assert "zero_fill: 6 models" in done[0].stdout
    assert "First step after" in done[0].stdout
    assert "Took" in done[0].stdout
    assert spoken(done[1]) == ""
    assert not (tmp_path / "two1").exists()
    reproduce.main(reproduce.Arguments(data=str(archive), methods=("zero_fill",), smoke=True, out=tmp_path / "one"))
    one, two = read_rows(tmp_path / "one"), read_rows(tmp_path / "two0")
    assert len(one) == 6 * 7
    assert two == one
    name = "zero_fill/speaker3_seed0"
    chex.assert_trees_all_close(
        load_run(tmp_path / "two0" / name).params, load_run(tmp_path / "one" / name).params, rtol=1e-5, atol=1e-6
    )
    config = json.loads((tmp_path / "two0" / "config.json").read_text())
    assert config["devices"] == f"4 x cpu ({cpu_name()}) in 2 processes"


def test_one_process_needs_no_start():
    assert processes.is_first()
    assert processes.first_process_first(lambda: 3) == 3
    assert processes.smallest(2.5) == 2.5
    np.testing.assert_array_equal(processes.gather({"x": jax.numpy.arange(3)})["x"], [0, 1, 2])
    with pytest.raises(ValueError, match=r"^mine$"), processes.end_together():
        raise ValueError("mine")


def test_an_unknown_cluster_is_told_in_one_sentence():
    command = [sys.executable, "-m", "experiments.reproduce", "--distributed", "--no-compilation-cache"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "KUBERNETES"))}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False, timeout=SECONDS)
    assert done.returncode == 2
    assert done.stderr.startswith("error: this process cannot join others (coordinator_address should be defined.)")
    assert done.stderr.count("\n") == 1


def test_what_gloo_prints_is_told_from_what_a_process_says():
    piece = " peer ranks. Expected number of connected peer ranks is : "
    mixed = f"[Gloo] Rank [Gloo] Rank 11 is connected to  is connected to 3{piece}3\n3{piece}\n3\n"
    told = subprocess.CompletedProcess([], 0, f"{mixed}Took 1.2 minutes.\n", "")
    assert spoken(subprocess.CompletedProcess([], 0, mixed, "")) == ""
    assert spoken(told) == "Took . minutes."
