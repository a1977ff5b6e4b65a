"""Comparisons on validation, against values by hand."""

import json
import shutil

import numpy as np
import pytest
from scipy import stats

from experiments.validation_scores import difference, main, read_runs

RIGHT = {("a", "f1"): 3, ("a", "f2"): 2, ("b", "f1"): 4, ("b", "f2"): 2}
STATUS = {"a": "converged", "b": "stopped by the budget"}


def write_runs(folder):
    """Of four utterances a class so many are right, in both conditions; complete data does not count."""
    (folder / "config.json").write_text(json.dumps({"methods": {"a": {}, "b": {}}, "folds": []}))
    ceiling = folder / "bayes_war" / "f1_seed0"
    ceiling.mkdir(parents=True)
    (ceiling / "run.json").write_text(json.dumps({"name": "bayes_war", "fold": "f1", "seed": 0, "status": "exact"}))
    for (name, fold), right in RIGHT.items():
        run = folder / name / f"{fold}_seed0"
        run.mkdir(parents=True)
        one = [[right, 4 - right], [4 - right, right]]
        counts = [one, one, [[0, 9], [9, 0]]]
        (run / "run.json").write_text(
            json.dumps({"name": name, "fold": fold, "seed": 0, "val_counts": counts, "status": STATUS[name]})
        )


def test_scores_and_their_difference(tmp_path, capsys):
    write_runs(tmp_path)
    scores, statuses = read_runs(tmp_path)
    assert statuses == {"a": ["converged"] * 2, "b": ["stopped by the budget"] * 2}
    assert scores == {
        "a": {("f1", 0): 0.75, ("f2", 0): 0.5},
        "b": {("f1", 0): 1.0, ("f2", 0): 0.5},
    }
    found = difference(scores["b"], scores["a"])
    expected = stats.ttest_1samp([0.25, 0.0], 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((found.mean, found.ci_low, found.ci_high), (0.125, *expected))
    main(tmp_path)
    printed = capsys.readouterr().out
    assert "a: validation UAR 62.50 %, 2 runs; 2 converged" in printed
    assert "b: validation UAR 75.00 %, 2 runs; 2 stopped by the budget" in printed
    assert "b minus a: +12.50 points (95 % interval over folds, paired: " in printed


def test_runs_that_diverged_are_told_and_every_mean_is_over_the_folds(tmp_path, capsys):
    """Row a has two seeds in fold f1, 0.75 and 0.25, and one in f2, 0.5; row b has nothing else than a diverged run."""
    write_runs(tmp_path)
    shutil.rmtree(tmp_path / "b" / "f2_seed0")
    record = json.loads((tmp_path / "a" / "f1_seed0" / "run.json").read_text())
    (tmp_path / "a" / "f1_seed1").mkdir()
    one = [[1, 3], [3, 1]]
    write = lambda path, **changes: path.write_text(json.dumps(record | changes))
    write(tmp_path / "a" / "f1_seed1" / "run.json", seed=1, val_counts=[one, one, [[0, 9], [9, 0]]])
    (tmp_path / "a" / "f2_seed1").mkdir()
    write(tmp_path / "a" / "f2_seed1" / "run.json", fold="f2", seed=1, status="diverged")
    write(tmp_path / "b" / "f1_seed0" / "run.json", name="b", status="diverged")
    scores, statuses = read_runs(tmp_path)
    assert statuses == {"a": ["converged"] * 3 + ["diverged"], "b": ["diverged"]}
    assert scores == {"a": {("f1", 0): 0.75, ("f1", 1): 0.25, ("f2", 0): 0.5}}
    write(tmp_path / "a" / "f1_seed1" / "run.json", seed=1)  # 0.75 in both seeds of f1: the mean is not 0.667
    main(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "a: validation UAR 62.50 %, 4 runs; 3 converged, 1 diverged",
        "b: validation UAR not known, 1 run; 1 diverged",
    ]


def test_a_difference_of_nothing_has_no_sign(tmp_path, capsys):
    write_runs(tmp_path)
    run = tmp_path / "b" / "f1_seed0" / "run.json"
    run.write_text(json.dumps(json.loads((tmp_path / "a" / "f1_seed0" / "run.json").read_text()) | {"name": "b"}))
    main(tmp_path)
    assert "b minus a: +0.00 points (95 % interval over folds, paired: +0.00 to +0.00)" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "b" / "f2_seed0")
    main(tmp_path)
    assert capsys.readouterr().out.endswith("b minus a: +0.00 points\n")  # of one run there is no interval


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"methods": {}, "folds": []}))
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        read_runs(tmp_path)
