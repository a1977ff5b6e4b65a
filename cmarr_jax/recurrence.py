"""The recurrence of an LSTM, with a backward pass that gathers the weight gradient in one product.

The input projection stays outside, one product over all frames. Differentiating a plain `scan` would add a small
product for the recurrent kernel's gradient at each frame; here the gate gradients are stored and multiplied once.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array


@jax.custom_vjp
def lstm(projected: tuple[Array, ...], recurrent_kernel: Array) -> tuple[Array, ...]:
    """Hidden states of an LSTM that starts from zeros.

    `i, f, g, o = split(projected[t] + hidden[t - 1] @ recurrent_kernel)`,
    `cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)`, `hidden = sigmoid(o) * tanh(cell)`. A frame only depends on
    earlier ones, so frames after the end of an utterance change nothing before it and need no mask here.

    The product with the kernel is made in the dtype of `projected`; gates and states are float32 at least.

    Args:
      projected: Input projections with the bias, gates in the order i, f, g, o, as successive blocks of time
        `[t_k, n_k, 4 H]`, float, with falling `n_k`: block k goes on with the first `n_k` rows (`Staircase`).
      recurrent_kernel: `[H, 4 H]`, float.

    Returns:
      Hidden states of each block, `[t_k, n_k, H]`, float32 (or float64).

    References:
      Hochreiter and Schmidhuber, Long short-term memory, 1997, with the forget gate of Gers et al., 2000.
    """
    return _forward(projected, recurrent_kernel)[0]


def _forward(projected: tuple[Array, ...], recurrent_kernel: Array):
    chex.assert_rank([*projected, recurrent_kernel], [3] * len(projected) + [2])
    size = recurrent_kernel.shape[0]
    chex.assert_axis_dimension(recurrent_kernel, 1, 4 * size)
    kernel = recurrent_kernel.astype(projected[0].dtype)

    def step(carry, frame):
        hidden, cell = carry
        gates = _activate(frame + _product(hidden, kernel))
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = f * cell + i * g
        hidden = o * jnp.tanh(cell)
        return (hidden, cell), (hidden, cell, gates)

    hidden = cell = jnp.zeros((projected[0].shape[1], size), jnp.promote_types(kernel.dtype, jnp.float32))
    states = []
    for frames in projected:
        chex.assert_axis_dimension(frames, 2, 4 * size)
        rows = frames.shape[1]
        (hidden, cell), block = jax.lax.scan(step, (hidden[:rows], cell[:rows]), frames)
        states.append(block)
    return tuple(block[0] for block in states), (states, recurrent_kernel, projected[0][:0, :0])


def _backward(residuals, grad_output: tuple[Array, ...]):
    states, recurrent_kernel, like = residuals
    kernel = recurrent_kernel.astype(like.dtype)

    def step(carry, frame):
        grad_hidden, grad_cell = carry
        grad_out, cell_now, cell_before, gates_now = frame
        i, f, g, o = jnp.split(gates_now, 4, axis=-1)
        squashed = jnp.tanh(cell_now)
        grad_hidden = grad_hidden + grad_out
        grad_cell = grad_cell + grad_hidden * o * (1 - squashed**2)
        grad_gates = jnp.concatenate(
            [
                grad_cell * g * i * (1 - i),
                grad_cell * cell_before * f * (1 - f),
                grad_cell * i * (1 - g**2),
                grad_hidden * squashed * o * (1 - o),
            ],
            axis=-1,
        ).astype(like.dtype)
        return (_product(grad_gates, kernel.T), grad_cell * f), grad_gates

    hidden, cell, gates = zip(*states, strict=True)
    before = _before(cell)
    carry = (jnp.zeros_like(cell[-1][0]),) * 2
    grads: list[Array] = []
    for k in reversed(range(len(states))):
        missing = cell[k].shape[1] - carry[0].shape[0]
        carry = jax.tree.map(lambda x, missing=missing: jnp.pad(x, ((0, missing), (0, 0))), carry)
        carry, grad_gates = jax.lax.scan(step, carry, (grad_output[k], cell[k], before[k], gates[k]), reverse=True)
        grads.insert(0, grad_gates)
    flatten = lambda blocks: jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in blocks])
    grad_kernel = _product(flatten(_before(hidden)).T, flatten(grads))
    return tuple(grads), grad_kernel.astype(recurrent_kernel.dtype)


def _product(a: Array, b: Array) -> Array:
    """`a @ b` in the dtype of `b`, summed in float32 at least."""
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=jnp.promote_types(b.dtype, jnp.float32))


def _activate(gates: Array) -> Array:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return jnp.concatenate([jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)], axis=-1)


def _before(states: Sequence[Array]) -> list[Array]:
    """The state before each frame, zeros first, of blocks `[t_k, n_k, H]`."""
    first = [jnp.zeros_like(states[0][:1]), *(block[-1:] for block in states[:-1])]
    return [
        jnp.concatenate([start[:, : block.shape[1]], block[:-1]]) for start, block in zip(first, states, strict=True)
    ]


lstm.defvjp(_forward, _backward)
