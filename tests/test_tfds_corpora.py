"""The tfds data sets of licensed corpora: without loss, without TensorFlow, readable without data_prep."""

import dataclasses
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cmarr_jax.data.archive import read_archive, sha256, write_archive
from cmarr_jax.data.corpus import ArchiveError, Corpus
from cmarr_jax.data.streamed import Batches, open_data_set, read_ahead, read_batch
from data_prep import manifest, tfds_corpus
from data_prep.details import NUMBERS, Details, details_path, read_details, write_details
from data_prep.iemocap.iemocap_dataset_builder import Builder as Iemocap
from data_prep.msp_improv.msp_improv_dataset_builder import Builder as MspImprov
from data_prep.tfds_corpus import Recordings, read_dataset, write_dataset
from tests.faults_manifest import table


@pytest.fixture
def archive(tmp_path):
    """Everything an archive may hold: float16, one vector per utterance, absent entries, a split."""
    rng = np.random.default_rng(0)
    num, length = 12, rng.integers(1, 5, 12)
    present = np.ones((num, 3), bool)
    present[3, 0] = present[5, 2] = False
    length[3] = 0
    corpus = Corpus(
        utterance_id=np.array([f"utterance {row:02d} é" for row in range(num)]),
        speaker=np.array([f"s{row % 3}" for row in range(num)]),
        session=np.array([f"e{row % 3}" for row in range(num)]),
        label=(np.arange(num) % 2).astype(np.int32),
        class_names=("calm", "angry"),
        features={
            "audio": rng.normal(size=(length.sum(), 3)).astype(np.float32),
            "text": rng.normal(size=(length.sum(), 2)).astype(np.float16),
            "face": rng.normal(size=(num, 4)).astype(np.float32),
        },
        length={"audio": length, "text": length[np.r_[0:3, 4, 3, 5:12]] + (np.arange(num) == 4) * 0},
        present=present,
        split=np.array([("train", "val", "test")[row % 3] for row in range(num)]),
    )
    corpus.present[4, 1] = False  # its text has length 0
    numbers = {key: rng.normal(size=num).astype(np.float32) for key in NUMBERS}
    numbers["start"][2] = np.nan
    text = np.array([f"words, 'words' {row} ü\t" for row in range(num)])
    details = Details(
        corpus.utterance_id, text, np.array(["F", "M", ""] * 4), text, **numbers, record={"a": [1, {"b": "c"}]}
    )
    path = tmp_path / "made.npz"
    write_archive(path, corpus)
    write_details(details_path(path), details)
    return path


@pytest.mark.parametrize("builder", [Iemocap, MspImprov])
def test_archive_to_data_set_and_back_without_loss(archive, tmp_path, builder):
    data_set = write_dataset(builder, archive, tmp_path / "tfds", corpus=read_archive(archive))
    assert data_set == tmp_path / f"tfds/{builder.name}/made/1.0.0"
    assert tfds_corpus.main([str(data_set), str(tmp_path / "back.npz")]) == 0
    assert sha256(tmp_path / "back.npz") == sha256(archive)
    one, two = read_details(details_path(archive)), read_details(tmp_path / "back_details.npz")
    for key in ("utterance_id", "dialogue", "sex", "transcript", *NUMBERS, "record"):
        np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


def with_targets(archive):
    """Rewrites the archive with a target for each utterance but the fourth, which nobody has labelled."""
    corpus = read_archive(archive)
    target = np.where(np.arange(12) == 3, np.nan, np.arange(12) / 4 - 1).astype(np.float32)
    write_archive(
        archive, dataclasses.replace(corpus, label=np.where(np.isnan(target), -1, corpus.label), target=target)
    )
    return target


def test_targets_come_back(archive, tmp_path):
    target = with_targets(archive)
    data_set = write_dataset(Recordings, archive, tmp_path / "tfds", corpus=read_archive(archive))
    assert tfds_corpus.main([str(data_set), str(tmp_path / "back.npz")]) == 0
    assert sha256(tmp_path / "back.npz") == sha256(archive)
    found = read_dataset(data_set)[0].target
    np.testing.assert_array_equal(found, target)
    assert found.dtype == np.float32


