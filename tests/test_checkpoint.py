"""Saved runs: bit by bit the same when read back, and one sentence where there is none."""

import errno
import json
import os
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODALITIES, random_params, run_config

from cmarr_jax.config import ModalityConfig, RunConfig, TrainConfig
from cmarr_jax.data.batching import example_batch
from cmarr_jax.data.names import as_file_name
from cmarr_jax.data.normalizer import Normalizer, fit_normalizer
from cmarr_jax.methods import make_method, make_options, with_all_defaults
from cmarr_jax.training import checkpoint
from cmarr_jax.training.checkpoint import LAST_GOOD, abstract_state, load_progress, load_run, save_progress, save_run
from cmarr_jax.training.disk import DiskError
from cmarr_jax.training.evaluation import evaluate

PAIR = (ModalityConfig("zeta", 2, "vector"), ModalityConfig("alpha", 3, "lstm"))
RECORD = {"name": "cm_arr", "fold": "01F", "seed": 3, "best_epoch": np.int32(4), "test_counts": np.eye(2, dtype=int)}


def make_run(method="cm_arr", modalities=MODALITIES, **options):
    changes = {"weights": {"entropy": 0.25}, "combination": "linear"} if method == "cm_arr" else {}
    train = TrainConfig(missing_epochs=7)
    config = run_config(modalities, method=method, train=train, learning_rate=3e-4, **changes, **options)
    params = random_params(make_method(config).init, example_batch(modalities))
    widths = {modality.name: jnp.arange(1.0, modality.width + 1) / 3 for modality in modalities}
    return config, params, Normalizer(widths, {name: 1 / values for name, values in widths.items()})


@pytest.mark.parametrize("method", ["cm_arr", "zero_fill"])
@pytest.mark.parametrize("modalities", [MODALITIES, PAIR], ids=["three", "two"])
def test_round_trip(tmp_path, method, modalities):
    config, params, normalizer = make_run(method, modalities)
    save_run(tmp_path / "deep" / "run", config, params, normalizer, RECORD)
    saved = load_run(tmp_path / "deep" / "run")
    assert saved.config == with_all_defaults(config)
    chex.assert_trees_all_equal(saved.params, params, strict=True)
    chex.assert_trees_all_equal(saved.normalizer, normalizer, strict=True)
    assert isinstance(saved.normalizer, Normalizer)
    assert saved.record == {**RECORD, "best_epoch": 4, "test_counts": [[1, 0], [0, 1]]}


@pytest.mark.parametrize("method", ["cm_arr", "zero_fill"])
def test_a_record_names_every_option_and_weight(tmp_path, method):
    """Those that were not changed, too, so that a new default changes no saved run."""
    config, params, normalizer = make_run(method)
    save_run(tmp_path / "run", config, params, normalizer, RECORD)
    saved = load_run(tmp_path / "run").config
    assert saved.options.keys() == make_options(method, {}).__dataclass_fields__.keys()
    assert saved.options.items() >= config.options.items()
    assert saved.weights == {**make_method(config).weights, **config.weights}
    assert make_options(method, saved.options) == make_options(method, config.options)


def test_a_run_from_before_there_was_a_choice_of_heads_has_the_residual_one(tmp_path):
    config, params, normalizer = make_run(head="residual")
    save_run(tmp_path / "run", config, params, normalizer, RECORD)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    assert record["config"]["options"].pop("head") == "residual"
    path.write_text(json.dumps(record))
    saved = load_run(tmp_path / "run")
    assert saved.config == with_all_defaults(config)
    chex.assert_trees_all_equal(saved.params, params, strict=True)


@pytest.mark.parametrize("method", ["cm_arr", "dicmor"])
def test_the_flows_of_a_run_from_before_have_the_bound_of_each_coupling(tmp_path, method):
    config, params, normalizer = make_run(method=method, flow_layers=4)
    save_run(tmp_path / "run", config, params, normalizer, RECORD)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    assert record["config"]["options"].pop("flow_total_log_scale") == 2.0
    record["config"]["options"]["flow_log_scale_bound"] = 1.5
    path.write_text(json.dumps(record))
    options = load_run(tmp_path / "run").config.options
    assert options["flow_total_log_scale"] == 3.0
    assert "flow_log_scale_bound" not in options


def test_numpy_parameters_are_saved_too(tmp_path):
    config, params, normalizer = make_run()
    save_run(tmp_path / "run", config, *jax.device_get((params, normalizer)), RECORD)
    chex.assert_trees_all_equal(load_run(tmp_path / "run").params, params)


