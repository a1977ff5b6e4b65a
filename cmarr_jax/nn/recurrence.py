"""An LSTM with its own backward pass, which gathers the weight gradients in one product each.

Differentiating a plain `scan` would add a small product for the recurrent kernel's gradient at each frame; here the
gate gradients are stored and multiplied once. Gates are written over the input projections that they come from: on a
CPU, zeroing fresh memory takes as long as the arithmetic.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp

from cmarr_jax.types import Array


@jax.custom_vjp
def lstm(frames: tuple[Array, ...], input_kernel: Array, bias: Array, recurrent_kernel: Array) -> tuple[Array, ...]:
    """Hidden states of an LSTM that starts from zeros.

    `i, f, g, o = split(frames[t] @ input_kernel + bias + hidden[t - 1] @ recurrent_kernel)`,
    `cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)`, `hidden = sigmoid(o) * tanh(cell)`. A frame only depends on
    earlier ones, so frames after the end of an utterance change nothing before it and need no mask here.

    Products are made in the dtype of `frames`; gates and states are float32 at least.

    Args:
      frames: Successive blocks of time `[t_k, n_k, D]`, float, with falling `n_k`: block k goes on with the first
        `n_k` rows (`PackedFrames`).
      input_kernel: `[D, 4 H]`, float, gates in the order i, f, g, o.
      bias: `[4 H]`, float.
      recurrent_kernel: `[H, 4 H]`, float.

    Returns:
      Hidden states of each block, `[t_k, n_k, H]`, float32 (or float64).

    References:
      Hochreiter and Schmidhuber, Long short-term memory, 1997, with the forget gate of Gers et al., 2000.
    """
    return _forward(frames, input_kernel, bias, recurrent_kernel)[0]


def _forward(frames: tuple[Array, ...], input_kernel: Array, bias: Array, recurrent_kernel: Array):
    chex.assert_rank([*frames, input_kernel, bias, recurrent_kernel], [3] * len(frames) + [2, 1, 2])
    size, dtype = recurrent_kernel.shape[0], frames[0].dtype
    chex.assert_shape(
        [input_kernel, bias, recurrent_kernel], [(frames[0].shape[2], 4 * size), (4 * size,), (size, 4 * size)]
    )
    of_input, of_hidden = input_kernel.astype(dtype), recurrent_kernel.astype(dtype)

    def step(time, carry):
        gates, hiddens, cells, hidden, cell = carry
        activated = _activate(_at(gates, time) + bias[None] + _product(hidden, of_hidden))
        i, f, g, o = jnp.split(activated, 4, axis=-1)
        cell = f * cell + i * g
        hidden = o * jnp.tanh(cell)
        return _put(gates, activated, time), _put(hiddens, hidden, time + 1), _put(cells, cell, time + 1), hidden, cell

    hidden = cell = jnp.zeros((frames[0].shape[1], size), jnp.promote_types(dtype, jnp.float32))
    states = []
    for block in frames:
        num_frames, rows, _ = block.shape
        hidden, cell = hidden[:rows], cell[:rows]
        # What each step starts from, and what the last one leaves: hidden and cell at one place more than the gates.
        first = [jnp.pad(state[None], ((0, num_frames), (0, 0), (0, 0))) for state in (hidden, cell)]
        carry = (_product(block, of_input), *first, hidden, cell)
        *block_states, hidden, cell = jax.lax.fori_loop(0, num_frames, step, carry)
        states.append(tuple(block_states))
    return tuple(hiddens[1:] for _, hiddens, _ in states), (states, frames, input_kernel, bias, recurrent_kernel)


def _backward(residuals, grad_output: tuple[Array, ...]):
    states, frames, input_kernel, bias, recurrent_kernel = residuals
    dtype = frames[0].dtype
    of_hidden = recurrent_kernel.astype(dtype)

    def step(block, number, carry):
        grads, grad_hidden, grad_cell = carry
        gates, cells, grad_out = block
        time = len(gates) - 1 - number
        i, f, g, o = jnp.split(_at(gates, time), 4, axis=-1)
        squashed = jnp.tanh(_at(cells, time + 1))
        grad_hidden = grad_hidden + _at(grad_out, time)
        grad_cell = grad_cell + grad_hidden * o * (1 - squashed**2)
        grad_gates = jnp.concatenate(
            [
                grad_cell * g * i * (1 - i),
                grad_cell * _at(cells, time) * f * (1 - f),
                grad_cell * i * (1 - g**2),
                grad_hidden * squashed * o * (1 - o),
            ],
            axis=-1,
        ).astype(dtype)
        return _put(grads, grad_gates, time), _product(grad_gates, of_hidden.T), grad_cell * f

    carry = (jnp.zeros_like(states[-1][1][0]),) * 2
    grads: list[Array] = []
    for (gates, _, cells), grad_out in zip(reversed(states), reversed(grad_output), strict=True):
        rows = gates.shape[1]
        carry = jax.tree.map(lambda x, rows=rows: jnp.pad(x, ((0, rows - len(x)), (0, 0))), carry)
        block = (gates, cells, grad_out)
        start = (jnp.zeros(gates.shape, dtype), *carry)
        grad_gates, *carry = jax.lax.fori_loop(0, len(gates), partial(step, block), start)
        grads.insert(0, grad_gates)
    add_up = lambda parts: jax.tree.reduce(jnp.add, list(parts))
    gather = lambda inputs: add_up(_product(_rows(x).T, _rows(grad)) for x, grad in zip(inputs, grads, strict=True))
    return (
        tuple(_product(grad, input_kernel.astype(dtype).T).astype(dtype) for grad in grads),
        gather(frames).astype(input_kernel.dtype),
        add_up(jnp.sum(_rows(grad), axis=0, dtype=bias.dtype) for grad in grads),
        gather([hiddens[:-1] for _, hiddens, _ in states]).astype(recurrent_kernel.dtype),
    )


def _product(a: Array, b: Array) -> Array:
    """`a @ b` in the dtype of `b`, summed in float32 at least."""
    return jnp.matmul(a.astype(b.dtype), b, preferred_element_type=jnp.promote_types(b.dtype, jnp.float32))


def _activate(gates: Array) -> Array:
    """Sigmoid of i, f and o, tanh of g, as one tanh: `sigmoid(x) = (1 + tanh(x / 2)) / 2`."""
    is_sigmoid = jnp.repeat(jnp.array([True, True, False, True]), gates.shape[-1] // 4)[None]
    scale = jnp.where(is_sigmoid, 0.5, 1.0).astype(gates.dtype)
    return jnp.tanh(gates * scale) * scale + jnp.where(is_sigmoid, 0.5, 0.0).astype(gates.dtype)


def _rows(frames: Array) -> Array:
    return frames.reshape(-1, frames.shape[-1])


def _at(frames: Array, time: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(frames, time, keepdims=False)


def _put(frames: Array, frame: Array, time: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(frames, frame, time, 0)


lstm.defvjp(_forward, _backward)
