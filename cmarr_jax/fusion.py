"""Fusion of the modalities' points and the classifier head (L: MMIN; the attention variant is D)."""

import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax.types import Array


class FusionClassifier(nn.Module):
    """Points of all modalities, `[B, M, D]` -> logits, `[B, K]`.

    `concat`: two layers on the concatenation. `attention`: self-attention over the M points first.
    """

    num_classes: int
    hidden: int
    dropout: float
    kind: str = "concat"

    @nn.compact
    def __call__(self, points: Array, *, train: bool = False) -> Array:
        if self.kind == "attention":
            modality = self.param("modality", nn.initializers.normal(0.02), points.shape[1:])
            tokens = nn.LayerNorm()(points + modality[None])
            points = points + nn.MultiHeadDotProductAttention(num_heads=4)(tokens)
        x = jnp.reshape(points, (points.shape[0], -1))
        for _ in range(2):
            x = nn.relu(nn.Dense(self.hidden)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="logits")(x)
