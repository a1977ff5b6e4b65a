"""What the harness knows of a method: a few pure functions, stages, an optimizer, and the loss weights by name."""

import numbers
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cmarr_jax import losses
from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.methods.clipping import ParamPath, clip_each_network
from cmarr_jax.methods.own_counts import scale_by_adam
from cmarr_jax.task import CLASSIFICATION, Task, task_of
from cmarr_jax.types import Array, Batch

Params = Any  # a tree of arrays
Embedding = Any  # what `encode` gives and `predict` takes: a tree of arrays with a leading batch axis
Weights = Mapping[str, float | Array]


class LossFn(Protocol):
    """The loss of a method on one batch."""

    def __call__(
        self,
        params: Params,
        batch: Batch,
        available: Array,
        key: Array,
        hyper: Hyperparameters,
        axis_name: str | None = None,
    ) -> tuple[Array, dict[str, Array]]:
        """Total loss and its terms, as shares of global means (`cmarr_jax.losses.masked_mean`).

        Args:
          params: Parameters.
          batch: Standardised features; a hidden modality is still in it, as a target. Rows without label are at its
            end, if the method reads such rows (`Method.unlabelled`).
          available: Modalities that may be read as input, `[B, M]`, bool, a subset of `batch.present`. `[P, B, M]` if
            the method asks for more than one pattern (`Method.patterns`).
          key: PRNG key of this step.
          hyper: Hyperparameters of the run; the weights are those of the stage.
          axis_name: Device axis of an enclosing `pmap`, or None.
        """


class Stage(NamedTuple):
    """A part of the schedule.

    Attributes:
      name: In the history of a run.
      epochs: Budget (see `TrainConfig`).
      hide: Whether a new availability pattern is drawn per utterance and reading. The epoch is then chosen by the
        missing-modality conditions pooled, otherwise by complete data.
      weights: Loss weights that this stage replaces; 0 switches a term off.
      decay: Whether the learning rate falls linearly to zero over the second half of the budget.
      begin: Applied to the parameters when the stage begins; it may not change their structure. A teacher that is
        frozen from here on is a copy that the loss reads behind `jax.lax.stop_gradient`.
      from_best: Whether the stage starts from the epoch that validation chose in the stage before, not from its last.
      fresh_optimizer: Whether the optimizer state starts anew.
    """

    name: str
    epochs: int
    hide: bool
    weights: Mapping[str, float] = {}
    decay: bool = False
    begin: Callable[[Params], Params] | None = None
    from_best: bool = False
    fresh_optimizer: bool = False


class Method(NamedTuple):
    """A method of the table as pure functions.

    Attributes:
      init: `(key, batch) -> params`.
      loss: One function for all stages, so that one program serves them.
      stages: The schedule. The epoch of the result is chosen within the last stage.
      encode: `(params, batch) -> embedding`, every modality of every utterance once, whatever is available later.
      predict: `(params, embedding, available [B, M]) -> logits [B, K]`; reads no unavailable modality.
      diagnose: `(params, embedding, where [B]) -> dict of scalars` to log once per epoch.
      weights: Names and defaults of the numbers of its loss that a run may change: all that `loss` may read.
      optimizer: Without learning rate, which each step multiplies its updates by.
      patterns: P, availability patterns that each utterance draws in one step.
      calibrate: `(params, logits [P, n, K], label [n], present [n, M], where [n]) -> params`, what is fitted to the
        validation rows at the end of a run in memory, after the epoch is chosen and before test rows are read.
      inspect: `(params, batch, embedding, available [B, M])`, values of each utterance and modality for figures; the
        batch is normalised. `point` `[B, M, D]`: its embedding, the one that is to be recovered; `error` `[B, M]`: mean
        squared error of what is recovered where it is not available; `spread` `[B, M]`: mean log standard deviation of
        a Gaussian.
      complete: `(params, embedding, available [B, M]) -> [B, M, D]`, the points of available modalities, and what is
        recovered of the others.
      draw: `(params, key, embedding) -> embedding`, drawn from the Gaussians of a method that has them. All rows share
        one noise, so that what is drawn of an utterance does not depend on its batch.
      unlabelled: Whether `loss` reads rows without label (`batch.label` -1). Each training batch then has, after its
        labelled rows, up to `batch_size` rows without label, if the fold has any.
      task: What is predicted; `make_method` sets it. In a regression, K is 1 and the output is standardised.
    """

    init: Callable[[Array, Batch], Params]
    loss: LossFn
    stages: tuple[Stage, ...]
    encode: Callable[[Params, Batch], Embedding]
    predict: Callable[[Params, Embedding, Array], Array]
    diagnose: Callable[[Params, Embedding, Array], dict[str, Array]]
    weights: Mapping[str, float]
    optimizer: optax.GradientTransformation
    patterns: int = 1
    calibrate: Callable[[Params, Array, Array, Array, Array], Params] | None = None
    inspect: Callable[[Params, Batch, Embedding, Array], dict[str, Array]] | None = None
    complete: Callable[[Params, Embedding, Array], Array] | None = None
    draw: Callable[[Params, Array, Embedding], Embedding] | None = None
    unlabelled: bool = False
    task: Task = CLASSIFICATION


def complete_then_missing(train: TrainConfig, weights: Mapping[str, float] = {}) -> tuple[Stage, Stage]:
    """The stages of most methods: complete data, with `weights` of its own, then with modalities hidden."""
    return (
        Stage("complete", train.complete_epochs, hide=False, weights=weights),
        Stage("missing", train.missing_epochs, hide=True, decay=train.decay),
    )