class Before(Recordings):
    """Writes a data set as it was before there were targets and class names in the metadata."""

    name = "before"

    def _info(self):
        info = super()._info()
        metadata = {key: info.metadata[key] for key in ("modalities", "record")}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict({key: info.features[key] for key in info.features if key != "target"}),
            metadata=tfds.core.MetadataDict(metadata),
            disable_shuffling=True,
        )

    def _generate_examples(self, corpus, details):
        for row, example in super()._generate_examples(corpus, details):
            yield row, {key: value for key, value in example.items() if key != "target"}


def test_a_data_set_without_targets_is_read_as_before(archive, tmp_path):
    data_set = write_dataset(Before, archive, tmp_path / "tfds", corpus=read_archive(archive))
    assert "target" not in (data_set / "features.json").read_text()
    corpus, _ = read_dataset(data_set)
    assert (corpus.target, corpus.class_names) == (None, ("calm", "angry"))


def test_class_names_come_back_with_their_spaces_and_line_ends(archive, tmp_path):
    names = (" calm", "angry\nor mad ")
    corpus = dataclasses.replace(read_archive(archive), class_names=names)
    write_archive(archive, corpus)
    assert read_dataset(write_dataset(Recordings, archive, tmp_path / "tfds", corpus=corpus))[0].class_names == names


def test_archives_of_other_names_are_other_data_sets(archive, tmp_path):
    corpus, details = read_archive(archive), read_details(details_path(archive))
    folders = []
    for number, name in enumerate(("数据", "录音", "a.b", "a_b")):
        corpus.features["face"][0] = number
        write_archive(tmp_path / f"{name}.npz", corpus)
        write_details(tmp_path / f"{name}_details.npz", details)
        folders.append(write_dataset(Recordings, tmp_path / f"{name}.npz", tmp_path / "tfds", corpus=corpus))
    # sha256sum: the first 8 digits for "数据", "录音" and "a.b"
    names = ["___5440f742", "___ef282166", "a_b_2e7336dc", "a_b"]
    assert folders == [tmp_path / "tfds/recordings" / name / "1.0.0" for name in names]
    assert [read_dataset(folder)[0].features["face"][0, 0] for folder in folders] == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["start", "transcript", "extra_columns"])
def test_a_modality_with_the_name_of_a_detail_is_refused(archive, tmp_path, capsys, name):
    """The data set has one field of each name, so one of the two would be lost."""
    sentence = f"modality '{name}': has the name of a detail, which a tfds data set holds beside it; rename it, or give"
    corpus = read_archive(archive)
    features = {name if key == "face" else key: array for key, array in corpus.features.items()}
    with pytest.raises(ArchiveError, match=sentence):
        write_dataset(Recordings, archive, tmp_path / "tfds", corpus=dataclasses.replace(corpus, features=features))
    argv = table()(tmp_path)
    given = [item.replace("heart=", f"{name}=") for item in argv if item != "--without-tfds"]
    assert manifest.main(given) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
    assert manifest.main([*given, "--without-tfds"]) == 0


