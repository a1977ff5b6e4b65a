"""From recordings to predictions: features are made as the training's record says, or a sentence says why not."""

import csv

import numpy as np
import pytest
from predict_units import make_unit

from data_prep import feature_files, manifest
from data_prep.extractors.text_hashing import TextHashing
from data_prep.manifest_table import write_manifest
from experiments import predict, predict_manifest
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
    assert row["note"] == "face: face.npz: has no 'new'"


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("f.npz", b"PK\3\4", r"f.npz: is damaged or no .npz file (File is not a zip file); copy it again"),
        ("f.csv", b"id,a,b,c,d\nu0,1,2,3,4\n", "f.csv: has no column 'utterance_id'; it has id, a, b, c, d; give"),
        ("f.csv", b"utterance_id,a,b,c,d\nu0,1,2,x,4\n", "f.csv: row 2, column 'c': 'x' is no number; remove the"),
    ],
)
def test_a_fault_of_a_file_of_features_stops_the_command(made, tmp_path, capsys, name, data, sentence):
    """As in data_prep.manifest: the answers of the other modalities alone would hide it."""
    folder, unit = made
    (tmp_path / name).write_bytes(data)
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", "--modality", f"face=features:{tmp_path / name}") == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/{sentence}" in said
    assert "Traceback" not in said
    assert not (tmp_path / "p.csv").exists()


FRAME = {"u0": [[1, 0, 2, 1]], "u1": [[0, 1, 1, 2]], "u2": [[2, 1, 0, 1], [1, 1, 1, 0]]}


@pytest.mark.parametrize("names", [("u0", "u1", "u2"), ("u0", "u1")], ids=["with two frames", "one frame each"])
def test_utterances_of_one_frame_are_answered_whatever_else_the_table_has(made, tmp_path, monkeypatch, names):
    """A block is one utterance; the model was trained with frames."""
    _, unit = made
    monkeypatch.setattr(predict_manifest, "BLOCK", 1)
    lines = [",".join(map(str, (name, *frame))) for name in names for frame in FRAME[name]]
    (tmp_path / "f.csv").write_text("\n".join(["utterance_id,a,b,c,d", *lines]) + "\n")
    np.savez(tmp_path / "f.npz", **{name: np.array(FRAME[name], np.float32) for name in names})
    write_manifest(tmp_path / "m.csv", [{"utterance_id": name} for name in (*names, "new")])
    for kind in ("csv", "npz"):
        given = "--only", "face", "--modality", f"face=features:{tmp_path}/f.{kind}"
        assert run(unit, tmp_path / "m.csv", tmp_path / f"{kind}_p.csv", *given) == 0
    found = table(tmp_path / "csv_p.csv")
    assert [found[name]["modalities"] for name in names] == ["face"] * len(names)
    assert found["new"]["note"] == "face: f.csv: has no 'new'"
    assert (tmp_path / "csv_p.csv").read_text().replace("f.csv", "f.npz") == (tmp_path / "npz_p.csv").read_text()


def test_columns_of_a_table_must_be_those_of_the_training(tmp_path, capsys):
    rows = rows_of(40)
    write_manifest(tmp_path / "m.csv", rows)
    lines = [f"{row['utterance_id']},{number},{-number}" for number, row in enumerate(rows)]
    for name, header in (("then", "x,y"), ("same", "x,y"), ("turned", "y,x")):
        (tmp_path / f"{name}.csv").write_text("\n".join([f"utterance_id,{header}", *lines]) + "\n")
    given = [*MODALITIES, f"face=features:{tmp_path}/then.csv", "--without-tfds", "--num-workers", "1"]
    assert manifest.main([str(tmp_path / "m.csv"), str(tmp_path / "a.npz"), *given]) == 0
    source = load_archive(tmp_path / "a.npz")
    unit, _ = make_unit(tmp_path, "zero_fill", source.corpus, extractors=source.extractors)
    for name, code in (("same", 0), ("turned", 1)):
        given = "--only", "face", "--modality", f"face=features:{tmp_path}/{name}.csv"
        assert run(unit, tmp_path / "m.csv", tmp_path / f"{name}_p.csv", *given) == code
    said = "turned.csv: has not the columns of then.csv, on which the model was trained, in the same order"
    assert said in capsys.readouterr().err


def test_a_table_of_features_is_read_once_for_all_blocks(made, tmp_path, monkeypatch):
    _, unit = made
    monkeypatch.setattr(predict_manifest, "BLOCK", 1)
    read, paths = feature_files.read_table, []
    monkeypatch.setattr(feature_files, "read_table", lambda path: paths.append(path) or read(path))
    (tmp_path / "f.csv").write_text("utterance_id,a,b,c,d\nu0,1,2,3,4\nu1,1,2,3,4\n")
    write_manifest(tmp_path / "m.csv", [{"utterance_id": f"u{number}"} for number in range(3)])
    given = "--only", "face", "--modality", f"face=features:{tmp_path}/f.csv"
    assert run(unit, tmp_path / "m.csv", tmp_path / "p.csv", *given) == 0
    assert paths == [tmp_path / "f.csv"]


def test_a_file_of_a_manifest_that_is_not_there_is_a_note(made, tmp_path):
    _, unit = made
    (tmp_path / "here.txt").write_text("well met")
    rows = [{"utterance_id": name, "transcript_file": f"{name}.txt"} for name in ("here", "gone")]
    write_manifest(tmp_path / "m.csv", rows)
    assert run(unit, tmp_path / "m.csv", tmp_path / "p.csv", "--only", "text", "start") == 0
    found = table(tmp_path / "p.csv")
    assert found["here"]["modalities"] == "text+start"
    assert found["gone"]["note"] == f"text: {tmp_path}/gone.txt: is not there"


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
    libraries = {"scikit-learn": "0.1", "numpy": "0.2"}
    old = lambda self: record(self) | {"libraries": record(self)["libraries"] | libraries}
    monkeypatch.setattr(TextHashing, "record", old)
    options = "--only", "text"
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", *options) == 1
    said = capsys.readouterr().err
    assert all(f"text.libraries.{library} was " in said for library in libraries)
    assert run(unit, folder / "m.csv", tmp_path / "p.csv", *options, "--other-versions") == 0
    said = capsys.readouterr().err
    assert all(f"note: text.libraries.{library} was " in said for library in libraries)
    monkeypatch.setattr(TextHashing, "record", lambda self: old(self) | {"weights": {"text.onnx": "0"}})
    assert run(unit, folder / "m.csv", tmp_path / "q.csv", *options, "--other-versions") == 1
    assert "text.weights.text.onnx was None and is 0 now; give the weights" in capsys.readouterr().err
    monkeypatch.setattr(TextHashing, "record", lambda self: record(self) | {"revision": 0})
    assert run(unit, folder / "m.csv", tmp_path / "q.csv", *options, "--other-versions") == 1
    assert (
        "text.revision was 1 and is 0 now; its code has changed since: use the code of then" in capsys.readouterr().err
    )


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
