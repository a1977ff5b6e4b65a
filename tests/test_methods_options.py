"""Options, loss weights and names of the methods, and methods in a module of the user."""

import sys

import jax
import pytest
from tiny import MODALITIES, make_batch, run_config

from cmarr_jax.config import TrainConfig
from cmarr_jax.methods import REGISTRY, hyperparameters_of, make_method


def test_sizes_of_options_reach_the_network():
    config = run_config(head="residual", head_ratio=3, flow_layers=6, flow_hidden=7, projection=5)
    params = jax.eval_shape(make_method(config).init, jax.random.key(0), make_batch())
    assert params["heads"]["mean_mlp"]["Dense_0"]["kernel"].shape == (3, 8, 24)
    assert params["flows"]["first_kernel_1"].shape == (3, 3, 7, 7)
    assert params["projection"]["kernel"].shape == (8, 5)


def test_the_head_has_no_layers_for_the_mean():
    params = jax.eval_shape(make_method(run_config()).init, jax.random.key(0), make_batch())
    assert params["heads"].keys() == {"log_std"}
    assert params["heads"]["log_std"]["kernel"].shape == (3, 8, 8)


def initialise(**changes):
    """Makes a method and its parameters, whatever checks the configuration on the way."""
    jax.eval_shape(make_method(run_config(**changes)).init, jax.random.key(0), make_batch())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"recovery": "magic"}, "recovery must be one of flow, autoencoder, zeros; found 'magic'"),
        ({"combination": "sum"}, "combination must be one of"),
        ({"fusion": "sum"}, "fusion must be one of"),
        ({"embedding": 1}, "embedding must be at least 2"),
        ({"conv_widths": (3, 2**31)}, r"conv_widths must be at most 1000 frames, found \(3, 2147483648\)"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16; found 'float16'"),
        ({"modalities": MODALITIES[:1]}, "at least two modalities"),
        ({"modalities": MODALITIES[:1] * 2}, "different names"),
        ({"flow_layers": 3}, "flow_layers must be even"),
        ({"flow_total_log_scale": 0.0}, "flow_hidden and flow_total_log_scale must be positive, found 8 and 0.0"),
        ({"projection": 0}, "projection must be an integer of at least 1, found 0"),
        ({"head_ratio": 0.5}, "head_ratio must be an integer of at least 1, found 0.5"),
        ({"patterns": 1.5}, "patterns must be an integer of at least 1, found 1.5"),
        ({"alignment_scale": -1.0}, "alignment_scale must be above 0 and finite, found -1.0"),
        ({"alignment_scale": float("inf")}, "alignment_scale must be above 0 and finite, found inf"),
        ({"max_temperature": 0.01}, "0 < min_temperature < max_temperature is needed, found 0.01, 0.01"),
        ({"max_log_std": 7.0}, "max_log_std <= 6 is needed, found -6.0 and 7.0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number, found inf"),
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number, found '0.1'"),
        ({"embedding": 8.5}, "embedding must be an integer, found 8.5"),
        ({"flow_layers": 6.0}, "flow_layers must be an integer, found 6.0"),
        ({"flow_hidden": True}, "flow_hidden must be an integer, found True"),
        ({"min_log_std": float("-inf")}, "min_log_std must be a finite number, found -inf"),
        ({"late_logits": "no"}, "late_logits must be True or False, found 'no'"),
    ],
)
def test_impossible_configurations_raise(change, text):
    with pytest.raises(ValueError, match=text):
        initialise(**change)


@pytest.mark.parametrize("method", ["cm_arr", "zero_fill"])
def test_attention_needs_a_number_of_heads_that_divides_the_embedding(method):
    sentence = "embedding must be a multiple of attention_heads, found 6 and 4"
    for change in ({"fusion": "attention"}, {"frame_attention": True}):
        with pytest.raises(ValueError, match=sentence):
            initialise(method=method, embedding=6, **change)
        initialise(method=method, embedding=6, attention_heads=3, **change)


def test_unknown_options_and_weights_raise_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"method cm_arr has no option 'flow_layer'; it has: min_log_std, .*flow_layers"
    ):
        make_method(run_config(flow_layer=4))
    with pytest.raises(ValueError, match="method zero_fill has no option 'flow_layers'; it has: fusion"):
        make_method(run_config(method="zero_fill", flow_layers=4))
    for name, known in (
        ("cm_arr", "alignment, late_alignment, nll, squared_error, refinement, "),
        ("zero_fill", "none"),
    ):
        for call in (make_method, hyperparameters_of):
            with pytest.raises(ValueError, match=f"no loss weight 'align'; this method has: {known}"):
                call(run_config(method=name, weights={"align": 1.0}))


