"""How numbers were made: commit, versions, devices."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax

from cmarr_jax.training.parallel import num_cores

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "distrax",
    "tfp-nightly",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
    "scikit-learn",
)


def commit() -> str:
    """The commit of this checkout, `-dirty` with changes; `unknown` outside a checkout or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # no git, as in many containers
        return "unknown"
    return done.stdout.strip() or "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def device_text() -> str:
    """Kind and number of devices, or of a CPU's cores: `2 x cpu`; and of processes if there are several."""
    threaded = jax.device_count() == 1 and jax.default_backend() == "cpu"
    count = num_cores() if threaded else jax.device_count()
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{count} x {jax.local_devices()[0].device_kind}{processes}"
