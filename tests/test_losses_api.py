"""What all public losses share: masks that may be left out, array-likes, temperatures, examples, one way to reduce."""

import doctest
import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax import losses
from cmarr_jax.types import MaskedLoss

RNG = np.random.default_rng(0)
MEAN, STD = RNG.normal(size=(4, 3, 2)).astype(np.float32), RNG.uniform(0.5, 2, size=(4, 3, 2)).astype(np.float32)
PAIR = MEAN[:, 0], STD[:, 0], MEAN[:, 1], STD[:, 1]
LABELS, PRESENT = np.array([0, 1, 0, 1]), np.array([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 1, 1]], bool)

# Arguments by position, and keywords, without masks. NumPy throughout.
MASKED = {
    "alignment": ((MEAN, STD, PRESENT), {"temperature": 0.5}),
    "distribution_info_nce": (PAIR, {"temperature": 0.5}),
    "info_nce": ((MEAN[:, :, 0], np.array([0, 1, 2, 0])), {"temperature": 0.5}),
    "masked_mean": ((MEAN[:, 0],), {}),
    "point_alignment": ((MEAN, PRESENT), {"temperature": 0.5}),
    "point_info_nce": ((MEAN[:, 0], MEAN[:, 1]), {"temperature": 0.5}),
    "squared_error": ((MEAN[:, 0], MEAN[:, 1]), {}),
    "supervised_contrastive": ((MEAN[:, 0], LABELS), {"temperature": 0.5}),
}
UNMASKED = {
    "entropy_floor": ((MEAN[:, 0],), {"floor_per_dim": 1.0}),
    "flow_nll_per_dim": ((MEAN[:, 0], MEAN[:, 1, 0]), {}),
    "gaussian_entropy": ((MEAN[:, 0],), {}),
    "pairwise_squared_mean_distance": (PAIR, {}),
    "pairwise_squared_w2": (PAIR, {}),
    "pairwise_symmetric_kl": (PAIR, {}),
    "squared_w2": (PAIR, {}),
}
WITH_TEMPERATURE = [name for name, (_, kwargs) in MASKED.items() if "temperature" in kwargs]


def call(name, *more, **changed):
    args, kwargs = (MASKED | UNMASKED)[name]
    return getattr(losses, name)(*args, *more, **kwargs | changed)


def test_the_tables_above_are_complete():
    assert sorted([*MASKED, *UNMASKED, "MaskedLoss"]) == losses.__all__
    for name in losses.__all__:
        assert (name in MASKED) == ("where" in inspect.signature(getattr(losses, name)).parameters), name


MASKS = {"where": np.ones(4, bool), "group": np.zeros(4, int), "candidate": np.ones(3, bool)}
ARGUMENTS = [
    (name, argument)
    for name, (args, _) in {**MASKED, **UNMASKED}.items()
    for place, argument in enumerate(inspect.signature(getattr(losses, name)).parameters)
    if argument in MASKS or place < len(args)
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_a_fault_names_the_argument(name, argument):
    args, kwargs = (MASKED | UNMASKED)[name]
    given = inspect.signature(getattr(losses, name)).bind(*args, **kwargs).arguments
    right = given.get(argument, np.ones(MEAN[:, 0].shape, bool) if name == "masked_mean" else MASKS.get(argument))
    other_type = right.astype(np.float32 if right.dtype.kind == "i" else np.int32)
    any_shape = argument in ("values", "log_std", "latent")
    for wrong in (other_type,) if any_shape else (other_type, right[None]):
        with pytest.raises(AssertionError, match=rf"\[.*\b{argument}\b.*\]"):
            getattr(losses, name)(**given | {argument: wrong})


@pytest.mark.parametrize("name", MASKED)
def test_where_is_all_true_if_left_out(name):
    shape = MEAN[:, 0].shape if name == "masked_mean" else (4,)
    compiled = jax.jit(lambda where: (call(name), call(name, None), call(name, where), call(name, where=where)))
    chex.assert_trees_all_close(*compiled(np.ones(shape, bool)), rtol=1e-6)
    chex.assert_trees_all_close(*jax.jit(lambda: (call(name), call(name, np.ones(shape, bool).tolist())))(), rtol=1e-6)


@pytest.mark.parametrize("name", [*MASKED, *UNMASKED])
def test_numpy_and_lists_give_jax_arrays(name):
    args, kwargs = (MASKED | UNMASKED)[name]
    loss_fn, out = getattr(losses, name), call(name)
    for leaf in jax.tree.leaves(out):
        assert isinstance(leaf, jax.Array)
    for convert in (jnp.asarray, np.ndarray.tolist):
        chex.assert_trees_all_equal(out, loss_fn(*map(convert, args), **kwargs))
    doubles = [x.astype(np.float64) if x.dtype == np.float32 else x for x in args]
    chex.assert_trees_all_equal(out, loss_fn(*doubles, **kwargs))


@pytest.mark.parametrize("name", [*MASKED, *UNMASKED])
def test_masked_losses_return_value_and_valid_and_reduce_in_one_way(name):
    out = call(name)
    if name == "masked_mean":
        return chex.assert_shape(out, ())
    assert isinstance(out, MaskedLoss if name in MASKED else jax.Array)
    if name in UNMASKED:
        return np.testing.assert_allclose(losses.masked_mean(out), np.mean(out), rtol=1e-5)
    value, valid = out
    chex.assert_equal_shape([value, valid])
    chex.assert_type([value, valid], [jnp.float32, bool])
    np.testing.assert_allclose(losses.masked_mean(*out), np.mean(value[valid]), rtol=1e-5)


def test_axis_name_is_given_by_keyword():
    with pytest.raises(TypeError):
        losses.masked_mean(jnp.ones(3), jnp.ones(3, bool), "batch")


@pytest.mark.parametrize("make", [float, np.float32, np.asarray, jnp.asarray, jnp.bfloat16], ids=lambda f: f.__name__)
@pytest.mark.parametrize("value", [0.0, -0.5, float("nan")])
@pytest.mark.parametrize("name", WITH_TEMPERATURE)
def test_temperature_must_be_positive(name, value, make):
    found = make(value)
    with pytest.raises(ValueError, match=f"temperature must be > 0, found {found}"):
        call(name, temperature=found)
    with pytest.raises(ValueError, match="temperature must be > 0"):  # a constant of a traced function is concrete, too
        jax.jit(lambda: call(name, temperature=found))()


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
def test_temperature_may_be_an_int_an_array_or_traced(name):
    value_and_grad = jax.jit(jax.value_and_grad(lambda t: losses.masked_mean(*call(name, temperature=t))))
    expected, grad = value_and_grad(2.0)
    assert jnp.isfinite(grad)
    value_and_grad(0.0)  # cannot be looked at
    for temperature in (2, np.asarray(2), jnp.bfloat16(2)):
        compiled = jax.jit(lambda temperature=temperature: call(name, temperature=temperature))
        np.testing.assert_allclose(losses.masked_mean(*compiled()), expected, rtol=1e-5)
    with pytest.raises(AssertionError):
        call(name, temperature=jnp.ones(4))


@pytest.mark.parametrize("name", ["", *MASKED, *UNMASKED])
def test_examples_print_what_they_say(name):
    [example] = doctest.DocTestFinder(recurse=False).find(getattr(losses, name) if name else losses, name or "losses")
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0
