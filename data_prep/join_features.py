"""Joins the features of many utterances into the arrays of an archive."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.markup import escape

from cmarr_jax.data.corpus import ArchiveError
from data_prep.utterances import examples


def join_features(
    name: str, ids: Sequence[str], found: Mapping[str, np.ndarray], console: Console
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The features of one modality as an archive holds them.

    Args:
      name: The modality.
      ids: All N utterances.
      found: Features of those that have them, all `[T, D]` or all `[D]`.
      console: To print on.

    Returns:
      Features `[sum of T, D]` or `[N, D]`, float32; frames per utterance `[N]` int32, `None` for vectors; and presence
      `[N]`, bool.

    Raises:
      ArchiveError: if no utterance has features.
    """
    if not found:
        text = f"no utterance has {name} features; see the failures above, or leave the modality out (--{name} none)"
        raise ArchiveError(text)
    first = next(iter(found.values()))
    absent = np.zeros((0, first.shape[-1]) if first.ndim == 2 else first.shape, np.float32)
    parts = [found.get(item, absent) for item in ids]
    present = np.array([item in found for item in ids])
    zero = [item for item in ids if item in found and not found[item].any()]
    if zero:
        console.print(escape(f"{name}: zeros in every frame of {examples(zero)}; in a video: no face was found"))
    if first.ndim == 1:
        return np.stack(parts).astype(np.float32, copy=False), None, present
    length = np.array([len(part) for part in parts], np.int32)
    return np.concatenate(parts).astype(np.float32, copy=False), length, present
