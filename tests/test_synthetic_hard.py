"""The hard synthetic set: its exact ceilings, and what makes it hard."""

import numpy as np
import pytest
from test_synthetic import PATTERNS, SMALL

from cmarr_jax.metrics import uar
from data_prep.synthetic import generative, posterior
from data_prep.synthetic.hard import make_hard_parameters
from data_prep.synthetic.load import load
from experiments.datasets import _digest


@pytest.fixture(scope="module")
def hard():
    """Two draws of all ten speakers of the hard set, with few features, which change no ceiling."""
    parameters = make_hard_parameters({"audio": 36, "video": 66, "text": 126})
    corpus = generative.sample(parameters, seed=1, repeats=2, frame_scale=0.4)
    return corpus, posterior.log_likelihood(corpus, parameters)


def test_the_product_rule_adds_single_modalities(hard):
    corpus, log_likelihood = hard
    found = posterior.product_rule(log_likelihood, 3)
    centred = log_likelihood - log_likelihood.mean(-1, keepdims=True)
    for number, pattern in enumerate(PATTERNS):
        np.testing.assert_allclose(found[:, number], centred[:, np.flatnonzero(pattern)].sum(1), atol=1e-9)
    scores = lambda values: uar(posterior.oracle_counts(corpus.label, values))
    np.testing.assert_array_equal(scores(found)[:3], scores(log_likelihood)[:3])


def test_late_fusion_is_not_optimal_on_the_hard_set(hard):
    corpus, log_likelihood = hard
    scores = lambda values: 100 * uar(posterior.oracle_counts(corpus.label, values))
    loss = dict(zip(["a", "v", "t", "av", "at", "vt", "avt"], scores(log_likelihood)
                    - scores(posterior.product_rule(log_likelihood, 3)), strict=True))  # fmt: skip
    assert loss["a"] == loss["v"] == loss["t"] == 0
    assert loss["vt"] < loss["av"]  # no interaction, but shared nuisance
    assert loss["av"] > 1.5
    assert loss["at"] > 3
    assert loss["avt"] > 8


def test_private_nuisance_is_orthogonal_to_the_class():
    parameters = make_hard_parameters()
    for name in generative.MODALITIES:
        maps, private = parameters.maps[name], parameters.private[name]
        np.testing.assert_allclose(maps.T @ private, 0.0, atol=1e-12)
        # Each of its directions varies more than the class means do in any direction.
        between = maps @ parameters.mean.mean(1).T
        of_class = np.linalg.svd(between - between.mean(1, keepdims=True))[1].max() / np.sqrt(between.shape[1])
        assert np.linalg.svd(private)[1].min() > of_class > 0


def test_the_hard_set_is_another_data_set(tmp_path):
    easy, hard = (load(data_dir=tmp_path, hard=hard, **SMALL) for hard in (False, True))
    assert hard.corpus.widths == {"audio": 130, "video": 342, "text": 1024}
    assert easy.corpus.widths == dict(generative.DEFAULT_WIDTHS)
    np.testing.assert_array_equal(np.bincount(easy.corpus.label), np.bincount(hard.corpus.label))
    assert load(data_dir=tmp_path, hard=True, **SMALL).log_likelihood.tolist() == hard.log_likelihood.tolist()
    # The same on every machine: the digest does not read the last bits.
    assert _digest(easy.corpus)[:16] == "7192219b70e4b03f"
    assert _digest(hard.corpus)[:16] == "750ccd59eb63384f"
    with pytest.raises(ValueError, match=r"widths are wanted for .*, at least {'audio': 35, 'video': 65, 'text': 125}"):
        make_hard_parameters({"audio": 30, "video": 66, "text": 126})
