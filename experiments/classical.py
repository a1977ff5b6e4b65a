"""Late fusion of classical models: pooled statistics, shrinkage LDA or logistic regression, the product rule.

Each modality has its own linear classifier (scikit-learn), fitted to the utterances of the training fold that have it.
Its inputs are the mean and the standard deviation over time, or the vector of an utterance, standardised on the
training fold; this alone counts unlabelled utterances, too. Its strength is the one with the best UAR on the validation
rows; its temperature is fitted to them (`cmarr_jax.methods.late_fusion.calibrate`). Nothing is random, so all seeds of
a fold are the same.

With self-training, an unlabelled utterance gets the class that the fused models are sure of with all its modalities,
and all models are fitted again, several times. The probability that counts as sure is chosen on the validation rows.

Sources: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004 (the shrinkage
`auto`); for the product rule see `cmarr_jax.methods.late_fusion`.
"""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cmarr_jax.config import check_choice
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.folds import FoldSplit
from cmarr_jax.methods.late_fusion import calibrate, fuse, tempered
from cmarr_jax.metrics import confusion_counts, uar

SHRINKAGES = ("auto", 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
INVERSE_PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 1.0)
KINDS: dict[str, tuple[tuple[Any, ...], Callable[[Any], Any]]] = {
    "lda": (SHRINKAGES, lambda strength: LinearDiscriminantAnalysis(solver="eigen", shrinkage=strength)),
    "logistic": (INVERSE_PENALTIES, lambda strength: LogisticRegression(C=strength, max_iter=1000)),
}

THRESHOLDS = (0.7, 0.8, 0.9, 0.95, 0.99)  # D: of self-training; none at all is tried, too
ROUNDS = 5  # D: how often self-training fits again


@dataclasses.dataclass(frozen=True)
class ClassicalConfig:
    """A row of classical models: `lda` or `logistic`."""

    kind: str
    num_classes: int
    self_training: bool = False

    def __post_init__(self):
        check_choice("kind of classical model", self.kind, KINDS)

    def to_dict(self) -> dict[str, Any]:
        """Plain dict for JSON."""
        found = {"method": f"classical_{self.kind}", "strengths": list(KINDS[self.kind][0])}
        if not self.self_training:
            return found
        return found | {"method": f"classical_{self.kind}_self", "thresholds": list(THRESHOLDS), "rounds": ROUNDS}


class ClassicalResult(NamedTuple):
    """One fold's models and outputs.

    Attributes:
      strength: Chosen strength of each modality.
      models: Arrays of each modality's model by name, `NAME_kernel [D, K]`, `NAME_bias [K]`, on features that are not
        standardised; and `temperature [M]`, `log_prior [K]`.
      val_logits: `[P, n, K]` by condition, log-posteriors up to a constant.
      test_logits: As `val_logits`.
    """

    strength: dict[str, Any]
    models: dict[str, np.ndarray]
    val_logits: np.ndarray
    test_logits: np.ndarray


def pooled(corpus: Corpus, modality: str) -> np.ndarray:
    """`[N, D]` vectors as they are, or of frames their mean and standard deviation, `[N, 2 D]`; 0 without frames."""
    values = corpus.features[modality]
    if modality not in corpus.length:
        return values.astype(np.float64)
    length = corpus.length[modality]
    out = np.zeros((len(corpus), 2 * values.shape[1]))
    start = np.cumsum(length) - length
    for row in np.flatnonzero(length):
        frames = values[start[row] : start[row] + length[row]].astype(np.float64)
        out[row] = np.concatenate([frames.mean(0), frames.std(0)])
    return out


def fit_fold(
    config: ClassicalConfig, corpus: Corpus, inputs: dict[str, np.ndarray], fold: FoldSplit
) -> ClassicalResult:
    """Fits all modalities on the training rows of a fold, chooses on its validation rows, applies to its test rows.

    Args:
      config: Kind of model.
      corpus: The utterances.
      inputs: `pooled` of each modality.
      fold: Its rows.

    Raises:
      ValueError: if a class, or a modality, has no training utterance.
    """
    counts = np.bincount(corpus.label[fold.train], minlength=config.num_classes)
    if not counts.all():
        missing = ", ".join(np.array(corpus.class_names)[counts == 0])
        raise ValueError(f"fold {fold.name} has no training utterance of class {missing}; classical models need one")
    fitted = _fit_rows(config, corpus, corpus.label, fold.train, inputs, fold)
    if not config.self_training or not len(fold.unlabelled):
        return fitted
    known = corpus.label.copy()
    known[fold.unlabelled] = -1  # with a share of the labels, the corpus still has the true ones
    found = [fitted]  # the first is kept if none is better
    for threshold in THRESHOLDS:
        now, before = fitted, known
        for _ in range(ROUNDS):
            label = _pseudo_labelled(known, corpus, inputs, fold, now.models, threshold)
            if np.array_equal(label, before):  # equal labels give equal models
                break
            rows = np.concatenate([fold.train, fold.unlabelled[label[fold.unlabelled] >= 0]])
            now, before = _fit_rows(config, corpus, label, rows, inputs, fold), label
        found.append(now)
    return max(found, key=lambda result: _validation_uar(result, corpus, fold))


