"""`Predictor` from the installed wheel, away from the checkout, on a unit that was made before."""

import sysconfig

import numpy as np
from predict_units import corpus_of, features_of, make_unit
from test_wheel import installed, run  # noqa: F401  (a fixture)

from cmarr_jax.predict import Predictor

SCRIPT = """
import pathlib, sys
folder, packages, unit, arrays = sys.argv[1:]
sys.path[:0] = [folder, packages]
sys.modules.update(dict.fromkeys(["experiments", "data_prep", "tensorflow_datasets", "sklearn", "matplotlib", "tyro"]))
import numpy as np
import cmarr_jax.predict
assert pathlib.Path(cmarr_jax.__file__).is_relative_to(folder)
with np.load(arrays) as file:
    expected, *rows = file["expected"], {name: file[name] for name in ("audio", "text")}
[answer] = cmarr_jax.predict.Predictor.load(unit).predict(rows)
np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
"""


def test_the_wheel_predicts(installed, tmp_path):  # noqa: F811
    corpus = corpus_of(absent=0.0)
    unit, _ = make_unit(tmp_path, "zero_fill", corpus)
    features = features_of(corpus, 3, (True, False, True))
    [answer] = Predictor.load(unit).predict([features])
    np.savez(tmp_path / "a.npz", expected=answer.probabilities, **features)
    arguments = installed, sysconfig.get_path("purelib"), unit, tmp_path / "a.npz"
    run("-I", "-S", "-c", SCRIPT, *arguments, cwd=installed.parent)
