"""The table: a tiny run from archive to table, presets, and errors as sentences."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import NO_PROCESS, make_corpus

from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.folds import FoldError
from cmarr_jax.methods import zero_fill
from cmarr_jax.methods.base import supervised_loss
from experiments import compile_rows, provenance, reproduce, score_saved
from experiments.datasets import load_data
from experiments.presets import PRESETS, SMOKE, Changes, Preset
from experiments.report.__main__ import main as report_command
from experiments.results import FILE
from experiments.results_folder import open_folder
from experiments.units import Unit, read_outputs, read_rows, write_counts

ROOT = Path(__file__).parent.parent
CONDITIONS = ["a", "v", "t", "av", "at", "vt", "avt"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_archive(path, make_corpus(sequences=(), sessions=2, absent=0.1))
    return path


@pytest.fixture(scope="module")
def table(archive, tmp_path_factory):
    """The folder of a smoke run of two methods on the archive: four folds, one seed."""
    out = tmp_path_factory.mktemp("runs") / "new"
    arguments = reproduce.Arguments(data=str(archive), methods=("zero_fill", "cm_arr"), out=out, smoke=True)
    reproduce.main(arguments)
    return out


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_a_run_leaves(table):
    assert {path.name for path in table.iterdir()} == {
        "config.json", "results.jsonl", "table.csv", "table.md", "table.tex", "report.html", "figures", "zero_fill",
        "cm_arr",
        ".locks",
    }  # fmt: skip
    runs = {path.name for path in (table / "cm_arr").iterdir()}
    assert runs == {f"speaker{number}_seed0" for number in range(4)}
    config = json.loads((table / "config.json").read_text())
    assert config["seeds"] == [0]
    assert [fold["name"] for fold in config["folds"]] == [f"speaker{number}" for number in range(4)]
    assert list(config["methods"]) == ["zero_fill", "cm_arr"]
    assert Preset.from_dict(config["preset"]) == SMOKE
    assert {"jax", "flax", "python"} <= set(config["versions"])
    assert len(config["data"]["sha256"]) == 64


def test_rows_of_a_run(table):
    rows = read_rows(table)
    assert len(rows) == 2 * 4 * 7
    for method in ("zero_fill", "cm_arr"):
        assert [row.condition for row in rows if row.method == method] == CONDITIONS * 4
    for row in rows:
        counts = np.array(row.counts)
        assert counts.shape == (4, 4)
        assert row.war == np.trace(counts) / counts.sum()
        recalls = np.diag(counts)[counts.sum(1) > 0] / counts.sum(1)[counts.sum(1) > 0]
        np.testing.assert_allclose(row.uar, recalls.mean(), rtol=1e-6)
    assert all(np.sum(row.counts) == 8 for row in rows if row.condition == "avt")


def test_the_outputs_of_a_run_give_its_counts(table, archive):
    corpus = read_archive(archive)
    unit = Unit("cm_arr", "speaker2", 0)
    outputs = read_outputs(table, unit)
    rows = np.flatnonzero(corpus.speaker == "speaker2")
    np.testing.assert_array_equal(outputs.utterance_id, corpus.utterance_id[rows])
    np.testing.assert_array_equal(outputs.label, corpus.label[rows])
    assert set(outputs.speaker) == {"speaker2"}
    record = json.loads((table / unit.path / "run.json").read_text())
    for part, speaker in (("test", "speaker2"), ("val", "speaker3")):
        outputs = read_outputs(table, unit, part)
        assert set(outputs.speaker) == {speaker}
        for pattern, logits, counts in zip(
            availability_patterns(3), outputs.logits, record[f"{part}_counts"], strict=True
        ):
            counted = (outputs.present & pattern).any(axis=1)
            assert not logits[~counted].any()
            found = np.zeros((4, 4), int)
            np.add.at(found, (outputs.label[counted], logits[counted].argmax(-1)), 1)
            np.testing.assert_array_equal(found, counts)


def test_csv_of_a_run(table):
    with (table / "table.csv").open() as file:
        assert file.readline() == "method,condition,metric,mean,std,ci_low,ci_high,n\n"
    cells = read_csv(table)
    expected = [
        (metric, method, condition)
        for metric in ("war", "uar")
        for method in ("zero_fill", "cm_arr")
        for condition in [*CONDITIONS[:-1], "average", "avt"]
    ]
    assert [(cell["metric"], cell["method"], cell["condition"]) for cell in cells] == expected
    for cell in cells:
        assert 0 <= float(cell["mean"]) <= 1
        assert float(cell["ci_low"]) <= float(cell["mean"]) <= float(cell["ci_high"])
        assert cell["n"] == "4"
    scores = [row.uar for row in read_rows(table) if row.method == "cm_arr" and row.condition == "at"]
    cell = next(c for c in cells if (c["method"], c["condition"], c["metric"]) == ("cm_arr", "at", "uar"))
    assert float(cell["mean"]) == pytest.approx(np.mean(scores), abs=1e-6)


def test_markdown_of_a_run(table):
    text = (table / "table.md").read_text()
    assert text.startswith("# CM-ARR on toy\n")
    assert "these numbers mean nothing" in text
    assert "| method | `a` | `v` | `t` | `av` | `at` | `vt` | average | `avt` |" in text
    assert "| Zero-fill |" in text
    assert "## CM-ARR minus each other row, average of the 6 missing-modality conditions, points" in text
    assert re.search(r"\| Zero-fill \| UAR \| [+-]\d+\.\d\d \([+-]\d+\.\d\d to [+-]\d+\.\d\d\) \| [01]\.\d{3} \|", text)


def test_the_report_makes_the_same_tables_again(table, capsys):
    before = (table / "table.csv").read_text(), (table / "table.md").read_text()
    report_command(table)
    assert capsys.readouterr().out == before[1] + "\n"
    assert ((table / "table.csv").read_text(), (table / "table.md").read_text()) == before


def test_a_saved_run_evaluates_to_its_counts(table, archive, tmp_path, monkeypatch):
    run = table / "cm_arr" / "speaker2_seed0"
    monkeypatch.chdir(run)
    assert score_saved.main(score_saved.Arguments(Path()))
    shutil.copytree(run, tmp_path / "cm_arr" / run.name)
    shutil.copy(table / "config.json", tmp_path)
    path = tmp_path / "cm_arr" / run.name / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fold": "01F"}))
    with pytest.raises(ValueError, match="is a run of fold 01F, which these data have not; they have speaker0, "):
        score_saved.main(score_saved.Arguments(path.parent))
    record = json.loads((run / "run.json").read_text())
    rows = [row.counts for row in read_rows(table) if (row.method, row.fold) == ("cm_arr", "speaker2")]
    assert record["test_counts"] == rows


def test_evaluating_on_other_data_is_refused(table, tmp_path):
    write_archive(tmp_path / "toy.npz", make_corpus(sequences=(), sessions=2, absent=0.1, seed=1))
    with pytest.raises(ValueError, match="not those the model was trained on"):
        score_saved.main(score_saved.Arguments(table / "cm_arr" / "speaker2_seed0", data=str(tmp_path / "toy.npz")))


def arguments(**changes) -> reproduce.Arguments:
    of_preset = {name: changes.pop(name) for name in Changes.__dataclass_fields__ if name in changes}
    return reproduce.Arguments(changes=Changes(**of_preset), **({"smoke": True} | changes))


def test_faults_are_told_before_anything_is_trained(archive, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    cases = [
        ({"data": str(tmp_path / "none.npz")}, (ArchiveError, FileNotFoundError), "none.npz"),
        ({"data": str(archive), "methods": ("mmim",)}, ValueError, "method must be one of zero_fill, .*'mmim'"),
        ({"data": str(archive), "seeds": 0}, ValueError, "--seeds must be at least 1, found 0"),
        ({"data": str(archive), "only": ("dicmor/*",)}, ValueError, r"--only 'dicmor/\*' matches no run; the first"),
        ({"data": str(archive), "memory": 0.0}, ValueError, "--memory must be above 0, found 0"),
        ({"data": str(archive), "folds": 2}, FoldError, "at least three folds"),
        (
            {"data": str(archive), "out": tmp_path / "full"},
            FileExistsError,
            "is not empty and holds no table; name a new",
        ),
        ({"data": str(archive), "out": archive}, FileExistsError, "is not empty"),
    ]
    for changes, error, text in cases:
        out = {"out": tmp_path / "unused"} | changes
        with pytest.raises(error, match=text):
            reproduce.main(arguments(**out))
    assert not (tmp_path / "unused").exists()


def test_a_command_that_was_killed_before_its_configuration_can_be_given_again(tmp_path):
    (tmp_path / ".locks").mkdir()
    (tmp_path / f".config.json.{NO_PROCESS}.partial").write_text('{"meth')
    config = {"methods": {}, "tuned": {}, "seeds": [0]}
    assert open_folder(tmp_path, config) == config
    assert json.loads((tmp_path / "config.json").read_text()) == config


def test_the_command_line_tells_a_fault_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "experiments.reproduce", "--data", str(tmp_path / "none.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "none.npz" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_keeps_what_was_finished(archive, tmp_path, monkeypatch, capsys):
    def train_table(folder, *_):
        write_counts(folder, Unit("zero_fill", "speaker0", 0), ("left", "right"), [np.eye(4, dtype=int).tolist()] * 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "train_table", train_table)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(arguments(data=str(archive), out=tmp_path / "out"))
    assert stopped.value.code == 130
    assert "Stopped; what was finished is kept. Go on with --out " in capsys.readouterr().out
    assert len(read_csv(tmp_path / "out")) == 8


def test_ctrl_c_is_answered_while_compiling(archive, tmp_path):
    # In a process of its own, whose compilation never ends: a sleep stands for XLA, which cannot be interrupted either.
    code = (
        "import signal, time, experiments.compile_rows as rows, experiments.reproduce as r\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job of a shell ignores it
        "def compile_sweep(*_, **__):\n    print('compiling', flush=True)\n    time.sleep(60)\n"
        "rows.compile_sweep = compile_sweep\n"
        "r.run_command()"
    )
    options = ["--smoke", "--data", str(archive), "--out", str(tmp_path / "out"), "--methods", "zero_fill"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert any("compiling" in line for line in process.stdout)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert time.monotonic() - start < 2
    assert process.returncode == 130
    assert "Stopped" in out
    assert "Traceback" not in errors


def test_memory_is_given_in_gib(archive, tmp_path, monkeypatch):
    def compile_sweep(*_, memory, **__):
        raise MemoryError(memory)

    monkeypatch.setattr(compile_rows, "compile_sweep", compile_sweep)
    monkeypatch.setattr(compile_rows, "available_memory", lambda device: 2.0**34)
    for number, (given, expected) in enumerate([(1.5, 1.5 * 2**30), (None, 2.0**34)]):
        with pytest.raises(MemoryError) as error:
            reproduce.main(arguments(data=str(archive), out=tmp_path / str(number), memory=given))
        assert error.value.args == (expected,)


def test_chosen_presets(archive, tmp_path):
    write_archive(tmp_path / "sequences.npz", make_corpus())
    choose = lambda data, preset=None, smoke=False, **changes: load_data(
        str(data), preset, smoke=smoke, changes=Changes(**changes)
    )[0]
    assert choose(tmp_path / "sequences.npz").max_frames is None  # no frame is averaged away unless one asks for it
    vectors = choose(archive)
    assert vectors.encoders["embedding"] == 64
    assert choose(tmp_path / "sequences.npz", smoke=True) == SMOKE
    changed = choose(
        archive, embedding=16, learning_rate=0.5, missing_epochs=3, max_frames=7, dropout=0.1, dtype="bfloat16"
    )
    assert changed.encoders["dtype"] == "bfloat16"
    assert (changed.encoders["embedding"], changed.learning_rate, changed.train.missing_epochs) == (16, 0.5, 3)
    assert (changed.max_frames, changed.dropout) == (7, 0.1)
    assert changed.train.complete_epochs == vectors.train.complete_epochs
    assert choose(archive, preset="msp_improv") == PRESETS["msp_improv"]
    with pytest.raises(ValueError, match=r"--preset must be one of synthetic, .*'iemocab'"):
        reproduce.main(arguments(data=str(archive), preset="iemocab", smoke=False))


def test_debug_names_the_row_the_place_and_the_batch(archive, tmp_path, monkeypatch):
    """Of a table, whose programs run several models on several devices."""

    def faulty(*args):
        name, value = supervised_loss(*args)
        return name, value + jnp.log(value - 100)

    monkeypatch.setattr(zero_fill, "supervised_loss", faulty)
    where = {"data": str(archive), "out": tmp_path / "out"}
    wild = arguments(methods=("zero_fill",), folds_only=("speaker0",), debug=True, **where)
    with pytest.raises(ValueError, match=r"^zero_fill: nan generated by primitive: log.*; the batch: u\d+"):
        reproduce.main(wild)


def test_a_diverged_run_is_no_result(tmp_path, capsys):
    corpus = make_corpus(sequences=(), sessions=2)
    renamed = np.where(corpus.speaker == "speaker1", "session0/F", corpus.speaker)  # no speaker's name is a path
    corpus = dataclasses.replace(corpus, speaker=renamed)
    write_archive(tmp_path / "toy.npz", corpus)
    out = tmp_path / "out"
    diverging = arguments(data=str(tmp_path / "toy.npz"), methods=("zero_fill",), out=out, learning_rate=1e30)
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(diverging)
    assert stopped.value.code == 1
    rows = read_rows(out)
    assert {row.status for row in rows} == {"diverged"}
    assert np.isnan([row.uar for row in rows]).all()
    assert all(cell["mean"] == "" and cell["n"] == "0" for cell in read_csv(out))
    assert {path.name for path in out.glob("zero_fill/*/*")} == {"run.json", "last_good"}  # no model of a chosen epoch
    assert "NaN" not in (out / FILE).read_text()
    assert "no run has scores" in (out / "report.html").read_text()
    assert "4 diverged" in capsys.readouterr().out
    reproduce.main(arguments(data=str(tmp_path / "toy.npz"), methods=("zero_fill",), out=tmp_path / "good"))
    names = {path.name for path in (tmp_path / "good" / "zero_fill").iterdir()}
    assert names == {"speaker0_seed0", "session0%2FF_seed0", "speaker2_seed0", "speaker3_seed0"}


def test_without_git_the_commit_is_unknown(monkeypatch):
    assert provenance.commit() != ""
    monkeypatch.setenv("PATH", "")
    found = provenance.commit.__wrapped__()
    assert re.fullmatch("unknown-[0-9a-f]{12}", found)
    monkeypatch.setattr(provenance, "LIBRARY", provenance.CHECKOUT / "report")  # other code
    assert provenance.commit.__wrapped__() != found


def test_a_cpu_is_named_by_its_model():
    assert re.fullmatch(r"\d+ x cpu \([^,]+\)", provenance.device_text())


def test_two_states_of_a_changed_checkout_are_told_apart(tmp_path, monkeypatch):
    git = lambda *words: subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=tmp_path, check=True, capture_output=True
    )
    git("init")
    (tmp_path / "a.py").write_text("1\n")
    git("add", "a.py")
    git("commit", "-m", "first")
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    commit = provenance.commit.__wrapped__
    clean = commit()
    assert re.fullmatch("[0-9a-f]{12}", clean)
    found = []
    for text in ("2\n", "3\n", "2\n"):
        (tmp_path / "a.py").write_text(text)
        found.append(commit())
        assert re.fullmatch(f"{clean}-dirty-[0-9a-f]{{8}}", found[-1])
    assert found[0] == found[2] != found[1]
    (tmp_path / "a.py").write_text("1\n")
    assert commit() == clean
