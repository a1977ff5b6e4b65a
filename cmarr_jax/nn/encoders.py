"""Unimodal encoders: frames or one vector per utterance -> one embedding per utterance.

Padding never counts: an utterance's embedding does not depend on its batch mates or on the padded length.
After MMIN (Zhao et al., ACL 2021), whose code lets padding into recurrence and pooling.

Marks C, L, D: docs/decisions.md.
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from cmarr_jax.config import EncoderConfig, ModalityConfig
from cmarr_jax.data.packed import as_packed, valid_frames, without_padding
from cmarr_jax.nn.blocks import masked_max_over_time, time_first, to_batch_rows, unfold
from cmarr_jax.nn.convolution import WIDEST, conv_direct, conv_one, conv_winograd
from cmarr_jax.nn.dropout import Dropout, Rate
from cmarr_jax.nn.recurrence import lstm
from cmarr_jax.types import Array, Batch, PackedFrames


class LstmEncoder(nn.Module):
    """One-directional LSTM and maximum over the valid frames (L: MMIN), optionally with self-attention between."""

    size: int
    attention: bool = False
    heads: int = 4
    dtype: str = "float32"

    @nn.compact
    def __call__(self, frames: Array | PackedFrames, length: Array, *, dropout: Rate = None) -> Array:
        """`frames [B, T, D]` or packed frames, `length [B]` int -> `[B, size]`. A length of 0 gives zeros."""
        packed = as_packed(without_padding(frames, length))
        blocks, gates = [block.astype(self.dtype) for block in time_first(packed)], 4 * self.size
        xavier = _per_gate(nn.initializers.xavier_uniform())
        input_kernel = self.param("input_kernel", xavier, (blocks[0].shape[-1], gates))
        bias = self.param("bias", nn.initializers.zeros, (gates,))
        recurrent_kernel = self.param("recurrent_kernel", _per_gate(orthogonal), (self.size, gates))
        hidden = list(lstm(tuple(blocks), input_kernel, bias, recurrent_kernel))
        if self.attention:
            whole = unfold(hidden).swapaxes(0, 1)
            inside = valid_frames(length[packed.row], whole.shape[1])
            pairs = inside[:, None, :, None] & inside[:, None, None, :]
            attention = nn.MultiHeadDotProductAttention(num_heads=self.heads, name="attention")
            hidden = [(whole + attention(whole, mask=pairs)).swapaxes(0, 1)]
        return to_batch_rows(masked_max_over_time(hidden, length[packed.row][:, None]), packed)


class ConvEncoder(nn.Module):
    """Convolutions over time of several widths, maximum over time, one layer (L: MMIN's text encoder, Kim 2014).

    A window counts if it lies inside the utterance; an utterance shorter than the window is filled up with zeros. How
    it is computed depends on the device: `convolution.py`.
    """

    size: int
    channels: int
    widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, frames: Array | PackedFrames, length: Array, *, dropout: Rate = None) -> Array:
        """`frames [B, T, D]` or packed frames, `length [B]` int -> `[B, size]`. A length of 0 gives what zeros give."""
        packed = as_packed(without_padding(frames, length))
        width_in = packed.blocks[0].shape[-1]
        normal = nn.initializers.lecun_normal(in_axis=(0, 2), out_axis=1)
        kernels = [self.param(f"kernel_{w}", normal, (w, self.channels, width_in)) for w in self.widths]
        counted = [jnp.maximum(length[packed.row] - width + 1, 1) for width in self.widths]
        windows = [block.astype(jnp.float32) for block in self._windows(packed, kernels)]
        pooled = to_batch_rows(
            masked_max_over_time(windows, jnp.repeat(jnp.stack(counted, axis=1), self.channels, axis=1)), packed
        )
        bias = self.param("bias", nn.initializers.zeros, (self.channels * len(self.widths),))
        features = nn.relu(pooled + bias[None])
        features = Dropout()(features, dropout)
        return nn.relu(nn.Dense(self.size, name="output")(features))

    def _windows(self, packed: PackedFrames, kernels: Sequence[Array]) -> list[Array]:
        blocks, dtype = time_first(packed), jnp.dtype(self.dtype)
        known = all(isinstance(size, int) for block in blocks for size in block.shape)  # an export has symbols
        if known and dtype == jnp.float32 and jax.default_backend() == "cpu":
            if blocks[0].shape[1] == 1:
                return conv_one(blocks, kernels)
            if max(self.widths) <= WIDEST:
                return conv_winograd(blocks, kernels)
        return conv_direct([block.astype(dtype) for block in blocks], [kernel.astype(dtype) for kernel in kernels])


class VectorEncoder(nn.Module):
    """Two layers for a modality with one vector per utterance (D)."""

    size: int

    @nn.compact
    def __call__(self, vector: Array, length: Array | None = None, *, dropout: Rate = None) -> Array:
        """`vector [B, D]` -> `[B, size]`."""
        chex.assert_rank(vector, 2)
        hidden = nn.relu(nn.Dense(self.size, name="hidden")(vector))
        hidden = Dropout()(hidden, dropout)
        return nn.relu(nn.Dense(self.size, name="output")(hidden))


class UnimodalEncoders(nn.Module):
    """One encoder per modality, `Batch -> [B, M, D]`; rows of modalities that an utterance lacks are not meaningful.

    Attributes:
      config: All modalities.
      columns: Those to encode; all by default.
    """

    config: EncoderConfig
    columns: tuple[int, ...] | None = None

    @nn.compact
    def __call__(self, batch: Batch, *, dropout: Rate = None) -> Array:
        embeddings = []
        for column in range(self.config.num_modalities) if self.columns is None else self.columns:
            modality = self.config.modalities[column]
            features = batch.features[modality.name]
            has, length = batch.present[:, column], batch.length.get(modality.name)
            encoder = make_encoder(modality, self.config, name=f"encoder_{modality.name}")
            if length is None:
                features = jnp.where(has[:, None], features, 0)
            else:
                length = jnp.where(has, length, 0)
            embeddings.append(encoder(features, length, dropout=dropout))
        return jnp.stack(embeddings, axis=1)


def make_encoder(modality: ModalityConfig, config: EncoderConfig, *, name: str | None = None) -> nn.Module:
    """The encoder that `modality.encoder` names, `[B, ...] -> [B, config.embedding]`."""
    if modality.encoder == "lstm":
        return LstmEncoder(config.embedding, config.frame_attention, config.attention_heads, config.dtype, name=name)
    if modality.encoder == "conv":
        widths, dtype = config.conv_widths, config.dtype
        return ConvEncoder(config.embedding, config.conv_channels, widths, dtype, name=name)
    return VectorEncoder(config.embedding, name=name)


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
