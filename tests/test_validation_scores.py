"""Comparisons on validation, against values by hand."""

import json

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


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"methods": {}, "folds": []}))
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        read_runs(tmp_path)
