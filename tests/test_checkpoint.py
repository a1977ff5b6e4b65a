"""Saved runs: bit by bit the same when read back, and one sentence where there is none."""

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
from cmarr_jax.methods import make_method
from cmarr_jax.training.checkpoint import abstract_state, load_run, save_run
from cmarr_jax.training.evaluation import evaluate

PAIR = (ModalityConfig("zeta", 2, "vector"), ModalityConfig("alpha", 3, "lstm"))
RECORD = {"name": "cm_arr", "fold": "01F", "seed": 3, "best_epoch": np.int32(4), "test_counts": np.eye(2, dtype=int)}


def make_run(method="cm_arr", modalities=MODALITIES):
    changes = {"weights": {"entropy": 0.25}, "combination": "linear"} if method == "cm_arr" else {}
    train = TrainConfig(missing_epochs=7)
    config = run_config(modalities, method=method, train=train, learning_rate=3e-4, **changes)
    params = random_params(make_method(config).init, example_batch(modalities))
    widths = {modality.name: jnp.arange(1.0, modality.width + 1) / 3 for modality in modalities}
    return config, params, Normalizer(widths, {name: 1 / values for name, values in widths.items()})


@pytest.mark.parametrize("method", ["cm_arr", "zero_fill"])
@pytest.mark.parametrize("modalities", [MODALITIES, PAIR], ids=["three", "two"])
def test_round_trip(tmp_path, method, modalities):
    config, params, normalizer = make_run(method, modalities)
    save_run(tmp_path / "deep" / "run", config, params, normalizer, RECORD)
    saved = load_run(tmp_path / "deep" / "run")
    assert saved.config == config
    chex.assert_trees_all_equal(saved.params, params, strict=True)
    chex.assert_trees_all_equal(saved.normalizer, normalizer, strict=True)
    assert isinstance(saved.normalizer, Normalizer)
    assert saved.record == {**RECORD, "best_epoch": 4, "test_counts": [[1, 0], [0, 1]]}


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
    with pytest.raises(FileNotFoundError, match="holds no finished run"):  # it was left half way, beside
        load_run(tmp_path / "run")
    assert [path.name.split(".")[1] for path in tmp_path.iterdir()] == ["run"]
    save_run(tmp_path / "run", config, params, normalizer, RECORD)  # a half-written folder blocks nothing
    assert load_run(tmp_path / "run").config == config


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
