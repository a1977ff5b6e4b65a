"""Extractors that need no weights: gradients of faces and letters of words."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_files import write_video

from data_prep import extractors
from data_prep.extractors.base import MediaError
from data_prep.media import Media

# Gradients of faces


@pytest.fixture(scope="module")
def hog():
    pytest.importorskip("skimage")
    pytest.importorskip("av")
    return extractors.get("face_hog", max_frames=4)


@pytest.mark.parametrize(("rows", "columns", "orientation"), [(0, 1, 0), (1, 0, 4), (1, 1, 2), (-1, 1, 6)])
def test_a_ramp_has_one_orientation(hog, rows, columns, orientation):
    """By hand: bins of 22.5 degrees, the gradient of the ramp is at 0, 90, 45 and 135 degrees."""
    row, column = np.indices((64, 64))
    ramp = 64 + (rows * row + columns * column)  # 1 to 190
    features = hog.describe(ramp.astype(np.uint8)).reshape(8, 8, 8)
    inner = features[1:7, 1:7]  # at the border of the picture one of the two differences is taken for 0
    np.testing.assert_allclose(inner, np.eye(8)[orientation] * np.ones((6, 6, 1)), atol=1e-6)


def test_cells_are_in_the_order_row_column(hog):
    face = np.zeros((128, 128), np.uint8)  # halved to 64 x 64
    face[80:96, 48:64] = np.linspace(0, 240, 16)[:, None]  # row 5, column 3 of the cells
    energy = hog.describe(face).reshape(8, 8, 8).sum(axis=2)
    assert set(zip(*np.nonzero(energy), strict=True)) <= {(r, c) for r in (4, 5, 6) for c in (2, 3, 4)}
    assert energy[5, 3] > 0
    assert not hog.describe(np.full((30, 40), 99, np.uint8)).any()


def test_faces_of_a_video(hog, tmp_path):
    video = write_video(tmp_path / "a.avi")
    right, left = hog(Media("r", video=video, half="right")), hog(Media("l", video=video, half="left"))
    assert right.shape == left.shape == (4, 512)
    lengths = np.linalg.norm(right.reshape(4, 64, 8), axis=2)
    assert ((np.abs(lengths - 1) < 1e-4) | (lengths == 0)).all()
    assert (lengths > 0).mean() > 0.9
    assert right.any(axis=1).all()
    assert not left.any()
    enlarged = extractors.get("face_hog", max_frames=4, margin=0.2)(Media("r", video=video, half="right"))
    assert np.abs(enlarged - right).max() > 0.1
    with pytest.raises(MediaError, match="there is no video"):
        hog(Media("a", text="hello"))


def test_the_record_of_gradients_names_the_detector(hog):
    record = hog.record()
    assert record["width"] == 512
    assert set(record["libraries"]) == {"av", "scikit-image", "numpy"}
    assert list(record["weights"]) == ["lbpcascade_frontalface_opencv.xml"]


# Letters of words


@pytest.fixture(scope="module")
def hashing():
    pytest.importorskip("sklearn")
    return extractors.get("text_hashing")


def murmur3(data: bytes) -> int:
    """MurmurHash3, x86, 32 bits, seed 0, written from the description of the algorithm; signed."""
    rotate = lambda x, by: (x << by | x >> 32 - by) & 0xFFFFFFFF
    scramble = lambda k: rotate(k * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF
    value, whole = 0, len(data) // 4 * 4
    for place in range(0, whole, 4):
        value ^= scramble(int.from_bytes(data[place : place + 4], "little"))
        value = (rotate(value, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    value ^= scramble(int.from_bytes(data[whole:], "little"))
    value ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        value = (value ^ value >> shift) * factor & 0xFFFFFFFF
    return value - (value >> 31 << 32)


def expected(word: str, dims: int) -> np.ndarray:
    """The vector of a word, with loops."""
    vector, padded = np.zeros(dims), f" {word} "
    for size, start in itertools.product((2, 3, 4), range(len(padded))):
        if start + size <= len(padded):
            value = murmur3(padded[start : start + size].encode())
            vector[abs(value) % dims] += 1 if value >= 0 else -1
    return vector / np.linalg.norm(vector)


def test_murmur3_has_its_published_values():
    # test vectors of MurmurHash3_x86_32 with seed 0, as many implementations list them
    assert murmur3(b"") == 0
    assert murmur3(b"test") == 0xBA6BD213 - 2**32
    assert murmur3(b"Hello, world!") == 0xC0363E43 - 2**32


@pytest.mark.parametrize("dims", [256, 50])
def test_vectors_of_words_are_hashed_letter_groups(hashing, dims):
    features = extractors.get("text_hashing", dims=dims)(
        Media("a", text="Well -- I don't KNOW, [LAUGHTER] caf\u00e9-au-lait!")
    )
    words = ["well", "i", "don't", "know", "laughter", "caf\u00e9-au-lait"]
    np.testing.assert_allclose(features, [expected(word, dims) for word in words], atol=1e-6)


def test_words_are_counted_and_cut(hashing):
    assert hashing(Media("a", text="no " * 100)).shape == (64, 256)
    assert extractors.get("text_hashing", max_words=2)(Media("a", text="one two three")).shape == (2, 256)
    for text, sentence in ((None, "no transcript"), (" ", "no transcript"), ("... --", "holds no word")):
        with pytest.raises(MediaError, match=sentence):
            hashing(Media("a", text=text))
    with pytest.raises(ValueError, match="dims and max_words must be 1 or more, found 0 and 64"):
        extractors.get("text_hashing", dims=0)


def test_words_with_the_same_letters_are_near(hashing):
    happy, unhappy, table = hashing(Media("a", text="happy unhappy table"))
    assert happy @ unhappy > 0.5 > happy @ table


def test_another_process_gives_the_same_numbers(hashing):
    code = (
        "from data_prep import extractors; from data_prep.media import Media; "
        "print(extractors.get('text_hashing')(Media('a', text='so happy')).tobytes().hex())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1], capture_output=True, text=True,
        env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert there.stdout.strip() == hashing(Media("a", text="so happy")).tobytes().hex()


def test_a_missing_scikit_learn_gives_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(
        ImportError, match=r"'sklearn' cannot be imported .*; run python -m pip install .*\[experiments\]"
    ):
        extractors.get("text_hashing")
