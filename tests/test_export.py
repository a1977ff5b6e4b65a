"""Exports: any batch and number of frames, the model's outputs, loaded with jax and numpy alone."""

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import numpy as np
import pytest
from predict_units import corpus_of, features_of, make_unit
from tiny import make_batch as make_raw_batch
from tiny import random_params, run_config

from cmarr_jax import export, exported
from cmarr_jax.calibration import Calibration
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.normalizer import identity_normalizer
from cmarr_jax.estimator import MissingModalityClassifier
from cmarr_jax.methods import REGISTRY, make_method
from cmarr_jax.predict import InputRecord, LoadedUnit, Predictor, load_unit
from cmarr_jax.predict_batch import check_utterance, make_batch
from experiments.comparison import cell_intervals
from experiments.export import main
from experiments.model_card import model_card
from experiments.units import read_rows

ALONE = ("jax", "jaxlib", "numpy", "numpy.libs", "ml_dtypes", "opt_einsum", "scipy", "scipy.libs")  # jax and its own
RUN = """
import sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path and "dist-packages" not in path]
sys.path[:0] = sys.argv[1:3]
import importlib.util
for name in ("flax", "chex", "safetensors", "cmarr_jax", "orbax"):
    assert importlib.util.find_spec(name) is None, name
import numpy as np
from load import load
with np.load(sys.argv[3]) as file:
    arrays = dict(file)
part = lambda start: {key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)}
found = load(sys.argv[1])(part("features_"), part("length_"), part("present_"))
for name in ("logits", "probabilities"):
    np.testing.assert_allclose(found[name], arrays[name], rtol=1e-6, atol=1e-6)
print("same", "flatbuffers" in sys.modules)
"""


@pytest.fixture(scope="module")
def corpus():
    return corpus_of()


@pytest.fixture(scope="module")
def unit(corpus, tmp_path_factory):
    return make_unit(tmp_path_factory.mktemp("units"), "cm_arr", corpus)[0]


@pytest.fixture(scope="module")
def folder(unit):
    assert main(["--run", str(unit)]) == 0
    return unit / "export"


@pytest.fixture(scope="module")
def expected(unit, corpus):
    """Arguments of the export, and what `Predictor` says."""
    loaded = load_unit(unit)
    modalities, rows = loaded.config.encoders.modalities, range(20)
    features = [features_of(corpus, row) for row in rows]
    answers = Predictor((loaded,)).predict(features)
    batch = make_batch([check_utterance(one, modalities) for one in features], modalities, loaded.input.max_frames)
    cut = lambda tree: {name: values[: len(rows)] for name, values in tree.items()}
    present = {modality.name: batch.present[: len(rows), column] for column, modality in enumerate(modalities)}
    outputs = {name: np.stack([getattr(answer, name) for answer in answers]) for name in ("logits", "probabilities")}
    return cut(batch.features), cut(batch.length), present, outputs | {"logits": outputs["logits"][:, 0]}


def test_the_export_gives_the_outputs_of_the_model(folder, expected):
    features, length, present, outputs = expected
    model = exported.load(folder)
    for rows in (20, 3):  # any batch
        part = lambda tree, rows=rows: {name: values[:rows] for name, values in tree.items()}
        found = model(part(features), part(length), part(present))
        for name, values in outputs.items():
            np.testing.assert_allclose(found[name], values[:rows], rtol=1e-6, atol=1e-6)
    longer = {name: np.pad(x, ((0, 0), (0, 9), (0, 0)))[:, :] if x.ndim == 3 else x for name, x in features.items()}
    found = model(longer, length, present)  # any number of frames
    np.testing.assert_allclose(found["logits"], outputs["logits"], rtol=1e-6, atol=1e-6)