def _fit_rows(
    config: ClassicalConfig,
    corpus: Corpus,
    label: np.ndarray,
    train: np.ndarray,
    inputs: dict[str, np.ndarray],
    fold: FoldSplit,
) -> ClassicalResult:
    """All modalities fitted to these labels `[N]` of these rows, and the temperatures of the fusion."""
    counts = np.bincount(label[train], minlength=config.num_classes)  # the shares that the models learn as their prior
    strength: dict[str, Any] = {}
    models: dict[str, np.ndarray] = {}
    for column, name in enumerate(corpus.modalities):
        has = corpus.present[:, column]
        strength[name], kernel, bias = _fit_modality(config, label, train, inputs[name], has, fold, name)
        models |= {f"{name}_kernel": kernel, f"{name}_bias": bias}
    params = {"log_prior": jnp.log(counts / counts.sum()), "log_temperature": jnp.zeros(len(corpus.modalities))}
    val = _by_condition(params, _logits(models, inputs, fold.val), corpus.present[fold.val])
    params = calibrate(
        params, jnp.asarray(val), corpus.label[fold.val], corpus.present[fold.val], jnp.ones(len(fold.val), bool)
    )
    outputs = [
        _by_condition(params, _logits(models, inputs, rows), corpus.present[rows]) for rows in (fold.val, fold.test)
    ]
    models |= {"temperature": np.exp(params["log_temperature"]), "log_prior": np.asarray(params["log_prior"])}
    return ClassicalResult(strength, models, *outputs)


def _logits(models: dict[str, np.ndarray], inputs: dict[str, np.ndarray], rows: np.ndarray) -> jnp.ndarray:
    """What the model of each modality says of these rows, `[n, M, K]`."""
    values = [inputs[name][rows] @ models[f"{name}_kernel"] + models[f"{name}_bias"] for name in inputs]
    return jnp.asarray(np.stack(values, axis=1), jnp.float32)


def _pseudo_labelled(
    known: np.ndarray,
    corpus: Corpus,
    inputs: dict[str, np.ndarray],
    fold: FoldSplit,
    models: dict[str, np.ndarray],
    threshold: float,
) -> np.ndarray:
    """The known labels `[N]`, with the classes that the fused models are sure of; -1 where they are not sure."""
    rows = fold.unlabelled
    params = {
        "log_prior": jnp.asarray(models["log_prior"]), "log_temperature": jnp.log(jnp.asarray(models["temperature"]))
    }  # fmt: skip
    fused = _by_condition(params, _logits(models, inputs, rows), corpus.present[rows])[-1]
    guess = np.asarray(jax.nn.softmax(fused, axis=-1))
    sure = guess.max(-1) > threshold
    label = known.copy()
    label[rows[sure]] = guess[sure].argmax(-1)
    return label


def _validation_uar(result: ClassicalResult, corpus: Corpus, fold: FoldSplit) -> float:
    """UAR of the validation rows, the missing-modality conditions pooled.

    A row that has no modality of a condition does not count in it.
    """
    if not len(fold.val):
        return 0.0
    label, present = corpus.label[fold.val], corpus.present[fold.val]
    patterns = availability_patterns(len(corpus.modalities))[:-1]
    counts = [
        confusion_counts(label, logits.argmax(-1), (present & pattern).any(1), num_classes=logits.shape[-1])
        for logits, pattern in zip(result.val_logits[:-1], patterns, strict=True)
    ]
    return float(uar(np.sum(counts, axis=0)))


def _fit_modality(
    config: ClassicalConfig,
    label: np.ndarray,
    train: np.ndarray,
    inputs: np.ndarray,
    has: np.ndarray,
    fold: FoldSplit,
    name: str,
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Strength, kernel `[D, K]` and bias `[K]` of the model with the best validation UAR.

    Raises:
      ValueError, numpy.linalg.LinAlgError: if no strength can be fitted to so few utterances.
    """
    train, val = train[has[train]], fold.val[has[fold.val]]
    if not len(train):
        raise ValueError(f"fold {fold.name} has no training utterance with {name}; classical models need some")
    everything = np.r_[fold.train, fold.unlabelled]
    scaler = StandardScaler().fit(inputs[everything[has[everything]]])
    x, val_x = scaler.transform(inputs[train]), scaler.transform(inputs[val])
    strengths, make = KINDS[config.kind]
    best: tuple[float, Any, np.ndarray, np.ndarray] | None = None
    fault: Exception | None = None
    for strength in strengths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # lbfgs at its last iteration: validation judges what it has
                model = make(strength).fit(x, label[train])
        except (ValueError, np.linalg.LinAlgError) as error:  # few utterances need a strong one
            fault = error
            continue
        kernel, bias = _all_classes(model, config.num_classes)
        predicted = (val_x @ kernel + bias).argmax(-1)
        counts = confusion_counts(label[val], predicted, jnp.ones(len(val), bool), num_classes=config.num_classes)
        score = float(uar(counts)) if len(val) else 0.0
        if best is None or score > best[0]:
            best = score, strength, kernel, bias
    if best is None:
        assert fault is not None
        raise fault
    _, strength, kernel, bias = best
    kernel = kernel / scaler.scale_[:, None]
    return strength, kernel, bias - scaler.mean_ @ kernel


def _all_classes(model: Any, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel `[D, K]` and bias `[K]` of the log-posteriors; classes without training utterances are never chosen."""
    kernel, bias = np.zeros((model.coef_.shape[1], num_classes)), np.full(num_classes, -1e3)
    if len(model.classes_) == 2:  # scikit-learn keeps the difference
        kernel[:, model.classes_[1]], bias[model.classes_] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        kernel[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return kernel, bias


def _by_condition(params: dict[str, Any], logits: jnp.ndarray, present: np.ndarray) -> np.ndarray:
    """Fused logits in every condition, `[P, n, K]`; zeros where an utterance has none of its modalities."""
    fused = []
    for pattern in availability_patterns(present.shape[1]):
        available = present & pattern
        values = np.asarray(fuse(tempered(params, logits), params["log_prior"], jnp.asarray(available)))
        fused.append(np.where(available.any(axis=1, keepdims=True), values, 0.0))
    return np.stack(fused)
