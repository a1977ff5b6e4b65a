"""A table of the experiments, `train_once` and the classifier train one fold to the same bits."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.folds import make_folds
from cmarr_jax.estimator import MissingModalityClassifier
from cmarr_jax.methods import with_all_defaults
from cmarr_jax.training.checkpoint import load_run
from cmarr_jax.training.one_run import train_once
from experiments import reproduce
from experiments.presets import SMOKE
from experiments.units import Unit, read_outputs

SEED = 1
UNIT = Unit("zero_fill", "split", SEED)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The corpus of an archive with its own split, and the folder of a table of its single fold and two seeds."""
    work = tmp_path_factory.mktemp("numbers")
    corpus = make_corpus(sequences=(), absent=0.1)
    split = np.repeat(["train", "val", "test"], [32, 8, 8])
    write_archive(work / "toy.npz", dataclasses.replace(corpus, split=split))
    out = work / "out"
    reproduce.main(
        reproduce.Arguments(data=str(work / "toy.npz"), methods=("zero_fill",), seeds=SEED + 1, out=out, smoke=True)
    )
    return read_archive(work / "toy.npz"), out


def test_a_unit_of_a_table_is_what_train_once_gives(table):
    corpus, out = table
    unit = load_run(out / UNIT.path)
    [fold] = make_folds(corpus)
    result = train_once(corpus, fold, unit.config, SEED, SMOKE.max_frames)
    jax.tree.map(np.testing.assert_array_equal, result.params, unit.params)
    jax.tree.map(np.testing.assert_array_equal, result.normalizer, unit.normalizer)
    for part, logits in (("val", result.val_logits), ("test", result.test_logits)):
        np.testing.assert_array_equal(logits, read_outputs(out, UNIT, part).logits)
    assert result.test_counts.tolist() == unit.record["test_counts"]
    other = train_once(corpus, fold, unit.config, SEED - 1, SMOKE.max_frames)
    assert np.abs(other.val_logits - result.val_logits).max() > 1e-3


def test_the_classifier_gives_the_same_from_arrays(table):
    """It is given the rows of training and validation only, which are the first ones of the archive."""
    corpus, out = table
    [fold] = make_folds(corpus)
    rows = np.concatenate([fold.train, fold.val])
    np.testing.assert_array_equal(rows, np.arange(len(rows)))
    features = {
        name: np.where(corpus.present[rows, column, None], corpus.features[name][rows], np.nan)
        for column, name in enumerate(corpus.modalities)
    }
    y = np.array(corpus.class_names)[corpus.label[rows]]
    model = MissingModalityClassifier("zero_fill", preset=SMOKE, random_state=SEED)
    model.fit(features, y, validation=np.isin(rows, fold.val))
    assert tuple(model.classes_) == corpus.class_names
    [fitted] = model.predictor_.units
    unit = load_run(out / UNIT.path)
    assert with_all_defaults(fitted.config) == unit.config
    jax.tree.map(np.testing.assert_array_equal, fitted.params, unit.params)
    jax.tree.map(np.testing.assert_array_equal, fitted.normalizer, unit.normalizer)
