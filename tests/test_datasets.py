"""Where the data of a table come from."""

import dataclasses

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.corpus import ArchiveError
from experiments.datasets import CORPORA, _digest, load_again, load_data
from experiments.presets import PRESETS, Changes


def test_a_corpus_is_given_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load = lambda data: load_data(data, None, smoke=False, changes=Changes())
    with pytest.raises(ArchiveError, match=r"msp_improv.npz: is not in this folder; make it with python -m data_prep"):
        load("msp_improv")
    write_archive(tmp_path / "msp_improv.npz", make_corpus())
    preset, source = load("msp_improv")
    assert (preset, source.name) == (PRESETS["msp_improv"], "msp_improv")
    assert load("./msp_improv.npz")[0] == PRESETS["msp_improv"]
    write_archive(tmp_path / "iemocap.npz", make_corpus(sequences=()))
    assert load("iemocap")[0] == PRESETS["vectors"]


@pytest.mark.parametrize("data", CORPORA)
def test_a_table_of_a_named_corpus_finds_its_data_again(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path / f"{data}.npz", make_corpus())
    preset, source = load_data(data, None, smoke=False, changes=Changes())
    config = {"preset": preset.to_dict(), "data": {"path": data, "sha256": source.digest}}
    assert load_again(config)[0] == preset
    (tmp_path / f"{data}.npz").rename(tmp_path / "moved.npz")
    assert load_again(config, "moved.npz")[1].digest == source.digest
    with pytest.raises(ArchiveError, match=rf"^{data}\.npz: is not in this folder; make it with .* or give its path"):
        load_again(config)


def test_the_digest_of_generated_data_does_not_read_the_last_bits():
    corpus = make_corpus()
    name = corpus.modalities[0]
    features = corpus.features[name]
    changed = lambda values: dataclasses.replace(corpus, features={**corpus.features, name: values})
    inner = (np.rint(100 * features) / 100).astype(np.float32)  # far from where the rounding changes
    assert _digest(changed(np.nextafter(inner, np.float32(np.inf)))) == _digest(changed(inner))
    other = inner.copy()
    other[-1, -1] += 0.02
    assert _digest(changed(other)) != _digest(changed(inner))
    assert _digest(dataclasses.replace(corpus, label=np.roll(corpus.label, 1))) != _digest(corpus)
