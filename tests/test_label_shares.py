"""Training with a share of the labels: `--label-share`, `--table labels`, and `experiments.tune --label-share`."""

import contextlib
import dataclasses
import io
import json
import re
import shutil

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.folds import FoldError, make_folds
from cmarr_jax.data.label_share import keep_labels
from experiments import classical, reproduce, score_saved, tune
from experiments.label_shares import check_root, share_folders, share_name
from experiments.presets import Changes
from experiments.report.__main__ import main as report
from experiments.report.labels import write_label_report
from experiments.report.write import write_report
from experiments.units import Unit, read_outputs, read_rows

ROWS = ("zero_fill", "late_fusion_lda")
SHARES = (0.25, 1.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_archive(path, make_corpus(sequences=(), sessions=2, absent=0.1, per_speaker=16))
    return path


def arguments(archive, out, **changes):
    given = {"data": str(archive), "out": out, "smoke": True, "methods": ROWS, "changes": Changes()}
    return reproduce.Arguments(**(given | changes))


@pytest.fixture(scope="module")
def made(archive, tmp_path_factory):
    """Two shares, two rows, two seeds, and what was printed."""
    root = tmp_path_factory.mktemp("labels") / "out"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        reproduce.main(arguments(archive, root, table="labels", label_shares=SHARES, seeds=2))
    return root, printed.getvalue()


def test_names_of_the_folders():
    assert [share_name(share) for share in (0.005, 0.01, 0.025, 0.07, 0.29, 0.5, 1.0)] == [
        "labels_0.5", "labels_001", "labels_2.5", "labels_007", "labels_029", "labels_050", "labels_100",
    ]  # fmt: skip


def test_the_report_is_that_of_the_folder_of_the_share_and_makes_its_pages(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "out")
    for number in range(8):  # in whichever order the file system lists them
        shutil.copytree(tmp_path / "out" / "labels_025", tmp_path / "out" / f"labels_025_copy{number}")
    found = share_folders(tmp_path / "out")
    assert {share: folder.name for share, folder in found.items()} == {0.25: "labels_025", 1.0: "labels_100"}
    page = (tmp_path / "out" / "labels_025" / "report.html").read_bytes()
    for folder in found.values():
        (folder / "report.html").unlink()
    with contextlib.redirect_stdout(io.StringIO()):
        report(tmp_path / "out")
    assert (tmp_path / "out" / "labels_025" / "report.html").read_bytes() == page


def test_the_number_of_seeds_is_that_of_the_runs(made, tmp_path):
    """As after a stop: of the smaller share only seed 0 was trained."""
    shutil.copytree(made[0], tmp_path / "out")
    small, whole = tmp_path / "out" / "labels_025", tmp_path / "out" / "labels_100"
    for path in small.glob("*/*_seed1"):
        shutil.rmtree(path)
    for folder, seeds, over in ((small, "1 of 2 seeds", False), (whole, "2 seeds", True)):
        assert f"folds, {seeds}; " in write_report(folder)
        page = (folder / "report.html").read_text()
        assert "over speakers (bootstrap)" in page
        assert ("over speakers (bootstrap) and seeds" in page) == over
    text = write_label_report(tmp_path / "out")
    assert "folds, 1 to 2 seeds; " in text


def test_each_share_is_a_table(made):
    root, printed = made
    assert {share: folder.name for share, folder in share_folders(root).items()} == {
        0.25: "labels_025", 1.0: "labels_100",
    }  # fmt: skip
    for folder in share_folders(root).values():
        assert len(read_rows(folder)) == 2 * 4 * 2 * 7  # rows, folds, seeds, conditions
        assert (folder / "report.html").is_file()
    assert printed.count("late_fusion_lda: 8 runs fitted") == 2  # four folds, two seeds
    assert "0.25 of the labels: 8 of 32 training utterances of a fold" in printed
    config = json.loads((root / "labels_025" / "config.json").read_text())
    assert config["label_share"] == 0.25
    assert config["folds"][0] == {"name": "speaker0", "train": 8, "val": 4, "test": 16, "unlabelled": 24}
    config = json.loads((root / "labels_100" / "config.json").read_text())
    assert config["folds"][0] == {"name": "speaker0", "train": 32, "val": 16, "test": 16}


def test_units_have_the_rows_of_their_seed(made, archive):
    root, _ = made
    corpus = read_archive(archive)
    found = []
    for fold in make_folds(corpus):
        for seed in (0, 1):
            split = keep_labels(corpus, fold, 0.25, seed)
            for row in ROWS:
                unit = Unit(row, fold.name, seed)
                outputs = read_outputs(root / "labels_025", unit, "val")
                np.testing.assert_array_equal(outputs.utterance_id, corpus.utterance_id[split.val])
                np.testing.assert_array_equal(outputs.label, corpus.label[split.val])
                test = read_outputs(root / "labels_025", unit)
                np.testing.assert_array_equal(test.utterance_id, corpus.utterance_id[fold.test])
                record = json.loads((root / "labels_025" / unit.path / "run.json").read_text())
                assert record["labels"] == {"share": 0.25, "train": 8, "val": 4}
                assert np.sum(record["val_counts"][-1]) == 4
            found.append((split.train.tolist(), fold.name))
    assert found[0][0] != found[1][0]
    assert "labels" not in json.loads((root / "labels_100" / unit.path / "run.json").read_text())


def test_all_labels_are_an_ordinary_table(made, archive, tmp_path):
    reproduce.main(arguments(archive, tmp_path / "plain", seeds=2))
    for row in ROWS:
        for one in (Unit(row, "speaker1", 0), Unit(row, "speaker2", 1)):
            plain, ours = (read_outputs(folder, one) for folder in (tmp_path / "plain", made[0] / "labels_100"))
            np.testing.assert_array_equal(plain.logits, ours.logits)


def test_the_report_has_a_line_for_each_row(made):
    root, printed = made
    text = (root / "labels.md").read_text()
    assert text in printed + "\n"
    assert "| method | 8 (25 %) | 32 (100 %) |" in text
    assert re.search(r"\| Late fusion of shrinkage LDAs \| \d+\.\d\d \(.*\) \| \d+\.\d\d \(", text)
    assert "Runs: 32; " in text
    assert "labels-average" in (root / "report.html").read_text()
    assert "25 % of the labels" in (root / "labels_025" / "table.md").read_text()
    assert "(8 / 4 / 16; 24 unlabelled)" in (root / "labels_025" / "report.html").read_text()


def test_only_what_is_missing_is_trained(made, archive, tmp_path):
    root = tmp_path / "out"
    shutil.copytree(made[0], root)
    times = {path: path.stat().st_mtime_ns for path in root.glob("*/*/*/run.json")}
    gone = root / "labels_025" / "zero_fill" / "speaker1_seed1"
    before = read_outputs(root / "labels_025", Unit("zero_fill", "speaker1", 1))
    shutil.rmtree(gone)
    reproduce.main(arguments(archive, root, table="labels", label_shares=SHARES, seeds=2))
    assert {path for path in times if path.stat().st_mtime_ns != times[path]} == {gone / "run.json"}
    after = read_outputs(root / "labels_025", Unit("zero_fill", "speaker1", 1))
    np.testing.assert_array_equal(after.logits, before.logits)


def test_another_setting_or_folder_is_refused(made, archive, tmp_path):
    root, _ = made
    command = lambda **changes: reproduce.main(arguments(archive, **({"out": root, "table": "labels"} | changes)))
    with pytest.raises(ValueError, match=r"labels_025 holds a table .* preset.train.patience was 15 and is 3 now"):
        command(label_shares=(0.5,), changes=Changes(patience=3))
    with pytest.raises(ValueError, match=r"label_share was 0\.25 and is 0\.5 now"):
        command(table="main", label_share=0.5, out=root / "labels_025")
    with pytest.raises(FileExistsError, match="holds no tables of --table labels; name a new folder"):
        command(out=root / "labels_025")
    with pytest.raises(FileExistsError, match="is not empty and holds no table; name a new folder"):
        command(table="main")
    assert {path.name for path in root.glob("labels_*") if path.is_dir()} == {"labels_025", "labels_100"}


def test_a_folder_of_a_command_that_was_killed_is_used_again(tmp_path):
    root = tmp_path / "out"
    check_root(root, {})
    (root / "labels_001" / ".locks").mkdir(parents=True)
    (root / ".DS_Store").touch()
    check_root(root, {})
    (root / "labels_001" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="holds no tables of --table labels"):
        check_root(root, {})


def test_a_row_is_tuned_at_all_shares_or_at_none(made, tmp_path):
    config = json.loads((made[0] / "labels_025" / "config.json").read_text())
    choices = {"zero_fill": {fold["name"]: {"learning_rate": 0.1} for fold in config["folds"]}}
    with pytest.raises(ValueError, match=r"another setting: tuned\.zero_fill was not tuned and is tuned now"):
        check_root(made[0], config | {"label_share": 0.5, "tuned": choices})
    (tmp_path / "labels_025").mkdir()
    (tmp_path / "labels_025" / "config.json").write_text(json.dumps(config | {"tuned": choices}))
    check_root(tmp_path, config | {"label_share": 0.5, "tuned": {"zero_fill": {}}})  # other choices
    with pytest.raises(ValueError, match=r"another setting: tuned\.zero_fill was tuned and is not tuned now"):
        check_root(tmp_path, config | {"label_share": 0.5})
    check_root(tmp_path, config | {"methods": {"mmin": {}}, "tuned": {}})  # a row that is added


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"label_share": 0.0}, "a share of the labels must be above 0 and at most 1, found 0"),
        ({"table": "labels", "label_shares": (0.1, 2.0)}, "at most 1, found 2"),
        ({"table": "labels", "label_shares": ()}, "--label-shares needs a share, such as"),
        ({"table": "labels", "label_share": 0.1}, "give --label-shares 0.1 in place of --label-share"),
        ({"keep_every": 0.0}, "--keep-every must be above 0, found 0.0"),
        ({"keep_every": float("nan")}, "--keep-every must be above 0, found nan"),
        ({"label_shares": (0.1,)}, "--label-shares needs --table labels; give --label-share"),
    ],
)
def test_faults_of_the_options(archive, tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        reproduce.main(arguments(archive, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_few_labels_are_told_before_training(archive, tmp_path, monkeypatch, capsys):
    corpus = read_archive(archive)
    kept = keep_labels(corpus, make_folds(corpus)[2], 0.01, 0).train
    present = np.ones_like(corpus.present)
    present[kept, 2] = False
    write_archive(tmp_path / "lacking.npz", dataclasses.replace(corpus, present=present))
    with pytest.raises(FoldError, match=r"fold 'speaker2', seed 0: of the 4 training utterances .* modality 'text'"):
        reproduce.main(arguments(tmp_path / "lacking.npz", tmp_path / "out", table="labels", label_shares=(0.01, 1.0)))
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(reproduce, "train_table", lambda *_: None)
    reproduce.main(arguments(archive, tmp_path / "few", table="labels", label_shares=(0.01, 0.02, 0.5)))
    text = " ".join(capsys.readouterr().out.split())
    assert "The shares 0.01 and 0.02 keep the same labels of these data" in text
    assert "The shares 0.02 and 0.5" not in text


def test_too_few_labels_for_a_classical_model_do_not_stop_the_others(archive, tmp_path, capsys):
    out = tmp_path / "out"
    reproduce.main(arguments(archive, out, label_share=0.01, methods=("late_fusion_lda",), folds_only=("speaker0",)))
    text = " ".join(capsys.readouterr().out.split())
    assert "late_fusion_lda/speaker0_seed0: cannot be fitted to 4 labelled utterances (" in text
    assert "use a larger share of the labels" in text
    assert not list(out.glob("*/*/run.json"))


def test_a_table_of_one_fold_and_no_cm_arr_says_so(archive, tmp_path):
    out = tmp_path / "out"
    reproduce.main(arguments(archive, out, methods=("late_fusion_lda",), folds_only=("speaker0",)))
    text = (out / "table.md").read_text()
    assert text.startswith("# Missing modalities: toy\n")
    assert "; 1 of 4 folds, 1 seed; " in text
    assert " in 1 of 4 folds, 1 seed; " in (out / "report.html").read_text()
    reproduce.main(arguments(archive, out, methods=("late_fusion_lda",)))
    assert "; 4 folds, 1 seed; " in (out / "table.md").read_text()


def test_a_classical_model_that_cannot_be_fitted_is_named(archive, tmp_path, monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError("The leading minor is not positive definite.\nMore of scikit-learn.")

    monkeypatch.setattr(classical, "fit_fold", fail)
    said = r"^late_fusion_lda/speaker0_seed0: cannot be fitted to 32 labelled utterances \(The leading .* definite\)$"
    with pytest.raises(ValueError, match=said):
        reproduce.main(arguments(archive, tmp_path / "out", methods=("late_fusion_lda",)))


def test_the_worst_exit_code_is_kept(archive, tmp_path, monkeypatch):
    codes = {0.1: 1, 0.5: 0}
    fill = lambda folder, root, table, *_: codes[table.label_share]
    monkeypatch.setattr(reproduce, "fill_table", fill)
    with pytest.raises(SystemExit) as ended:
        reproduce.main(arguments(archive, tmp_path / "a", table="labels", label_shares=(0.1, 0.5)))
    assert ended.value.code == 1
    seen = []
    monkeypatch.setattr(reproduce, "fill_table", lambda folder, *_: seen.append(folder.name) or reproduce.STOPPED)
    with pytest.raises(SystemExit) as ended:
        reproduce.main(arguments(archive, tmp_path / "b", table="labels", label_shares=(0.1, 0.5)))
    assert (ended.value.code, seen) == (130, ["labels_010"])


def test_tuning_uses_the_subset_of_seed_zero(archive, tmp_path, monkeypatch):
    searched = []
    monkeypatch.setattr(tune, "run_search", lambda search, *_: searched.append(search))
    options = {"data": str(archive), "methods": ("zero_fill",), "smoke": True}
    tune.main(tune.Arguments(out=tmp_path / "labels_025", label_share=0.25, **options))
    corpus = read_archive(archive)
    for split, fold in zip(searched[0].splits, make_folds(corpus), strict=True):
        expected = keep_labels(corpus, fold, 0.25, 0)
        np.testing.assert_array_equal(split.train, expected.train)
        np.testing.assert_array_equal(split.val, expected.val)
    assert searched[0].folds.val_where.sum() == 4 * 4
    assert json.loads((tmp_path / "labels_025" / "tuned.json").read_text())["label_share"] == 0.25
    with pytest.raises(ValueError, match=r"label_share was 0\.25 and is 0\.5 now; name another folder"):
        tune.main(tune.Arguments(out=tmp_path / "labels_025", label_share=0.5, **options))
    with pytest.raises(ValueError, match=r"label_share was 0\.25 and is 1\.0 now; tune again"):
        reproduce.main(arguments(archive, tmp_path / "out", tuned=(tmp_path / "labels_025",)))
    with pytest.raises(ValueError, match=r"labels_025/tuned\.json has no row zero_fill"):  # of this share: read
        reproduce.main(arguments(archive, tmp_path / "out", table="labels", label_shares=(0.25,), tuned=(tmp_path,)))


def test_a_saved_run_evaluates_to_its_counts(made):
    assert score_saved.main(score_saved.Arguments(made[0] / "labels_025" / "zero_fill" / "speaker1_seed1"))
