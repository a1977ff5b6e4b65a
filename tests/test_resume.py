"""The command repeated on its folder: only what is missing is trained, other settings are refused."""

import html
import json
import shutil
import threading

import filelock
import pytest
from results_by_hand import CONFIG, write_table
from tiny import NO_PROCESS, make_corpus

from cmarr_jax.data.archive import write_archive
from experiments import reproduce
from experiments.presets import Changes
from experiments.report.write import write_report
from experiments.results_folder import check_same, first_difference, open_folder, own_row, read_config
from experiments.units import read_rows


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_archive(path, make_corpus(sequences=(), sessions=2, absent=0.1))
    return path


def run(archive, out, **changes):
    of_preset = {name: changes.pop(name) for name in Changes.__dataclass_fields__ if name in changes}
    arguments = {"methods": ("zero_fill",), "smoke": True} | changes
    reproduce.main(reproduce.Arguments(data=str(archive), out=out, changes=Changes(**of_preset), **arguments))


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    run(archive, out)
    return out


def made(folder):
    """The files of a table, and when each run was written."""
    tables = {name: (folder / name).read_bytes() for name in ("table.csv", "table.md", "results.jsonl")}
    return tables, {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/*/run.json")}


def test_only_what_is_missing_is_trained(archive, whole, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    tables, times = made(out)
    shutil.rmtree(out / "zero_fill" / "speaker2_seed0")
    (out / "zero_fill" / f".speaker2_seed0.{NO_PROCESS}.partial").mkdir()  # of a killed process
    for name in tables:
        (out / name).unlink()
    run(archive, out)
    again, later = made(out)
    assert again == tables
    assert {name for name in times if times[name] != later[name]} == {"speaker2_seed0"}
    assert not list(out.glob("*/.*.partial"))


def test_the_state_of_a_finished_run_is_deleted(archive, whole, tmp_path):
    """A kill between the end of a run and the deletion of its state leaves it."""
    shutil.copytree(whole, tmp_path / "out")
    done, begun = (tmp_path / "out" / "zero_fill" / f".speaker{number}_seed0.state.npz" for number in (0, 1))
    shutil.rmtree(begun.with_name("speaker1_seed0"))
    for path in (done, done.with_name(done.name + ".before"), begun):
        path.write_bytes(b"")
    kept = done.with_name("speaker0_seed0") / "run.json"
    before = kept.stat().st_mtime_ns
    run(archive, tmp_path / "out")
    assert not [*(tmp_path / "out").rglob(".*state*")]
    assert kept.stat().st_mtime_ns == before


def test_seeds_and_runs_are_added(archive, whole, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    run(archive, out, seeds=2, only=("*/speaker1_seed*", "*/speaker3_seed1"))
    rows = read_rows(out)
    assert {(row.fold, row.seed) for row in rows if row.seed == 1} == {("speaker1", 1), ("speaker3", 1)}
    assert len(rows) == (4 + 2) * 7
    assert "4 folds, 2 seeds" in (out / "table.md").read_text()
    capsys.readouterr()
    run(archive, out)
    assert "Nothing is left to train." in capsys.readouterr().out
    assert "4 folds, 2 seeds" in (out / "table.md").read_text()


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"patience": 3}, "preset.train.patience was 15 and is 3 now"),
        ({"folds": 3, "data": "other"}, "data was "),
        ({"label_share": 0.5}, "label_share was 1.0 and is 0.5 now"),
    ],
)
def test_another_setting_is_refused(archive, whole, tmp_path, changes, difference):
    before = made(whole)
    path = archive
    if changes.pop("data", None):
        path = tmp_path / "toy.npz"
        write_archive(path, make_corpus(sequences=(), sessions=2, absent=0.1, seed=1))
    with pytest.raises(ValueError, match=difference):
        run(path, whole, **changes)
    assert made(whole) == before


def test_the_first_difference_is_named(tmp_path):
    config = json.loads(json.dumps({
        "folds": [{"name": "f", "test": 3}], "preset": {}, "versions": {"jax": "1"}, "commit": "a",
        "data": {"sha256": "x"}, "methods": {"m": {"options": {"flow_layers": 4}}},
    }))  # fmt: skip
    check_same(tmp_path, config, config | {"methods": {"other": {}}})
    with pytest.raises(ValueError, match=r"versions.jax was 1 and is 2 now; give the settings of that time, or name"):
        check_same(tmp_path, config, config | {"versions": {"jax": "2"}})
    with pytest.raises(ValueError, match=r"methods.m.options.flow_layers was 4 and is 6 now"):
        check_same(tmp_path, config, config | {"methods": {"m": {"options": {"flow_layers": 6}}}})
    assert first_difference([{"n": 1}], [{"n": 2}], "folds") == "folds[0].n was 1 and is 2 now"
    assert first_difference([1], [1, 2], "seeds") == "seeds was [1] and is [1, 2] now"


def test_a_table_names_all_commands_and_devices_that_filled_it(tmp_path):
    write_table(tmp_path)
    words = ["-m", "experiments.reproduce", "--methods", "c", "--out", "some folder"]
    for python, device in [("p1", "1 x gpu"), ("p2", "2 x cpu"), ("p1", "1 x gpu")]:
        open_folder(tmp_path, CONFIG | {"commands": [[python, *words]], "devices": device})
    now = read_config(tmp_path)
    assert now["devices"] == "2 x cpu, 1 x gpu"
    assert now["commands"] == [*CONFIG["commands"], ["p1", *words]]
    write_report(tmp_path)
    page = html.unescape((tmp_path / "report.html").read_text())
    first, second = "--data 'a file.npz'", "--methods c --out 'some folder'"
    assert f"{first}\npython -m experiments.reproduce {second}\npython -m experiments.report 'some folder'" in page


def test_a_table_from_before_has_one_command(tmp_path):
    write_table(tmp_path)
    path = tmp_path / "config.json"
    old = {name: value for name, value in CONFIG.items() if name != "commands"} | {"command": CONFIG["commands"][0]}
    path.write_text(json.dumps(old))
    assert read_config(tmp_path) == CONFIG


def test_a_row_belongs_to_one_command(archive, whole, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "zero_fill" / "speaker2_seed0")
    other = filelock.FileLock(out / ".locks" / "zero_fill")  # as another process holds it
    with other:
        with own_row(out, "zero_fill") as mine:
            assert not mine
        thread = threading.Thread(target=run, args=(archive, out))
        thread.start()
        thread.join()
    assert "zero_fill: another command is training it in this folder" in capsys.readouterr().out
    assert not (out / "zero_fill" / "speaker2_seed0").exists()
    with own_row(out, "zero_fill") as mine:
        assert mine
