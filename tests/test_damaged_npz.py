"""A truncated `.npz` of a unit or of an archive's details is one sentence, and the file is closed."""

import gc

import pytest

from data_prep.details import read_details
from experiments.units import Unit, read_inspection, read_outputs

UNIT = Unit("a", "f1", 0)
READERS = {
    "a/f1_seed0/outputs.npz": (lambda folder: read_outputs(folder, UNIT), "is damaged .*; delete its folder"),
    "a/f1_seed0/inspection.npz": (lambda folder: read_inspection(folder, UNIT), "is damaged .*; delete its folder"),
    "details.npz": (lambda folder: read_details(folder / "details.npz"), "is not a details file .*; write the archive"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_truncated_file_is_a_sentence_and_is_closed(tmp_path, name):
    read, sentence = READERS[name]
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match=sentence):
        read(tmp_path)
    gc.collect()  # a file that was left open warns here, which is an error
