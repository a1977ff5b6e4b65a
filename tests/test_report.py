"""The report: statistics by hand, warnings, and tables from the folders of the runs."""

from pathlib import Path

import numpy as np
import pytest
from results_by_hand import COUNTS, SCORES, rows_of, write_table
from scipy import stats

from experiments.comparison import Comparison
from experiments.presets import SYNTHETIC, VECTORS
from experiments.report import scores
from experiments.report.__main__ import run_command as report_command
from experiments.report.differences import (
    difference_notes,
    judged_text,
    signed,
    signed_difference,
    speakers_note,
)
from experiments.report.latex import to_latex
from experiments.report.material import Material
from experiments.report.text import to_markdown, tuning_text
from experiments.report.write import write_report
from experiments.results import FILE, Row
from experiments.statistics import Interval
from experiments.units import Unit, read_rows, write_counts
from experiments.validation_scores import run_command as validation_command


def test_summary_by_hand():
    cells = scores.collect(rows_of(SCORES), "war")["m"]
    assert list(cells) == ["a", "b", "average", "ab"]
    np.testing.assert_allclose(cells["average"], [[0.2, 0.4], [0.6, 0.8]])  # the complete condition is not in it
    summary = scores.summarize(cells["average"])
    assert summary.n == 4
    assert summary.mean == pytest.approx(0.5)
    assert summary.std == pytest.approx(np.sqrt(0.2 / 3))  # squares of -0.3 -0.1 0.1 0.3, over n - 1
    # The unit is the fold: means 0.3 and 0.7, standard error 0.2, t(1 degree of freedom) = 12.7062 (printed tables).
    assert summary.ci_high - 0.5 == pytest.approx(12.7062 * 0.2, rel=1e-4)
    low, high = stats.ttest_1samp([0.3, 0.7], 0).confidence_interval(0.95)
    assert (summary.ci_low, summary.ci_high) == pytest.approx((low, high))
    assert scores.summarize(scores.collect(rows_of(SCORES), "uar")["m"]["a"]).mean == pytest.approx(0.2)


def test_one_fold_takes_its_interval_over_the_seeds():
    summary = scores.summarize(np.array([[0.2, 0.4, 0.9]]))
    low, high = stats.ttest_1samp([0.2, 0.4, 0.9], 0).confidence_interval(0.95)
    assert (summary.ci_low, summary.ci_high) == pytest.approx((low, high))
    assert summary.unit == "seeds"
    two = np.array([[0.2, 0.4], [np.nan, np.nan]])  # one of two folds is finished: still over the seeds, and called so
    assert scores.summarize(two).unit == "seeds"
    assert scores.summarize(np.array([[0.2, 0.4], [0.1, np.nan]])).unit == "folds"


def test_a_single_run_has_no_interval():
    summary = scores.summarize(np.array([[0.4]]))
    assert (summary.mean, summary.n) == (0.4, 1)
    assert np.isnan([summary.std, summary.ci_low, summary.ci_high]).all()
    line = scores.to_csv(rows_of({("m", "f1", 0): (0.4, 0.5, 0.6)})).splitlines()[1]
    assert line == "m,a,war,0.400000,,,,1"


def test_unfinished_runs_are_left_out():
    partial = {key: value for key, value in SCORES.items() if key != ("m", "f2", 1)}
    summary = scores.summarize(scores.collect(rows_of(partial), "war")["m"]["a"])
    assert summary.n == 3
    assert summary.mean == pytest.approx(0.35)  # over the folds, whose means are 0.2 and 0.5: the interval's centre
    assert summary.ci_low + summary.ci_high == pytest.approx(2 * summary.mean)
    low, high = stats.ttest_1samp([0.2, 0.5], 0).confidence_interval(0.95)
    assert (summary.ci_low, summary.ci_high) == pytest.approx((low, high))


