"""Availability patterns: which modalities of an utterance can be read.

A pattern is named by what is *available*: `av` has audio and video, text is missing. With M modalities there are
`2^M - 1` non-empty patterns; the full one is "complete data", the others are the missing-modality conditions.

Marks C, L, D: docs/decisions.md.
"""

import itertools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from cmarr_jax.types import Array


def availability_patterns(num_modalities: int) -> np.ndarray:
    """All non-empty availability patterns, by size, the complete one last.

    Args:
      num_modalities: M.

    Returns:
      Patterns, `[2^M - 1, M]`, bool, `True` = available. For M = 3: the modalities alone in their order, the pairs
      (0, 1), (0, 2), (1, 2), then all three.

    Raises:
      ValueError: if there are fewer than two modalities.
    """
    if num_modalities < 2:
        raise ValueError(f"at least two modalities are needed, found {num_modalities}")
    subsets = [
        subset
        for size in range(1, num_modalities + 1)
        for subset in itertools.combinations(range(num_modalities), size)
    ]
    patterns = np.zeros((len(subsets), num_modalities), bool)
    for row, subset in enumerate(subsets):
        patterns[row, list(subset)] = True
    return patterns


def condition_names(modalities: Sequence[str]) -> list[str]:
    """Names of `availability_patterns` in their order: joined initials, or full names joined by `+` if initials clash.

    `("audio", "video", "text")` gives `a v t av at vt avt`; `("audio", "video", "valence")` gives `audio`, ...,
    `audio+video+valence`.

    Args:
      modalities: Names of the modalities, in the order of the columns of `present`.

    Returns:
      One name per pattern, `2^M - 1` in all, no two alike.

    Raises:
      ValueError: if there are fewer than two modalities, or a name is empty or occurs twice.
    """
    if not all(modalities) or len(set(modalities)) < len(modalities):
        raise ValueError(f"modalities need distinct names that are not empty, found {list(modalities)}")
    initials = [name[0] for name in modalities]
    clash = len(set(initials)) < len(initials)
    parts, joint = (list(modalities), "+") if clash else (initials, "")
    return [
        joint.join(part for part, available in zip(parts, pattern, strict=True) if available)
        for pattern in availability_patterns(len(modalities))
    ]


def sample_available(key: Array, present: Array, *, include_complete: bool = True) -> Array:
    """Draws one availability pattern per utterance, uniform over the non-empty subsets of its modalities (L).

    Args:
      key: PRNG key.
      present: Modalities that each utterance has, `[B, M]`, bool. A row without any stays empty.
      include_complete: Whether the pattern that hides nothing is drawn too (D). An utterance with a single modality
        always keeps it.

    Returns:
      Available modalities, `[B, M]`, bool, a subset of `present`.

    Raises:
      AssertionError: at trace time, if `present` is not `[B, M]` bool.
      ValueError: if there are fewer than two modalities.
    """
    chex.assert_rank(present, 2)
    chex.assert_type(present, bool)
    patterns = jnp.asarray(availability_patterns(present.shape[1]))
    subset = jnp.all(present[:, None, :] | ~patterns[None], axis=-1)  # [B, P]: the pattern's modalities are present
    complete = jnp.all(present[:, None, :] == patterns[None], axis=-1)
    allowed = subset if include_complete else subset & ~(complete & (present.sum(1) > 1)[:, None])
    drawn = jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf), axis=-1)
    return patterns[drawn] & present
