"""What the command of manifests finds before it extracts features, since extraction takes hours."""

import numpy as np
import pytest

from data_prep import sources, validate
from data_prep.manifest_table import write_manifest
from data_prep.utterances import DIFFER
from tests import stub_extractors
from tests.test_manifest import ROWS, convert, with_sounds

TEXT = ("--text", "text_transformer")


class Never(stub_extractors.Letters):
    """An extractor that must not begin."""

    def extract(self, media):
        raise AssertionError(f"extraction of {media.utterance_id} has begun")


def write(folder, rows):
    write_manifest(folder / "m.csv", with_sounds(folder, rows))
    np.savez(folder / "others.npz", clip=np.ones(3))
    np.savez(folder / "all.npz", **{row["utterance_id"]: np.ones(3) for row in ROWS[:-1]})
    return folder / "m.csv", folder / "o.npz"


@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize(
    ("changes", "source", "sentence"),
    [
        ({"label": "calm"}, "all.npz", "m.csv: every labelled utterance is of class 'calm'; label some of another"),
        ({"speaker": "ann"}, "all.npz", "m.csv: every labelled utterance is of speaker 'ann'; folds need more speak"),
        ({"clip": ""}, "all.npz,id=clip", "--modality face: the column 'clip' of the manifest is empty; fill it in"),
        ({}, "others.npz", "others.npz: has features of none of the 12 names; others.npz: has no 'ann/angry 0' but"),
    ],
)
def test_faults_stop_before_extraction(tmp_path, capsys, monkeypatch, changes, source, sentence, options):
    monkeypatch.setattr(sources, "make_extractor", lambda spec: Never())
    table, out = write(tmp_path, [{**row, **changes} for row in ROWS])
    given = ("--modality", f"face=features:{tmp_path}/{source}", "--without-tfds")
    code = convert(table, out, *TEXT, *given, *options)
    printed = capsys.readouterr()
    is_source = bool(options) and sentence[:2] in ("--", "ot")  # a dry run names what is not ready, and goes on
    assert code == (0 if is_source else 1)
    assert sentence in (printed.out if is_source else printed.err) or (is_source and "face: 0 of 12" in printed.out)
    assert not out.exists()


def test_a_dry_run_counts_what_a_file_of_features_holds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", lambda spec: Never())
    table, out = write(tmp_path, ROWS)
    assert convert(table, out, *TEXT, "--modality", f"face=features:{tmp_path}/all.npz", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "face: 11 of 12 utterances have a source; features is ready\n" in printed
    assert "12 utterances, 12 of the 2 classes: angry 6, calm 6\n" in printed
    assert f"{12 * 0.5 / 3600:.2f} hours of speech" in printed  # each sound is half a second


def test_columns_that_are_not_read_are_named_where_a_modality_has_no_source(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)
    table, out = write(tmp_path, [{**row, "film": "1.mp4"} for row in ROWS])
    assert convert(table, out, *TEXT, "--video", "face_onnx") == 1
    said = "--video: no utterance has what it is made of, in a manifest the column 'video' (columns kept as text, and "
    assert capsys.readouterr().err == f"{said}not read: 'film'); fill it in, or leave the modality out\n"


def test_names_that_differ_in_capitals_only_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)
    rows = [dict(row) for row in ROWS]
    rows[0]["label"], rows[1]["speaker"] = "Calm", "Ann"
    table, out = write(tmp_path, rows)
    both = ("--audio", "compare_2016", *TEXT, "--without-tfds", "--force")
    assert convert(table, out, *both) == 0
    printed = capsys.readouterr().out
    text = f"labels that {DIFFER} are different classes: Calm 1, calm 5"
    assert f"note: {table}: {text}; correct them, or join them in --classes with Calm=Calm,calm\n" in printed
    text = f"speakers that {DIFFER} are different people, whom folds do not keep together: Ann 1, ann 3"
    assert f"note: {table}: {text}; correct them if they are one\n" in printed
    assert printed.endswith(f"Next: python -m data_prep.validate {out} --folds 4\n")
    assert validate.main([str(out), "--folds", "4"]) == 1  # only one fold has the class of one utterance to train on
    printed = capsys.readouterr().out
    assert f"warning: class_names: 'Calm', 'calm' {DIFFER} and are taken as different\n" in printed
    assert f"warning: speaker: 'Ann', 'ann' {DIFFER} and are taken as different\n" in printed
    assert convert(table, out, *both, "--classes", "Calm=Calm,calm", "angry") == 0
    assert "labels that differ" not in capsys.readouterr().out


def test_validate_counts_before_it_makes_folds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)
    table, out = write(tmp_path, ROWS)
    assert convert(table, out, "--audio", "compare_2016", *TEXT, "--without-tfds") == 0
    capsys.readouterr()
    assert validate.main([str(out)]) == 1
    printed = capsys.readouterr()
    assert "Utterances per speaker and class" in printed.out
    assert "ask for 3 folds, in the commands with --folds 3" in printed.err