def test_differences_are_told_with_their_intervals():
    one = comparison("zero_fill", "war", Interval(0.015, 0.002, 0.03), 0.04)
    other = comparison("mmin", "uar", Interval(-0.01, -0.02, 0.001), 0.3)
    third = comparison("dicmor", "uar", Interval(-0.01, -0.02, -0.001), 0.05)
    lacking = comparison("late_fusion", "uar", Interval(np.nan, np.nan, np.nan), np.nan)
    text = to_markdown(rows_of(SCORES), "T", [], [one, other, third, lacking])
    assert "## CM-ARR minus each other row, average of the 2 missing-modality conditions, points" in text
    assert "| Zero-fill | WAR | +1.50 (+0.20 to +3.00) | 0.040 | better |" in text
    assert "| MMIN | UAR | -1.00 (-2.00 to +0.10) | 0.300 | no difference shown |" in text
    assert "| DiCMoR-like | UAR | -1.00 (-2.00 to -0.10) | 0.050 | by the interval only |" in text
    assert "| Late fusion | UAR |  |  | not judged |" in text
    assert (
        "corrected after Holm for the number of rows. No difference shown: the interval has zero in it. By the" in text
    )
    assert "but p is at least 0.05. Judged before rounding. Not judged: there is no interval" in text
    assert "test speakers" not in text
    assert "both rows have" not in text


def comparison(baseline, metric, difference, p, num_runs=4, num_speakers=20):
    return Comparison("cm_arr", baseline, metric, difference, p, p, num_runs, 2, num_speakers)


NONE, HINT = Interval(0.0, -0.01, 0.01), Interval(0.01, 0.001, 0.02)


def test_one_row_is_not_corrected_for_many():
    text = judged_text([comparison("mmin", metric, HINT, 0.06) for metric in ("war", "uar")])
    assert "Holm" not in text
    assert text.endswith(
        "No difference shown: the interval has zero in it. By the interval only: the interval excludes zero, but p is "
        "at least 0.05. Judged before rounding."
    )


@pytest.mark.parametrize(
    ("num_rows", "num_speakers", "expected"),
    [
        (1, 5, "With 5 test speakers, p of the permutation test is at least 0.062, so even a large difference is "
               "not shown at the level 0.05."),  # 2 / 2^5 = 0.0625
        (1, 6, ""),  # 0.031
        (2, 6, "With 6 test speakers, p of the permutation test is at least 0.031, and 0.062 after the "
               "correction for 2 rows, so even a large difference is not shown at the level 0.05."),
        (13, 8, "With 8 test speakers, p of the permutation test is at least 0.0078, and 0.1 after the "
                "correction for 13 rows, so even a large difference is not shown at the level 0.05."),  # 13 / 128
        (13, 10, ""),  # 13 / 512 = 0.025
    ],
)  # fmt: skip
def test_few_speakers_show_nothing_and_this_is_said(num_rows, num_speakers, expected):
    found = [
        comparison(f"row{number}", metric, HINT, 0.06, num_speakers=num_speakers)
        for number in range(num_rows)
        for metric in ("war", "uar")
    ]
    assert speakers_note(found) == expected
    shown = comparison("row0", "war", HINT, 0.049, num_speakers=num_speakers)
    assert speakers_note([*found, shown]) == speakers_note([]) == ""


@pytest.mark.parametrize(("num_runs", "num_speakers", "said"), [(2, 20, True), (2, 2, False), (4, 20, False)])
def test_one_seed_lacks_something_only_where_speakers_share_models(num_runs, num_speakers, said):
    """Two folds: with two runs, one seed; with two speakers, a fold for each."""
    rows = rows_of({key: value for key, value in SCORES.items() if num_runs == 4 or key[2] == 0})
    found = [comparison("mmin", "war", HINT, 0.06, num_runs, num_speakers)]
    sentence = "With one seed, the variation between trainings is neither in these intervals nor in p"
    assert any(note.startswith(sentence) for note in difference_notes(found, rows)) == said
    over = "95 % interval over speakers (bootstrap)" + (" and seeds." if num_runs == 4 else ".")
    for text in (to_markdown(rows, "T", [], found), to_latex(rows, "T", {}, found).replace("\\", "")):
        assert (sentence in text) == said
        assert over in text


def test_rows_that_lack_runs_are_named_and_not_bold():
    """The first row has one of two folds, the easy one."""
    found = {("first", "f1", 0): (0.9, 0.9, 0.9), ("m", "f1", 0): (0.8, 0.8, 0.8), ("m", "f2", 0): (0.2, 0.2, 0.2)}
    rows = rows_of(found)
    told = "**The table has 2 runs of a row. These rows have fewer with a score: first (1).**"
    assert told in scores.run_notes(rows)
    assert told in to_markdown(rows, "T", [])
    assert r"m & \textbf{50.00 " in to_latex(rows, "T", {})
    assert r"first & 90.00" in to_latex(rows, "T", {})
    diverged = [row._replace(status="diverged") if row.method == "first" else row for row in rows]
    assert told.replace("(1)", "(0)") in scores.run_notes(diverged)
    assert not any("have fewer" in note for note in scores.run_notes(rows_of(SCORES)))


