"""Cascade of residual autoencoders: the embeddings of missing modalities from those of the available ones (L: MMIN).

Marks C, L, D: docs/decisions.md.

Sources: Tran et al., Missing Modalities Imputation via Cascaded Residual Autoencoder, CVPR 2017. Zhao et al., Missing
Modality Imagination Network, ACL 2021. Liu et al., Contrastive Learning Based Modality-Invariant Feature Acquisition,
IEEE TAFFC 2024 (the variant with invariant features).
"""

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp

from cmarr_jax.types import Array

MOST_BLOCKS = 100  # each is traced on its own: a damaged config would never be compiled


class Autoencoder(nn.Module):
    """Fully connected autoencoder, `[B, W] -> latent [B, widths[-1]], output [B, W]`.

    L: leaky ReLU in the encoder, ReLU in the decoder, neither after the latent nor after the output; no dropout.
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        *between, last = self.widths
        hidden = x
        for width in between:
            hidden = nn.leaky_relu(nn.Dense(width)(hidden))
        latent = hidden = nn.Dense(last, name="latent")(hidden)
        for width in reversed(between):
            hidden = nn.relu(nn.Dense(width)(hidden))
        return latent, nn.Dense(x.shape[-1], name="output")(hidden)


class Imagination(nn.Module):
    """Autoencoders in a row, then two layers.

    A block reads the point that the block before has read, plus what that block gave, so the blocks add corrections to
    `x`. With invariant features `s` it reads `s` plus what the block before gave; the first one reads `x + s`.

    Attributes:
      widths: Hidden widths of a block, the latent's last.
      num_blocks: Number of blocks.
    """

    widths: tuple[int, ...]
    num_blocks: int

    @nn.compact
    def __call__(self, embedding: Array, invariant: Array | None = None) -> tuple[Array, Array]:
        """Imagined embeddings and the latents of all blocks.

        Args:
          embedding: Embeddings, `[B, M, D]`, zeros for what is not available.
          invariant: Modality-invariant features, `[B, M, D]`, or None.

        Returns:
          Imagined embeddings `[B, M, D]`, latents `[B, num_blocks, widths[-1]]`.
        """
        chex.assert_rank(embedding, 3)
        x = embedding.reshape(embedding.shape[0], -1)
        shared = None if invariant is None else invariant.reshape(x.shape)
        point, output, latents = (x if shared is None else x + shared), jnp.zeros_like(x), []
        for number in range(self.num_blocks):
            if number:
                point = point + output if shared is None else output + shared
            latent, output = Autoencoder(self.widths, name=f"block_{number}")(point)
            latents.append(latent)
        hidden = nn.relu(nn.Dense(x.shape[-1], name="hidden")(point + output))
        imagined = nn.Dense(x.shape[-1], name="imagined")(hidden)
        return imagined.reshape(embedding.shape), jnp.stack(latents, axis=1)


def check_blocks(widths: Sequence[int], num_blocks: int) -> tuple[int, ...]:
    """The widths as a tuple. Raises ValueError if there is no block or too many, no width, or one not positive."""
    if not widths or min(widths) < 1:
        raise ValueError(f"widths must be positive and at least one, found {widths}")
    if not 1 <= num_blocks <= MOST_BLOCKS:
        raise ValueError(f"num_blocks must be 1 to {MOST_BLOCKS}, found {num_blocks}")
    return tuple(widths)
