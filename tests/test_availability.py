"""Availability patterns, their names, and how they are drawn."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cmarr_jax.data.availability import availability_patterns, condition_names, sample_available

TRANSFORMS = pytest.mark.parametrize(
    "transform", [lambda f: f, lambda f: jax.jit(f, static_argnames="include_complete")], ids=["eager", "jit"]
)
SAMPLE = jax.jit(sample_available, static_argnames="include_complete")


def test_patterns_of_three():
    # By hand: a v t av at vt avt.
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(availability_patterns(3), np.array(expected, bool))


@pytest.mark.parametrize("num_modalities", [2, 4, 5])
def test_patterns_are_all_subsets_by_size(num_modalities):
    patterns = availability_patterns(num_modalities)
    assert patterns.shape == (2**num_modalities - 1, num_modalities)
    assert patterns.dtype == bool
    assert len({tuple(row) for row in patterns}) == len(patterns)
    sizes = patterns.sum(1)
    assert (sizes > 0).all()
    assert (np.diff(sizes) >= 0).all()
    assert patterns[-1].all()


@pytest.mark.parametrize("num_modalities", [0, 1])
def test_fewer_than_two_modalities_are_refused(num_modalities):
    with pytest.raises(ValueError, match=f"found {num_modalities}"):
        availability_patterns(num_modalities)


@pytest.mark.parametrize(
    ("modalities", "names"),
    [
        (("audio", "video", "text"), "a v t av at vt avt"),
        (("audio", "text"), "a t at"),
        (("audio", "audio2"), "audio audio2 audio+audio2"),
        (("text", "touch", "audio"), "text touch audio text+touch text+audio touch+audio text+touch+audio"),
        (
            ("audio", "video", "text", "motion"),
            "a v t m av at am vt vm tm avt avm atm vtm avtm",
        ),
    ],
)
def test_names(modalities, names):
    assert condition_names(modalities) == names.split()


def test_names_follow_the_patterns():
    modalities = ("audio", "video", "text")
    for name, pattern in zip(condition_names(modalities), availability_patterns(3), strict=True):
        assert set(name) == {modality[0] for modality, available in zip(modalities, pattern, strict=True) if available}


@pytest.mark.parametrize("modalities", [("audio", "audio"), ("audio", ""), ("audio",), ()])
def test_bad_names_are_refused(modalities):
    with pytest.raises(ValueError, match="found"):
        condition_names(modalities)


def share_of(drawn):
    """How often each row occurs."""
    counts = collections.Counter(tuple(int(x) for x in row) for row in np.asarray(drawn))
    return {row: count / len(drawn) for row, count in counts.items()}


@pytest.mark.parametrize("include_complete", [True, False])
@pytest.mark.parametrize("has", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (1, 1, 1, 1)], ids=str)
def test_draws_are_uniform_over_what_is_present(include_complete, has):
    num = 20_000
    present = jnp.asarray(np.tile(np.array(has, bool), (num, 1)))
    drawn = SAMPLE(jax.random.key(0), present, include_complete=include_complete)
    subsets = [tuple(row) for row in availability_patterns(len(has)).astype(int) if (row <= has).all()]
    if not include_complete and sum(has) > 1:
        subsets.remove(has)
    shares = share_of(drawn)
    assert set(shares) == set(subsets)
    for share in shares.values():  # five standard deviations of a binomial share
        expected = 1 / len(subsets)
        assert abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / num)


def test_each_utterance_has_its_own_pattern():
    present = jnp.ones((64, 3), bool)
    drawn = SAMPLE(jax.random.key(1), present)
    assert len(share_of(drawn)) == 7
    # Rows are independent: the joint shares of two utterances over many keys are the products.
    pair = lambda key: sample_available(key, present[:2], include_complete=False)
    both = np.asarray(jax.jit(jax.vmap(pair))(jax.random.split(jax.random.key(2), 9000))).reshape(9000, 6)
    shares = share_of(both)
    assert len(shares) == 36
    assert max(abs(share - 1 / 36) for share in shares.values()) < 5 * np.sqrt(1 / 36 / 9000)


@TRANSFORMS
@pytest.mark.parametrize("include_complete", [True, False])
def test_mixed_and_empty_rows(transform, include_complete):
    has = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1]] * 50, bool)
    drawn = transform(sample_available)(jax.random.key(3), jnp.asarray(has), include_complete=include_complete)
    drawn = np.asarray(drawn)
    assert drawn.dtype == bool
    assert not (drawn & ~has).any()
    np.testing.assert_array_equal(drawn.any(1), has.any(1))
    np.testing.assert_array_equal(drawn[2::4], has[2::4])  # a single modality is always kept
    if not include_complete:
        assert (drawn[has.sum(1) > 1].sum(1) < has[has.sum(1) > 1].sum(1)).all()


def test_same_key_same_draw_and_other_key_another():
    present = jnp.ones((32, 3), bool)
    one, again, other = (SAMPLE(jax.random.key(seed), present) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize("present", [jnp.ones((4, 3)), jnp.ones((4, 3), int), jnp.ones(3, bool)])
def test_wrong_present_is_refused(present):
    with pytest.raises(AssertionError):
        sample_available(jax.random.key(0), present)
