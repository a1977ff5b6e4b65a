"""From recordings to predictions: features are made as the training's record says, or a sentence says why not."""

import csv

import numpy as np
import pytest
from predict_units import make_unit

from data_prep import manifest
from data_prep.extractors.text_hashing import TextHashing
from data_prep.manifest_table import write_manifest
from experiments import predict
from experiments.datasets import load_archive

WORDS = ["so", "well", "we", "meet", "here", "again", "after", "all", "these", "years", "my", "friend"]
MODALITIES = ("--text", "text_hashing:dims=12", "--modality", "start=text_hashing:dims=6,max_words=2")


def rows_of(num, seed=0):
    rng = np.random.default_rng(seed)
    text = lambda: " ".join(rng.choice(WORDS, rng.integers(2, 7)))
    return [
        {"utterance_id": f"u{n}", "speaker": f"s{n // 8}", "label": "abcd"[n % 4], "text": text()} for n in range(num)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared corpus with finished features beside the text, and a unit that was trained on it."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = rows_of(40)
    write_manifest(folder / "m.csv", rows)
    rng = np.random.default_rng(1)
    np.savez(folder / "face.npz", **{row["utterance_id"]: rng.normal(size=(3, 4)).astype("f4") for row in rows})
    given = [*MODALITIES, f"face=features:{folder}/face.npz", "--without-tfds", "--num-workers", "1"]
    assert manifest.main([str(folder / "m.csv"), str(folder / "a.npz"), *given]) == 0
    source = load_archive(folder / "a.npz")
    assert [record["name"] for record in source.extractors.values()] == ["text_hashing", "text_hashing", "features"]
    unit, _ = make_unit(folder, "cm_arr", source.corpus, extractors=source.extractors)
    return folder, unit


def run(unit, source, out, *options):
    argv = ["--run", str(unit), "--input", str(source), "--out", str(out), "--num-workers", "1", *options]
    return predict.main(argv)


def table(path):
    with path.open(newline="") as file:
        return {row["utterance_id"]: row for row in csv.DictReader(file)}


def test_a_manifest_gives_what_its_archive_gives(made, tmp_path):
    folder, unit = made
    given = "--modality", f"face=features:{folder}/face.npz"
    assert run(unit, folder / "m.csv", tmp_path / "m.csv", *given) == 0
    assert run(unit, folder / "a.npz", tmp_path / "a.csv") == 0
    assert (tmp_path / "m.csv").read_text() == (tmp_path / "a.csv").read_text()


def test_speakers_and_labels_are_not_needed(made, tmp_path, capsys):
    """One text is new, one row has none, and one has no word."""
    _, unit = made
    rows = [
        {"utterance_id": "new", "text": "well met"},
        {"utterance_id": "none"},
        {"utterance_id": "dots", "text": "."},
    ]
    write_manifest(tmp_path / "m.csv", rows)
    assert run(unit, tmp_path / "m.csv", tmp_path / "p.csv", "--only", "text", "start") == 0
    found = table(tmp_path / "p.csv")
    assert found["new"]["modalities"] == "text+start"
    assert found["none"]["error"].startswith("no modality is there")
    assert found["dots"]["note"] == "text: the transcript holds no word; start: the transcript holds no word"
    assert "Not answered: 2 of " in capsys.readouterr().err


def test_a_file_that_lacks_an_utterance_is_a_note(made, tmp_path):
    folder, unit = made
    write_manifest(tmp_path / "m.csv", [{"utterance_id": "new", "text": "well met"}])
    given = "--modality", f"face=features:{folder}/face.npz"
    assert run(unit, tmp_path / "m.csv", tmp_path / "p.csv", *given) == 0
    row = table(tmp_path / "p.csv")["new"]
    assert row["modalities"] == "text+start"
    assert "has features of none of the 1 names" in row["note"]


FAULTS = {
    "another extractor": (("--modality", "text=egemaps"), "trained with 'text_hashing', found 'egemaps'"),
    "a file for an extractor": (("--modality", "text=features:x.npz"), "trained with 'text_hashing', found 'features'"),
    "another option": (
        ("--modality", "text=text_hashing:max_words=3"),
        "differ from those of the training: text.options.max_words was 64 and is 3 now",
    ),
    "no file": ((), "its features come from a file; give face=features:FILE for these utterances"),
    "an unknown modality": (("--modality", "smell=x"), "NAME one of text, start, face"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_features_that_would_differ_are_refused(made, tmp_path, capsys, name):
    folder, unit = made
    options, sentence = FAULTS[name]
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", *options) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "p.csv").exists()


def test_other_versions_are_refused_or_noted(made, tmp_path, capsys, monkeypatch):
    folder, unit = made
    record = TextHashing.record
    old = lambda self: record(self) | {"libraries": record(self)["libraries"] | {"scikit-learn": "0.1"}}
    monkeypatch.setattr(TextHashing, "record", old)
    options = "--only", "text"
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", *options) == 1
    assert "text.libraries.scikit-learn was " in capsys.readouterr().err
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", *options, "--other-versions") == 0
    assert "note: text.libraries.scikit-learn was " in capsys.readouterr().err
    monkeypatch.setattr(TextHashing, "record", lambda self: record(self) | {"revision": 0})
    assert run(unit, folder / "m.csv", tmp_path / "q.csv", *options, "--other-versions") == 1
    assert "text.revision was 1 and is 0 now" in capsys.readouterr().err


def test_a_unit_without_a_record_says_so(made, tmp_path, capsys):
    folder, _ = made
    unit, _ = make_unit(tmp_path, "zero_fill", load_archive(folder / "a.npz").corpus)
    assert run(unit, folder / "m.csv", tmp_path / "p.csv") == 1
    assert "does not say how 'text' was made, since its archive had no details file" in capsys.readouterr().err


def test_details_of_another_archive_are_refused(made, tmp_path):
    folder, _ = made
    (tmp_path / "a.npz").write_bytes((folder / "a.npz").read_bytes())
    assert load_archive(tmp_path / "a.npz").extractors == {}
    with np.load(folder / "a_details.npz") as file:
        np.savez(tmp_path / "a_details.npz", **{**file, "utterance_id": file["utterance_id"][::-1]})
    with pytest.raises(ValueError, match=r"a_details.npz: has other utterances than a.npz"):
        load_archive(tmp_path / "a.npz")
