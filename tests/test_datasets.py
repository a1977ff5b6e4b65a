"""Where the data of a table come from."""

import dataclasses

import numpy as np
import pytest
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.corpus import ArchiveError
from experiments.datasets import _digest, load_data
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
