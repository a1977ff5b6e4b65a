"""`experiments.reproduce --task regression`: its tables, its units, and what reads them."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import tiny

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.availability import condition_names
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.data.folds import FoldError
from cmarr_jax.metrics import agreement_sums, ccc, mae
from experiments import predict, reproduce, row_differences, score_saved, validation_scores
from experiments.export import export
from experiments.report.differences import signed
from experiments.report.write import output_files, write_report
from experiments.results import ValueRow, rows_from_counts
from experiments.units import Unit, counts_by_speaker, read_outputs, read_rows

METHODS = ("zero_fill", "late_fusion")


def make_corpus():
    corpus = tiny.make_corpus(sequences=(), absent=0.2)
    noise = np.random.default_rng(0).normal(size=len(corpus))
    return dataclasses.replace(corpus, target=(100 + 5 * corpus.label + noise).astype(np.float32))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with two rows, and the archive."""
    folder = tmp_path_factory.mktemp("regression")
    write_archive(folder / "a.npz", make_corpus())
    arguments = reproduce.Arguments(
        data=str(folder / "a.npz"), task="regression", methods=METHODS, smoke=True, out=folder / "run"
    )
    reproduce.main(arguments)
    return folder / "run", arguments


def test_the_tables_hold_the_scores_of_the_kept_numbers(table):
    folder, _ = table
    assert sorted(path.name for path in folder.glob("*") if path.is_file()) == sorted(
        [*output_files(folder), "config.json"]
    )
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [ValueRow(**row) for row in rows] == read_rows(folder)
    names = condition_names(("audio", "video", "text"))
    for row in rows:
        outputs = read_outputs(folder, Unit(row["method"], row["fold"], row["seed"]))
        place = names.index(row["condition"])
        letters = {"a": 0, "v": 1, "t": 2}
        counted = outputs.present[:, [letters[letter] for letter in row["condition"]]].any(1)
        sums = agreement_sums(outputs.target, outputs.logits[place, :, 0], counted)
        np.testing.assert_allclose([row["ccc"], row["mae"]], [ccc(sums), mae(sums)], rtol=1e-9)
        assert row["sums"][0] == counted.sum()
    assert all(80 < row["sums"][1] / row["sums"][0] < 130 for row in rows)  # in the unit of the target
    with open(folder / "table.csv", newline="") as file:
        cells = {(row["method"], row["metric"], row["condition"]): float(row["mean"]) for row in csv.DictReader(file)}
    found = [row["mae"] for row in rows if row["method"] == "zero_fill" and row["condition"] == "avt"]
    np.testing.assert_allclose(cells["zero_fill", "mae", "avt"], np.mean(found), atol=1e-6)
    assert {metric for _, metric, _ in cells} == {"ccc", "mae"}
    assert len(cells) == 2 * 2 * (len(names) + 1)


def test_the_page_says_what_is_left_out(table):
    folder, _ = table
    text = (folder / "table.md").read_text()
    assert "## MAE, mean absolute error in the unit of the target, smaller is better" in text
    assert "no page, no figures" in text
    assert "UAR" not in text
    assert write_report(folder) == text
    latex = (folder / "table.tex").read_text()
    assert latex.count("\\begin{table}") == 2
    assert "Late fusion & " in latex


def test_a_row_is_compared_in_the_unit_of_the_target(table, capsys):
    folder, _ = table
    row, other = METHODS
    row_differences.main(folder, row)
    scores, _, differences, _ = capsys.readouterr().out.split("\n\n")
    assert scores.startswith("| row | CCC, average | MAE, average | CCC, complete | MAE, complete |")
    with open(folder / "table.csv", newline="") as file:
        cells = {(cell["method"], cell["metric"], cell["condition"]): cell for cell in csv.DictReader(file)}
    found = [float(cells[row, "mae", "avt"][name]) for name in ("mean", "ci_low", "ci_high")]
    assert f"| {found[0]:.3f} ({found[1]:.3f} to {found[2]:.3f}) |\n" in scores + "\n"
    gain = [float(cells[row, m, "average"]["mean"]) - float(cells[other, m, "average"]["mean"]) for m in ("ccc", "mae")]
    line = differences.splitlines()[-1]
    assert line.startswith(f"| `{other}` | {signed(gain[0], 3)} (")
    assert f"| {signed(gain[1], 3)} (" in line


