"""Fusion of the modalities' points and the classifier (L: MMIN; the attention variant is D).

Marks C, L, D: docs/decisions.md.
"""

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax.config import EncoderConfig, check_choice, check_heads
from cmarr_jax.nn.dropout import Dropout, Rate
from cmarr_jax.types import Array

FUSIONS = ("concat", "attention")


class FusionClassifier(nn.Module):
    """Points of all modalities, `[B, M, D]` -> logits, `[B, K]`.

    Attributes:
      config: Width and attention heads.
      num_classes: K.
      kind: `concat`: two layers on the concatenation. `attention`: self-attention over the M points first.
      availability_bits: D: whether the layers are told which modalities are available, as M numbers 0 or 1.
      late_logits: D: whether a linear layer per available modality adds its own logits.
    """

    config: EncoderConfig
    num_classes: int
    kind: str = "concat"
    availability_bits: bool = False
    late_logits: bool = False

    @nn.compact
    def __call__(self, points: Array, available: Array | None = None, *, dropout: Rate = None) -> Array:
        """Logits from points `[B, M, D]`; `available [B, M]`, bool, is needed by the two variants that read it."""
        check_choice("fusion", self.kind, FUSIONS)
        if available is None and (self.availability_bits or self.late_logits):
            raise ValueError("this classifier needs to know which modalities are available")
        size, given = self.config.embedding, points
        if self.kind == "attention":
            check_heads(size, self.config.attention_heads)
            modality = self.param("modality", nn.initializers.normal(0.02), points.shape[1:])
            tokens = nn.LayerNorm()(points + modality[None])
            points = points + nn.MultiHeadDotProductAttention(num_heads=self.config.attention_heads)(tokens)
        x = jnp.reshape(points, (points.shape[0], -1))
        if self.availability_bits and available is not None:
            x = jnp.concatenate([x, available.astype(x.dtype)], axis=-1)
        for _ in range(2):
            x = nn.relu(nn.Dense(size)(x))
            x = Dropout()(x, dropout)
        logits = nn.Dense(self.num_classes, name="logits")(x)
        if self.late_logits and available is not None:
            # One layer on the concatenation, with zeros for what is not available, is the sum of one per modality.
            seen = jnp.where(available[..., None], given, 0.0).reshape(given.shape[0], -1)
            logits = logits + nn.Dense(self.num_classes, use_bias=False, name="late_logits")(seen)
        return logits
