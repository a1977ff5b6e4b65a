"""`python -m experiments.predict` on features: the answers of `Predictor` as a stream; a sentence for each fault."""

import csv
import dataclasses
import json
import zipfile

import numpy as np
import pytest
from predict_units import corpus_of, features_of, make_unit

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.archive_blocks import BLOCK, read_utterances
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.predict import Predictor
from experiments import predict


@pytest.fixture(scope="module")
def corpus():
    return corpus_of()


@pytest.fixture(scope="module")
def unit(corpus, tmp_path_factory):
    return make_unit(tmp_path_factory.mktemp("units"), "cm_arr", corpus)[0]


@pytest.fixture(scope="module")
def archive(corpus, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.npz"
    write_archive(path, corpus)
    return path


def arrays_of(path):
    with np.load(path) as file:
        return dict(file)


def run(unit, source, out, *options):
    return predict.main(["--run", str(unit), "--input", str(source), "--out", str(out), *options])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_and_jsonl_hold_the_answers(unit, corpus, archive, tmp_path, capsys):
    assert run(unit, archive, tmp_path / "p.csv") == 0
    assert f"{len(corpus)} of {len(corpus)} utterances answered" in capsys.readouterr().out
    assert run(unit, archive, tmp_path / "p.jsonl", "--embeddings") == 0
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    rows = rows_of(tmp_path / "p.csv")
    answers = Predictor.load(unit).predict([features_of(corpus, row) for row in range(len(corpus))])
    assert [row["utterance_id"] for row in rows] == corpus.utterance_id.tolist()
    for row, line, answer in zip(rows, lines, answers, strict=True):
        assert row["class"] == line["class"] == answer.class_name
        assert row["modalities"] == "+".join(line["modalities"]) == "+".join(answer.modalities)
        assert row["abstain"] == ("yes" if answer.abstains else "no") == {True: "yes", False: "no"}[line["abstain"]]
        found = [float(row[f"p_{name}"]) for name in corpus.class_names]
        np.testing.assert_allclose(found, answer.probabilities, atol=1e-6)
        np.testing.assert_allclose(list(line["probabilities"].values()), answer.probabilities, atol=1e-6)
        np.testing.assert_allclose(float(row["spread"]), answer.spread, atol=1e-6)
        np.testing.assert_allclose(float(row["disagreement"]), answer.disagreement, atol=1e-5)
        assert {len(values) for values in line["embeddings"].values()} == {8}
        assert row["error"] == row["note"] == line["error"] == ""


def test_only_some_modalities(unit, archive, tmp_path):
    assert run(unit, archive, tmp_path / "p.csv", "--only", "text", "audio") == 0
    found = {row["modalities"] for row in rows_of(tmp_path / "p.csv")}
    assert found == {"audio+text", "audio", "text"}


def test_what_only_training_needs_may_be_missing(unit, archive, tmp_path):
    arrays = arrays_of(archive)
    for key in ("speaker", "session", "label", "class_names", "modalities", "video"):
        del arrays[key]
    arrays.pop("video_present", None)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    assert run(unit, tmp_path / "b.npz", tmp_path / "b.csv") == 0
    assert run(unit, archive, tmp_path / "a.csv", "--only", "audio", "text") == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_a_faulty_utterance_does_not_stop_the_others(unit, corpus, archive, tmp_path, capsys):
    arrays = arrays_of(archive)
    row = int(np.flatnonzero(corpus.present[:, 1])[2])
    arrays["video"][row] = np.nan
    np.savez(tmp_path / "a.npz", **arrays)
    assert run(unit, tmp_path / "a.npz", tmp_path / "p.csv") == 0
    rows = rows_of(tmp_path / "p.csv")
    assert rows[row]["error"] == "video: column 0 is nan (as float32); correct it or leave the modality out"
    assert rows[row]["class"] == rows[row]["p_sad"] == rows[row]["abstain"] == ""
    assert sum(bool(line["error"]) for line in rows) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"Not answered: 1 of {len(rows)}, see the column error; the first, 'u{row}': video")


def test_every_length_and_more_than_one_block_are_streamed(corpus, tmp_path):
    """Blocks cut neither frames nor rows: what is read is what was written."""
    rng = np.random.default_rng(0)
    num = 2 * BLOCK + 3
    length = rng.integers(0, 4, num)
    present = length > 0
    frames, vector = rng.normal(size=(length.sum(), 2)).astype("f4"), rng.normal(size=(num, 3)).astype(">f4")
    ids = np.array([f"u{row}" for row in range(num)])
    np.savez(tmp_path / "a.npz", utterance_id=ids, x=frames, x_length=length, x_present=present, y=vector)
    found = list(read_utterances(tmp_path / "a.npz"))
    ends = np.cumsum(length)
    assert [name for name, _ in found] == ids.tolist()
    for row, (_, features) in enumerate(found):
        assert set(features) == ({"x", "y"} if present[row] else {"y"})
        np.testing.assert_array_equal(features["y"], vector[row])
        if present[row]:
            np.testing.assert_array_equal(features["x"], frames[ends[row] - length[row] : ends[row]])