def adam(
    config: TrainConfig,
    b1: float = 0.9,
    network_of: Callable[[ParamPath], Hashable] | None = None,
    own_counts: bool = False,
) -> optax.GradientTransformation:
    """Adam behind gradient clipping, without learning rate. Betas: optax's defaults, as in PyTorch.

    Args:
      config: Has the largest norm of a gradient.
      b1: First beta.
      network_of: Clips by the norm of each network (`clip_each_network`) instead of that of the whole gradient.
      own_counts: For a method with parts that its first stage does not train (`own_counts.scale_by_adam`).
    """
    clip = optax.clip_by_global_norm(config.clip_norm)
    if network_of is not None:
        clip = clip_each_network(config.clip_norm, network_of)
    return optax.chain(clip, scale_by_adam(b1) if own_counts else optax.scale_by_adam(b1))


def make_hyperparameters(
    method: Method, learning_rate: float, dropout: float, weights: Weights | None = None
) -> Hyperparameters:
    """The hyperparameters of a run: the method's weights with those of `weights` replaced.

    Raises:
      ValueError: for a weight that the method does not have, with the names that it has, or an impossible value.
    """
    check_weights(method.weights, weights or {})
    return Hyperparameters(learning_rate, dropout, {**method.weights, **(weights or {})})


def check_weights(known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError for a name in `given` that is not in `known`, or a value that no weight can have.

    A loss gets its weights traced, so it cannot check them. A temperature among them must be above 0.
    """
    for name, value in given.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"there is no loss weight {name!r}; this method has: {names}")
        is_temperature, is_floor = name.endswith("temperature"), name == "entropy_floor"  # of an entropy, any number
        array = np.asarray(value)
        is_number = array.ndim == 0 and array.dtype.kind in "fiub" and np.isfinite(array)
        if not is_number or (value < 0 and not is_floor) or (value == 0 and is_temperature):
            wanted = "a finite number" + ("" if is_floor else " above 0" if is_temperature else " of at least 0")
            raise ValueError(f"the loss weight {name!r} must be {wanted}, found {value!r}")
        if name == "threshold" and value >= 1:
            raise ValueError(f"the loss weight 'threshold' is a probability, so it must be below 1, found {value}")
        if name == "fine_tuning" and value > 1:
            raise ValueError(f"the loss weight 'fine_tuning' is a share, so it must be at most 1, found {value}")


def bind(model: nn.Module, params: Params) -> Callable[..., Any]:
    """`model.apply` with these parameters."""
    return partial(model.apply, {"params": params})


def check_positive(name: str, value: int) -> None:
    """Raises ValueError if a number of things is no integer of 1 or more."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, found {value!r}")


def each_pattern(embedding: Embedding, batch: Batch, available: Array) -> tuple[Embedding, Batch, Array]:
    """One row for each pattern of each utterance, so that P patterns are `P * B` rows; one pattern changes nothing.

    Args:
      embedding: Leaves `[B, ...]`.
      batch: Its features are left out: they are encoded already.
      available: `[B, M]`, or `[P, B, M]`.

    Returns:
      Embedding, batch without features, and `available`, with `[P * B, ...]` rows.
    """
    batch = batch._replace(features=OrderedDict(), length={})
    if available.ndim == 2:
        return embedding, batch, available
    num_patterns, *_, num_modalities = available.shape
    repeat = lambda x: jnp.tile(x, (num_patterns,) + (1,) * (x.ndim - 1))
    return (*jax.tree.map(repeat, (embedding, batch)), available.reshape(-1, num_modalities))


def supervised_loss(outputs: Array, batch: Batch, axis_name: str | None = None) -> tuple[str, Array]:
    """Name and mean of the task's loss over the labelled rows that count; a share of the global mean on devices.

    Args:
      outputs: Logits `[B, K]`: cross-entropy, nats; one number `[B, 1]`: squared error of the standardised target.
      batch: Its labels, or its targets, are read.
      axis_name: Device axis of an enclosing `pmap`, or None.
    """
    task = task_of(outputs.shape[-1])
    return task.loss_name, losses.masked_mean(task.loss(outputs, batch), is_labelled(batch), axis_name=axis_name)


def cross_entropy(logits: Array, batch: Batch, axis_name: str | None = None) -> Array:
    """The loss of a method that knows classes only, as `supervised_loss`.

    Raises:
      ValueError: in a regression.
    """
    if logits.shape[-1] == 1:
        raise ValueError("cross-entropy is for classes; call supervised_loss, which is also for regression")
    return supervised_loss(logits, batch, axis_name)[1]


def check_classes(method: str, num_classes: int) -> None:
    """Raises ValueError if a method that is for classes only is asked for a regression."""
    if num_classes == 1:
        raise ValueError(f"method {method} is for classes only and cannot do regression; choose another method")


def contrast_group(batch: Batch, within_speaker: bool) -> Array | None:
    """What alignment compares an utterance with: others of its speaker (the speaker's number, `[B]`), or all (`None`).

    Raises:
      ValueError: if the speakers are asked for and not known.
    """
    if not within_speaker:
        return None
    if batch.speaker is None:
        raise ValueError(
            "within_speaker needs the speakers (Batch.speaker); give them (as groups, to the classifier), or leave it "
            "out (streamed training does not have them)"
        )
    return batch.speaker


def is_labelled(batch: Batch) -> Array:
    """Rows that count and have a label, `[B]`, bool."""
    return batch.where & (batch.label >= 0)
