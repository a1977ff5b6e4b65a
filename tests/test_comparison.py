"""Comparisons of rows from outputs made by hand."""

import numpy as np
import pytest

from cmarr_jax.data.availability import availability_patterns
from experiments.comparison import compare, counts_by_speaker
from experiments.results import Row
from experiments.units import Outputs, Unit

FOLDS, SEEDS, PER_SPEAKER = ("f1", "f2", "f3"), (0, 1), 20


def make_outputs(rng, fold, right):
    """Two speakers a fold, two modalities; a share of the utterances is right, in all conditions."""
    label = np.arange(2 * PER_SPEAKER) % 2
    present = np.ones((len(label), 2), bool)
    present[0] = [False, True]
    predicted = np.where(rng.random(len(label)) < right, label, 1 - label)
    logits = np.broadcast_to(np.eye(2)[predicted], (3, len(label), 2))
    speaker = np.repeat([f"{fold}b", f"{fold}a"], PER_SPEAKER)
    return Outputs(np.arange(len(label)).astype(str), speaker, label, present, logits)


def write_runs(folder, right, seeds=SEEDS):
    """Runs of some rows, and their results rows (whose scores are not read)."""
    rows = []
    for number, (name, share) in enumerate(right.items()):
        for fold in FOLDS:
            for seed in seeds if name != "extra" else (0,):
                path = folder / Unit(name, fold, seed).path
                path.mkdir(parents=True)
                outputs = make_outputs(np.random.default_rng([number, seed, FOLDS.index(fold)]), fold, share)
                np.savez(
                    path / "outputs.npz",
                    **{f"test_{key}": value for key, value in outputs._asdict().items() if value is not None},
                )
                rows.append(Row(name, fold, seed, "ab", 0.0, 0.0, [[0]]))
    return rows


def test_counts_of_each_speaker():
    outputs = make_outputs(np.random.default_rng(0), "f", 0.7)
    counts = counts_by_speaker(outputs, ["fa", "fb"])
    assert counts.shape == (2, 3, 2, 2)
    assert counts.sum((2, 3)).tolist() == [[20, 20, 20], [19, 20, 20]]  # an utterance of fb lacks the first modality
    for condition, pattern in enumerate(availability_patterns(2)):
        counted = (outputs.present & pattern).any(1) & (outputs.speaker == "fb")
        right = outputs.logits[condition].argmax(-1) == outputs.label
        assert np.trace(counts[1, condition]) == (counted & right).sum()


def test_rows_are_compared_on_what_both_have(tmp_path):
    rows = write_runs(tmp_path, {"cm_arr": 0.9, "zero_fill": 0.6, "extra": 0.9})
    found = compare(tmp_path, rows)
    assert [(one.baseline, one.metric) for one in found] == [
        (name, metric) for metric in ("war", "uar") for name in ("zero_fill", "extra")
    ]
    better, alike = found[:2]
    right = {}
    for name in ("cm_arr", "zero_fill"):  # both seeds, though `extra` has one; the average of the first two conditions
        files = [np.load(tmp_path / Unit(name, f, seed).path / "outputs.npz") for f in FOLDS for seed in SEEDS]
        right[name] = np.mean([
            np.mean([
                np.mean((f["test_logits"][c].argmax(-1) == f["test_label"])[f["test_present"][:, c]]) for c in (0, 1)
            ]) for f in files
        ])  # fmt: skip
    assert better.difference.mean == pytest.approx(right["cm_arr"] - right["zero_fill"])
    assert better.difference.low > 0
    assert better.difference.excludes_zero
    assert not alike.difference.excludes_zero
    assert alike == compare(tmp_path, [row for row in rows if row.method != "zero_fill" and row.seed == 0])[0]._replace(
        p=alike.p
    )  # seed 0 only
    assert better.p < alike.p <= 1
    assert (better.num_runs, better.num_folds, better.num_speakers) == (6, 3, 6)
    assert (alike.num_runs, alike.num_folds, alike.num_speakers) == (3, 3, 6)


def test_a_run_that_is_lacking_takes_no_other_run_along(tmp_path):
    """Seed 1 of one fold has diverged: the others of this seed and this fold still count."""
    rows = write_runs(tmp_path, {"cm_arr": 0.9, "zero_fill": 0.6})
    (tmp_path / Unit("zero_fill", "f2", 1).path / "outputs.npz").unlink()
    (found, _) = compare(tmp_path, rows)
    assert (found.num_runs, found.num_folds, found.num_speakers) == (5, 3, 6)
    score = lambda name, fold, seed: np.load(tmp_path / Unit(name, fold, seed).path / "outputs.npz")
    means = {}
    for name in ("cm_arr", "zero_fill"):
        by_fold = []
        for fold in FOLDS:
            files = [score(name, fold, seed) for seed in (SEEDS if fold != "f2" else (0,))]
            by_fold.append(np.mean([
                np.mean((f["test_logits"][c].argmax(-1) == f["test_label"])[f["test_present"][:, c]])
                for f in files for c in (0, 1)
            ]))  # fmt: skip
        means[name] = np.mean(by_fold)
    assert found.difference.mean == pytest.approx(means["cm_arr"] - means["zero_fill"])


def test_rows_without_a_common_run_are_not_compared(tmp_path):
    rows = write_runs(tmp_path, {"cm_arr": 0.9, "zero_fill": 0.6})
    for fold in FOLDS:
        (tmp_path / Unit("zero_fill", fold, 0).path / "outputs.npz").unlink()
        (tmp_path / Unit("cm_arr", fold, 1).path / "outputs.npz").unlink()
    assert compare(tmp_path, rows) == []


def test_nothing_to_compare(tmp_path):
    assert compare(tmp_path, write_runs(tmp_path / "a", {"zero_fill": 0.5})) == []
    assert compare(tmp_path / "b", write_runs(tmp_path / "b", {"cm_arr": 0.5})) == []
