"""CM-ARR in JAX: emotion recognition from several modalities when some of them are missing.

After the published description in arXiv 2407.09029. `import cmarr_jax` loads nothing else; `cmarr_jax.losses` is loaded
at its first use, with jax and chex, but without distrax, tensorflow-datasets or Orbax.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmarr_jax import losses as losses

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """Imports `losses` when it is first asked for: archives are read and checked without loading JAX."""
    if name == "losses":
        return importlib.import_module("cmarr_jax.losses")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "losses"})
