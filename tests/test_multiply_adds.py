"""The count of multiply-adds of the benchmarks, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.multiply_adds import multiply_adds

X = jnp.ones((4, 5))


def test_products_inside_a_scan_count_as_often_as_they_run():
    run = lambda x, kernels: jax.lax.scan(lambda carry, kernel: (carry @ kernel, None), x, kernels)[0]
    assert multiply_adds(run, X, jnp.ones((3, 5, 5))) == 3 * 4 * 5 * 5
    assert multiply_adds(jax.jit(run), X, jnp.ones((3, 5, 5))) == 3 * 4 * 5 * 5


def test_a_gradient_costs_a_product_for_each_operand():
    loss = lambda x, kernel: jnp.sum((x @ kernel) ** 2)
    kernel = jnp.ones((5, 6))
    assert multiply_adds(jax.grad(loss, argnums=1), X, kernel) == 2 * 4 * 5 * 6
    assert multiply_adds(jax.grad(loss, argnums=(0, 1)), X, kernel) == 3 * 4 * 5 * 6


def test_batched_products_count_every_batch():
    assert multiply_adds(jax.vmap(jnp.matmul), jnp.ones((7, 4, 5)), jnp.ones((7, 5, 6))) == 7 * 4 * 5 * 6


def test_a_loop_of_unknown_length_is_refused():
    loop = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ jnp.ones((5, 5)), x)
    with pytest.raises(ValueError, match="a product stands in a while loop"):
        multiply_adds(loop, X)
