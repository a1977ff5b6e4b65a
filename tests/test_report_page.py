"""The page, the figures and the LaTeX of a smoke run: complete, self-contained, and with the numbers of the table."""

import csv
import html
import html.parser
import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import matplotlib.figure
import numpy as np
import pytest
from results_by_hand import rows_of
from tiny import make_corpus

from cmarr_jax.data.archive import read_archive, write_archive
from experiments import reproduce, row_differences
from experiments.comparison import Comparison, compare
from experiments.presets import Changes
from experiments.report.differences import judged_text, signed
from experiments.report.drawing import DARK, LIGHT, NAMES
from experiments.report.figures import _draw_curve, chosen_rows, chosen_text
from experiments.report.figures_map import neighbours_text, purity
from experiments.report.figures_trust import reliability_figure, spread_figure
from experiments.report.latex import escape, to_latex
from experiments.report.material import Material
from experiments.report.page import differences_sentence, make_figures, speakers_apart
from experiments.report.published import CONDITIONS, IEMOCAP
from experiments.report.scores import AVERAGE, best_means, collect, summarize_cells
from experiments.report.write import OUTPUT_FILES, write_report
from experiments.results import Row
from experiments.rows import ABOUT, LABELS, TABLE_ROWS, explanations
from experiments.statistics import Interval
from experiments.units import Unit, read_inspection

