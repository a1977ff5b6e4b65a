"""Starting an experiment: a second start compiles nothing, and the time to the first step is told."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from experiments.jax_setup import (
    CPU_COMPILE,
    StartUp,
    default_cache_folder,
    keep_compiled_programs,
    user_errors_as_messages,
)

ROOT = Path(__file__).parent.parent
COUNTED = """
import collections, jax
from experiments.reproduce import run_command
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: counts.update([event.split("/")[-1]]))
run_command()
print("asked, found, compiled:", *(counts[e] for e in ("compile_requests_use_cache", "cache_hits", "cache_misses")))
"""


def run_counted(*options: str, cache: Path) -> tuple[str, tuple[int, ...]]:
    """Output of a smoke run, and JAX's counts: programs asked for, found in the cache, compiled and written to it."""
    command = [sys.executable, "-c", COUNTED, "--smoke", "--methods", "zero_fill", *options]
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    env.pop("JAX_COMPILATION_CACHE_DIR")  # that of the tests
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning about what was read from the cache
    counts = re.search(r"asked, found, compiled: (\d+) (\d+) (\d+)", done.stdout)
    return done.stdout, tuple(int(number) for number in counts.groups())


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_archive(path, make_corpus(sequences=(), sessions=2))
    return path


def test_a_second_start_compiles_nothing(archive, tmp_path):
    first, (asked, found, compiled) = run_counted("--data", str(archive), "--out", str(tmp_path / "1"), cache=tmp_path)
    assert (found, compiled) == (0, asked)
    assert len(list((tmp_path / "cmarr_jax" / "xla").glob("*-cache"))) == asked > 10
    pattern = (
        r"First step after \d+\.\d s: imports \d+\.\d s, data \d+\.\d s, compiling \d+\.\d s \(cache: (\d+) of (\d+) "
    )
    assert re.search(pattern, first)[1] == "0"
    second, counts = run_counted("--data", str(archive), "--out", str(tmp_path / "2"), cache=tmp_path)
    assert counts == (asked, asked, 0)
    match = re.search(pattern, second)
    assert match[1] == match[2]
    results = [(tmp_path / name / "results.jsonl").read_text() for name in "12"]
    assert results[0] == results[1]


@pytest.fixture
def jax_config():
    names = (
        "jax_compilation_cache_dir", "jax_enable_compilation_cache", "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )  # fmt: skip
    values = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in values.items():
        jax.config.update(name, value)


def test_the_cache_can_be_turned_off(tmp_path):
    code = """
import jax
from experiments.jax_setup import StartOptions, StartUp, set_up_jax
set_up_jax(StartOptions(compilation_cache=False), one_cpu_device_per_core=False)
start_up = StartUp()
jax.jit(lambda x: x + 1)(2.0)
print(start_up.text())
"""
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    env.pop("JAX_COMPILATION_CACHE_DIR")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=True)
    assert done.stdout.endswith("(without cache).\n")
    assert not (tmp_path / "cmarr_jax").exists()


def test_where_compiled_programs_are_kept(tmp_path, monkeypatch, jax_config):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "cmarr_jax" / "xla")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jax")
    keep_compiled_programs(tmp_path / "mine")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache_folder() == Path.home() / ".cache" / "cmarr_jax" / "xla"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, jax_config):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write compiled programs to .*file; name another folder or turn"):
        keep_compiled_programs(tmp_path / "file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    keep_compiled_programs()  # not asked for: a home folder that is read-only is no reason to stop
    assert not jax.config.jax_enable_compilation_cache


@pytest.mark.parametrize("name", CPU_COMPILE)
def test_this_version_of_jax_knows_the_compile_options(name):
    assert jax.jit(lambda x: x + 1, compiler_options=CPU_COMPILE[name])(1.0) == 2.0


def test_time_to_the_first_step(monkeypatch):
    start_up = StartUp()
    began = start_up.parts["imports"]
    assert began > 0  # since the start of this process
    now = [began + 2.0]
    monkeypatch.setattr(start_up, "seconds", lambda: now[0])
    start_up.lap("data")
    now[0] += 3.0
    start_up.lap("compiling")
    assert start_up.parts == pytest.approx({"imports": began, "data": 2.0, "compiling": 3.0})
    start_up.counts.update({"compile_requests_use_cache": 9, "cache_hits": 4, "cache_misses": 3})
    total = f"First step after {began + 5:.1f} s: imports {began:.1f} s, "
    assert start_up.text() == total + "data 2.0 s, compiling 3.0 s (cache: 4 of 7 programs found)."


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "no space"), "a file of the output folder cannot be written (No space left on device)"),
        (PermissionError(errno.EACCES, "no", "out/table.md"), "out/table.md cannot be written (Permission denied)"),
        (FileNotFoundError(errno.ENOENT, "gone", "x.npz"), "[Errno 2] gone: 'x.npz'"),
    ],
)
def test_a_disk_that_takes_nothing_is_one_sentence(capsys, error, sentence):
    with pytest.raises(SystemExit), user_errors_as_messages(OSError):
        raise error
    assert capsys.readouterr().err.startswith(f"error: {sentence}")
