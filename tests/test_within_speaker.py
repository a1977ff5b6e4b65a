"""`within_speaker`: the alignment of CM-ARR and of contrastive pre-training compares utterances of one speaker."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from baselines import config_of, drawn, last_params, seven
from tiny import make_corpus

from cmarr_jax.data.batching import take
from cmarr_jax.data.device import to_device
from cmarr_jax.methods import hyperparameters_of, make_method

SPEAKER = jnp.asarray([3, 5, 3, 5, 3, 5, 9], jnp.int32)
EVERYTHING = jnp.ones((7, 3), bool)


def alignment_of(variant, batch, **changes):
    config = config_of(variant, **changes)
    method, available = make_method(config), drawn(variant, EVERYTHING)
    loss = lambda params: method.loss(params, batch, available, jax.random.key(1), hyperparameters_of(config))
    return jax.jit(loss)(last_params(variant))[1]["alignment"]


@pytest.mark.parametrize("variant", ["cm_arr_self", "contrastive"])
def test_alignment_is_that_within_each_speaker(variant):
    batch = seven()._replace(speaker=SPEAKER)
    of_speakers, pairs = [], []
    for number in (3, 5, 9):
        part = batch._replace(where=number == SPEAKER)
        of_speakers.append(alignment_of(variant, part))
        pairs.append(float(part.where.sum()))
    found = alignment_of(variant, batch, within_speaker=True)
    np.testing.assert_allclose(found, np.average(of_speakers, weights=pairs), rtol=1e-4)
    everyone = alignment_of(variant, batch)
    assert abs(found - everyone) > 0.1
    np.testing.assert_allclose(
        alignment_of(variant, batch._replace(speaker=SPEAKER * 0), within_speaker=True), everyone
    )


@pytest.mark.parametrize("variant", ["cm_arr_self", "contrastive"])
def test_without_speakers_it_is_refused(variant):
    with pytest.raises(ValueError, match=r"within_speaker needs the speakers"):
        alignment_of(variant, seven(), within_speaker=True)


def test_a_batch_knows_the_speakers_of_its_rows():
    corpus = make_corpus()
    rows = np.array([5, 0, len(corpus) - 1, 5])
    speaker = take(to_device(corpus), jnp.asarray(rows), jnp.ones(4, bool)).speaker
    same = corpus.speaker[rows][:, None] == corpus.speaker[rows]
    np.testing.assert_array_equal(speaker[:, None] == speaker[None], same)
    assert not same.all()


def test_a_corpus_in_which_no_speaker_comes_twice_knows_none():
    corpus = make_corpus()
    alone = dataclasses.replace(corpus, speaker=corpus.utterance_id, session=corpus.utterance_id)
    assert to_device(alone).speaker is None
    assert take(to_device(alone), jnp.arange(3), jnp.ones(3, bool)).speaker is None