ROWS = ("zero_fill", "late_fusion_lda", "cm_arr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A smoke run of three rows on vectors, some absent by nature."""
    root = tmp_path_factory.mktemp("page")
    write_archive(root / "toy & co.npz", make_corpus(sequences=(), absent=0.15, sessions=2))
    reproduce.main(
        reproduce.Arguments(
            data=str(root / "toy & co.npz"), methods=ROWS, out=root / "out", smoke=True, changes=Changes()
        )
    )
    return root / "out"


class Reader(html.parser.HTMLParser):
    """Collects tags, ids and addresses, and checks that tags are closed."""

    VOID = ("meta", "link", "br", "rect", "path", "use", "stop")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.addresses, self.labels, self.count = [], [], [], [], {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "action", "srcset"):
                self.addresses.append(value)
            if name == "aria-label":
                self.labels.append(value)
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_output_is_there(folder):
    assert all((folder / name).exists() for name in OUTPUT_FILES)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {
        "conditions-uar", "conditions-war", "differences", "rates", "confusions", "reliability", "coverage", "learning",
        "reconstruction", "spread", "map",
    }  # fmt: skip


def test_the_page_is_one_file_without_requests(folder):
    text = (folder / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    for address in reader.addresses:
        assert address.startswith("#") or address == "data:,", address
        assert address == "data:," or address[1:] in reader.ids
    assert not re.search(r"url\((?!#)|@import|<script|<iframe|<img", text)
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert reader.count["figure"] == reader.count["details"] - 1 == len(reader.labels) == 11
    assert "toy &amp; co" in text
    assert "toy & co" not in text
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL).lower()


def test_both_themes_define_every_colour(folder):
    text = (folder / "report.html").read_text()
    assert set(LIGHT) == set(DARK) == set(NAMES)
    for name in NAMES.values():
        assert text.count(f"--{name}:") == 2
    assert not [colour for colour in NAMES if colour in text]
    used = set(re.findall(r"var\(--([a-z0-9]+)\)", text))
    assert used <= set(NAMES.values())
    assert {"ink", "grid", "c0", "c1"} <= used


def test_figures_are_files_of_their_own(folder):
    for path in (folder / "figures").iterdir():
        text = path.read_text()
        ElementTree.fromstring(text)
        assert "var(--" not in text
        assert not [colour for colour in NAMES if colour in text]


def test_the_page_has_the_numbers_of_the_table(folder):
    text = (folder / "report.html").read_text()
    for line in csv.DictReader(io.StringIO((folder / "table.csv").read_text())):
        assert f"{100 * float(line['mean']):.2f}" in text
        if line["ci_low"]:
            assert f"{100 * float(line['ci_low']):.1f} to {100 * float(line['ci_high']):.1f}" in text
    assert "3 methods compared in 6 missing-modality conditions and on complete data" in text
    assert "tested on 4 speakers" in text
    assert "python -m experiments.report FOLDER" in text


def test_a_page_of_one_seed_says_no_and_seeds(folder):
    text = (folder / "report.html").read_text()
    assert "With one seed" not in text  # each of the four speakers has a fold
    assert "95 % interval over speakers (bootstrap)." in text
    assert "(bootstrap) and seeds" not in text


def test_the_page_explains_what_it_compares(folder):
    text = (folder / "report.html").read_text()
    terms = re.findall(r"<dt>(.*?)</dt><dd>(.*?)\.</dd>", text)
    assert [term for term, _ in terms][:6] == ["Task", "Conditions", "UAR", "WAR", "Converged", "Fold"]
    assert [term for term, _ in terms][6:] == [html.escape(LABELS[row]) for row in ROWS]
    assert "not trained on that speaker" in dict(terms)["Fold"]
    order = [name for name in re.findall(r"<section id='([a-z-]+)'", text) if not name.startswith("conditions")]
    assert order[:4] == ["words", "differences", "table-uar", "table-war"]
    assert order[-1] == "how"


def test_every_row_is_explained():
    assert set(ABOUT) == set(LABELS) | {"bayes", "late_fusion_exact"}


def test_methods_and_tricks_are_explained_once():
    found = explanations(["cm_arr_within_told_self", "zero_fill_told", "zero_fill", "cm_arr", "late_fusion_lda"])
    tricks = ["strong alignment first", "within speakers", "three tricks", "self-training"]
    assert list(found) == ["CM-ARR", "Zero-fill", "Late fusion of shrinkage LDAs", *(f"..., {one}" for one in tricks)]
    assert found["CM-ARR"] == ABOUT["cm_arr"]
    assert all(text in ABOUT["cm_arr_within_told_self"] for label, text in found.items() if label.startswith("..."))
    assert set(explanations(LABELS).values()) >= {row.without_tricks()[1] for row in TABLE_ROWS.values()}


def test_an_own_split_promises_nothing_of_speakers():
    assert "may be in several" in speakers_apart({"folds": [{"name": "split"}]})
    assert "not trained on that speaker" in speakers_apart({"folds": [{"name": "speaker0"}, {"name": "speaker1"}]})


def test_alternative_texts_say_the_result(folder):
    reader = Reader()
    reader.feed((folder / "report.html").read_text())
    numbers = [label for label in reader.labels if re.search(r"\d", label)]
    assert len(numbers) == len(reader.labels)
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    (mean,) = [
        float(line["mean"])
        for line in lines
        if (line["method"], line["metric"], line["condition"]) == ("cm_arr", "uar", "average")
    ]
    assert any(f"{LABELS['cm_arr']} {100 * mean:.1f}" in label for label in reader.labels)


def test_the_report_can_be_made_again_with_the_same_bytes(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in OUTPUT_FILES:
        shutil.rmtree(copy / name) if (copy / name).is_dir() else (copy / name).unlink()
    write_report(copy)
    for name in ("report.html", "table.csv", "table.md", "table.tex", "results.jsonl", "figures/map.svg"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes(), name


def test_class_counts_are_of_all_folds_that_any_row_has(folder):
    material = Material(folder)
    counts, first = material.class_counts(), material.rows[0]
    label = read_archive(folder.parent / "toy & co.npz").label
    assert counts == np.bincount(label, minlength=len(material.class_names)).tolist()
    material.rows = [row for row in material.rows if (row.method, row.fold) != (first.method, first.fold)]
    assert material.class_counts() == counts


def test_figures_have_the_best_of_the_other_rows(folder):
    material, (first, *others) = Material(folder), ("cm_arr", *(row for row in ROWS if row != "cm_arr"))
    lines = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    cells = [line for line in lines if (line["condition"], line["metric"]) == ("average", "uar")]
    mean = {line["method"]: float(line["mean"]) for line in cells}
    best = max(others, key=mean.__getitem__)
    assert chosen_rows(material, most=2) == [first, best]
    assert set(chosen_rows(material)) == set(ROWS)
    assert chosen_text(material, chosen_rows(material)) == ""
    assert "and the 1 other method with the highest average UAR" in chosen_text(material, [first, best])


def test_inspections_hold_what_the_figures_show(folder):
    material = Material(folder)
    for fold, seeds in material.runs["cm_arr"].items():
        for number, seed in enumerate(seeds):
            found, outputs = (
                read_inspection(folder, Unit("cm_arr", fold, seed)),
                material.outputs("cm_arr")[fold][number],
            )
            assert found["error"].shape == (7, len(outputs.label), 3)
            assert found["spread"].shape == (len(outputs.label), 3)
            assert ("initial_point" in found) == (fold == "speaker0" and seed == 0)
            available = np.array([[c in pattern for c in "avt"] for pattern in material.conditions])
            given = available[:, None] & outputs.present[None]
            assert not found["error"][given].any()
            hidden = ~available[:, None] & outputs.present[None]
            assert (found["error"][hidden] > 0).all()
    assert read_inspection(folder, Unit("zero_fill", "speaker0", 0)) is None


def test_the_first_sentences_say_what_is_shown_and_what_is_a_hint():
    """One of each verdict: worse, better, by the interval only (below and above), and not shown."""
    found = [(-0.02, 0.01, 0.01), (0.03, 0.01, 0.01), (-0.01, 0.005, 0.2), (0.01, 0.005, 0.3), (0.0, 0.02, 1.0)]
    comparisons = [
        Comparison("cm_arr", f"row{n}", "uar", Interval(mean, mean - half, mean + half), p, p, 6, 3, 20)
        for n, (mean, half, p) in enumerate(found)
    ]
    material = SimpleNamespace(comparisons=comparisons, label=lambda row: row.upper())
    assert differences_sentence(material, "uar") == (
        "UAR, after the correction for 5 comparisons: CM_ARR is better than ROW1 (+3.00 points, +2.00 to +4.00, "
        "p 0.010); CM_ARR is worse than ROW0 (-2.00 points, -3.00 to -1.00, p 0.010); no difference is shown from the "
        "other 3, though 2 intervals of these differences leave out zero (1 with CM_ARR worse, "
        "1 with it better)."
    )
    material.comparisons = comparisons[4:]
    assert differences_sentence(material, "uar") == "UAR: no difference is shown from any other method."
    assert differences_sentence(material, "war") == ""
    material.comparisons = [comparisons[3]._replace(p=0.07)]  # one comparison: nothing was corrected
    assert differences_sentence(material, "uar") == (
        "UAR: no difference is shown from any other method, though 1 interval of these differences leaves out zero (0 "
        "with CM_ARR worse, 1 with it better)."
    )


@pytest.mark.parametrize(
    ("same_class", "same_modality", "classes", "modalities"),
    [((0.5, 0.6), (1.0, 0.5), "have", "have"), ((0.5, 0.5), (0.9, 1.0), "have not", "have not")],
)
def test_the_map_says_whether_classes_gather_and_modalities_mix(same_class, same_modality, classes, modalities):
    names = ("before training", "after training")
    numbers = [[name, "class", f"{x:.3f}", "0.250"] for name, x in zip(names, same_class, strict=True)]
    numbers += [[name, "modality", f"{x:.3f}", "0.333"] for name, x in zip(names, same_modality, strict=True)]
    text = neighbours_text(numbers)
    assert text.startswith(f"Classes {classes} gathered: the nearest point of another utterance is of the same class")
    assert f"Modalities {modalities} mixed:" in text
    assert f"in {100 * same_class[1]:.0f} per cent after training, 50 before, 25 by chance." in text


def test_speakers_of_all_rows_are_counted(folder):
    whole, part = Material(folder), Material(folder)
    first, fold = next(iter(whole.runs)), next(iter(next(iter(whole.runs.values()))))
    part.runs = {**whole.runs, first: {fold: whole.runs[first][fold]}}  # the first row has one fold only
    assert len(whole.runs[first]) > 1
    assert part.num_speakers == whole.num_speakers == len(np.unique(make_corpus(sequences=(), sessions=2).speaker))


def test_neighbours_are_of_another_utterance():
    """Three utterances on a line, two points each at one place: judged is the nearest other utterance, not the twin."""
    places = np.array([0.0, 0.0, 1.0, 1.0, 3.0, 3.0])
    utterances, label = np.arange(6) // 2, np.array([0, 0, 1, 1, 1, 1])
    share, by_chance = purity(places[:, None], label, utterances)
    assert share == pytest.approx(2 / 6)  # 0 and 1 are each other's nearest, of two classes; 3 is next to 1
    assert by_chance == pytest.approx((0 + 0 + 2 / 4 + 2 / 4 + 2 / 4 + 2 / 4) / 6)
    label = np.random.default_rng(0).integers(0, 4, 400)  # drawn together, without a class: as by chance
    points = np.random.default_rng(1).normal(size=(400, 3)).repeat(2, axis=0)
    share, by_chance = purity(points, label.repeat(2), np.arange(400).repeat(2))
    assert share == pytest.approx(by_chance, abs=0.06)


def test_the_share_of_wider_gaussians_is_that_of_all_pairs(folder):
    material = Material(folder)
    caption = spread_figure(material).caption
    for column, name in enumerate(material.config["data"]["modalities"]):
        shares = []
        for outputs, values in material.inspections("cm_arr"):
            has = outputs.present[:, column]
            hit = outputs.logits[column].argmax(-1) == outputs.label
            wrong, right = values["spread"][has & ~hit, column], values["spread"][has & hit, column]
            if len(wrong) and len(right):
                shares.append(np.mean(np.subtract.outer(wrong, right) > 0))
        assert f"{100 * np.mean(shares):.0f} per cent ({name})" in caption


def test_a_calibration_error_stands_in_a_column_of_its_own(folder):
    figure = reliability_figure(Material(folder))
    lines = [dict(zip(figure.header, line, strict=True)) for line in figure.numbers]
    for line in lines:
        assert bool(line["error, per cent"]) == bool(line["temperature"]) == (line["mean confidence"] == "all")
    of = [line for line in lines if (line["method"], line["scaling"]) == (LABELS["cm_arr"], "before")]
    groups, total = of[:-1], of[-1]
    assert total["decisions"] == sum(line["decisions"] for line in groups)
    gaps = [abs(float(line["mean confidence"]) - float(line["share right"])) * line["decisions"] for line in groups]
    assert float(total["error, per cent"]) == pytest.approx(100 * sum(gaps) / total["decisions"], abs=0.1)


def test_a_folder_of_one_row_has_the_figures_that_it_allows(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("cm_arr", "late_fusion_lda"):
        shutil.rmtree(copy / name)
    assert {figure.name for figure in make_figures(Material(copy))} == {
        "conditions-uar", "conditions-war", "rates", "confusions", "reliability", "coverage", "learning",
    }  # fmt: skip
    write_report(copy)
    assert "No finished run" not in (copy / "report.html").read_text()


def test_a_run_without_a_chosen_epoch_has_no_dot():
    """Two stages of 2 and 3 epochs; -1: no epoch of the last stage was chosen, as of a run that diverged there."""
    history = {"complete": {"loss": [3.0, 2.0]}, "missing": {"loss": [1.5, 1.0, 2.0]}}
    record = {"fold": "f1", "seed": 0, "history": history}
    axis = matplotlib.figure.Figure().subplots()
    assert _draw_curve(axis, record | {"best_epoch": -1}, "loss") == []
    assert len(axis.lines) == 2  # the curve and the beginning of the last stage
    assert _draw_curve(axis, record | {"best_epoch": 1}, "loss") == [["loss", "f1", 0, 4, "3", "1", "2"]]
    assert len(axis.lines) == 5


def test_the_largest_mean_is_bold_whichever_row_lacks_a_score():
    """The first row has no score in condition `b`, as where all of its runs diverged."""
    scores = {("first", "f1", 0): (0.5, np.nan, 0.6), ("m", "f1", 0): (0.4, 0.3, 0.7), ("n", "f1", 0): (0.1, 0.2, 0.6)}
    rows = rows_of(scores)
    best = best_means(collect(rows, "war") | {"bayes_war": collect(rows_of({("b", "f1", 0): (1, 1, 1)}), "war")["b"]})
    assert best == {"a": 0.5, "b": 0.3, "average": pytest.approx(0.35), "ab": 0.7}
    assert np.isnan(best_means({"m": {"a": np.full((1, 1), np.nan)}})["a"])
    text = to_latex(rows, "T", {})
    assert r"m & 40.00 & \textbf{30.00} & \textbf{35.00} & \textbf{70.00} \\" in text
    assert r"first & \textbf{50.00} &  &  & 60.00 \\" in text
    assert "Bold: the largest number of a column (not of ceilings or rows that lack folds); it need not differ" in text
    negative = {name: {"a": np.array([[mean]])} for name, mean in (("m", -0.2), ("n", -0.1))}  # as a CCC can be
    assert best_means(negative)["a"] == -0.1


def test_latex_escapes_and_keeps_published_rows_apart():
    names = CONDITIONS[:6] + CONDITIONS[7:]
    rows = [Row("cm_arr", "f1", 0, name, 0.5, 0.6, [[1, 1], [0, 2]]) for name in names]
    text = to_latex(rows, "50 % of A_B & C", {}, (), IEMOCAP)
    assert r"50 \% of A\_B \& C" in text
    assert text.count("(published; ") == len(IEMOCAP)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert r"\textbf{59.00" not in text
    assert escape("a\\b") == r"a\textbackslash{}b"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX on this machine")
def test_latex_compiles(folder, tmp_path):
    text = (folder / "table.tex").read_text()
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + text + "\\end{document}\n"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]


def test_any_row_can_be_compared_with_the_others(folder, capsys):
    row, *others = ROWS
    row_differences.main(folder, row)
    scores, title, differences, judged = capsys.readouterr().out.strip().split("\n\n")
    material = Material(folder)
    cells = {metric: summarize_cells(material.rows, metric, material.intervals) for metric in ("uar", "war")}
    header, _, *lines = scores.splitlines()
    assert header == "| row | UAR, average | WAR, average | UAR, complete | WAR, complete |"
    complete = material.conditions[-1]
    names = sorted(ROWS, key=lambda name: -cells["uar"][name][AVERAGE].mean)
    for name, line in zip(names, lines, strict=True):
        shown = [cells[metric][name][condition] for condition in (AVERAGE, complete) for metric in ("uar", "war")]
        texts = [f"{100 * x.mean:.2f} ({100 * x.ci_low:.2f} to {100 * x.ci_high:.2f})" for x in shown]
        assert line == f"| `{name}` | " + " | ".join(texts) + " |"
    assert title == f"{row} minus each other row, average of the missing-modality conditions:"
    expected = {(one.baseline, one.metric): one for one in compare(folder, material.rows, row)}
    header, _, *lines = differences.splitlines()
    assert header == "| minus | UAR | p |  | WAR | p |  |"
    names = sorted(others, key=lambda name: expected[name, "uar"].difference.mean)
    for name, line in zip(names, lines, strict=True):
        texts = [f"`{name}`"]
        for one in (expected[name, "uar"], expected[name, "war"]):
            mean, low, high = (signed(100 * x) for x in one.difference)
            texts += [f"{mean} ({low} to {high})", f"{one.p:.3f}", one.verdict]
        assert line == "| " + " | ".join(texts) + " |"
    judged, note = judged.splitlines()
    assert judged == judged_text(list(expected.values()))
    assert note.startswith("With 4 test speakers, p of the permutation test is at least 0.12, and 0.25 after")
    with pytest.raises(ValueError, match="has no outputs of row nobody; it has those of"):
        row_differences.main(folder, "nobody")
