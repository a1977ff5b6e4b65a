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
from cmarr_jax.types import Array


class LstmEncoder(nn.Module):
    """One-directional LSTM and maximum over the valid frames (L: MMIN), optionally with self-attention between."""

    size: int
    attention: bool = False

    @nn.compact
    def __call__(self, frames: Array, length: Array, *, train: bool = False) -> Array:
        """`frames [B, T, D]`, `length [B]` int -> `[B, size]`. An utterance of length 0 gives zeros."""
        chex.assert_rank([frames, length], [3, 1])
        kernel = self.param("recurrent", _per_gate(nn.initializers.orthogonal()), (self.size, 4 * self.size))
        project = nn.Dense(4 * self.size, kernel_init=_per_gate(nn.initializers.xavier_uniform()), name="input")
        hidden = lstm(project(frames.swapaxes(0, 1)), kernel).swapaxes(0, 1)
        valid = valid_frames(length, frames.shape[1])
        if self.attention:
            pairs = valid[:, None, :, None] & valid[:, None, None, :]
            hidden = hidden + nn.MultiHeadDotProductAttention(num_heads=4, name="attention")(hidden, mask=pairs)
        return masked_max(hidden, valid)


class ConvEncoder(nn.Module):
    """Convolutions over time of several widths, maximum over time, one layer (L: MMIN's text encoder, Kim 2014).

    A window counts if it lies inside the utterance; an utterance shorter than the window is filled up with zeros. All
    taps of all windows are one matrix product, then shifted and added.
    """

    size: int
    channels: int
    widths: Sequence[int]
    dropout: float

    @nn.compact
    def __call__(self, frames: Array, length: Array, *, train: bool = False) -> Array:
        """`frames [B, T, D]`, `length [B]` int -> `[B, size]`. An utterance of length 0 gives what zeros give."""
        chex.assert_rank([frames, length], [3, 1])
        num_frames, width_in = frames.shape[1:]
        frames = jnp.where(valid_frames(length, num_frames)[..., None], frames, 0)
        frames = jnp.pad(frames, ((0, 0), (0, max(self.widths) - 1), (0, 0)))
        kernels = [
            self.param(
                f"kernel_{width}", nn.initializers.lecun_normal(in_axis=(0, 1)), (width, width_in, self.channels)
            )
            for width in self.widths
        ]
        taps = jnp.concatenate([tap for kernel in kernels for tap in kernel], axis=-1)
        products = iter(jnp.split(frames @ taps.astype(frames.dtype), sum(self.widths), axis=-1))
        pooled = []
        for width in self.widths:
            windows = sum(
                (next(products)[:, tap : tap + num_frames] for tap in range(1, width)),
                start=next(products)[:, :num_frames],
            )
            inside = valid_frames(jnp.maximum(length - width + 1, 1), num_frames)
            pooled.append(masked_max(windows, inside))
        bias = self.param("bias", nn.initializers.zeros, (self.channels * len(self.widths),))
        features = nn.relu(jnp.concatenate(pooled, axis=-1) + bias[None])
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
        return LstmEncoder(config.embedding, config.frame_attention, name=name)
    if modality.encoder == "conv":
        return ConvEncoder(config.embedding, config.conv_channels, config.conv_widths, config.dropout, name=name)
    return VectorEncoder(config.embedding, config.dropout, name=name)


def valid_frames(length: Array, num_frames: int) -> Array:
    """`[B] -> [B, T]` bool, `True` for the first `length` frames."""
    return jnp.arange(num_frames)[None] < length[:, None]


def masked_max(frames: Array, valid: Array) -> Array:
    """Maximum over the valid frames, `[B, T, D], [B, T] -> [B, D]`; zeros where no frame is valid."""
    lowest = jnp.finfo(frames.dtype).min
    highest = jnp.max(jnp.where(valid[..., None], frames, lowest), axis=1)
    return jnp.where(valid.any(axis=1)[:, None], highest, 0)


def _per_gate(initializer: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Initialises the four gates of `[..., 4 H]` one by one, as four kernels `[..., H]`."""

    def init(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
        gate = (*shape[:-1], shape[-1] // 4)
        return jnp.concatenate([initializer(k, gate, dtype) for k in jax.random.split(key, 4)], axis=-1)

    return init
