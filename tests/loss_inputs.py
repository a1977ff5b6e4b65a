"""Inputs for the tests of the losses, and the contrastive losses with one signature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax import losses

TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
WHERE = np.array([True, True, False, True, True, True, False, True])
LABELS = np.array([0, 1, 0, 2, 0, 1, 1, 0], np.int32)  # row 3 is the only one of its class
PRESENT = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]], bool)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def gaussians(num_modalities=2, dim=5, num=8):
    """`mean, std`, `[B, M, D]`: modalities of an utterance resemble each other."""
    mean = normal(num, 1, dim, seed=1) + 0.5 * normal(num, num_modalities, dim, seed=2)
    return jnp.asarray(mean), jnp.asarray(np.exp(0.3 * normal(num, num_modalities, dim, seed=3)))


# Compiled once for all tests; the tests of each function itself call it with and without jit.
STATIC = ("distance", "positive_in_denominator", "axis_name")
DISTRIBUTION = jax.jit(losses.distribution_info_nce, static_argnames=STATIC)
POINTS = jax.jit(losses.point_info_nce, static_argnames=STATIC[1:])
ALIGNMENT = jax.jit(losses.alignment, static_argnames=STATIC)
POINT_ALIGNMENT = jax.jit(losses.point_alignment, static_argnames=STATIC[1:])
SUPERVISED = jax.jit(losses.supervised_contrastive, static_argnames="axis_name")


# The losses with one signature, `mean, std, where -> MaskedLoss`; points are `mean + std`.


def distribution(mean, std, where, **kwargs):
    kwargs = {"temperature": 0.5} | kwargs
    return DISTRIBUTION(mean[:, 0], std[:, 0], mean[:, 1], std[:, 1], where, **kwargs)


def points(mean, std, where, **kwargs):
    x = mean + std
    return POINTS(x[:, 0], x[:, 1], where, temperature=0.5, **kwargs)


def decoupled(mean, std, where, **kwargs):
    return distribution(mean, std, where, positive_in_denominator=False, **kwargs)


def decoupled_points(mean, std, where, **kwargs):
    return points(mean, std, where, positive_in_denominator=False, **kwargs)


def divergence(mean, std, where, **kwargs):
    return distribution(mean, std, where, distance=losses.pairwise_symmetric_kl, **kwargs)


def mean_only(mean, std, where, **kwargs):
    return distribution(mean, std, where, distance=losses.pairwise_squared_mean_distance, **kwargs)


def aligned(mean, std, where, present=PRESENT, **kwargs):
    return ALIGNMENT(mean, std, jnp.asarray(present), where, temperature=0.5, **kwargs)


def aligned_points(mean, std, where, present=PRESENT, **kwargs):
    return POINT_ALIGNMENT(mean + std, jnp.asarray(present), where, temperature=0.5, **kwargs)


def supervised(mean, std, where, labels=LABELS, **kwargs):
    return SUPERVISED((mean + std)[:, 0], jnp.asarray(labels), where, temperature=0.5, **kwargs)
