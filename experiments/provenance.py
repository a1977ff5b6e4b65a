"""How numbers were made: commit, versions, devices."""

import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import jax

import cmarr_jax
from cmarr_jax.cores import num_cores

CHECKOUT, LIBRARY = Path(__file__).parent, Path(cmarr_jax.__file__).parent
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


@functools.cache  # of the code that this process has loaded, whatever is edited meanwhile
def commit() -> str:
    """The commit of this checkout; outside a checkout or without git `unknown-` and a hash of the code.

    With changes `-dirty` and a hash of them follow, so that two states of a changed checkout are told apart. Files that
    git does not know are not in it.
    """
    found = (
        _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").decode().strip()
        or f"unknown-{_code_hash()}"
    )
    if not found.endswith("-dirty"):
        return found
    changes = _git("diff", "--binary", "--no-color", "--no-ext-diff", "HEAD")
    return f"{found}-{hashlib.sha256(changes).hexdigest()[:8]}"


def _code_hash() -> str:
    """Of the Python files of `cmarr_jax` and `experiments`."""
    files = sorted(path for folder in (CHECKOUT, LIBRARY) for path in folder.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _git(*words: str) -> bytes:
    """What git prints; nothing if it fails or is not there, as in many containers."""
    try:
        return subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, check=False).stdout
    except OSError:
        return b""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version()}


def device_text() -> str:
    """Number and kind of devices, of a CPU its cores and model: `2 x cpu (AMD EPYC)`; and the processes, if several."""
    on_cpu = jax.default_backend() == "cpu"
    threaded = jax.device_count() == 1 and on_cpu
    count = num_cores() if threaded else jax.device_count()
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    model = f" ({cpu_name()})" if on_cpu else ""
    return f"{count} x {jax.local_devices()[0].device_kind}{model}{processes}"


def cpu_name() -> str:
    """Model of the processor, as the system names it, without commas (`config.json` puts one between two devices)."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else platform.processor() or platform.machine()).replace(",", "")
