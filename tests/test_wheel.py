"""The wheel: built, installed into an empty folder and imported from there, away from the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "cmarr_jax").rglob("*.py")
)
# Of what the extra `experiments` installs, by import name. Not `rich`, which flax imports itself.
EXTRA = [
    "tensorflow_datasets", "grain", "importlib_resources", "tyro", "scipy", "psutil", "sklearn", "optuna",
    "h5py", "matplotlib", "safetensors", "flatbuffers",
]  # fmt: skip
BASE = ("types", "config", "metrics", "losses", "nn", "methods")  # what a base install has to import
IMPORT = """
import importlib, pathlib, sys
folder, packages, modules, blocked = sys.argv[1:]
sys.path[:0] = [folder, packages]
sys.modules.update(dict.fromkeys(blocked.split(",") if blocked else []))  # None: "import of ... halted"
import cmarr_jax
assert cmarr_jax.losses.masked_mean
for name in modules.split(","):
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).is_relative_to(folder), module.__file__
"""
FIT = """
import pathlib, sys
folder, packages, saved, blocked = sys.argv[1:]
sys.path[:0] = [folder, packages]
sys.modules.update(dict.fromkeys(blocked.split(",")))
import numpy as np
import cmarr_jax
from cmarr_jax.estimator import MissingModalityClassifier
from cmarr_jax.predict import Predictor
assert pathlib.Path(cmarr_jax.__file__).is_relative_to(folder)
y = np.arange(20) % 2
X = {"audio": np.stack([y, 1 - y], axis=1), "text": np.eye(20)}
model = MissingModalityClassifier("zero_fill", embedding=8, max_epochs=1).fit(X, y)
model.save(saved)
[answer] = Predictor.load(saved).predict([{"audio": X["audio"][0]}])
expected = model.predict_proba({"audio": X["audio"][:1]})
np.testing.assert_allclose(answer.probabilities, expected[0], rtol=1e-5)
"""


def run(*command, cwd):
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the wheel was installed into. Built from a copy, so that nothing is written into the checkout."""
    work = tmp_path_factory.mktemp("wheel")
    for name in ("cmarr_jax", "experiments", "data_prep"):  # the last two must not get into the wheel
        shutil.copytree(ROOT / name, work / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "source")
    pip = "-m", "pip", "--quiet", "--disable-pip-version-check"
    offline = "--no-index", "--no-deps"
    run(*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", work, work / "source", cwd=work)
    [wheel] = work.glob("*.whl")
    run(*pip, "install", *offline, "--target", work / "installed", wheel, cwd=work)
    return work / "installed"


def import_from(folder, modules, blocked=()):
    """Imports modules from the folder; -S keeps out the checkout, which an editable install adds to the path."""
    arguments = folder, sysconfig.get_path("purelib"), ",".join(modules), ",".join(blocked)
    run("-I", "-S", "-c", IMPORT, *arguments, cwd=folder.parent)


def test_the_wheel_holds_the_library_and_nothing_else(installed):
    names = {path.name for path in installed.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"cmarr_jax"}
    copied = {path.relative_to(installed) for path in (installed / "cmarr_jax").rglob("*.py")}
    assert copied == {path.relative_to(ROOT) for path in (ROOT / "cmarr_jax").rglob("*.py")}
    assert (installed / "cmarr_jax" / "py.typed").exists()


def test_every_module_imports_from_the_wheel(installed):
    import_from(installed, MODULES)


def test_base_dependencies_suffice_for_losses_networks_and_methods(installed):
    modules = [name for name in MODULES if name.startswith(tuple(f"cmarr_jax.{part}" for part in BASE))]
    assert "cmarr_jax.nn.flow" in modules
    import_from(installed, modules, [*EXTRA, "orbax"])
    with pytest.raises(AssertionError, match=r"halted|not a package"):  # the block works
        import_from(installed, ["cmarr_jax.training.checkpoint"], ["orbax"])


NO_EXTRA = [name for name in EXTRA if name != "scipy"]  # JAX brings scipy


def test_base_dependencies_suffice_for_classifier_regressor_and_predictions(installed):
    modules = [f"cmarr_jax.{name}" for name in ("estimator", "regressor", "predict", "presets")]
    import_from(installed, modules, NO_EXTRA)


def test_the_classifier_of_the_wheel_is_fitted_saved_and_loaded(installed, tmp_path):
    arguments = installed, sysconfig.get_path("purelib"), tmp_path / "model", ",".join(NO_EXTRA)
    run("-I", "-S", "-c", FIT, *arguments, cwd=installed.parent)


def test_the_extra_holds_what_is_blocked_above():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {line.split(">=")[0] for line in project["optional-dependencies"]["experiments"]}
    import_names = {
        "tensorflow-datasets": "tensorflow_datasets",
        "scikit-learn": "sklearn",
    }
    assert {import_names.get(name, name) for name in extra} == {*EXTRA, "rich", "filelock"}
