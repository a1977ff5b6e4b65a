"""Training from streamed batches: the same as in memory, after a stop, in two processes, and by the command."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from streamed_data import make_batches, make_data_set
from test_processes import LOCAL_DEVICES, ROOT, assert_ended_well, run_two, spoken
from tiny import make_batch, random_params, run_config

from cmarr_jax.config import Hyperparameters, TrainConfig
from cmarr_jax.data.batching import take
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.normalizer import fit_normalizer_streamed, normalize
from cmarr_jax.data.streamed import read_ahead
from cmarr_jax.methods import make_method
from cmarr_jax.methods.base import Stage
from cmarr_jax.training.checkpoint import load_run
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
from experiments import train_streamed as command
from experiments.presets import Changes
from experiments.streamed_lines import last_not_finite

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


def make_arguments(path, out, **changes):
    small = {
        "complete_epochs": 0,
        "missing_epochs": 2,
        "batch_size": 16,
        "embedding": 4,
        "max_frames": 4,
        "patience": 0,
        "min_epoch_steps": 0,
    }
    small |= {name: changes.pop(name) for name in Changes.__dataclass_fields__ if name in changes}
    rest = {"method": "zero_fill", "modalities": ("video", "text"), "log_every": 2, "save_every": 3}
    return command.Arguments(path, ("speaker0", "speaker4"), out, changes=Changes(**small), **(rest | changes))


def metrics(folder):
    """Validation scores by step."""
    lines = [json.loads(line) for line in (folder / streamed_folder.METRICS).read_text().splitlines()]
    return {line["step"]: line["val_uar"] for line in lines if "val_uar" in line}


def test_the_command_goes_on_where_it_was_stopped(made, tmp_path, monkeypatch, capsys):
    _, path = made
    command.main(make_arguments(path, tmp_path / "whole"))
    printed = capsys.readouterr().out
    assert "32 utterances train, 16 validate; at most 4 steps" in printed
    assert "% for input" in printed
    assert "MiB resident" in printed
    assert "epoch 1, validation UAR: v " in printed

    def stop(folder, number, progress):
        streamed_folder.save(folder, number, progress)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            command.main(make_arguments(path, tmp_path / "stopped"))
    with (tmp_path / "stopped" / streamed_folder.METRICS).open("a") as file:
        file.write('{"step": 3, "val_uar": "of a step after the checkpoint"}\n{"step": 3, "half')
    command.main(make_arguments(path, tmp_path / "stopped", resume=True))
    assert "Goes on after step 2." in capsys.readouterr().out
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "stopped")
    assert list(metrics(tmp_path / "whole")) == [2, 4]
    saved = [load_run(tmp_path / name / streamed_folder.MODEL) for name in ("whole", "stopped")]
    chex.assert_trees_all_equal(saved[0].params, saved[1].params)
    assert saved[0].record == saved[1].record
    assert saved[0].record["status"] == "stopped by the budget"
    with pytest.raises(FileExistsError, match="this training is finished"):
        command.main(make_arguments(path, tmp_path / "stopped", resume=True))
    shutil.rmtree(tmp_path / "stopped" / streamed_folder.MODEL)
    with pytest.raises(ValueError, match=r"was another training \(seed differ\)"):
        command.main(make_arguments(path, tmp_path / "stopped", resume=True, seed=1))


def test_two_processes_train_the_model_of_one(made, tmp_path):
    def command_line(out, *options):
        small = "--complete-epochs 1 --missing-epochs 1 --batch-size 16 --embedding 4 --max-frames 4 --log-every 1"
        small += " --min-epoch-steps 0"
        rest = f"--held-out speaker0 speaker4 --method zero_fill --modalities video text {small}".split()
        where = ["--data", str(made[1]), "--out", str(out)]
        return [sys.executable, "-m", "experiments.train_streamed", *where, *rest, *options]

    joined = lambda port, number: (
        f"--coordinator-address 127.0.0.1:{port} --num-processes 2 --process-id {number}".split()
    )
    done = run_two(lambda port, number: command_line(tmp_path / "two", *joined(port, number)))
    assert_ended_well(done)
    assert "First step after" in done[0].stdout
    assert spoken(done[1]) == ""
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(2 * LOCAL_DEVICES)}
    subprocess.run(command_line(tmp_path / "one"), cwd=ROOT, env=env, check=True, capture_output=True)
    lines = [
        [json.loads(line) for line in (tmp_path / name / streamed_folder.METRICS).read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [line["step"] for line in lines[0]] == [1, 2, 2, 3, 4, 4]
    for one, two in zip(*lines, strict=True):
        assert one.get("val_uar") == two.get("val_uar")
        np.testing.assert_allclose(two.get("loss", 0), one.get("loss", 0), rtol=1e-5)
    params = [load_run(tmp_path / name / streamed_folder.MODEL).params for name in ("one", "two")]
    chex.assert_trees_all_close(*params, rtol=1e-5, atol=1e-6)


def test_unlabelled_utterances_are_left_out_and_counted(tmp_path, monkeypatch, capsys):
    unlabelled = [0, 9, 30, *range(40, 48)]  # among them all of speaker5
    corpus, path = make_data_set(tmp_path, unlabelled)
    read = []
    monkeypatch.setattr(
        command, "run_to_the_end", lambda arguments, config, method, source, start_up: read.append(source)
    )
    command.main(make_arguments(path, tmp_path / "out"))
    validates = np.isin(corpus.speaker, ("speaker0", "speaker4"))
    np.testing.assert_array_equal(read[0].train.rows, np.flatnonzero(corpus.labelled & ~validates))
    np.testing.assert_array_equal(read[0].val.rows, np.flatnonzero(corpus.labelled & validates))
    assert "11 utterances without a label are left out: experiments.reproduce uses them" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"of the 5 speakers with labels .* found speaker5"):
        command.main(dataclasses.replace(make_arguments(path, tmp_path / "other"), held_out=("speaker5",)))
    monkeypatch.setattr(command, "read_speakers", lambda data_set: (corpus.speaker, np.zeros(len(corpus), bool)))
    with pytest.raises(ValueError, match=r"1\.0\.0: no utterance is labelled; give a data set with labels"):
        command.main(make_arguments(path, tmp_path / "other"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "nothing"], "error: nothing: is no prepared tfds data set"),
        (
            ["--held-out", "nobody"],
            "error: --held-out must name some, not all, of the 6 speakers with labels (speaker0, ",
        ),
        (["--log-every", "0"], "error: --log-every and --save-every must be positive, found 0 and 1000"),
        (["--resume"], "holds no training to go on with; start it without --resume"),
        (["--out", "."], "error: . is not empty"),
    ],
    ids=["data", "held-out", "log", "resume", "out"],
)
def test_the_command_says_what_is_wrong(made, tmp_path, monkeypatch, capsys, options, sentence):
    (tmp_path / "something").touch()
    monkeypatch.chdir(tmp_path)
    given = {"--data": str(made[1]), "--held-out": "speaker0", "--out": str(tmp_path / "out"), "--max-frames": "4"}
    given |= dict(zip(options[::2], options[1::2], strict=False))
    argv = [part for pair in given.items() for part in pair] + [option for option in options if option == "--resume"]
    monkeypatch.setattr("sys.argv", ["stream", *argv])
    with pytest.raises(SystemExit) as stopped:
        command.run_command()
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def spoil(method, bad):
    """The method with a loss that is nan where `bad(params)` says so."""

    def loss(params, *args):
        total, aux = method.loss(params, *args)
        return jnp.where(bad(args[0]), jnp.nan, total), aux

    return method._replace(loss=loss)


def test_a_training_that_is_not_finite_stops_with_its_last_good_state(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "on_raw_features", lambda *args: spoil(on_raw_features(*args), lambda batch: True))
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        command.main(make_arguments(made[1], out, max_skipped=3))
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert "skipped updates: 1 (not finite; the last batch: u" in printed
    assert f"Its parameters after the last update are in {out}/last_good; no other model is written." in printed
    lines = [json.loads(line) for line in (out / streamed_folder.METRICS).read_text().splitlines()]
    skipped = [line for line in lines if "skipped" in line]
    assert sum(line["skipped"] for line in skipped) == 3
    assert all(len(line["skipped_utterances"]) == 16 and line["loss"] is None for line in skipped)
    assert load_run(out / "last_good", "last_good").record["status"] == "diverged"
    assert not (out / streamed_folder.MODEL).exists()
    with pytest.raises(
        FileExistsError, match="this training diverged; start another one, for example with a lower rate"
    ):
        command.main(make_arguments(made[1], out, max_skipped=3, resume=True))


def test_a_folder_belongs_to_one_training(tmp_path):
    with streamed_folder.own_folder(tmp_path):
        command_line = "from pathlib import Path; from experiments.streamed_folder import own_folder\n"
        command_line += f"with own_folder(Path({str(tmp_path)!r})): pass"
        done = subprocess.run(
            [sys.executable, "-c", command_line], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "another command is training in this folder; wait until it has ended" in done.stderr
    with streamed_folder.own_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("skipped", "in_row", "expected"),
    [([0, 0], 0, (None, 0)), ([1, 0, 1], 0, (2, 1)), ([1, 1, 1], 2, (0, 3)), ([0, 1, 0], 2, (1, 0))],
)  # fmt: skip
def test_the_last_step_that_was_not_finite(skipped, in_row, expected):
    assert last_not_finite(np.array(skipped), in_row, 3) == expected
