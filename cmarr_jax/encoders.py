"""Unimodal encoders: frames or one vector per utterance -> one embedding per utterance.

Padding never counts: an utterance's embedding does not depend on its batch mates or on the padded length.
After MMIN (Zhao et al., ACL 2021), whose code lets padding into recurrence and pooling.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.config import ModalityConfig, ModelConfig
from cmarr_jax.recurrence import lstm
from cmarr_jax.staircase import as_staircase, project, to_batch_rows, unfold, valid_blocks, without_padding
from cmarr_jax.types import Array, Staircase


class LstmEncoder(nn.Module):
    """One-directional LSTM and maximum over the valid frames (L: MMIN), optionally with self-attention between."""

    size: int
    attention: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, frames: Array | Staircase, length: Array, *, train: bool = False) -> Array:
        """`frames [B, T, D]` or a staircase, `length [B]` int -> `[B, size]`. A length of 0 gives zeros."""
        stairs = as_staircase(without_padding(frames, length))
        kernel = self.param("recurrent", _per_gate(orthogonal), (self.size, 4 * self.size))
        dense = nn.Dense(
            4 * self.size, dtype=self.dtype, kernel_init=_per_gate(nn.initializers.xavier_uniform()), name="input"
        )
        projected = project(dense, [block.swapaxes(0, 1) for block in stairs.blocks])
        hidden = [block.swapaxes(0, 1) for block in lstm(tuple(projected), kernel)]
        valid = valid_blocks(stairs, length)
        if self.attention:
            whole, inside = unfold(hidden), unfold([block[..., None] for block in valid])[..., 0]
            pairs = inside[:, None, :, None] & inside[:, None, None, :]
            attention = nn.MultiHeadDotProductAttention(num_heads=4, name="attention")
            hidden, valid = [whole + attention(whole, mask=pairs)], [inside]
        return to_batch_rows(masked_max(hidden, valid), stairs)


class ConvEncoder(nn.Module):
    """Convolutions over time of several widths, maximum over time, one layer (L: MMIN's text encoder, Kim 2014).

    A window counts if it lies inside the utterance; an utterance shorter than the window is filled up with zeros. All
    taps of all windows are one matrix product, then shifted and added.
    """

    size: int
    channels: int
    widths: Sequence[int]
    dropout: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, frames: Array | Staircase, length: Array, *, train: bool = False) -> Array:
        """`frames [B, T, D]` or a staircase, `length [B]` int -> `[B, size]`. A length of 0 gives what zeros give."""
        stairs = as_staircase(without_padding(frames, length))
        width_in = stairs.blocks[0].shape[-1]
        kernels = [
            self.param(
                f"kernel_{width}", nn.initializers.lecun_normal(in_axis=(0, 1)), (width, width_in, self.channels)
            )
            for width in self.widths
        ]
        taps = jnp.concatenate([tap for kernel in kernels for tap in kernel], axis=-1).astype(self.dtype)
        products = unfold(project(lambda flat: flat.astype(self.dtype) @ taps, stairs.blocks))
        num_frames = products.shape[1]
        products = jnp.pad(products, ((0, 0), (0, max(self.widths) - 1), (0, 0)))
        parts = iter(jnp.split(products, sum(self.widths), axis=-1))
        length, pooled = length[stairs.row], []
        for width in self.widths:
            windows = sum(
                (next(parts)[:, tap : tap + num_frames] for tap in range(1, width)),
                start=next(parts)[:, :num_frames],
            )
            inside = valid_frames(jnp.maximum(length - width + 1, 1), num_frames)
            pooled.append(masked_max([windows], [inside]))
        highest = to_batch_rows(jnp.concatenate(pooled, axis=-1).astype(jnp.float32), stairs)
        bias = self.param("bias", nn.initializers.zeros, (self.channels * len(self.widths),))
        features = nn.relu(highest + bias[None])
        features = nn.Dropout(self.dropout, deterministic=not train)(features)
        return nn.relu(nn.Dense(self.size, name="output")(features))


class VectorEncoder(nn.Module):
    """Two layers for a modality with one vector per utterance (D)."""

    size: int
    dropout: float

    @nn.compact
    def __call__(self, vector: Array, length: Array | None = None, *, train: bool = False) -> Array:
        """`vector [B, D]` -> `[B, size]`."""
        chex.assert_rank(vector, 2)
        hidden = nn.relu(nn.Dense(self.size, name="hidden")(vector))
        hidden = nn.Dropout(self.dropout, deterministic=not train)(hidden)
        return nn.relu(nn.Dense(self.size, name="output")(hidden))


def make_encoder(modality: ModalityConfig, config: ModelConfig, *, name: str | None = None) -> nn.Module:
    """The encoder that `modality.encoder` names, `[B, ...] -> [B, config.embedding]`."""
    if modality.encoder == "lstm":
        return LstmEncoder(config.embedding, config.frame_attention, config.encoder_dtype, name=name)
    if modality.encoder == "conv":
        widths, dtype = config.conv_widths, config.encoder_dtype
        return ConvEncoder(config.embedding, config.conv_channels, widths, config.dropout, dtype, name=name)
    return VectorEncoder(config.embedding, config.dropout, name=name)


def valid_frames(length: Array, num_frames: int) -> Array:
    """`[B] -> [B, T]` bool, `True` for the first `length` frames."""
    return jnp.arange(num_frames)[None] < length[:, None]


def masked_max(blocks: Sequence[Array], valid: Sequence[Array]) -> Array:
    """Maximum over the valid frames of blocks `[n_k, t_k, D]`, `[n_k, t_k]` -> `[B, D]`; zeros where none is valid."""
    rows, lowest = blocks[0].shape[0], jnp.finfo(blocks[0].dtype).min
    highest = [jnp.max(jnp.where(v[..., None], block, lowest), axis=1) for block, v in zip(blocks, valid, strict=True)]
    fill_up = lambda x, value: jnp.pad(x, ((0, rows - len(x)),) + ((0, 0),) * (x.ndim - 1), constant_values=value)
    whole = jnp.max(jnp.stack([fill_up(block, lowest) for block in highest]), axis=0)
    some = jnp.any(jnp.stack([fill_up(v.any(axis=1), False) for v in valid]), axis=0)
    return jnp.where(some[:, None], whole, 0)


def orthogonal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
    """A random orthogonal matrix `[H, H]`, uniform over all: the orthogonal factor nearest to a Gaussian matrix.

    By Newton and Schulz's iteration, in products only. The usual QR factorisation is a LAPACK call on a CPU, which, of
    several matrices at once, was seen to hang for good there (jaxlib 0.10.2, two such calls in one program).
    """
    gaussian = jax.random.normal(key, shape, dtype)
    product = lambda a, b: jnp.matmul(a, b, precision="float32")
    closer = lambda _, x: 1.5 * x - 0.5 * product(product(x, x.T), x)
    # Singular values start in (0, 1] and grow by at most 1.5 a turn: 50 turns bring the smallest from 1e-7 to 1.
    return jax.lax.fori_loop(0, 50, closer, gaussian / jnp.linalg.norm(gaussian))


def _per_gate(initializer: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Initialises the four gates of `[..., 4 H]` one by one, as four kernels `[..., H]`."""

    def init(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
        gate = (*shape[:-1], shape[-1] // 4)
        kernels = jax.vmap(lambda k: initializer(k, gate, dtype), out_axes=-2)(jax.random.split(key, 4))
        return kernels.reshape(shape)

    return init
