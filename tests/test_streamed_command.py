"""The command of streamed training: going on, two processes, unlabelled utterances, what is not finite, errors."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from streamed_data import make_data_set
from test_processes import LOCAL_DEVICES, ROOT, assert_ended_well, run_two, spoken

from cmarr_jax.data.corpus import UNLABELLED
from cmarr_jax.data.streamed import Overview, open_data_set
from cmarr_jax.training.checkpoint import load_run
from cmarr_jax.training.streamed_loop import on_raw_features
from experiments import streamed_folder
from experiments import train_streamed as command
from experiments.own_folder import own_folder
from experiments.presets import Changes
from experiments.streamed_lines import last_not_finite


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


def test_a_stop_before_anything_was_written_says_so(monkeypatch, capsys, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    ended = []
    monkeypatch.setattr(command, "main", stop)
    monkeypatch.setattr(command, "end_process", ended.append)
    monkeypatch.setattr(command, "set_up_jax", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["x", "--data", "d", "--held-out", "s", "--out", str(tmp_path / "out")])
    command.run_command()
    assert ended == [130]
    assert capsys.readouterr().err == "Stopped; nothing was written\n"


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
        with pytest.raises(KeyboardInterrupt, match=f"^go on with --resume --out {tmp_path}/stopped$"):
            command.main(make_arguments(path, tmp_path / "stopped"))
    assert (
        command.after_a_stop(tmp_path / "new")
        == f"there is no checkpoint yet, so delete {tmp_path}/new before you start again"
    )
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
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    (records,) = copy.glob("*.array_record*")
    whole = records.read_bytes()
    records.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # as long as before
    with monkeypatch.context() as patch:
        patch.setattr(command, "open_data_set", lambda _, modalities: open_data_set(path, modalities=modalities))
        with pytest.raises(ValueError, match=r"was another training \(data differ\)"):
            command.main(make_arguments(copy, tmp_path / "stopped", resume=True))
        patch.setattr(command, "commit", lambda: "another")
        patch.setattr(command, "versions", dict)
        with pytest.raises(ValueError, match=r"was another training \(versions, commit differ\)"):
            command.main(make_arguments(path, tmp_path / "stopped", resume=True))


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
    speaker, label = corpus.speaker, corpus.label
    present = corpus.present[:, [corpus.modalities.index(name) for name in ("video", "text")]]
    is_held_out = np.isin(speaker, ("speaker0", "speaker4"))
    faults = {
        r"1\.0\.0: no utterance is labelled; give a data set with labels": (np.full(len(corpus), UNLABELLED), present),
        f"no utterance of class '{corpus.class_names[0]}' trains; change --held-out, or make the data set without": (
            np.where(is_held_out, label, label.clip(1)),
            present,
        ),
        "no utterance with modality 'text' trains; change --held-out, or leave it out of --modalities": (
            label,
            present & (is_held_out[:, None] | [True, False]),
        ),
    }
    for sentence, (labels, there) in faults.items():
        overview = Overview(speaker, labels, there)
        monkeypatch.setattr(command, "read_overview", lambda data_set, overview=overview: overview)
        with pytest.raises(ValueError, match=sentence):
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
    with own_folder(tmp_path):
        command_line = "from pathlib import Path; from experiments.own_folder import own_folder\n"
        command_line += f"with own_folder(Path({str(tmp_path)!r})): pass"
        done = subprocess.run(
            [sys.executable, "-c", command_line], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert "another command is training in this folder; wait until it has ended" in done.stderr
    with own_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("skipped", "in_row", "expected"),
    [([0, 0], 0, (None, 0)), ([1, 0, 1], 0, (2, 1)), ([1, 1, 1], 2, (0, 3)), ([0, 1, 0], 2, (1, 0))],
)  # fmt: skip
def test_the_last_step_that_was_not_finite(skipped, in_row, expected):
    assert last_not_finite(np.array(skipped), in_row, 3) == expected


def test_a_damaged_line_of_the_metrics_is_named(tmp_path):
    path = tmp_path / streamed_folder.METRICS
    for damaged in ("[]", '{"step": "3"}', '{"loss": 1.0}', "[" * 2000, "half"):
        content = f'{{"step": 1}}\n{damaged}\n{{"step": 9}}\n'
        path.write_text(content)
        with pytest.raises(ValueError, match=r"metrics.jsonl, line 2: is damaged \(it holds no step\); delete"):
            streamed_folder.keep_lines(tmp_path, 2)
        assert path.read_text() == content
    path.write_text('{"step": 1}\n{"step": 9}\n{"step": 2}\n{"st')
    streamed_folder.keep_lines(tmp_path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
