"""docs/losses_elsewhere.md: every public loss trains a network of each of four libraries; the losses import little."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import test_wheel

from cmarr_jax import losses

installed = test_wheel.installed  # a fixture, whose folder has the wheel beside it
PAGE = Path(__file__).parent.parent / "docs" / "losses_elsewhere.md"
TRAINERS = ("train_linen", "train_nnx", "train_equinox", "train_haiku")
NAMES = sorted({*losses.__all__} - {"MaskedLoss"})
IMPORT = """
import sys
import jax, jax.numpy, chex
before = set(sys.modules)
import cmarr_jax.losses
print(*sorted(set(sys.modules) - before))
"""
ALONE = """
import importlib.util
import cmarr_jax
assert "site-packages" in cmarr_jax.__file__, cmarr_jax.__file__
assert importlib.util.find_spec("tyro") is None, "an extra is installed, so this shows nothing"
"""


def blocks() -> list[str]:
    """The page's code."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page() -> dict:
    """What the page defines. Its last block trains with everything: the slow test of the wheel runs it."""
    namespace: dict = {"__name__": "page"}
    for block in blocks()[:-1]:
        exec(compile(block, str(PAGE), "exec"), namespace)
    return namespace


def test_the_page_has_every_public_loss(page):
    assert sorted(page["LOSSES"]) == NAMES
    for name in NAMES:
        assert f"losses.{name}(" in PAGE.read_text() or f"(losses.{name})" in PAGE.read_text(), name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_loss_trains_a_network(page, trainer, name):
    values, params = page[trainer](page["LOSSES"][name])
    assert len(values) == page["STEPS"]
    assert np.isfinite(np.asarray(values)).all()
    assert values[-1] < values[0] / 2
    leaves = jax.tree.leaves(params)
    assert len(leaves) == 4  # weights and biases of two layers
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_the_losses_import_nothing_beyond_jax_and_chex():
    # Counted, because seconds depend on what else the machine does. The time of these modules is that of a few files.
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert "cmarr_jax.losses" in names
    assert [name for name in names if not name.startswith("cmarr_jax")] == []
    assert {name.split(".")[1] for name in names if "." in name} == {"losses", "types"}


@pytest.mark.slow
def test_the_page_runs_from_the_wheel_in_an_environment_of_its_own(installed, tmp_path):
    [wheel] = installed.parent.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    test_wheel.run("-m", "venv", tmp_path / "venv", cwd=tmp_path)
    wanted = "--constraint", PAGE.parent.parent / "constraints.txt", wheel, "equinox", "dm-haiku"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, cwd=tmp_path)
    script = tmp_path / "page.py"
    script.write_text("\n".join([ALONE, *blocks()]))
    done = subprocess.run([python, "-I", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^(\w+) +(\w+) +([\d.-]+) -> ([\d.-]+)$", done.stdout, re.MULTILINE)
    assert [row[:2] for row in found] == [(trainer, name) for trainer in TRAINERS for name in NAMES]
    for trainer, name, first, last in found:
        assert float(last) < float(first) / 2, (trainer, name)
