"""Someone who wants one loss gets jax and chex, and nothing that is heavy."""

import subprocess
import sys

import pytest

import cmarr_jax

HEAVY = ("distrax", "tensorflow_probability", "tensorflow_datasets", "tensorflow", "orbax", "flax", "optax", "sklearn")


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import cmarr_jax", (*HEAVY, "jax", "chex", "numpy")),
        ("import cmarr_jax; cmarr_jax.losses.squared_w2", HEAVY),
        ("from cmarr_jax import losses", HEAVY),
        ("import cmarr_jax.losses", HEAVY),
    ],
)
def test_imports_are_light(code, unwanted):
    code = f"{code}; import sys; print([name for name in {unwanted!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_attribute_errors():
    assert "losses" in dir(cmarr_jax)
    with pytest.raises(AttributeError, match="no attribute 'lossses'"):
        cmarr_jax.lossses  # noqa: B018


def test_all_names_exist_and_have_docstrings():
    assert list(cmarr_jax.losses.__all__) == sorted(cmarr_jax.losses.__all__)
    for name in cmarr_jax.losses.__all__:
        doc = getattr(cmarr_jax.losses, name).__doc__
        sections = ("Attributes:",) if name == "MaskedLoss" else ("Args:", "Returns:", "Raises:", "Examples:")
        for section in sections:
            assert section in doc, name


def test_a_distrax_that_cannot_be_imported_is_told_in_a_sentence(tmp_path):
    # A stable tensorflow-probability beside the nightly fails with errors of many types, this one among them.
    (tmp_path / "distrax.py").write_text("raise AttributeError('module jax.interpreters.xla has no attribute')")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cmarr_jax.nn.flow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: distrax cannot be imported (AttributeError: module jax.interpreters.xla has")
    assert "pip uninstall tensorflow-probability" in last
