"""Eight CPU devices, strict shapes, no network: set before JAX starts. Runs and a data set that several files share."""

import gc
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

# The programs are tiny, so nearly all of the time goes into compiling them. LLVM's optimisations and XLA's newer code
# for fused loops are switched off, because both take longer to compile.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    + " --xla_llvm_disable_expensive_passes=true"
)
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones end the process at a flag that they lack
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ["JAX_PLATFORMS"] = "cpu"
# What one test has compiled, another one reads: also in another pytest worker, and in processes that a test starts.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.setdefault(
    "CMARR_JAX_TESTS_COMPILED", os.path.join(tempfile.gettempdir(), f"cmarr_jax_tests_{os.getpid()}")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import warnings

import jax
import pytest

with warnings.catch_warnings():  # importing tfp, which distrax needs, touches deprecated names of JAX: not ours to mend
    warnings.simplefilter("ignore")
    import distrax  # noqa: F401

import tiny

jax.config.update("jax_numpy_rank_promotion", "raise")


MOST_MAPS = 30_000  # areas of memory; Linux allows a process 65,530 (vm.max_map_count)


@pytest.fixture(scope="module", autouse=True)
def few_maps():
    """Compiled programs hold areas of memory. Thousands of tests reach the limit, and LLVM then ends the process."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Deletes the compiled programs, once all workers have ended: only in the process that named their folder."""
    folder = os.environ["CMARR_JAX_TESTS_COMPILED"]
    if folder.endswith(f"_{os.getpid()}"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cm_arr_setup() -> tiny.Setup:
    """A corpus with all three kinds of encoders, its folds, and CM-ARR's run, compiled once."""
    return tiny.make_setup("cm_arr", tiny.make_corpus(sequences=("audio", "text"), absent=0.2))


@pytest.fixture(scope="session")
def zero_fill_setup() -> tiny.Setup:
    """As `cm_arr_setup`, for the baseline, which compiles faster."""
    return tiny.make_setup("zero_fill", tiny.make_corpus(sequences=("text",), absent=0.2))


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A corpus with frames and vectors and absent entries, and the folder of its data set."""
    from streamed_data import make_data_set  # imports tfds, which most tests do without

    return make_data_set(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="session")
def data_set(made):
    """That data set, open."""
    from cmarr_jax.data.streamed import open_data_set

    return open_data_set(made[1])