def test_weights_of_a_run_replace_the_defaults():
    config = run_config(weights={"alignment": 0.7}, learning_rate=0.3, dropout=0.4)
    learning_rate, dropout, weights = hyperparameters_of(config)
    assert (learning_rate, dropout) == (0.3, 0.4)
    assert weights == {**make_method(config).weights, "alignment": 0.7}
    assert weights["alignment"] != make_method(config).weights["alignment"]


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("alignment", -1.0, "a finite number of at least 0, found -1.0"),
        ("alignment", float("nan"), "a finite number of at least 0, found nan"),
        ("refinement_temperature", 0.0, "a finite number above 0, found 0.0"),
        ("refinement_temperature", -0.1, "a finite number above 0, found -0.1"),
        ("entropy_floor", float("inf"), "a finite number, found inf"),
    ],
)
def test_impossible_weights_raise(name, value, wanted):
    for call in (make_method, hyperparameters_of):
        with pytest.raises(ValueError, match=f"the loss weight '{name}' must be {wanted}"):
            call(run_config(weights={name: value}))
    assert hyperparameters_of(run_config(weights={"entropy_floor": -2.0})).weights["entropy_floor"] == -2.0


@pytest.mark.parametrize(("name", "value"), [("threshold", 1.0), ("threshold", 95.0), ("fine_tuning", 5.0)])
def test_probabilities_and_shares_among_the_weights_have_a_largest_value(name, value):
    """A threshold of 95, for 0.95, would switch self-training off without a word."""
    with pytest.raises(ValueError, match=f"the loss weight '{name}' is .* found {value}"):
        make_method(run_config(method="contrastive", pseudo_labels=True, weights={name: value}))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"batch_size": 2.5}, "batch_size must be an integer, found 2.5"),
        ({"patience": float("nan")}, "patience must be an integer, found nan"),
        ({"clip_norm": float("inf")}, "clip_norm must be a finite number, found inf"),
        ({"decay": 1}, "decay must be True or False, found 1"),
    ],
)
def test_impossible_schedules_raise(change, text):
    with pytest.raises(ValueError, match=text):
        TrainConfig(**change)


@pytest.mark.parametrize("name", ["magic", "", "..zero_fill", ".zero_fill"])
def test_unknown_method_raises_with_the_known_ones(name):
    with pytest.raises(ValueError, match=rf"the method '{name}' is none of {', '.join(REGISTRY)}, and no module with"):
        make_method(run_config(method=name))


def test_an_import_that_a_method_lacks_is_named_even_if_the_names_begin_alike(own_module):
    own_module("bad", "import own_meth")
    with pytest.raises(ModuleNotFoundError, match="No module named 'own_meth'"):
        make_method(run_config(method="own_methods.bad"))


OWN_METHOD = """
import dataclasses
from cmarr_jax.methods import zero_fill
from cmarr_jax.methods.base import Stage

@dataclasses.dataclass(frozen=True)
class Options:
    epochs: int = 3

def make(encoders, num_classes, train, options):
    method = zero_fill.make(encoders, num_classes, train, zero_fill.Options())
    stage = Stage("only", options.epochs, hide=True, weights={STAGE})
    return method._replace(stages=(stage,), weights={"own": 2.0})
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """`write(name, text)` makes a module `own_methods.NAME`."""
    (tmp_path / "own_methods").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name, text: (tmp_path / "own_methods" / f"{name}.py").write_text(text)
    for name in [name for name in sys.modules if name.startswith("own_methods")]:
        del sys.modules[name]


def test_a_dotted_module_name_is_a_method(own_module):
    own_module("good", OWN_METHOD.replace("{STAGE}", "{'own': 1.0}"))
    config = run_config(method="zero_fill", weights={"own": 5.0}, epochs=7, train=TrainConfig())
    config = type(config).from_dict(config.to_dict() | {"method": "own_methods.good"})
    method = make_method(config)
    assert [(stage.name, stage.epochs) for stage in method.stages] == [("only", 7)]
    assert hyperparameters_of(config).weights == {"own": 5.0}
    batch = make_batch()
    params = jax.eval_shape(method.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(method.loss, params, batch, batch.present, jax.random.key(1), hyperparameters_of(config))
    assert loss.shape == ()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("Options = dict", ValueError, "the method .* is none of cm_arr, .*, and no module with Options and make"),
        ("import not_there_at_all", ModuleNotFoundError, "not_there_at_all"),
        ("raise ValueError('temperature must be above 0')", ValueError, "^temperature must be above 0"),
        (OWN_METHOD.replace("{STAGE}", "{'other': 1.0}"), ValueError, "no loss weight 'other'; this method has: own"),
    ],
    ids=["no make", "an import that fails", "an error of its own", "unknown weight of a stage"],
)
def test_a_module_that_is_no_method_raises(own_module, text, error, message):
    own_module("bad", text)
    with pytest.raises(error, match=message):
        make_method(run_config(method="own_methods.bad"))
