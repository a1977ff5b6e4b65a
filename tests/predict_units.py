"""Units to predict with, made without training: random parameters, and the outputs that the evaluation gives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cmarr_jax.config import TrainConfig
from cmarr_jax.data.batching import example_batch, plan_batches
from cmarr_jax.data.corpus import Corpus
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import FoldSplit, make_folds, stack_folds
from cmarr_jax.data.normalizer import fit_normalizer
from cmarr_jax.methods import make_method
from cmarr_jax.predict import InputRecord
from cmarr_jax.training.evaluation import evaluate
from cmarr_jax.training.run import RunResult
from cmarr_jax.training.schedule import Skipped
from experiments.units import Unit, write_unit
from tests.tiny import make_corpus, random_params, run_config

MAX_FRAMES = 6
NONE_SKIPPED = Skipped(np.int32(0), np.full(1, -1), np.int32(-1), np.int32(-1))


def make_unit(
    folder: Path,
    name: str,
    corpus: Corpus,
    *,
    number: int = 0,
    seed: int = 0,
    extractors: Mapping[str, Any] | None = None,
    **changes,
) -> tuple[Path, FoldSplit]:
    """Writes a unit of one fold; returns its folder and the fold."""
    train = TrainConfig(complete_epochs=1, missing_epochs=1, batch_size=12, eval_batch_size=6)
    config = run_config(modality_configs(corpus), method=name, train=train, **changes)
    method, folds = make_method(config), make_folds(corpus)
    data, stacked = to_device(corpus, max_frames=MAX_FRAMES), stack_folds(folds)
    fold = jax.tree.map(lambda part: part[number], stacked)
    plan = plan_batches(data, stacked, train)
    params = random_params(method.init, example_batch(config.encoders.modalities), scale=0.1, seed=seed)

    @jax.jit
    def outputs(params, data, fold):
        normalizer = fit_normalizer(data, fold.train, fold.train_where)
        score = lambda rows, where, plan: evaluate(method, params, normalizer, data, rows, where, plan)[0]
        return (
            normalizer,
            score(fold.val, fold.val_where, plan.val),
            score(fold.test, fold.test_where, plan.test),
        )

    normalizer, val, test = jax.device_get(outputs(params, data, fold))
    result = RunResult(
        jax.device_get(params), normalizer, {"stage": np.zeros(1)}, np.int32(1), np.int32(0), val.counts, test.counts,
        val.logits, test.logits, NONE_SKIPPED, np.int32(1),
    )  # fmt: skip
    unit = Unit(name, folds[number].name, seed)
    told = InputRecord(corpus.class_names, MAX_FRAMES, extractors or {})
    write_unit(folder, unit, config, result, corpus, folds[number], None, told)
    return folder / unit.path, folds[number]


def corpus_of(**changes) -> Corpus:
    """Frames, a vector, absent entries."""
    return make_corpus(**{"sequences": ("audio", "text"), "absent": 0.2} | changes)


def features_of(corpus: Corpus, row: int, pattern=(True, True, True)) -> dict[str, np.ndarray]:
    """What an utterance has of the modalities of a pattern."""
    found = {}
    for column, (name, values) in enumerate(corpus.features.items()):
        if pattern[column] and corpus.present[row, column]:
            end = corpus.length[name][: row + 1].sum() if name in corpus.length else row + 1
            found[name] = values[end - corpus.length[name][row] : end] if name in corpus.length else values[row]
    return found
