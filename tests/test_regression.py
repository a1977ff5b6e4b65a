"""Regression: targets in archives and batches, the task's loss and score, runs of every method."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from archives import make_arrays, read_from

from cmarr_jax.config import RunConfig
from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import FoldError, make_folds, stack_folds
from cmarr_jax.data.normalizer import identity_normalizer, in_target_units, normalize, with_target
from cmarr_jax.methods import REGISTRY, hyperparameters_of, make_method
from cmarr_jax.methods.base import cross_entropy, supervised_loss
from cmarr_jax.methods.late_fusion import average
from cmarr_jax.metrics import agreement_sums, ccc
from cmarr_jax.task import CLASSIFICATION, REGRESSION, check_targets
from cmarr_jax.training.run import RunResult, make_run

TRAIN = tiny.TrainConfig(complete_epochs=1, missing_epochs=3, batch_size=12, eval_batch_size=6)


def make_corpus(offset=100.0, scale=5.0, **changes) -> Corpus:
    """The target is a number that belongs to the class, and a little noise, in a unit far from the standard one."""
    corpus = tiny.make_corpus(**changes)
    number = corpus.label + 0.1 * np.random.default_rng(0).normal(size=len(corpus))
    return dataclasses.replace(corpus, target=(offset + scale * number).astype(np.float32))


CORPUS = make_corpus(sequences=("text",), absent=0.2)
FOLDS = make_folds(CORPUS)


def config_of(method, **changes) -> RunConfig:
    config = tiny.run_config(modality_configs(CORPUS), method=method, train=TRAIN, **changes)
    return dataclasses.replace(config, task="regression")


def train(config, corpus=CORPUS, fold=FOLDS[0]) -> RunResult:
    method = make_method(config)
    data, folds = to_device(corpus), stack_folds([fold])
    one = jax.tree.map(lambda x: x[0], folds)
    return jax.device_get(
        make_run(method, config.train).whole(data, one, jax.random.key(0), hyperparameters_of(config))
    )


@pytest.fixture(scope="module")
def zero_fill():
    """A longer run of the baseline, which learns the target."""
    longer = dataclasses.replace(TRAIN, complete_epochs=5, missing_epochs=40)
    return train(dataclasses.replace(config_of("zero_fill", dropout=0.0), train=longer))


def test_an_archive_keeps_targets_bit_by_bit(tmp_path):
    target = CORPUS.target.copy()
    label = CORPUS.label.copy()
    target[1], label[1] = np.nan, -1
    corpus = dataclasses.replace(CORPUS, target=target, label=label)
    write_archive(tmp_path / "a.npz", corpus)
    np.testing.assert_array_equal(read_archive(tmp_path / "a.npz").target, target)
    assert read_from(tmp_path, make_arrays()).target is None


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (np.arange(6), "key 'target': must be float32, found int64; convert it with .astype('float32')"),
        (np.zeros(5), "key 'target': must have one entry per utterance_id, 6, found shape (5,)"),
        (np.r_[np.inf, np.arange(5.0)], "key 'target', row 0 (utterance 'u0'): inf is beyond 1e+18; correct it"),
        (np.r_[np.arange(5.0), -1e300], "key 'target', row 5 (utterance 'u5'): -1e+300 is beyond 1e+18"),
        (np.r_[0, np.nan, np.arange(4.0)], "row 1 (utterance 'u1'): nan is no number, but the utterance has a label"),
        (np.full(6, 2.5), "key 'target': is 2.5 for every labelled utterance; correct it or leave target out"),
    ],
)
def test_faults_of_targets(tmp_path, target, sentence):
    with pytest.raises(ArchiveError) as error:
        read_from(tmp_path, make_arrays() | {"target": target})
    assert sentence in str(error.value)


def test_a_target_without_a_label_is_a_fault(tmp_path):
    arrays = make_arrays()
    arrays |= {"target": np.arange(6.0), "label": np.array([-1, 1, 0, 1, 2, 2])}
    with pytest.raises(ArchiveError, match=r"row 0 \(utterance 'u0'\): 0.0 is given, but the label is -1"):
        read_from(tmp_path, arrays)


def test_no_modality_may_be_called_target(tmp_path):
    arrays = make_arrays()
    arrays |= {"modalities": np.array(["audio", "target"]), "target": arrays.pop("text")}
    del arrays["text_present"]
    with pytest.raises(ArchiveError, match="'target' cannot name a modality"):
        read_from(tmp_path, arrays)


def test_folds_need_targets_that_differ():
    check_targets(CORPUS, FOLDS)
    with pytest.raises(FoldError, match="write the key target into the archive"):
        check_targets(dataclasses.replace(CORPUS, target=None), FOLDS)
    target = CORPUS.target.copy()
    target[FOLDS[1].val] = 7.0
    text = f"fold '{FOLDS[1].name}': every validation utterance has the target 7.0; use other folds or more utterances"
    with pytest.raises(FoldError, match=text):
        check_targets(dataclasses.replace(CORPUS, target=target), FOLDS)


def test_targets_are_standardised_by_labelled_training_rows_and_back():
    rows, where = jnp.array([0, 3, 4, 0]), jnp.array([True, True, True, False])
    target = jnp.array([10.0, 999.0, 999.0, 20.0, 30.0])  # by hand: mean 20, variance 200 / 3
    normalizer = with_target(identity_normalizer(tiny.MODALITIES), target, rows, where)
    batch = tiny.make_batch()._replace(target=jnp.array([10.0, 20.0, 30.0, 0.0, 0.0, 0.0]))
    expected = np.array([-1, 0, 1]) * 10 / np.sqrt(200 / 3)
    found = normalize(normalizer, batch).target
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)
    np.testing.assert_allclose(in_target_units(normalizer, found[:, None])[:, 0], batch.target, atol=1e-4)
    same = identity_normalizer(tiny.MODALITIES)
    np.testing.assert_array_equal(normalize(same, batch).target, batch.target)
    np.testing.assert_array_equal(in_target_units(same, found[:, None]), found[:, None])


def test_the_loss_is_the_mean_squared_error_of_labelled_rows():
    batch = tiny.make_batch(size=4)._replace(
        label=jnp.array([0, 1, -1, 2]),
        target=jnp.array([1.0, -1.0, 5.0, 7.0]),
        where=jnp.array([True, True, True, False]),
    )
    outputs = jnp.array([[2.0], [1.0], [0.0], [0.0]])
    name, value = supervised_loss(outputs, batch)
    assert name == "target_error"
    np.testing.assert_allclose(value, (1 + 4) / 2)  # by hand
    unknown = batch._replace(target=batch.target.at[2].set(jnp.nan))
    gradient = jax.grad(lambda x: supervised_loss(x, unknown)[1])(outputs)
    np.testing.assert_allclose(gradient[:, 0], [1, 2, 0, 0])
    several = jnp.stack([outputs, 2 * outputs], axis=1)  # as of networks by modality
    np.testing.assert_allclose(REGRESSION.loss(several, batch)[:2], [[1, 9], [4, 9]])


def test_one_output_is_no_classification():
    with pytest.raises(ValueError, match="cross-entropy is for classes; call supervised_loss"):
        cross_entropy(jnp.zeros((6, 1)), tiny.make_batch())
    with pytest.raises(ValueError, match=r"a regression needs Batch.target"):
        supervised_loss(jnp.zeros((6, 1)), tiny.make_batch())


def test_late_fusion_averages_the_available_numbers():
    numbers, available = jnp.array([[[1.0], [5.0]], [[2.0], [jnp.nan]]]), jnp.array([[True, True], [True, False]])
    np.testing.assert_allclose(average(numbers, available), [[3.0], [2.0]])
    np.testing.assert_allclose(average(numbers, jnp.zeros((2, 2), bool)), [[0.0], [0.0]])


def test_a_method_for_classes_says_so():
    with pytest.raises(ValueError, match="method dicmor is for classes only and cannot do regression"):
        make_method(config_of("dicmor"))


def test_a_corpus_without_targets_cannot_be_used():
    with pytest.raises(ValueError, match="a regression needs a number for each utterance"):
        train(config_of("zero_fill"), dataclasses.replace(CORPUS, target=None))


@pytest.mark.parametrize("name", [name for name in REGISTRY if name != "dicmor"])
def test_every_method_takes_a_step(name):
    """Loss, gradient and predictions are finite, and the number enters the loss."""
    config = config_of(name)
    method = make_method(config)
    batch = tiny.make_batch(modality_configs(CORPUS))._replace(target=jnp.linspace(-1.0, 1.0, 6))
    hyper = hyperparameters_of(config)

    @jax.jit
    def step(batch):
        params = method.init(jax.random.key(0), batch)
        loss = lambda params: method.loss(params, batch, batch.present, jax.random.key(1), hyper)
        (value, terms), grads = jax.value_and_grad(loss, has_aux=True)(params)
        available = batch.present.at[:, 0].set(False)
        return value, terms, grads, method.predict(params, method.encode(params, batch), available)

    value, terms, grads, predicted = step(batch)
    assert predicted.shape == (6, 1)
    chex.assert_tree_all_finite((value, terms, grads, predicted))
    assert terms["target_error"] > 0
    assert "cross_entropy" not in terms
    assert abs(step(batch._replace(target=batch.target + 3))[1]["target_error"] - terms["target_error"]) > 0.1
    assert method.task is REGRESSION


def test_a_run_learns_and_gives_numbers_in_the_unit_of_the_target(zero_fill):
    assert np.nanmax(zero_fill.history["val_ccc"]) > 0.9
    assert "val_uar" not in zero_fill.history
    for part in ("val", "test"):
        rows, logits = getattr(FOLDS[0], part), getattr(zero_fill, f"{part}_logits")
        truth = CORPUS.target[rows].astype(float)
        assert logits.shape[1:] == (len(rows), 1)
        assert 95 < logits[-1].mean() < 125
        # The sums of the run are of standardised numbers: the same CCC.
        found = agreement_sums(truth, logits[-1, :, 0], np.ones(len(rows), bool))
        np.testing.assert_allclose(ccc(found), ccc(getattr(zero_fill, f"{part}_counts")[-1]), atol=1e-5)
        assert ccc(found) > 0.8


def test_the_epoch_is_chosen_by_ccc(zero_fill):
    column = zero_fill.history["val_ccc"][zero_fill.history["stage"] == 1]
    assert column.argmax() == zero_fill.best_epoch
    np.testing.assert_allclose(ccc(zero_fill.val_counts[:-1].sum(0)), column.max(), rtol=1e-5)


def test_targets_of_validation_and_test_rows_do_not_reach_training():
    poisoned = CORPUS.target.copy()
    poisoned[np.r_[FOLDS[0].val, FOLDS[0].test]] += 1000 * np.arange(len(FOLDS[0].val) + len(FOLDS[0].test))
    config = config_of("zero_fill")
    first, second = train(config), train(config, dataclasses.replace(CORPUS, target=poisoned))
    np.testing.assert_array_equal(first.history["loss"], second.history["loss"])
    chex.assert_trees_all_equal(first.normalizer, second.normalizer)


def test_targets_of_unlabelled_rows_are_not_read():
    """A label budget: rows of `FoldSplit.unlabelled` may have a target in the corpus."""
    fold = FOLDS[0]._replace(train=FOLDS[0].train[::2], unlabelled=FOLDS[0].train[1::2])
    poisoned = CORPUS.target.copy()
    poisoned[fold.unlabelled] *= 1000
    config = config_of("cm_arr")
    first, second = (train(config, corpus, fold) for corpus in (CORPUS, dataclasses.replace(CORPUS, target=poisoned)))
    chex.assert_trees_all_equal(first, second)
    assert np.isfinite(first.history["target_error"][0])


def test_a_classification_does_not_read_targets():
    config = dataclasses.replace(config_of("zero_fill"), task="classification")
    assert make_method(config).task is CLASSIFICATION
    with_targets, without = train(config), train(config, dataclasses.replace(CORPUS, target=None))
    chex.assert_trees_all_equal(with_targets, without)


def test_configurations_of_both_tasks_are_read_back():
    config = config_of("zero_fill")
    assert RunConfig.from_dict(config.to_dict()) == config
    assert (config.num_outputs, config.to_dict()["task"]) == (1, "regression")
    classes = dataclasses.replace(config, task="classification")
    assert "task" not in classes.to_dict()  # as in the records of earlier versions
    assert RunConfig.from_dict(classes.to_dict()) == classes
    with pytest.raises(ValueError, match="task must be one of classification, regression"):
        dataclasses.replace(config, task="ranking")