def test_a_modality_that_is_left_out_is_missing(folder, unit, corpus):
    row = int(np.flatnonzero(corpus.present.all(1))[0])
    [answer] = Predictor.load(unit).predict([features_of(corpus, row, (False, True, False))])
    found = exported.load(folder)({"video": corpus.features["video"][row : row + 1]})
    np.testing.assert_allclose(found["logits"][0], answer.logits[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flatbuffers", [True, False])
def test_it_loads_with_jax_and_numpy_alone(folder, expected, tmp_path, flatbuffers):
    """A folder with nothing else installed; with flatbuffers, JAX's own reader is taken."""
    features, length, present, outputs = expected
    packages = Path(sysconfig.get_path("purelib"))
    (tmp_path / "packages").mkdir()
    for name in (*ALONE, *(["flatbuffers"] if flatbuffers else [])):
        if (packages / name).exists():
            (tmp_path / "packages" / name).symlink_to(packages / name)
    parts = {"features": features, "length": length, "present": present}
    arrays = {f"{part}_{name}": values for part, tree in parts.items() for name, values in tree.items()}
    np.savez(tmp_path / "a.npz", **arrays, **outputs)
    command = [sys.executable, "-I", "-S", "-c", RUN, folder, tmp_path / "packages", tmp_path / "a.npz"]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"same {flatbuffers}\n", done.stderr


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_method_has_a_program_for_all_platforms(name):
    config = run_config(method=name)
    method, modalities = make_method(config), config.encoders.modalities
    params = random_params(method.init, example_batch(modalities), scale=0.1)
    told = InputRecord(("angry", "happy", "neutral", "sad"), None, {})
    unit = LoadedUnit(Path("unit"), config, params, identity_normalizer(modalities), told, Calibration(1.0, ()))
    arguments = exported.specs(export.describe(unit), export.flat_params(unit))
    program = jax.export.export(jax.jit(export.make_program(unit)), platforms=export.PLATFORMS)(*arguments)
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert [str(aval.shape) for aval in program.out_avals] == ["(b, 4)", "(b, 4)"]
    batch = make_raw_batch(modalities, size=5)
    present = batch.present & np.arange(15).reshape(5, 3).astype(bool)
    found = program.call(export.flat_params(unit), dict(batch.features), dict(batch.length), present)
    own = method.predict(params, method.encode(params, batch._replace(present=present)), present)
    np.testing.assert_allclose(found["logits"], own, rtol=1e-6, atol=1e-6)
    assert np.ptp(own) > 0.01  # not all zeros


def test_the_folder_says_what_it_is(folder):
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "model.jax_export", "model.stablehlo", "params.safetensors", "config.json", "load.py", "README.md"
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert [modality["name"] for modality in config["modalities"]] == ["audio", "video", "text"]
    assert (config["max_frames"], config["class_names"][0]) == (6, "angry")
    card = (folder / "README.md").read_text()
    for text in ("# CM-ARR, fold", "## Data", "## Protocol", "## Scores", "| `avt` |", "## Limits", "## Licences"):
        assert text in card


def test_the_card_has_the_intervals_of_the_table(corpus, tmp_path):
    units = [make_unit(tmp_path, "zero_fill", corpus, number=number)[0] for number in range(3)]
    folds = [json.loads((unit / "run.json").read_text())["fold"] for unit in units]
    data = {"name": "toy", "utterances": len(corpus), "sha256": "abc"}
    told = {"data": data, "folds": [{"name": fold, "train": 30, "val": 8, "test": 8} for fold in folds], "commit": "c0"}
    (tmp_path / "config.json").write_text(json.dumps(told | {"methods": {"zero_fill": {}}}))
    card = model_card(load_unit(units[0]))
    found = cell_intervals(tmp_path, read_rows(tmp_path), "average")["zero_fill", "uar", "avt"]
    assert f"{100 * found.mean:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f}) |" in card
    assert np.isfinite(found.low)
    assert "with a 95 % interval over speakers and seeds; nan: too few of them" in card
    for text in ("`toy`, 48 utterances, SHA-256 `abc`", "One of 3 folds; utterances: train 30, val 8, test 8", "`c0`"):
        assert text in card
    untuned, tuned = "dropout and loss weights are the preset's", "dropout and loss weights were, too"
    assert untuned in card
    assert tuned not in card
    (tmp_path / "config.json").write_text(json.dumps(told | {"methods": {"zero_fill": {}}, "tuned": {"zero_fill": {}}}))
    assert tuned in (card := model_card(load_unit(units[0])))
    assert untuned not in card


@pytest.mark.parametrize(("method", "trained"), [("zero_fill", "does not train on"), ("cm_arr", "trains on")])
def test_the_card_says_which_labels_there_were(corpus, tmp_path, method, trained):
    unit = make_unit(tmp_path, method, corpus)[0]
    path = unit / "run.json"
    record = json.loads(path.read_text())
    assert "abelled" not in model_card(load_unit(unit)).partition("## Protocol")[2].partition("## Scores")[0]
    path.write_text(json.dumps(record | {"labels": {"share": 0.25, "train": 8, "val": 4}, "seed": 3}))
    card = model_card(load_unit(unit))
    assert (
        "* Labels: 25 % of those of the training and validation parts, the subset of seed 3: train 8, val 4\n" in card
    )
    assert (
        f"* Unlabelled training utterances: features are standardised with them, too; the method {trained} them" in card
    )
    path.write_text(json.dumps(record))
    fold = {"name": record["fold"], "train": 30, "val": 8, "test": 8, "unlabelled": 7}
    (tmp_path / "config.json").write_text(json.dumps({"folds": [fold], "methods": {method: {}}}))
    card = model_card(load_unit(unit))
    assert "train 30, val 8, test 8, unlabelled 7" in card
    assert f"the method {trained} them" in card


def test_a_card_without_its_table_says_nothing_of_all_folds(unit):
    card = model_card(load_unit(unit))
    assert "| available | WAR, this fold | UAR, this fold |\n" in card
    assert "nan" not in card
    assert "all folds" not in card.lower()


def test_parameters_are_read_as_safetensors_reads_them(folder):
    from safetensors.numpy import load_file

    theirs, ours = load_file(folder / "params.safetensors"), exported.read_safetensors(folder / "params.safetensors")
    assert list(ours) == list(theirs) or set(ours) == set(theirs)
    for name, values in theirs.items():
        np.testing.assert_array_equal(ours[name], values)
        assert ours[name].dtype == values.dtype


VIDEO = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ({"smell": np.ones((1, 3))}, "there is no modality 'smell'; this model has audio, video, text"),
        ({}, "no modality is there"),
        ({"video": np.ones((1, 4))}, r"video: has shape \[1, 4\] where \[1, 3\] is expected"),
        ({"audio": np.ones((1, 5))}, r"audio: has shape \[1, 5\] where \[1, T, 5\] is expected"),
        (
            {"video": VIDEO, "present": {"audio": [True, False]}},
            "audio: present says that utterances have it, but feat",
        ),
        ({"video": VIDEO, "present": {"video": [True, False]}}, "utterance 1 has no modality; leave it out"),
        ({"audio": np.ones((1, 4, 5)), "length": {"audio": [5]}}, "audio: a length of 5 where features have 4 frames"),
        ({"audio": np.ones((1, 4, 5)), "length": {"audio": [0]}}, "audio: a length of 0 where features have 4 frames"),
        ({"audio": np.ones((3, 4, 5)), "length": {"audio": [1, 2]}}, r"audio: length must have .* found shape \[2\]"),
        ({"video": VIDEO, "present": {"video": [[True], [True]]}}, r"video: present must have .* shape \[2, 1\]"),
        (
            {"audio": np.ones((1, 4, 5)), "length": {"audio": [2.9]}},
            "audio: length holds float64 where int32 is expected",
        ),
        ({"video": VIDEO, "present": {"video": ["no", "yes"]}}, "video: present holds <U3 where bool is expected"),
        ({"video": VIDEO, "length": {"video": [1, 1]}}, "video: has a length, but is one vector per utterance"),
        ({"video": VIDEO * [[1.0], [np.nan]]}, r"video: utterance 1 has nan or a number beyond 1e\+18; correct it"),
        ({"audio": np.full((1, 4, 5), np.inf)}, r"audio: utterance 0 has nan or a number beyond 1e\+18; correct it"),
        ({"video": None}, "no modality is there"),
        (
            {"video": np.ma.array(VIDEO, mask=[[0, 0, 0], [0, 1, 0]])},
            "video: has masked numbers; fill them, and say in",
        ),
        (
            {"video": VIDEO, "present": {"video": np.ma.array([True, True], mask=[0, 1])}},
            "present holds masked entries",
        ),
        ({"video": VIDEO.astype("datetime64[s]")}, "video: holds datetime64.s. where numbers are expected"),
        ({"video": VIDEO.astype(str)}, "video: holds <U32 where numbers are expected"),
        ({"video": VIDEO + 1e30}, r"video: utterance 0 has nan or a number beyond 1e\+18"),
        ({"video": VIDEO * 1j}, "video: holds complex64 where numbers are expected"),
        ({"video": 3.0}, "video: has no utterance; give an array of one or more"),
        ({"video": VIDEO[:0]}, "video: has no utterance; give an array of one or more"),
        (
            {"audio": np.ones((1, 4, 5)), "length": {"audio": [2**32 + 3]}},
            "a length of 4294967299 where features have 4",
        ),
    ],
)
def test_faults_of_the_input(folder, features, sentence):
    others = {name: features[name] for name in ("length", "present") if name in features}
    features = {name: values for name, values in features.items() if name not in others}
    with pytest.raises(ValueError, match=sentence):
        exported.load(folder)(features, **others)