def test_a_ceiling_has_no_interval_over_speakers():
    found = {
        (row, fold, 0): (score,) * 3 for row in ("m", scores.BAYES_WAR) for fold, score in (("f1", 0.7), ("f2", 0.9))
    }
    text = to_latex(rows_of(found), "T", {})
    ceiling = next(line for line in text.splitlines() if line.startswith(scores.LABELS[scores.BAYES_WAR]))
    assert "80.00" in ceiling
    assert "[" not in ceiling
    assert "[" in next(line for line in text.splitlines() if line.startswith("m &"))


def test_runs_that_a_difference_lacks_are_told():
    rows = rows_of(SCORES)  # two folds, two seeds
    found = [comparison("mmin", metric, NONE, 1.0, num_runs=3) for metric in ("war", "uar")]
    found.append(comparison("zero_fill", "war", NONE, 1.0))
    said = "A difference is over the runs that both rows have. They have fewer than all 4 with: MMIN (3, in 2 folds)."
    assert difference_notes(found, rows) == [said]
    assert said in to_markdown(rows, "T", [], found)
    assert said in to_latex(rows, "T", {}, found)
    assert difference_notes(found[2:], rows) == []


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(-0.0004, 3, "+0.000"), (-0.0006, 3, "-0.001"), (0.004, 2, "+0.00"), (-0.004, 2, "+0.00"), (1.5, 1, "+1.5"),
     (np.nan, 2, "")],
)  # fmt: skip
def test_numbers_with_their_sign(value, digits, expected):
    assert signed(value, digits) == expected


def test_a_difference_and_its_interval():
    assert signed_difference(Interval(0.015, -0.00001, 0.03)) == ("+1.50", "+0.00 to +3.00")
    assert signed_difference(Interval(-0.0001, -0.3, 0.3), 1, 3) == ("+0.000", "-0.300 to +0.300")
    assert signed_difference(Interval(0.015, np.nan, np.nan)) == ("+1.50", "")
    assert signed_difference(Interval(np.nan, np.nan, np.nan)) == ("", "")


def test_it_is_said_how_much_was_tuned():
    choices = lambda *trials: {"f1": {"trials": trials[0]}, "f2": {"trials": trials[-1]}}
    config = {
        "methods": {"a": {}, "mmin": {}, "late_fusion_lda": {}},
        "preset": VECTORS.to_dict(),
        "data": {"name": "mine"},
    }
    text = lambda tuned: tuning_text(config | {"tuned": tuned})
    alone = "are the preset's, not tuned for this table."
    assert text({}).endswith(f"{alone} Models of scikit-learn choose their strength on validation.")
    one = {"methods": {"a": {}}, "tuned": {}, "preset": VECTORS.to_dict(), "data": {"name": "mine"}}
    assert tuning_text(one).endswith(alone)
    synthetic = tuning_text(one | {"preset": SYNTHETIC.to_dict(), "data": {"name": "synthetic"}})
    assert tuning_text(one | {"preset": SYNTHETIC.to_dict()}).endswith(alone)  # a user's rate that is the same number
    assert "Of the preset, the learning rate was tuned for zero-fill and CM-ARR and the loss weights" in synthetic
    early = "The loss weights of 'strong alignment first' were chosen on the validation parts of CREMA-D votes"
    assert early in tuning_text(one | {"methods": {"cm_arr_within_told_self": {}}})
    assert early not in tuning_text(one | {"methods": {"contrastive_within_told_self": {}}})
    assert "the best of 6 trials on" in text({"a": choices(6), "mmin": choices(6)})
    assert "the best of 4 to 6 trials on" in text({"a": choices(6), "mmin": choices(4, 6)})
    assert "Not tuned" not in text({"a": choices(6), "mmin": choices(6)})
    assert text({"a": choices(6)}).endswith(" Not tuned, with the preset's values: MMIN.")
    assert "themselves" not in text({"a": choices(6), "mmin": choices(6)})
    ablation = {
        "methods": {"cm_arr": {}, "cm_arr_no_flow": {}},
        "tuned": dict.fromkeys(("cm_arr", "cm_arr_no_flow"), choices(6)),
        "preset": VECTORS.to_dict(),
        "data": {"name": "mine"},
    }
    like = (
        f" Not tuned by themselves, with the choices of the method that they change: {scores.LABELS['cm_arr_no_flow']}."
    )
    assert tuning_text(ablation).endswith(like)
    told = "They were chosen with the labels of seed 0, whichever seed a run has."
    assert told in tuning_text(ablation | {"label_share": 0.1})
    assert told not in tuning_text(ablation | {"label_share": 1.0})
    assert told not in tuning_text(ablation | {"label_share": 0.1, "tuned": {}})


