"""Self-training, a trick that any method can have: unlabelled utterances get labels from the network itself.

The label of an unlabelled utterance is the class that the network gives it from all its modalities, if it is sure
enough. The network learns to give this class from some of them, too. It begins in the stage that hides modalities: the
guesses of an untrained network teach nothing.

Sources: Lee, Pseudo-Label, ICML workshop on challenges in representation learning 2013. Sohn et al., FixMatch, NeurIPS
2020.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cmarr_jax import losses
from cmarr_jax.methods.base import Embedding, Params, Weights
from cmarr_jax.types import Array, Batch

WEIGHTS = {
    "pseudo": 1.0,  # L: FixMatch; weight of the cross-entropy of the pseudo-labels
    "threshold": 0.95,  # L: FixMatch; probability above which a class becomes a pseudo-label
}


def weights_of(pseudo_labels: bool, num_classes: int) -> tuple[dict[str, float], dict[str, float]]:
    """The weights that self-training adds to a method's, and those that switch it off in a stage; none if unwanted.

    Raises:
      ValueError: if a regression is to label its utterances itself.
    """
    if not pseudo_labels:
        return {}, {}
    if num_classes == 1:
        raise ValueError("pseudo_labels needs classes; a regression has none, so leave the option out")
    return WEIGHTS, {"pseudo": 0.0}


def guessed(
    encode: Callable[[Params, Batch], Embedding],
    predict: Callable[[Params, Embedding, Array], Array],
    params: Params,
    batch: Batch,
) -> Array:
    """Class probabilities from all modalities that an utterance has, without dropout or gradient, `[B, K]`.

    Args:
      encode: As `Method.encode`.
      predict: As `Method.predict`.
      params: Parameters.
      batch: Its modalities are read, hidden ones too.
    """
    params = jax.lax.stop_gradient(params)
    return jax.nn.softmax(predict(params, encode(params, batch), batch.present))


def pseudo_terms(
    logits: Array, guess: Array, batch: Batch, weights: Weights, axis_name: str | None = None
) -> tuple[Array, dict[str, Array]]:
    """What self-training adds to the loss, and its terms.

    Args:
      logits: `[B, K]`, with modalities hidden.
      guess: Probabilities of the classes, `[B, K]`. The likeliest class is the pseudo-label.
      batch: Its rows with the label -1 are the unlabelled ones.
      weights: Those of `WEIGHTS` are read.
      axis_name: Device axis of an enclosing `pmap`, or None.

    Returns:
      The weighted cross-entropy; and as terms `pseudo`, the cross-entropy of the pseudo-labels in nats, a mean over all
      unlabelled rows to which those without a pseudo-label add 0, and `pseudo_share`, how many of the unlabelled rows
      have one, a fraction. All are shares of global means.
    """
    unlabelled = batch.where & (batch.label < 0)
    sure = guess.max(-1) > weights["threshold"]
    values = optax.softmax_cross_entropy_with_integer_labels(logits, guess.argmax(-1))
    mean = lambda values: losses.masked_mean(values, unlabelled, axis_name=axis_name)
    terms = {"pseudo": mean(jnp.where(sure, values, 0.0)), "pseudo_share": mean(sure.astype(values.dtype))}
    return weights["pseudo"] * terms["pseudo"], terms