def test_a_loaded_run_gives_the_same_counts(tmp_path, zero_fill_setup):
    setup = zero_fill_setup
    config = setup.config
    params = random_params(setup.method.init, example_batch(config.encoders.modalities))
    fold = setup.fold(2)
    normalizer = fit_normalizer(setup.data, fold.train, fold.train_where)
    count = jax.jit(
        lambda params, normalizer: (
            evaluate(setup.method, params, normalizer, setup.data, fold.test, fold.test_where)[0].counts
        )
    )
    expected = count(params, normalizer)
    save_run(tmp_path / "run", config, params, normalizer, {})
    saved = load_run(tmp_path / "run")
    np.testing.assert_array_equal(count(saved.params, saved.normalizer), expected)


def test_a_folder_without_a_record_is_no_finished_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no finished run: run.json is missing; give the folder"):
        load_run(tmp_path)
    config, params, normalizer = make_run()
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_run(tmp_path / "run", config, params, normalizer, {"what": object()})
    assert not list(tmp_path.iterdir())  # what could not be written to its end is gone
    (tmp_path / f".run.{os.getpid()}.partial").mkdir()  # half-written: of a killed process
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        load_run(tmp_path / "run")
    save_run(tmp_path / "run", config, params, normalizer, RECORD)  # it blocks nothing
    assert load_run(tmp_path / "run").config == with_all_defaults(config)


def test_what_is_not_finite_is_null_in_the_record_and_refused_in_the_parameters(tmp_path):
    config, params, normalizer = make_run("zero_fill")
    record = {"history": {"loss": np.array([1.0, np.nan])}, "score": float("inf")}
    save_run(tmp_path / "run", config, params, normalizer, record)
    assert load_run(tmp_path / "run").record == {"history": {"loss": [1.0, None]}, "score": None}
    assert "NaN" not in (tmp_path / "run" / "run.json").read_text()
    spoilt = jax.tree.map(lambda x: x.at[..., 0].set(jnp.nan) if x.ndim else x, params)
    with pytest.raises(ValueError, match="is not finite; a diverged run is not saved"):
        save_run(tmp_path / "other", config, spoilt, normalizer, record)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("01F", "01F"), ("a b", "a b"), ("session1/F", "session1%2FF"), ("..", "%2E."), ("é", "%C3%A9")],
)
def test_a_name_is_one_file_name(name, expected):
    assert as_file_name(name) == expected
    assert "/" not in as_file_name(f"../{name}/../x\0")


def test_an_existing_folder_is_not_overwritten(tmp_path):
    config, params, normalizer = make_run()
    (tmp_path / "run").mkdir()
    with pytest.raises(FileExistsError):
        save_run(tmp_path / "run", config, params, normalizer, RECORD)
    assert not list((tmp_path / "run").iterdir())


def test_config_survives_a_dict():
    config, _, _ = make_run()
    assert RunConfig.from_dict(config.to_dict()) == config
    with pytest.raises(TypeError, match="unexpected keyword"):
        RunConfig.from_dict({**config.to_dict(), "train": {"epochs": 3}})


def test_abstract_state_costs_no_arrays():
    config, params, normalizer = make_run()
    state = abstract_state(config)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, {"params": params, "normalizer": normalizer})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved run, not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "run"
    save_run(folder, *make_run("zero_fill"), RECORD)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def largest(folder):
    """The file that holds most of the arrays."""
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("how", ["cut", "flipped", "removed"])
def test_damaged_parameters_are_an_error_that_names_them(copied, how):
    path = largest(copied / "params")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink() if how == "removed" else path.write_bytes(content[:-50] if how == "cut" else content)
    with pytest.raises(ValueError, match=r"run/params is damaged \(.*\); delete this folder and repeat the command"):
        load_run(copied)


def test_parameters_of_another_run_are_recognised(copied, tmp_path):
    config, params, normalizer = make_run("zero_fill")
    save_run(tmp_path / "other", config, jax.tree.map(lambda x: x + 1, params), normalizer, RECORD)
    shutil.rmtree(copied / "params")
    shutil.copytree(tmp_path / "other" / "params", copied / "params")
    with pytest.raises(ValueError, match=r"params is damaged \(its SHA-256 is not the one in run.json\)"):
        load_run(copied)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"config": {"meth', r"run.json is damaged \(.*\); delete its folder and train this run again"),
        ("[" * 100_000, r"run.json is damaged \(.*\); delete its folder and train this run again"),
        ("[1, 2]", r"run.json is damaged \(it holds no JSON object\); delete its folder"),
        ('{"config": [1]}', "run.json is not the record of a trained model of cmarr_jax; give the folder of one"),
        ('{"config": {"method": "zero_fill"}, "format": "x"}', r"run.json is damaged \(its format is 'x'\)"),
        ('{"epoch": 3}', "run.json is not the record of a trained model of cmarr_jax; give the folder of one"),
    ],
    ids=["cut", "deep", "list", "foreign_config", "format", "foreign"],
)
def test_a_damaged_or_foreign_record_is_an_error_that_names_it(copied, text, sentence):
    (copied / "run.json").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_run(copied)


