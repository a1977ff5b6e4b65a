"""Someone who wants one loss gets jax and chex, and nothing that is heavy."""

import subprocess
import sys

import cmarr_jax.losses

HEAVY = ("distrax", "tensorflow_probability", "tensorflow_datasets", "tensorflow", "orbax", "flax", "optax", "sklearn")


def test_losses_import_is_light():
    code = f"import sys, cmarr_jax.losses; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_exist_and_have_docstrings():
    assert list(cmarr_jax.losses.__all__) == sorted(cmarr_jax.losses.__all__)
    for name in cmarr_jax.losses.__all__:
        doc = getattr(cmarr_jax.losses, name).__doc__
        for section in ("Args:", "Returns:", "Raises:"):
            assert section in doc, name
