"""What the harness knows of a method: a few pure functions, whatever the method is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

from cmarr_jax.config import Hyperparameters
from cmarr_jax.types import Array, Batch

Params = Any  # a tree of arrays
Embedding = Any  # what `encode` gives and `predict` takes: a tree of arrays with a leading batch axis

LossFn = Callable[..., tuple[Array, dict[str, Array]]]
"""`(params, batch, available, key, hyper, axis_name=None) -> (loss, aux)`: shares of global means (`masked_mean`)."""


class Stage(NamedTuple):
    """A part of the schedule.

    Attributes:
      name: In the history of a run.
      epochs: How many.
      hide: Whether each reading of an utterance draws which modalities are available.
      without: Terms of the loss that have the weight zero here, by the names of `Hyperparameters`.
    """

    name: str
    epochs: int
    hide: bool
    without: tuple[str, ...] = ()

    def weights(self, hyper: Hyperparameters) -> Hyperparameters:
        """The hyperparameters in this stage."""
        return hyper._replace(**dict.fromkeys(self.without, 0.0))


class Method(NamedTuple):
    """A method of the table as pure functions.

    Attributes:
      init: `(key, batch) -> params`.
      loss: The same for all stages, so that one program serves them.
      stages: The schedule; the epoch is chosen within the last stage.
      encode: `(params, batch) -> embedding`, every modality of every utterance once, whatever is available later.
      predict: `(params, embedding, available [B, M]) -> logits [B, K]`; reads no unavailable modality.
      diagnose: `(params, embedding, where [B]) -> dict of scalars` to log once per epoch.
    """

    init: Callable[[Array, Batch], Params]
    loss: LossFn
    stages: tuple[Stage, ...]
    encode: Callable[[Params, Batch], Embedding]
    predict: Callable[[Params, Embedding, Array], Array]
    diagnose: Callable[[Params, Embedding, Array], dict[str, Array]]


__all__ = ["Embedding", "Hyperparameters", "LossFn", "Method", "Params", "Stage"]
