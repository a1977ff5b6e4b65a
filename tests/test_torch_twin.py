"""The PyTorch twin of the benchmarks is the same network: with our parameters it gives our losses and gradients.

Both get the same noise, so gradients through the standard deviations are compared too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import MODALITIES, WIDTHS, make_batch, random_params, run_config

from cmarr_jax.config import ModalityConfig, TrainConfig
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.normalizer import Normalizer, normalize
from cmarr_jax.methods import cm_arr, hyperparameters_of, make_method
from cmarr_jax.nn.gaussian import sample

torch = pytest.importorskip("torch")

from benchmarks import torch_batch, torch_twin, torch_twin_params  # noqa: E402

SEQUENCES = (
    ModalityConfig("audio", WIDTHS["audio"], "lstm"),
    ModalityConfig("video", WIDTHS["video"], "lstm"),
    ModalityConfig("text", WIDTHS["text"], "conv"),
)
WEIGHTS = {
    "alignment": 0.7,
    "nll": 0.9,
    "squared_error": 1.1,
    "refinement": 1.3,
    "refinement_temperature": 0.2,
    "entropy": 0.3,
    "entropy_floor": 1.0,
}
CONFIG = run_config(SEQUENCES, dropout=0.0, flow_layers=4, weights=WEIGHTS)
NOISE_KEY = jax.random.key(7)


def make_case(size=14, num_frames=5):
    """A batch with absent modalities, zeros where a loader leaves them, and patterns that hide some of each."""
    batch = make_batch(SEQUENCES, size=size, num_frames=num_frames)
    present = batch.present.at[0, 1].set(False).at[1, 0].set(False).at[2, 2].set(False).at[9, 1:].set(False)
    scale = {name: jnp.ones(width) for name, width in WIDTHS.items()}
    batch = normalize(Normalizer(jax.tree.map(jnp.zeros_like, scale), scale), batch._replace(present=present))
    patterns = jnp.asarray(availability_patterns(3))[jnp.arange(size) % 7] & present
    return batch, jnp.where(patterns.any(axis=1, keepdims=True), patterns, present)


def make_twin(params):
    twin = torch_twin.Twin(CONFIG)
    torch_twin_params.load_flax(twin, params)
    return twin


def twin_gradients(twin):
    """By name, without the second bias of an LSTM, whose gradient is that of the first."""
    return {name: p.grad for name, p in twin.named_parameters() if not name.endswith("bias_hh_l0")}


@pytest.mark.parametrize(
    ("hide", "num_frames"),
    [(False, 5), (True, 5), (True, 2)],
    ids=["complete", "missing", "missing, shorter than a window"],
)
def test_losses_and_gradients_equal_ours(hide, num_frames, monkeypatch):
    monkeypatch.setattr(cm_arr, "sample", lambda key, embedding: sample(NOISE_KEY, embedding))
    method = make_method(CONFIG)
    batch, available = make_case(num_frames=num_frames)
    available = available if hide else batch.present
    params = random_params(method.init, batch)
    loss_fn = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (expected_loss, expected_terms), expected = loss_fn(
        params, batch, available, jax.random.key(0), hyperparameters_of(CONFIG)
    )

    twin = make_twin(params)
    noise = jax.random.normal(NOISE_KEY, (*available.shape, CONFIG.encoders.embedding)).swapaxes(0, 1)
    inputs = torch_batch.from_jax(batch), torch.tensor(np.asarray(available)), WEIGHTS, torch.tensor(np.asarray(noise))
    loss, terms = twin(*inputs)
    loss.backward()
    assert sorted(terms) == sorted(expected_terms)
    assert [name for name, value in expected_terms.items() if value == 0] == ([] if hide else ["squared_error"])
    for name, value in expected_terms.items():
        np.testing.assert_allclose(terms[name].item(), value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(loss.item(), expected_loss, rtol=1e-4)

    expected_gradients, gradients = torch_twin_params.from_flax(expected), twin_gradients(twin)
    # Through the standard deviations too: without noise in common, those of the points could not be compared.
    assert all(value.abs().max() > 1e-3 for name, value in expected_gradients.items() if "log_std" in name)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        found = torch.zeros_like(gradient) if gradients[name] is None else gradients[name]
        np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max(), err_msg=name)
    norm = lambda tree: torch.sqrt(sum((g**2).sum() for g in tree.values() if g is not None))
    np.testing.assert_allclose(norm(gradients), norm(expected_gradients), rtol=1e-4)


@pytest.mark.parametrize("length", [5, 3])
def test_padding_changes_nothing(length):
    batch, _ = make_case(num_frames=length)
    twin = make_twin(random_params(make_method(CONFIG).init, batch))
    batch = torch_batch.from_jax(batch)
    longer = {name: torch.nn.functional.pad(x, (0, 0, 0, 4)) for name, x in batch.features.items()}
    for found, expected in zip(twin.encode(batch._replace(features=longer)), twin.encode(batch), strict=True):
        np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-5)


def test_both_forms_of_the_convolutions_are_the_same():
    batch, _ = make_case()
    params, batch = random_params(make_method(CONFIG).init, batch), torch_batch.from_jax(batch)
    planar = torch_twin.Twin(CONFIG, planar=True)
    torch_twin_params.load_flax(planar, params)
    for found, expected in zip(planar.encode(batch), make_twin(params).encode(batch), strict=True):
        np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-5)


def test_steps_lower_the_loss():
    batch, _ = make_case()
    torch.manual_seed(0)
    config = run_config(SEQUENCES, learning_rate=1e-2)
    step = torch_twin.make_step(torch_twin.Twin(config), TrainConfig(), hyperparameters_of(config))
    values = [step(torch_batch.from_jax(batch)) for _ in range(30)]
    assert np.mean(values[-5:]) < np.mean(values[:5]) - 0.2


def test_patterns_are_uniform_over_what_is_present():
    torch.manual_seed(0)
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]]).repeat(4000, 1)
    drawn = torch_twin.sample_available(present, torch.as_tensor(availability_patterns(3)))
    assert not (drawn & ~present).any()
    for row, count in enumerate((7, 3, 1)):
        found, frequency = np.unique(drawn[row::3], axis=0, return_counts=True)
        assert len(found) == count
        np.testing.assert_allclose(frequency / 4000, 1 / count, atol=0.03)  # 4 standard deviations of the pairs'


@pytest.mark.parametrize(
    "change",
    [
        {"head": "residual"},
        {"recovery": "zeros"},
        {"fusion": "attention"},
        {"combination": "precision"},
        {"frame_attention": True},
        {"clean_target": True},
        {"alignment_scale": 1.0},
        {"modalities": MODALITIES},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_variant_that_is_not_there_is_refused(change):
    with pytest.raises(ValueError, match="default variants"):
        torch_twin.Twin(run_config(**{"modalities": SEQUENCES, **change}))