def test_sums_of_speakers_add_up(table):
    folder, _ = table
    [row, *_] = read_rows(folder)
    outputs = read_outputs(folder, Unit(row.method, row.fold, row.seed))
    halves = np.where(np.arange(len(outputs.label)) % 2, "one", "two")
    split = counts_by_speaker(outputs._replace(speaker=halves), np.array(["one", "two"]))
    whole = counts_by_speaker(outputs, np.unique(outputs.speaker))
    np.testing.assert_allclose(split.sum(0), whole.sum(0), rtol=1e-12)
    assert whole.shape[1:] == (7, 7)  # conditions, sums


def test_a_saved_unit_is_scored_again_and_answers_with_numbers(table, tmp_path, capsys):
    folder, arguments = table
    [row, *_] = read_rows(folder)
    run = folder / Unit(row.method, row.fold, row.seed).path
    assert score_saved.main(score_saved.Arguments(run))
    printed = capsys.readouterr().out
    assert "MAE" in printed
    assert "The same sums as saved." in printed
    out = tmp_path / "p.csv"
    assert predict.main(["--run", str(run), "--input", arguments.data, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["utterance_id", "value", "modalities", "spread", "std", "error", "note"]
    assert all(80 < float(line["value"]) < 130 for line in lines)
    assert predict.main(["--run", str(run), "--input", arguments.data, "--out", str(tmp_path / "p.jsonl")]) == 0
    first = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert first["value"] == float(lines[0]["value"])
    assert "class" not in first
    options = ["--run", str(run), "--input", arguments.data, "--out", str(tmp_path / "q.csv"), "--coverage", "0.8"]
    capsys.readouterr()
    assert predict.main(options) == 1
    assert "is a regression, which never abstains; leave the option out" in capsys.readouterr().err
    with pytest.raises(ArchiveError, match="is a regression, and exports are for classes"):
        export(run, out=tmp_path / "export")


def test_rows_are_compared_on_validation(table, capsys):
    folder, _ = table
    validation_scores.main(folder)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("zero_fill: validation CCC ")
    scores, _ = validation_scores.read_runs(folder)
    (fold, seed), score = next(iter(scores["late_fusion"].items()))
    outputs = read_outputs(folder, Unit("late_fusion", fold, seed), "val")
    sums = counts_by_speaker(outputs, np.unique(outputs.speaker)).sum(0)
    np.testing.assert_allclose(score, ccc(sums[:-1].sum(0)), rtol=1e-12)
    assert "%" not in second


def test_what_regression_cannot_do_is_a_sentence(table, tmp_path):
    folder, arguments = table
    with pytest.raises(ValueError, match="task was regression and is None now"):
        reproduce.main(dataclasses.replace(arguments, task="classification", methods=("mmin",)))
    with pytest.raises(ValueError, match="method dicmor is for classes only and cannot do regression"):
        reproduce.main(dataclasses.replace(arguments, methods=("dicmor",)))
    with pytest.raises(ValueError, match="row late_fusion_lda is for classes only and cannot do regression"):
        reproduce.main(dataclasses.replace(arguments, methods=("late_fusion_lda",)))
    with pytest.raises(ValueError, match="--tuned holds choices by UAR"):
        reproduce.main(dataclasses.replace(arguments, tuned=(folder,)))
    write_archive(tmp_path / "b.npz", dataclasses.replace(make_corpus(), target=None))
    with pytest.raises(FoldError, match="write the key target into the archive"):
        reproduce.main(dataclasses.replace(arguments, data=str(tmp_path / "b.npz"), out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_row_without_utterances_has_no_score():
    rows = rows_from_counts("m", "f", 0, ("audio", "video", "text"), np.zeros((7, 7)))
    assert np.isnan([[row.ccc, row.mae] for row in rows]).all()
    assert sum(rows[0].counts) == 0
