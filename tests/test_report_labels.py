"""The report of several shares of the labels, from outputs made by hand."""

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from labels_by_hand import write_shares
from test_report_page import Reader

from experiments.comparison import INTERVAL_ONLY
from experiments.report.__main__ import main as report_command
from experiments.report.label_curves import LabelCurves
from experiments.report.label_figure import label_figure
from experiments.report.labels import LABEL_FILES, needed_texts, sentences, write_label_report
from experiments.report.material import compared_row

LABELS = {0.01: 4, 0.1: 40, 1.0: 400}
RIGHT = {"zero_fill": [0.5, 0.6, 0.7], "mmin": [0.6, None, 0.8], "cm_arr": [0.65, 0.7, 0.7]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels") / "a & b"
    write_shares(root, RIGHT, LABELS)
    write_label_report(root)
    return root


def test_the_lines_have_the_scores_of_the_outputs(folder):
    curves = LabelCurves(folder)
    assert curves.rows == ["zero_fill", "mmin", "cm_arr"]
    assert curves.labels == [4, 40, 400]
    assert [(point.val, point.unlabelled) for point in curves.points] == [(1, 396), (10, 360), (100, 0)]
    for condition in ("average", "lr"):
        for row, right in RIGHT.items():
            line = [found.mean for found in curves.line(row, "uar", condition)]
            # Moved by 1, 3, 1 and 3 of 20 decisions in the folds, in half of the classes and speakers: 5 % on average.
            np.testing.assert_allclose(line, [np.nan if x is None else x - 0.05 for x in right], atol=1e-9)
    assert all(found.ci_low < found.mean < found.ci_high for found in curves.line("cm_arr", "war", "average"))


def test_the_sentences_tell_the_crossings(folder):
    intro, *told = sentences(LabelCurves(folder))
    assert intro.startswith("Compared by the UAR, average of the 2 missing-modality conditions; numbers are")
    assert [text.partition(" (")[0].partition(";")[0] for text in told] == [
        "CM-ARR with 4 labels equals Zero-fill with 126",  # halfway between 0.6 and 0.7 on a log axis: sqrt(40 * 400)
        "CM-ARR with 40 labels equals Zero-fill with 400",
        "CM-ARR with 400 labels equals Zero-fill with 400",
    ]
    assert "with equal labels: +15.00 points" in told[0]
    assert "no difference shown (+0.00 points" in told[2]
    text = (folder / "labels.md").read_text()
    assert all(f"- {sentence}\n" in text for sentence in told)
    assert "| MMIN | 13 | 40* | 40 |" in text
    assert "With a star: the method was not trained with these labels." in text
    assert "| Zero-fill | 126 | 400 | (400) |" in text
    assert "as the 95 % interval includes zero, or p, corrected after Holm for the number of rows, is at least" in text
    assert "Fewer than 4 runs have a score: MMIN at 10 % (0)." in text
    assert "Runs: 32; 32 converged." in text


def test_a_variant_is_compared_where_cm_arr_is_not_trained(tmp_path):
    right = {"late_fusion": [0.5, 0.6, 0.7], "cm_arr_within_told": [0.65, 0.7, 0.7], "cm_arr_told": [0.6, 0.7, 0.7]}
    write_shares(tmp_path, right, LABELS)
    curves = LabelCurves(tmp_path)
    assert curves.method == curves.last.method == curves.last.main == "cm_arr_within_told"
    assert sentences(curves)[1].startswith(
        "CM-ARR, strong alignment first, within speakers, three tricks with 4 labels "
    )
    assert {one.method for one in curves.last.comparisons} == {"cm_arr_within_told"}
    label = curves.last.label("cm_arr_within_told")
    title, note = needed_texts(curves)
    assert title == f"Labels that a method needs for the score of {label}"
    assert f"Header: the labels of {label}. Below: with how many labels a method has the score that {label} has" in note
    assert title in write_label_report(tmp_path)
    assert compared_row(["cm_arr_told", "zero_fill", "cm_arr"]) == "cm_arr"
    assert compared_row(["zero_fill", "mmin"]) is None


def test_brackets_say_what_the_table_of_a_share_says(tmp_path):
    """The intervals leave out zero; with 8 speakers and 7 rows p is not below 0.05 (2 / 2^8 times 7 is 0.055)."""
    names = ["zero_fill", "mmin", "cif_mmin", "late_fusion", "dedicated", "impute_mean", "impute_ridge"]
    others = {name: [0.5, 0.6] for name in names}
    write_shares(tmp_path, others | {"cm_arr": [0.65, 0.7]}, {0.1: 40, 1.0: 400})
    curves = LabelCurves(tmp_path)
    assert {one.verdict for found in curves.comparisons for one in found} == {INTERVAL_ONLY}
    assert "with equal labels a difference by the interval only (+15.00 points, 95 % interval " in sentences(curves)[1]
    text = write_label_report(tmp_path)
    assert "| Zero-fill | (not reached) | (not reached) |" in text
    assert needed_texts(curves)[1].endswith(
        "With 8 test speakers, p of the permutation test is at least 0.0078, and 0.055 after the correction for 7 "
        "rows, so even a large difference is not shown at the level 0.05."
    )


def test_a_figure_has_no_more_lines_than_can_be_told_apart(tmp_path):
    names = ["zero_fill", "mmin", "cif_mmin", "dicmor", "late_fusion", "dedicated", "impute_mean", "impute_ridge"]
    right = {name: [0.4, 0.5, 0.5 + number / 20] for number, name in enumerate(names)} | {"cm_arr": [0.4, 0.5, 0.4]}
    write_shares(tmp_path, right, LABELS)
    curves = LabelCurves(tmp_path)
    assert curves.drawn(3) == ["cm_arr", "impute_ridge", "impute_mean"]
    figure = label_figure(curves, "average")
    assert "Drawn are CM-ARR and the 7 others of the highest UAR." in figure.caption
    assert len(figure.numbers) == 3 * 9


def test_every_output_is_there_and_made_again(folder):
    before = {name: (folder / name).read_bytes() for name in LABEL_FILES if "." in name}
    for name in before:
        (folder / name).unlink()
    report_command(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {path.stem for path in (folder / "figures").iterdir()} == {"labels-average", "labels-complete"}


def test_csv(folder):
    cells = list(csv.DictReader(io.StringIO((folder / "labels.csv").read_text())))
    assert len(cells) == 2 * 3 * 4 * 3  # metrics, rows, conditions l, r, average, lr, shares
    one = next(c for c in cells if (c["method"], c["share"], c["condition"]) == ("cm_arr", "0.1", "average"))
    assert (one["labels"], one["val_labels"], one["unlabelled"], one["metric"], one["n"]) == (
        "40", "10", "360", "war", "4",
    )  # fmt: skip
    assert float(one["mean"]) == pytest.approx(0.65)
    empty = next(c for c in cells if (c["method"], c["share"]) == ("mmin", "0.1"))
    assert (empty["mean"], empty["n"]) == ("", "0")


def test_the_page_has_figures_and_sentences(folder):
    text = (folder / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    assert len(set(reader.ids)) == len(reader.ids)
    assert {"labels-average", "labels-complete", "needed", "words"} <= set(reader.ids)
    assert not [address for address in reader.addresses if address.startswith(("http", "//"))]
    assert "labels_010/report.html" in reader.addresses
    assert "CM-ARR with 4 labels equals Zero-fill with 126" in text
    for path in (folder / "figures").iterdir():
        ElementTree.fromstring(path.read_text())
        assert "CM-ARR" in path.read_text()


def test_latex(folder):
    text = (folder / "labels.tex").read_text()
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 5
    assert r"method & 4 (1 \%) & 40 (10 \%) & 400 (100 \%) \\" in text
    assert "Zero-fill & 126 & 400 & (400)" in text


def test_without_cm_arr_there_are_lines_but_no_sentences(tmp_path):
    write_shares(tmp_path, {"zero_fill": [0.5, 0.6]}, {0.1: 40, 1.0: 400})
    text = write_label_report(tmp_path)
    assert "equals" not in text
    assert "| Zero-fill | 45.00" in text
    assert "needs" not in text


def test_choices_of_a_share_are_those_of_seed_0(tmp_path):
    write_shares(tmp_path, {"zero_fill": [0.5, 0.6]}, {0.1: 40, 1.0: 400})
    told = "are those of each share. They were chosen with the labels of seed 0, whichever seed a run has."
    assert told not in write_label_report(tmp_path)
    for folder in tmp_path.glob("labels_*"):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tuned": {"zero_fill": {"f1": {"trials": 2}}}}))
    assert told in write_label_report(tmp_path)


def test_equal_labels_are_told(tmp_path):
    write_shares(tmp_path, {"zero_fill": [0.5, 0.5, 0.6]}, {0.01: 4, 0.02: 4, 1.0: 40})
    assert "The same labels, as counts are rounded to whole utterances: 1 % and 2 %." in write_label_report(tmp_path)


def test_a_folder_without_runs_is_told(tmp_path):
    write_shares(tmp_path, {"zero_fill": [None]}, {0.1: 40})
    with pytest.raises(FileNotFoundError, match=r"holds no finished run; train some with .*--table labels"):
        report_command(tmp_path)
