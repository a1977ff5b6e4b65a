"""Training from streamed batches: the same as in memory, and after a stop. The command: `test_streamed_command.py`."""

from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from streamed_data import make_batches
from tiny import make_batch, random_params, run_config

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.batching import take
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.normalizer import fit_normalizer_streamed, normalize
from cmarr_jax.data.streamed import read_ahead
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Stage
from cmarr_jax.training.evaluation import Evaluation
from cmarr_jax.training.parallel import make_parallel_train_step, replicate, split_batch
from cmarr_jax.training.schedule import epoch_keys
from cmarr_jax.training.step import first_state, make_train_step
from cmarr_jax.training.streamed_loop import (
    first_progress,
    make_end_epoch,
    next_epoch,
    on_raw_features,
    train_steps,
)
from experiments import streamed_folder

CONFIG = TrainConfig(complete_epochs=1, missing_epochs=2, batch_size=10)


@pytest.fixture(scope="module")
def training(made, data_set):
    """A compiled step of the baseline on raw features, its first progress, and how often it was traced."""
    normalizer = fit_normalizer_streamed(read_ahead(make_batches(data_set, seed=None)))
    config = run_config(modality_configs(made[0]), method="zero_fill", train=CONFIG)
    method = make_method(config)
    raw = on_raw_features(method, normalizer)
    traces: list[int] = []
    step = make_train_step(raw, CONFIG)

    def counted(*args):
        traces.append(1)
        return step(*args)

    progress = first_progress(config, method, normalizer, seed=1)
    params = random_params(raw.init, make_batches(data_set)[0])
    model = jax.device_put(first_state(method, CONFIG, params), jax.devices()[0])  # as what is restored
    progress = progress._replace(run=progress.run._replace(model=model))
    return method, jax.jit(counted), progress, traces


def run(training, iterator, num_steps, progress=None):
    method, step, first, _ = training
    return train_steps(step, method, progress or first, iterator, num_steps=num_steps, steps_per_epoch=6)


def test_streamed_training_equals_training_in_memory_and_traces_once(made, data_set, training):
    method, _, progress, traces = training
    data, batches = to_device(made[0], max_frames=4), make_batches(data_set)
    after, aux, timing = run(training, read_ahead(batches), len(batches))
    assert len(traces) == 1  # the incomplete batch and the second pass included
    assert 0 <= timing.waited <= timing.seconds
    assert (after.step, after.position) == (6, {"next_index": 6})
    train_step = jax.jit(make_train_step(method, CONFIG))
    model, (_, steps_key) = progress.run.model, epoch_keys(progress.run)
    for number in range(len(batches)):
        batch = normalize(progress.run.normalizer, take(data, *map(jnp.asarray, batches.rows_of(number))))
        model, expected = train_step(model, batch, jax.random.fold_in(steps_key, number), False, progress.run.hyper)
        np.testing.assert_allclose(aux["loss"][number], expected["loss"], rtol=1e-5)
    chex.assert_trees_all_close(after.run.model.params, model.params, atol=1e-5)


def test_six_steps_are_three_saved_restored_and_three_more(data_set, training, tmp_path):
    whole, whole_aux, _ = run(training, read_ahead(make_batches(data_set)), 6)
    half, _, _ = run(training, read_ahead(make_batches(data_set)), 3)
    for number in (1, 2, 3):
        streamed_folder.save(tmp_path, number, half)
    like = jax.tree.map(lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.zeros_like(x), half.run)
    number, restored = streamed_folder.restore(tmp_path, half._replace(run=like))
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "3"}  # the last two are kept
    assert number == 3
    chex.assert_trees_all_equal(restored, half)
    iterator = read_ahead(make_batches(data_set))
    iterator.set_state(restored.position)
    one = restored._replace(run=jax.device_put(restored.run, jax.devices()[0]))
    after, aux, _ = run(training, iterator, 3, one)
    chex.assert_trees_all_equal(after, whole)  # the sums of the losses, too
    chex.assert_trees_all_equal(aux, jax.tree.map(lambda x: x[3:], whole_aux))


def test_a_score_keeps_its_bits_through_a_checkpoint(training, tmp_path):
    # 0.7 as float64 is above 0.7 as float32: a later epoch with the same score was then chosen after a resume.
    method, _, progress, _ = training
    counts = jnp.zeros_like(progress.run.best.evaluation.counts).at[-1, 0, :2].set(jnp.array([7, 3]))
    finish_epoch = make_end_epoch(method, CONFIG)
    sums = {name: value + 1 for name, value in progress.sums.items()}
    progress = progress._replace(step=1, sums=sums)
    progress = next_epoch(finish_epoch, progress, Evaluation(counts, jnp.array(True)), {})
    assert progress.run.best.score.dtype == jnp.float32
    streamed_folder.save(tmp_path, 1, progress)
    _, restored = streamed_folder.restore(tmp_path, progress)
    chex.assert_trees_all_equal(restored.run.best, progress.run.best)


def test_rows_that_fill_up_never_count(data_set, training):
    _, step, progress, _ = training
    batch = make_batches(data_set)[2]
    assert batch.where.tolist() == [True] + [False] * 5
    spoil = lambda x: np.concatenate([x[:1], np.full_like(x[1:], np.nan)])
    features = OrderedDict((name, spoil(x)) for name, x in batch.features.items())
    spoilt = batch._replace(features=features, label=np.array([batch.label[0], 0, 1, 2, 3, 3], np.int32))
    args = jax.random.key(0), True, progress.run.hyper
    one, two = (step(progress.run.model, jax.device_put(b), *args) for b in (batch, spoilt))
    chex.assert_trees_all_equal(one, two)
    chex.assert_tree_all_finite(two[1])
    chex.assert_trees_all_close(fit_normalizer_streamed([batch]), fit_normalizer_streamed([spoilt]))


def test_one_compiled_step_serves_both_stages_and_each_step(training):
    method, _, progress, _ = training
    traces = []

    def loss(params, batch, available, key, hyper, axis_name=None):
        traces.append(1)
        return params["w"] * jnp.mean(batch.label), {"count": jnp.sum(batch.where)}

    stages = Stage("a", 1, False, weights={"one": 0.0}), Stage("b", 2, True, decay=True)
    toy = method._replace(loss=loss, stages=stages, weights={"one": 1.0}, optimizer=optax.identity())
    step = make_parallel_train_step(toy, CONFIG)
    model = first_state(toy, CONFIG, {"w": jnp.ones(())})
    state = progress.run._replace(
        model=model, hyper=Hyperparameters(jnp.float32(1e-2), jnp.float32(0), {"one": jnp.float32(1)})
    )
    progress = progress._replace(run=replicate(state), sums={"loss": np.float32(0)})
    batch = split_batch(make_batch(size=8), jax.device_count())

    class Same:
        def __next__(self):
            return batch

        def get_state(self):
            return {"next_index": 0}

    for stage in (0, 1):
        run = progress.run._replace(stage=replicate(jnp.int32(stage)))
        progress, _, _ = train_steps(
            step, toy, progress._replace(run=run, step=0), Same(), num_steps=2, steps_per_epoch=2
        )
    assert len(traces) == 1
