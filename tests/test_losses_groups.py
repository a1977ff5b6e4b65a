"""Alignment within groups: rows are contrasted with rows of their own group only."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_inputs import PRESENT, WHERE, gaussians

from cmarr_jax import losses

GROUP = np.array([4, 4, 0, 4, 0, 0, 4, 7], np.int32)  # the last is alone


def gaussian_alignment(mean, std, present, where, **kwargs):
    return losses.alignment(mean, std, present, where, temperature=0.5, **kwargs)


def point_alignment(mean, std, present, where, **kwargs):
    return losses.point_alignment(mean, present, where, temperature=0.5, **kwargs)


BOTH = pytest.mark.parametrize("loss_fn", [gaussian_alignment, point_alignment])


def inputs():
    return (*gaussians(3), jnp.asarray(PRESENT), jnp.asarray(WHERE))


@BOTH
@pytest.mark.parametrize("positive_in_denominator", [True, False])
def test_a_group_has_the_values_of_its_rows_alone(loss_fn, positive_in_denominator):
    loss_fn = partial(loss_fn, positive_in_denominator=positive_in_denominator)
    found = jax.jit(loss_fn)(*inputs(), group=jnp.asarray(GROUP))
    together = loss_fn(*inputs())
    for number in np.unique(GROUP):
        rows = number == GROUP
        alone = loss_fn(*(x[rows] for x in inputs()))
        chex.assert_trees_all_close(jax.tree.map(lambda x, rows=rows: x[rows], found), alone, rtol=1e-5, atol=1e-6)
    assert float(abs(found.value - together.value).max()) > 0.05
    everyone = loss_fn(*inputs(), group=jnp.zeros(8, jnp.int32))
    chex.assert_trees_all_equal(everyone, together)


@BOTH
def test_a_row_alone_in_its_group_adds_nothing(loss_fn):
    alone = {"where": jnp.ones(8, bool), "present": jnp.ones((8, 3), bool), "group": jnp.arange(8)}
    mean, std = gaussians(3)
    value, grads = jax.value_and_grad(lambda mean: loss_fn(mean, std, **alone).value.sum())(mean)
    assert value == 0.0
    assert not grads.any()
    assert not loss_fn(mean, std, positive_in_denominator=False, **alone).valid.any()


@BOTH
def test_four_devices_equal_one(loss_fn):
    def share(mean, std, present, where, group, axis_name=None):
        return losses.masked_mean(
            *loss_fn(mean, std, present, where, group=group, axis_name=axis_name), axis_name=axis_name
        )

    batch = *inputs(), jnp.asarray(GROUP)
    one = jax.jit(jax.value_and_grad(share))(*batch)
    step = lambda *batch: jax.value_and_grad(lambda mean: share(mean, *batch[1:], axis_name="batch"))(batch[0])
    value, grads = jax.pmap(step, "batch")(*(x.reshape(4, 2, *x.shape[1:]) for x in batch))
    chex.assert_trees_all_close((value.sum(), grads.reshape(one[1].shape)), one, rtol=1e-5, atol=1e-5)


@BOTH
def test_wrong_groups_are_refused(loss_fn):
    for group in (jnp.zeros(7, jnp.int32), jnp.zeros((8, 1), jnp.int32), jnp.zeros(8)):
        with pytest.raises(AssertionError):
            loss_fn(*inputs(), group=group)
