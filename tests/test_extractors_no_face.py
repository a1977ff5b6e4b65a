"""Videos in which no face is found: absent in raw corpora and manifests, as in the files of the MMIN family."""

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive
from data_prep.details import details_path, read_details
from data_prep.iemocap import __main__ as iemocap

for module in ("av", "skimage", "sklearn"):
    pytest.importorskip(module, reason="needs the extras extract and experiments")
from tests import miniature  # noqa: E402  (it imports these packages)

NO_FACE = "no face was found in any frame"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Of every picture, the half of the actor with the markers is plain grey."""
    return miniature.iemocap(tmp_path_factory.mktemp("raw"))


@pytest.mark.parametrize("pool", ["none", "mean"])
@pytest.mark.parametrize("present", [False, True])
def test_a_raw_corpus(release, tmp_path, capsys, pool, present):
    out, cache = tmp_path / "o.npz", release.parent / pool
    argv = ["--audio", "none", "--video", f"face_hog:max_frames=1,pool={pool}", "--text", "text_hashing"]
    argv += ["--allow-count-differences", "--without-tfds", "--num-workers", "1", "--cache-dir", str(cache)]
    assert iemocap.main([str(release), str(out), *argv, *(["--zeros-are-present"] if present else [])]) == 0
    corpus, details = read_archive(out), read_details(details_path(out))
    has_video = np.array([not dialogue.startswith("Ses02M") for dialogue in details.dialogue])
    is_marked = np.array([item[5] == sex for item, sex in zip(details.dialogue, details.sex, strict=True)])
    np.testing.assert_array_equal(corpus.present[:, 0], has_video & (present | ~is_marked))
    reasons, printed = details.record["failures"]["video"], capsys.readouterr().out
    left_out = [] if present else ["Ses01M_impro02_M001"]  # it has no transcript either
    names = left_out + ([] if present else corpus.utterance_id[has_video & is_marked].tolist())
    assert details.record["without_features"] == left_out
    assert sorted(key for key, reason in reasons.items() if reason == NO_FACE) == sorted(names)
    assert (f"video: {NO_FACE}: {len(names)} (" in printed) == (not present)
    assert details.record["extractors"]["video"]["options"].get("zeros_are_present") == (True if present else None)
    assert len(list((cache / "video").iterdir())) == 1  # the option starts no cache of its own