@pytest.mark.parametrize(
    ("metric", "interval", "p", "verdict"),
    [
        ("uar", Interval(0.01, 0.001, 0.02), 0.049, "better"),
        ("uar", Interval(-0.01, -0.02, -0.001), 0.049, "worse"),
        ("uar", Interval(0.01, 0.001, 0.02), 0.05, "by the interval only"),
        ("uar", Interval(0.01, -0.001, 0.02), 0.01, "no difference shown"),
        ("ccc", Interval(0.01, 0.001, 0.02), 0.01, "better"),
        ("mae", Interval(0.01, 0.001, 0.02), 0.01, "worse"),
        ("mae", Interval(-0.01, -0.02, -0.001), 0.01, "better"),
        ("uar", Interval(0.01, float("nan"), float("nan")), 0.01, "not judged"),
        ("uar", Interval(0.01, 0.001, 0.02), float("nan"), "by the interval only"),
    ],
)
def test_what_is_said_of_a_difference(metric, interval, p, verdict):
    assert comparison("mmin", metric, interval, p).verdict == verdict


def test_pooled_scores_by_hand():
    rows = [
        Row("m", "f1", 0, name, 0.0, 0.0, [[3, 1], [0, 0]]) for name in ("a", "b", "ab")
    ] + [Row("m", "f2", 0, name, 0.0, 0.0, [[0, 0], [1, 1]]) for name in ("a", "b", "ab")]  # fmt: skip
    text = to_markdown(rows, "T", [])
    # One matrix [[3, 1], [1, 1]]: WAR 4/6, UAR (3/4 + 1/2) / 2.
    assert "| m | 66.67 / 62.50 | 66.67 / 62.50 | 66.67 / 62.50 |" in text


def test_rows_are_read_from_the_units_in_the_order_of_the_configuration(tmp_path):
    write_table(tmp_path)
    rows = read_rows(tmp_path)
    assert [(row.method, row.fold, row.seed) for row in rows[::3]] == [
        ("b", "f1", 0), ("a", "f2", 0), ("a", "f2", 1), ("a", "f1", 0),
    ]  # fmt: skip
    assert [row.condition for row in rows[:3]] == ["l", "r", "lr"]
    assert rows[0].war == pytest.approx(3 / 4)
    assert rows[0].counts == COUNTS[0]


def test_tables_are_made_from_the_units_alone(tmp_path):
    write_table(tmp_path)
    write_report(tmp_path)
    made = {name: (tmp_path / name).read_text() for name in ("table.csv", "table.md", FILE)}
    assert len(made[FILE].splitlines()) == 4 * 3
    assert "2 folds, 2 seeds; 2 x cpu; commit `c0ffee`" in made["table.md"]
    for name in made:
        (tmp_path / name).unlink()
    write_report(tmp_path)
    assert {name: (tmp_path / name).read_text() for name in made} == made


def test_a_table_of_ceilings_alone_has_a_report(tmp_path):
    """So is a command that was stopped before its first run had ended."""
    write_table(tmp_path, [(f"bayes_{metric}", fold, 0) for metric in ("uar", "war") for fold in ("f1", "f2")])
    text = write_report(tmp_path)
    assert "| Bayes ceiling (exact) | 75.00 ± 0.00 |" in text
    assert "Pooled" not in text


def test_ceilings_are_of_the_folds_that_were_tested(tmp_path):
    """Of one fold of two there is a run, as after --folds-only; the ceiling of the other would be another mean."""
    write_table(tmp_path, [("a", "f1", 0), *((f"bayes_{metric}", "f1", 0) for metric in ("uar", "war"))])
    for metric in ("uar", "war"):
        write_counts(tmp_path, Unit(f"bayes_{metric}", "f2", 0), ("left", "right"), [[[9, 0], [0, 9]]] * 3)
    material, text = Material(tmp_path), write_report(tmp_path)
    assert "| Bayes ceiling (exact) | 75.00 |" in text.replace(" ± 0.00", "")
    assert {row.fold for row in material.rows} == {"f1"}
    assert material.class_counts() == [2, 2]
    assert "1 of 2 folds, " in text