def test_what_is_absent_or_padding_may_be_nan(folder):
    model = exported.load(folder)
    frames, nan = np.ones((2, 4, 5), np.float32), np.full((2, 4, 5), np.nan, np.float32)
    padded = np.where(np.arange(4)[:, None] < 3, frames, nan)
    found = model({"audio": padded, "video": VIDEO * [[np.nan], [1]]}, {"audio": [3, 3]}, {"video": [False, True]})
    expected = model({"audio": frames, "video": VIDEO}, {"audio": [3, 3]}, {"video": [False, True]})
    np.testing.assert_array_equal(found["logits"], expected["logits"])
    assert np.isfinite(found["logits"]).all()


def test_longer_sequences_than_the_model_knows_are_refused(folder, tmp_path):
    copy = tmp_path / "export"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_frames": 4}))
    model = exported.load(copy)
    padded = {"audio": np.ones((1, 9, 5), np.float32)}
    model(padded, {"audio": [4]})  # padding does not count
    with pytest.raises(ValueError, match="audio: 9 frames where the model was trained with at most 4"):
        model(padded)


def test_a_damaged_table_beside_the_model_is_named(unit, tmp_path, capsys):
    copy = tmp_path / "table" / "cm_arr" / unit.name
    shutil.copytree(unit, copy)
    (tmp_path / "table" / "config.json").write_text('{"data"')
    assert main(["--run", str(copy), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"--run: {tmp_path / 'table' / 'config.json'}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "params.safetensors", "model.jax_export"])
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\0" * 64, lambda data: b"[]"],
    ids=["half", "empty", "zeros", "list"],
)
def test_a_damaged_file_is_named(folder, tmp_path, name, damage):
    copy = tmp_path / "export"
    shutil.copytree(folder, copy)
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    with pytest.raises(ValueError, match=rf"{name} is damaged .*; copy the export again"):
        exported.load(copy)
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        exported.load(copy)


def test_a_saved_classifier_is_exported_with_a_card_of_its_own(tmp_path):
    rng, label = np.random.default_rng(0), np.arange(60) % 2
    features = {"face": rng.normal(size=(60, 3)) + label[:, None], "words": rng.normal(size=(60, 2))}
    model = MissingModalityClassifier("zero_fill", max_epochs=1, random_state=0)
    model.fit(features, label, groups=np.arange(60) // 6).save(tmp_path / "model")
    assert main(["--run", str(tmp_path / "model")]) == 0
    found = exported.load(tmp_path / "model/export")({name: values[:4] for name, values in features.items()})
    own = model.predict_proba({name: values[:4] for name, values in features.items()})
    np.testing.assert_allclose(found["probabilities"], own, rtol=1e-5, atol=1e-6)
    card = (tmp_path / "model/export/README.md").read_text()
    assert "# Zero-fill, a fitted classifier" in card
    assert "validation utterances, by available modalities" in card
    assert card.count("| `") == 3  # face, words, both


def test_only_an_export_is_replaced(folder, unit, tmp_path, capsys):
    assert main(["--run", str(unit)]) == 1
    assert "is there already; give --force" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["--run", str(unit), "--out", str(tmp_path), "--force"]) == 1
    assert "holds no export that could be replaced" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert main(["--run", str(tmp_path)]) == 1
    with pytest.raises(ArchiveError, match="holds no finished unit"):
        raise ArchiveError(capsys.readouterr().err)
