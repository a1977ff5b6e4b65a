"""Time of the classifier with scikit-learn's habits: `fit` with compiling, `fit` again, and one answer.

    python -m benchmarks.estimator [--utterances 2000] [--method cm_arr]

Three vectors of 16 numbers per utterance, cut from features of scikit-learn's `make_classification`; ten classes. The
training is the default's: it ends when validation no longer improves. Nothing is read from a cache of compiled
programs. Prints plain Markdown for RESULTS.md.
"""

import dataclasses
import time

import numpy as np
import tyro
from sklearn.datasets import make_classification

from benchmarks import measure
from benchmarks.measure import markdown_table
from cmarr_jax.estimator import MissingModalityClassifier

NAMES, WIDTH = ("audio", "video", "text"), 16


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
      utterances: That are fitted; a fifth of them validates.
      method: Of `cmarr_jax.methods`.
      fits: Calls of `fit` in one process, each on other utterances; the first one compiles.
    """

    utterances: int = 2000
    method: str = "cm_arr"
    fits: int = 3


def main(options: Options) -> None:
    """Times and prints."""
    print(f"{measure.machine_text()}\n", flush=True)
    lines = []
    for call in range(options.fits):
        X, y = make_utterances(options.utterances, seed=call)
        model = MissingModalityClassifier(options.method)
        start = time.perf_counter(), time.process_time()
        model.fit(X, y)
        seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        start_answer = time.perf_counter()
        model.predict_proba({name: values[:1] for name, values in X.items()})
        answer = time.perf_counter() - start_answer
        epochs = sum(len(next(iter(stage.values()))) for stage in model.history_.values())
        uar = max(list(model.history_.values())[-1]["val_uar"])  # of the last stage, with modalities hidden
        numbers = [
            f"{call + 1}",
            f"{seconds:.1f}",
            f"{processor:.1f}",
            f"{epochs}",
            f"{100 * uar:.1f}",
            f"{answer:.2f}",
        ]
        lines.append([*numbers, model.status_])
    header = ["call", "fit, s", "s of the processor", "epochs", "best validation UAR, %", "then one answer, s", "ended"]
    print(f"{options.method}, {options.utterances} utterances of three vectors:\n\n{markdown_table(header, lines)}")


def make_utterances(num: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features by modality, `[N, WIDTH]` each, and labels `[N]`."""
    features, label = make_classification(
        num, len(NAMES) * WIDTH, n_informative=24, n_redundant=0, n_classes=10, class_sep=1.5, random_state=seed
    )
    return dict(zip(NAMES, np.split(features.astype(np.float32), len(NAMES), axis=1), strict=True)), label


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