def test_an_entry_under_two_names_is_damage(tmp_path):
    """A zip file names each entry twice: before its bytes and in the directory at the end."""
    np.savez(tmp_path / "a.npz", utterance_id=np.array(["u"]), x=np.ones((1, 2)), y=np.ones((1, 2)))
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content.replace(b"x.npy", b"z.npy", 1))
    with pytest.raises(ArchiveError, match=r"a\.npz: key 'x': is truncated or damaged"):
        list(read_utterances(tmp_path / "a.npz"))


def spoil(**changes):
    return lambda arrays: {key: value for key, value in (arrays | changes).items() if value is not None}


FILES = {
    "no ids": (spoil(utterance_id=None), "key 'utterance_id': is missing"),
    "an id twice": (lambda a: a | {"utterance_id": np.array(["u"] * len(a["label"]))}, "'u' is already in row 0"),
    "lengths that do not add up": (
        lambda a: a | {"audio_length": a["audio_length"] + 1},
        "key 'audio': has .* rows where .* are expected",
    ),
    "a negative length": (lambda a: a | {"audio_length": -a["audio_length"]}, "'audio_length', row 0: is negative"),
    "by columns": (
        lambda a: a | {"video": np.asfortranarray(a["video"])},
        "key 'video': is stored by columns; write it after numpy.ascontiguousarray",
    ),
    "three axes": (lambda a: a | {"video": a["video"][None]}, r"key 'video': must be \[N, D\]"),
    "objects": (lambda a: a | {"utterance_id": np.array([None] * len(a["label"]))}, "holds Python objects"),
    "presence as text": (lambda a: a | {"video_present": a["utterance_id"]}, "key 'video_present': must be bool"),
    "a key beside modalities": (lambda a: a | {"smell": a["video"]}, "key 'smell': is not in modalities"),
    "no utterance with what the model has": (
        lambda a: {"utterance_id": a["utterance_id"], "smell": a["video"]},
        "no utterance was answered; 'u0': there is no modality 'smell'; this model has audio, video, text",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_faulty_file_is_a_sentence(unit, archive, tmp_path, capsys, name):
    change, sentence = FILES[name]
    np.savez(tmp_path / "a.npz", **change(arrays_of(archive)))
    assert run(unit, tmp_path / "a.npz", tmp_path / "p.csv") == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    with pytest.raises(ArchiveError, match=sentence):
        raise ArchiveError(said)
    assert not list(tmp_path.glob(".*partial"))


def test_damage_that_is_met_on_the_way_leaves_no_output(unit, archive, tmp_path, capsys):
    with zipfile.ZipFile(archive) as file:
        at = file.getinfo("text.npy").header_offset + 400
    data = bytearray(archive.read_bytes())
    data[at] ^= 0x10
    (tmp_path / "a.npz").write_bytes(data)
    assert run(unit, tmp_path / "a.npz", tmp_path / "p.csv") == 1
    assert "key 'text': is truncated or damaged (Bad CRC-32" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    ("out", "options", "sentence"),
    [
        ("p.txt", (), "must end in .csv or .jsonl"),
        ("p.csv", ("--embeddings",), "a CSV has no place for embeddings"),
        ("none/p.csv", (), "cannot be written"),
        ("p.csv", ("--only", "smell"), "there is no modality 'smell'; this model has audio, video, text"),
        ("p.csv", ("--modality", "text=text_hashing"), "holds features already"),
        ("there.csv", (), "is there already; give --force"),
    ],
)
def test_faults_of_the_command_line(unit, archive, tmp_path, capsys, out, options, sentence):
    (tmp_path / "there.csv").write_text("mine")
    assert run(unit, archive, tmp_path / out, *options) == 1
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_embeddings_of_a_method_without_them(corpus, archive, tmp_path, capsys):
    folder, _ = make_unit(tmp_path, "zero_fill", corpus)
    assert run(folder, archive, tmp_path / "p.jsonl", "--embeddings") == 1
    assert "this method recovers no embeddings" in capsys.readouterr().err
    assert run(folder, archive, tmp_path / "p.csv") == 0
    row = rows_of(tmp_path / "p.csv")[0]
    assert (row["spread"], row["disagreement"]) == ("", "")


def test_float16_is_read_as_in_training(unit, corpus, tmp_path):
    half = dataclasses.replace(corpus, features={k: v.astype(np.float16) for k, v in corpus.features.items()})
    write_archive(tmp_path / "a.npz", half)
    assert run(unit, tmp_path / "a.npz", tmp_path / "p.csv") == 0
    answers = Predictor.load(unit).predict([features_of(half, row) for row in range(len(half))])
    found = [[float(row[f"p_{name}"]) for name in half.class_names] for row in rows_of(tmp_path / "p.csv")]
    np.testing.assert_allclose(found, [answer.probabilities for answer in answers], atol=1e-4)