def test_readable_without_data_prep_and_without_tensorflow(archive, tmp_path):
    write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=read_archive(archive))
    code = f"""
import sys
import numpy as np
import tensorflow_datasets as tfds
source = tfds.data_source("iemocap/made", data_dir={str(tmp_path / "tfds")!r}, split="utterances")
first = source[0]
assert len(source) == 12 and first["utterance_id"].decode() == "utterance 00 é" and first["audio"].shape[1] == 3
assert source.dataset_info.features["label"].names == ["calm", "angry"]
assert "data_prep" not in sys.modules and "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)


def test_a_second_data_set_replaces_the_first(archive, tmp_path):
    corpus = read_archive(archive)
    data_set = write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=corpus)
    corpus.features["face"][0] = 7
    write_archive(archive, corpus)
    write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=corpus)
    np.testing.assert_array_equal(read_dataset(data_set)[0].features["face"][0], [7, 7, 7, 7])


@pytest.mark.parametrize(("builder", "where"), [(Iemocap, "sail.usc.edu"), (MspImprov, "utdallas.edu")])
def test_without_data_the_error_says_where_to_ask_and_where_to_put_it(tmp_path, builder, where):
    made = builder(data_dir=tmp_path, file_format="array_record")
    for key in ("description", "citation"):
        assert getattr(made.info, key)
    assert "icence" in made.info.redistribution_info.license
    with pytest.raises(AssertionError, match=f"(?s){where}.*manual folder of tfds"):
        made.download_and_prepare()
    manual = tmp_path / "downloads/manual"
    manual.mkdir(parents=True)
    (manual / "other.txt").touch()
    with pytest.raises(ArchiveError, match=f"{builder.name}.npz: is not there; .*{where}"):
        made.download_and_prepare()


def test_names_of_a_corpus_are_never_paths(archive, tmp_path):
    corpus, details = read_archive(archive), read_details(details_path(archive))
    odd = [
        "../x",
        "/etc/x",
        "..",
        "a\\b",
        str(tmp_path / "elsewhere/x"),
        "n" * 300,
        "a/../../b",
        ".",
        "~",
        "%2F",
        "é/",
        "C:",
    ]
    odd = np.array(odd)
    speaker = odd[np.arange(12) % 3 + 2]
    corpus = dataclasses.replace(corpus, utterance_id=odd, speaker=speaker, session=speaker, class_names=("../c", "/d"))
    folder = tmp_path / "in"
    folder.mkdir()
    path = folder / "..a b#c.npz"
    write_archive(path, corpus)
    write_details(details_path(path), dataclasses.replace(details, utterance_id=odd, dialogue=odd, transcript=odd))
    before = {item.name for item in tmp_path.iterdir()}
    data_set = write_dataset(Iemocap, path, folder / "tfds", corpus=corpus)
    assert data_set == folder / "tfds/iemocap/__a_b_c_d01ddd77/1.0.0"
    assert {item.name for item in tmp_path.iterdir()} == before
    assert all(item.is_file() for item in data_set.iterdir())
    found, _ = read_dataset(data_set)
    np.testing.assert_array_equal(found.utterance_id, odd)
    np.testing.assert_array_equal(found.speaker, speaker)
    assert found.class_names == ("../c", "/d")


def test_a_streamed_batch_has_its_modalities_in_the_order_of_the_archive(archive, tmp_path):
    corpus = read_archive(archive)
    data_set = open_data_set(write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=corpus))
    rows = np.arange(12)
    batches = Batches(data_set, rows, batch_size=12, max_frames=4)
    assert corpus.modalities == ("audio", "text", "face")  # JAX would sort a plain dict to audio, face, text
    for batch in (read_batch(data_set, rows, rows >= 0, max_frames=4), next(read_ahead(batches))):
        assert isinstance(batch.features, OrderedDict)
        assert tuple(batch.features) == corpus.modalities
        assert batch.features["face"].shape == (12, 4)
        np.testing.assert_array_equal(batch.features["face"], corpus.features["face"])
        np.testing.assert_array_equal(batch.present, corpus.present)


@pytest.mark.parametrize("max_frames", [0, -1])
def test_streamed_sequences_keep_a_frame(archive, tmp_path, max_frames):
    data_set = open_data_set(write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=read_archive(archive)))
    rows = np.arange(12)
    with pytest.raises(ValueError, match=f"max_frames, .* must be positive .* found {max_frames}"):
        Batches(data_set, rows, batch_size=12, max_frames=max_frames)
    with pytest.raises(ValueError, match=f"max_frames must be a whole number of at least 1, .* found {max_frames}"):
        read_batch(data_set, rows, rows >= 0, max_frames=max_frames)


def test_details_of_other_utterances_are_a_fault(archive, tmp_path):
    corpus, details = read_archive(archive), read_details(details_path(archive))
    write_details(details_path(archive), Details(**{**vars(details), "utterance_id": details.utterance_id[::-1]}))
    with pytest.raises(ArchiveError, match=r"made_details\.npz: key 'utterance_id' lists other utterances"):
        write_dataset(Iemocap, archive, tmp_path / "tfds", corpus=corpus)
