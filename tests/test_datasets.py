"""Where the data of a table come from."""

import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.corpus import ArchiveError
from experiments.datasets import load_data
from experiments.presets import PRESETS, Changes


def test_a_corpus_is_given_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = lambda data: load_data(data, None, smoke=False, changes=Changes())
    with pytest.raises(ArchiveError, match=r"msp_improv.npz: is not in this folder; make it with python -m data_prep"):
        load("msp_improv")
    write_archive(tmp_path / "msp_improv.npz", make_corpus())
    preset, source = load("msp_improv")
    assert (preset, source.name) == (PRESETS["msp_improv"], "msp_improv")
    assert load("msp_improv.npz")[0] == PRESETS["iemocap"]  # a path says nothing of the corpus
    write_archive(tmp_path / "iemocap.npz", make_corpus(sequences=()))
    assert load("iemocap")[0] == PRESETS["vectors"]
