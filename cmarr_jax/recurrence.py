"""The recurrence of an LSTM, with a backward pass that gathers the weight gradient in one product.

The input projection stays outside, one product over all frames. Differentiating a plain `scan` would add a small
product for the recurrent kernel's gradient at each frame; here the gate gradients are stored and multiplied once.
"""

import chex
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array


@jax.custom_vjp
def lstm(projected: Array, recurrent_kernel: Array) -> Array:
    """Hidden states of an LSTM that starts from zeros.

    `i, f, g, o = split(projected[t] + hidden[t - 1] @ recurrent_kernel)`,
    `cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)`, `hidden = sigmoid(o) * tanh(cell)`. A frame only depends on
    earlier ones, so frames after the end of an utterance change nothing before it and need no mask here.

    Args:
      projected: Input projections with the bias, gates in the order i, f, g, o: `[T, B, 4 H]`, float.
      recurrent_kernel: `[H, 4 H]`, float.

    Returns:
      Hidden states, `[T, B, H]`, in the dtype of `projected`.

    References:
      Hochreiter and Schmidhuber, Long short-term memory, 1997, with the forget gate of Gers et al., 2000.
    """
    return _forward(projected, recurrent_kernel)[0]


def _forward(projected: Array, recurrent_kernel: Array):
    chex.assert_rank([projected, recurrent_kernel], [3, 2])
    size = recurrent_kernel.shape[0]
    chex.assert_axis_dimension(projected, 2, 4 * size)
    chex.assert_axis_dimension(recurrent_kernel, 1, 4 * size)

    def step(carry, frame):
        hidden, cell = carry
        gates = _activate(frame + hidden @ recurrent_kernel)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = f * cell + i * g
        hidden = o * jnp.tanh(cell)
        return (hidden, cell), (hidden, cell, gates)

    zeros = jnp.zeros((projected.shape[1], size), projected.dtype)
    _, (hidden, cell, gates) = jax.lax.scan(step, (zeros, zeros), projected)
    return hidden, (hidden, cell, gates, recurrent_kernel)


def _backward(residuals, grad_output: Array):
    hidden, cell, gates, recurrent_kernel = residuals

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
        )
        return (grad_gates @ recurrent_kernel.T, grad_cell * f), grad_gates

    zeros = jnp.zeros_like(hidden[0])
    frames = (grad_output, cell, _shift(cell), gates)
    _, grad_projected = jax.lax.scan(step, (zeros, zeros), frames, reverse=True)
    grad_kernel = jnp.einsum("tbh,tbg->hg", _shift(hidden), grad_projected)
    return grad_projected, grad_kernel.astype(recurrent_kernel.dtype)


def _activate(gates: Array) -> Array:
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    return jnp.concatenate([jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)], axis=-1)


def _shift(states: Array) -> Array:
    """The state before each frame, zeros first: `[T, B, H] -> [T, B, H]`."""
    return jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]])


lstm.defvjp(_forward, _backward)
