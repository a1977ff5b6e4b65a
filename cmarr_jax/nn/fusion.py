"""Fusion of the modalities' points and the classifier (L: MMIN; the attention variant is D).

Marks C, L, D: docs/decisions.md.
"""

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax.config import EncoderConfig, check_choice, check_heads
from cmarr_jax.types import Array

FUSIONS = ("concat", "attention")


class FusionClassifier(nn.Module):
    """Points of all modalities, `[B, M, D]` -> logits, `[B, K]`.

    `concat`: two layers on the concatenation. `attention`: self-attention over the M points first.
    """

    config: EncoderConfig
    num_classes: int
    kind: str = "concat"

    @nn.compact
    def __call__(self, points: Array, *, train: bool = False) -> Array:
        check_choice("fusion", self.kind, FUSIONS)
        size = self.config.embedding
        if self.kind == "attention":
            check_heads(size, self.config.attention_heads)
            modality = self.param("modality", nn.initializers.normal(0.02), points.shape[1:])
            tokens = nn.LayerNorm()(points + modality[None])
            points = points + nn.MultiHeadDotProductAttention(num_heads=self.config.attention_heads)(tokens)
        x = jnp.reshape(points, (points.shape[0], -1))
        for _ in range(2):
            x = nn.relu(nn.Dense(size)(x))
            x = nn.Dropout(self.config.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="logits")(x)