def test_a_report_that_stops_in_a_file_leaves_whole_files(tmp_path, monkeypatch):
    """Writing stops in the midst of each file in turn, as when the process is killed there."""
    write_table(tmp_path)
    write_report(tmp_path)
    whole, write = read_files(tmp_path), Path.write_text
    assert len(whole) > 6
    for stop in range(1, len(whole) + 1):
        calls = iter(range(1, stop + 1))

        def stopped(path, text, encoding, calls=calls, stop=stop):
            write(path, text[: len(text) // 2], encoding)
            if next(calls) == stop:
                raise InterruptedError
            return write(path, text, encoding)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", stopped)
            with pytest.raises(InterruptedError):
                write_report(tmp_path)
        assert read_files(tmp_path) == whole


def read_files(folder):
    """The files of a report, with their contents."""
    paths = [*folder.glob("*.*"), *folder.glob("figures/*")]
    return {path.name: path.read_bytes() for path in paths if path.is_file() and path.name != "config.json"}


def test_a_folder_without_its_name_is_no_run(tmp_path):
    write_table(tmp_path)
    before = read_rows(tmp_path)
    (tmp_path / "a" / "f1_seed0").rename(tmp_path / "a" / ".f1_seed0.123.partial")  # killed just before the renaming
    assert read_rows(tmp_path) == [row for row in before if (row.method, row.fold) != ("a", "f1")]


def test_a_damaged_record_is_named(tmp_path):
    write_table(tmp_path)
    path = tmp_path / "a" / "f1_seed0" / "run.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"a/f1_seed0/run.json is damaged \(.*\); delete its folder"):
        read_rows(tmp_path)


def test_a_folder_without_runs_has_no_table(tmp_path):
    write_table(tmp_path, units=())
    with pytest.raises(FileNotFoundError, match="holds no finished run; train some with"):
        write_report(tmp_path)


@pytest.mark.parametrize("command", [report_command, validation_command])
def test_a_folder_that_holds_no_table_is_a_sentence(tmp_path, capsys, command):
    with pytest.raises(SystemExit) as ended:
        command([str(tmp_path / "none")])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path}/none holds no table: config.json is missing; give the folder")
    assert said.count("\n") == 1


def test_a_folder_without_a_table_stays_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no table"):
        write_report(tmp_path)
    assert not any(tmp_path.iterdir())


def test_runs_that_the_budget_stopped_are_told():
    rows = [row._replace(status="stopped by the budget" if row.fold == "f2" else row.status) for row in rows_of(SCORES)]
    text = to_markdown(rows, "T", [])
    assert "Runs: 4; 2 converged, 2 stopped by the budget." in text
    assert "**Warning: 2 of 4 runs were stopped by the budget of epochs before they had converged." in text
    assert "Warning" not in to_markdown(rows_of(SCORES), "T", [])


def test_a_fold_without_a_modality_is_named():
    rows = [
        row._replace(war=np.nan, uar=np.nan, counts=[[0, 0], [0, 0]])
        if (row.fold, row.condition) == ("f2", "b")
        else row
        for row in rows_of(SCORES)
    ]
    text = to_markdown(rows, "T", [])
    assert "Condition `b`: no score for fold f2 (no test utterance has these modalities" in text
    assert "its mean is over 1 of 2 folds" in text
    assert "nan" not in text


def test_the_ceiling_is_a_row_per_metric():
    counts = [[1, 0], [0, 1]]
    rows = rows_of(SCORES)
    rows += [Row(name, fold, 0, condition, 0.9, 0.8, counts) for name in scores.CEILINGS for fold in ("f1", "f2")
             for condition in ("a", "b", "ab")]  # fmt: skip
    war = scores.to_csv(rows).splitlines()
    assert sum(line.startswith("bayes_war,a,war,0.900000") for line in war) == 1
    assert sum(line.startswith("bayes_uar,a,uar,0.800000") for line in war) == 1
    assert sum(line.startswith("bayes_") for line in war) == 8  # a, b, average, ab of one metric each
    assert to_markdown(rows, "T", []).count("| Bayes ceiling (exact) |") == 2
