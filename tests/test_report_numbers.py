"""What the report computes from the kept logits: missing rates, calibration, coverage, intervals of cells."""

import itertools

import numpy as np
import pytest
import scipy.special
from sklearn.metrics import log_loss
from test_comparison import make_outputs

from cmarr_jax.calibration import Decisions, fit_temperature, missing_decisions
from cmarr_jax.data.availability import availability_patterns
from cmarr_jax.metrics import uar
from experiments.report.confidence import NUM_BINS, confidence_and_hits, reliability, risk_by_coverage
from experiments.report.published import CONDITIONS, IEMOCAP, published_rows
from experiments.report.rates import RATES, expected_counts, pattern_weights, scores_by_rate
from experiments.units import Outputs


def outputs_of(num=200, modalities=3, classes=4, seed=0, absent=0.2):
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=num)
    patterns = availability_patterns(modalities)
    present = rng.random((num, modalities)) > absent
    present[~present.any(1), 0] = True
    signal = (patterns[:, None] & present[None]).sum(-1)[..., None]
    logits = 0.8 * signal * np.eye(classes)[label] + rng.normal(size=(len(patterns), num, classes))
    ids = np.arange(num).astype(str)
    return Outputs(ids, np.repeat(["s", "t"], num // 2), label, present, logits)


def test_pattern_weights_are_those_of_independent_losses():
    """Against all 2^M cases by hand, for complete and incomplete utterances."""
    present = np.array([[True, True, True], [True, False, True], [False, True, False]])
    for rate in (0.1, 0.5, 0.7):
        found = pattern_weights(rate, present)
        np.testing.assert_allclose(found.sum(1), 1.0)
        for row, has in enumerate(present):
            left = {}
            for kept in itertools.product([False, True], repeat=3):
                chance = np.prod([1 - rate if k else rate for k in kept])
                seen = tuple(np.array(kept) & has)
                left[seen] = left.get(seen, 0.0) + chance
            left.pop((False, False, False))
            total = sum(left.values())
            by_seen = {}
            for weight, pattern in zip(found[row], availability_patterns(3), strict=True):
                seen = tuple(pattern & has)
                by_seen[seen] = by_seen.get(seen, 0.0) + weight
            for seen, chance in left.items():
                assert by_seen[seen] == pytest.approx(chance / total)


def test_rate_zero_is_complete_data_and_scores_fall():
    outputs = outputs_of()
    complete = np.zeros((4, 4))
    np.add.at(complete, (outputs.label, outputs.logits[-1].argmax(-1)), 1)
    np.testing.assert_allclose(expected_counts(outputs, 0.0), complete)
    found = scores_by_rate([[outputs], [outputs_of(seed=1), outputs_of(seed=2)]])
    assert found["uar"][0] == pytest.approx(
        np.mean([uar(expected_counts(outputs, 0.0)),
                 np.mean([uar(expected_counts(outputs_of(seed=s), 0.0)) for s in (1, 2)])])
    )  # fmt: skip
    assert (np.diff(found["war"]) < 0).all()
    assert len(found["war"]) == len(RATES) == 8


def test_expected_counts_are_the_mean_of_drawn_ones():
    outputs, rate, rng = outputs_of(num=40, absent=-1.0), 0.5, np.random.default_rng(0)
    patterns = availability_patterns(3)
    drawn = np.zeros((4, 4))
    for _ in range(4000):
        kept = rng.random((40, 3)) > rate
        seen = kept & outputs.present
        again = ~seen.any(1)
        while again.any():
            seen[again] = (rng.random((again.sum(), 3)) > rate) & outputs.present[again]
            again = ~seen.any(1)
        condition = (seen[:, None] == patterns[None]).all(-1).argmax(1)
        np.add.at(drawn, (outputs.label, outputs.logits[condition, np.arange(40)].argmax(-1)), 1 / 4000)
    assert outputs.present.all()
    np.testing.assert_allclose(expected_counts(outputs, rate), drawn, atol=0.1)


def test_the_temperature_is_the_likeliest():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(5000, 3))
    label = (scipy.special.softmax(centre, axis=-1).cumsum(1) > rng.random((5000, 1))).argmax(1)
    for scale in (0.5, 1.0, 3.0):
        found = fit_temperature(Decisions(scale * centre, label))
        assert found == pytest.approx(scale, rel=0.1)
        loss = lambda t, scale=scale: log_loss(label, scipy.special.softmax(scale * centre / t, axis=-1))
        assert loss(found) <= min(loss(0.9 * found), loss(1.1 * found))


def test_calibration_error_by_hand():
    confidence, hits = np.array([0.61, 0.65, 0.9, 1.0]), np.array([True, False, True, True])
    bins = reliability(confidence, hits)
    # Bins of 1/15: 0.61 and 0.65 in [0.6, 0.667), 0.9 in [0.867, 0.933), 1.0 in the last.
    assert bins.counts.tolist() == [0] * 9 + [2] + [0] * 3 + [1, 1]
    assert bins.error == pytest.approx((2 * abs(0.63 - 0.5) + abs(0.9 - 1) + 0) / 4)
    assert len(bins.counts) == NUM_BINS
    rng = np.random.default_rng(1)
    p = rng.random(20000) / 2 + 0.5
    calibrated = reliability(p, rng.random(20000) < p)
    assert calibrated.error < 0.02


def test_risk_by_coverage_by_hand():
    confidence, hits = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    np.testing.assert_allclose(risk_by_coverage(confidence, hits, [0.25, 0.5, 0.75, 1.0]), [0, 1 / 2, 1 / 3, 1 / 2])


def test_missing_decisions_leave_complete_data_and_empty_utterances_out():
    outputs = outputs_of(num=30)
    found = missing_decisions(outputs.logits, outputs.label, outputs.present)
    expected = sum(int((outputs.present & pattern).any(1).sum()) for pattern in availability_patterns(3)[:-1])
    assert len(found.label) == len(found.logits) == expected
    confidence, hits = confidence_and_hits(found)
    assert confidence.shape == hits.shape == (expected,)
    cooler, same = confidence_and_hits(found, 0.5)
    assert (cooler >= confidence).all()
    np.testing.assert_array_equal(same, hits)


def test_outputs_of_the_comparison_tests_can_be_used():
    outputs = make_outputs(np.random.default_rng(0), "f", 0.7)
    assert expected_counts(outputs, 0.3).sum() == pytest.approx(len(outputs.label))


def test_published_rows_stand_beside_iemocap_only():
    table = lambda name="iemocap", widths=(130, 342, 1024), folds=10: {
        "data": {"name": name, "widths": list(widths)}, "folds": [{}] * folds
    }  # fmt: skip
    assert published_rows(table(), 4, CONDITIONS) == IEMOCAP
    assert published_rows(table("IEMOCAP-mmin"), 4, CONDITIONS) == IEMOCAP
    assert published_rows(table(), 6, CONDITIONS) == ()
    assert published_rows(table("synthetic"), 4, CONDITIONS) == ()
    assert published_rows(table(widths=(88, 342, 1024)), 4, CONDITIONS) == ()
    assert published_rows(table(folds=5), 4, CONDITIONS) == ()
    for one in IEMOCAP:
        scores = [score for score in one.scores[:6] if score is not None]
        assert one.scores[6] == pytest.approx(np.mean(scores), abs=0.1)
        assert one.source