@pytest.mark.parametrize("name", ["options", "weights"])
def test_options_and_weights_that_are_no_dict_are_told(copied, name):
    config = json.loads((copied / "run.json").read_text())["config"]
    edit(copied / "run.json", config=config | {name: []})
    with pytest.raises(ValueError, match=rf"cannot read its configuration \({name} must be a dict, found \[\]\)"):
        load_run(copied)


def test_a_record_of_models_of_scikit_learn_is_told(copied):
    edit(copied / "run.json", config={"method": "classical_lda", "strengths": ["auto"]})
    with pytest.raises(ValueError, match=r"run\.json is of 'classical_lda', which has no network"):
        load_run(copied)


def test_a_run_of_a_newer_version_is_recognised(copied):
    edit(copied / "run.json", format=2, config={"method": "zero_fill", "what": "is new"})
    with pytest.raises(ValueError, match=r"newer version of cmarr_jax \(format 2, this one reads 1\); install that"):
        load_run(copied)
    edit(copied / "run.json", format=1)
    with pytest.raises(
        ValueError, match=r"this version cannot read its configuration \(.*\); use the one that wrote it"
    ):
        load_run(copied)


def test_a_configuration_that_makes_no_network_is_named(copied):
    config = json.loads((copied / "run.json").read_text())["config"]
    config["encoders"]["modalities"][0]["width"] = -3
    edit(copied / "run.json", config=config)
    with pytest.raises(ValueError, match=r"run\.json: its configuration makes no network \(.+\); use the version that"):
        load_run(copied)


def test_a_run_that_diverged_has_its_last_good_parameters(tmp_path):
    config, params, normalizer = make_run("zero_fill")
    save_run(tmp_path / "run", config, params, normalizer, {"status": "diverged"}, name=LAST_GOOD)
    with pytest.raises(FileNotFoundError, match="has no params: the run diverged; give the folder of another"):
        load_run(tmp_path / "run")
    chex.assert_trees_all_equal(load_run(tmp_path / "run", LAST_GOOD).params, params)


@pytest.mark.parametrize("error", [
    OSError(errno.ENOSPC, "No space left on device"),
    ValueError("RESOURCE_EXHAUSTED: Error writing [os_error_code='28']"),  # as Orbax says it
])  # fmt: skip
def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path, monkeypatch, error):
    def write(*_):
        raise error

    monkeypatch.setattr(checkpoint, "_write_arrays", write)  # half way: the parameters are written
    with pytest.raises(DiskError, match=r"run cannot be written \(No space left on device\); free some space, or name"):
        save_run(tmp_path / "run", *make_run("zero_fill"), RECORD)
    assert not list(tmp_path.iterdir())


PROGRESS = {"x": np.arange(5000, dtype=np.float32)}


@pytest.fixture
def progress(tmp_path):
    """Three checkpoints, of which two are kept."""
    for step in (1, 2, 3):
        save_progress(tmp_path / "ck", step, {"x": PROGRESS["x"] + step}, {"position": step})
    return tmp_path / "ck"


def test_the_last_two_checkpoints_are_kept_and_a_damaged_one_is_passed_over(progress):
    said = []
    step, tree, record = load_progress(progress, PROGRESS, said.append)
    assert (step, tree["x"][0], record, said) == (3, 3, {"position": 3}, [])
    for path in (progress / "3").rglob("d/*"):  # the arrays
        path.write_bytes(path.read_bytes()[:-20])
    step, tree, record = load_progress(progress, PROGRESS, said.append)
    assert (step, tree["x"][0], record) == (2, 2, {"position": 2})
    assert len(said) == 1
    assert said[0].startswith(f"{progress}/3 is damaged (")
    about = (progress / "3/_CHECKPOINT_METADATA").read_text()
    for other in ({"format": 2}, {"format": None}):
        edit(progress / "3/_CHECKPOINT_METADATA", custom_metadata={"position": 3, "sha256": "", **other})
        assert load_progress(progress, PROGRESS, said.append)[0] == 2
        text = f"3 is of format {other['format']}, where 1 is read: another version or program wrote it; the checkpoint"
        assert text in said[-1]
    edit(progress / "3/_CHECKPOINT_METADATA", what={"is": "new"})
    with pytest.raises(ValueError, match=r"ck: the metadata of a checkpoint is damaged \(.*\); delete the damaged one"):
        load_progress(progress, PROGRESS, said.append)
    (progress / "3/_CHECKPOINT_METADATA").write_text(about)
    shutil.rmtree(progress / "2")
    with pytest.raises(ValueError, match="no checkpoint can be read; start anew without --resume in another folder"):
        load_progress(progress, PROGRESS, said.append)
