"""Self-training, a trick that any method can have: unlabelled utterances get labels from the network itself.

The label of an unlabelled utterance is the class that the network gives it from all its modalities, if it is sure
enough. The network learns to give this class from some of them, too. It begins in the stage that hides modalities: the
guesses of an untrained network teach nothing.

A network that begins to prefer one class teaches itself to name this class alone. So guesses are aligned first: their
class shares over the unlabelled utterances are moved to those of the labelled ones.

Sources: Lee, Pseudo-Label, ICML workshop on challenges in representation learning 2013. Sohn et al., FixMatch, NeurIPS
2020. Berthelot et al., ReMixMatch, ICLR 2020, for the distribution alignment.
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
    axis_name: str | None = None,
) -> Array:
    """Class probabilities from all modalities that an utterance has, without dropout or gradient, `[B, K]`.

    Those of the unlabelled rows are aligned (`align_shares`).

    Args:
      encode: As `Method.encode`.
      predict: As `Method.predict`.
      params: Parameters.
      batch: Its modalities are read, hidden ones too, and its labels for the class shares.
      axis_name: Device axis of an enclosing `pmap`, or None.
    """
    params = jax.lax.stop_gradient(params)
    guess = jax.nn.softmax(predict(params, encode(params, batch), batch.present))
    return align_shares(guess, batch.label, batch.where, axis_name)


def align_shares(guess: Array, label: Array, where: Array, axis_name: str | None = None) -> Array:
    """Guesses for the unlabelled rows whose class shares are moved to those of the labelled ones, `[B, K]`.

    Each guess is multiplied by `shares of the labels / shares of the guesses` and normalised. Both shares are counted
    with as many rows more as there are classes, which have the shares of labels and guesses together (D): few rows say
    little about the shares, so they change the guesses little. Without any label nothing is changed.

    Args:
      guess: Class probabilities, `[B, K]`, float.
      label: Class, `[B]`, integer; -1: none.
      where: Rows that count, `[B]`, bool.
      axis_name: Device axis of an enclosing `pmap` whose batch is counted as a whole, or None.
    """
    num_classes = guess.shape[-1]
    total = lambda rows: rows.sum(0) if axis_name is None else jax.lax.psum(rows.sum(0), axis_name)
    known, unknown = where & (label >= 0), where & (label < 0)
    labels = total(jax.nn.one_hot(label, num_classes) * known[:, None])
    guesses = total(jnp.where(unknown[:, None], guess, 0.0))
    both = (labels + guesses) / jnp.maximum((labels + guesses).sum(), 1)
    share = lambda counts: (counts + num_classes * both) / (counts.sum() + num_classes)
    ratio = share(labels) / jnp.maximum(share(guesses), 1e-12)
    aligned = guess * ratio[None]
    return jnp.where(unknown[:, None], aligned / aligned.sum(-1, keepdims=True), guess)


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
