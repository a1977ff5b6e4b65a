"""Archive, details file and data set belong together, and none is replaced by accident."""

import pytest

from cmarr_jax.data.corpus import ArchiveError
from data_prep import manifest, write
from data_prep.manifest_table import write_manifest
from experiments.datasets import load_archive


def write_words(folder, dims, *options):
    """Two modalities of hashed words in `folder/o.npz`."""
    rows = [
        {"utterance_id": f"u{row}", "speaker": f"s{row}", "label": "ab"[row % 2], "text": "yes"} for row in range(4)
    ]
    write_manifest(folder / "m.csv", rows)
    given = ["--text", f"text_hashing:dims={dims}", "--modality", f"more=text_hashing:dims={dims}"]
    return manifest.main([str(folder / "m.csv"), str(folder / "o.npz"), *given, "--num-workers", "1", *options])


def test_details_that_could_not_be_replaced_are_not_taken_for_the_archives(tmp_path, monkeypatch):
    assert write_words(tmp_path, 4, "--without-tfds") == 0
    assert load_archive(tmp_path / "o.npz").extractors["text"]["options"]["dims"] == 4
    with monkeypatch.context() as patch:
        patch.setattr(write, "write_details", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write_words(tmp_path, 8, "--without-tfds", "--force")
    with pytest.raises(ArchiveError, match=r"o_details\.npz: belongs to another archive than the one beside it; write"):
        load_archive(tmp_path / "o.npz")
    assert write_words(tmp_path, 8, "--without-tfds", "--force") == 0
    assert load_archive(tmp_path / "o.npz").extractors["text"]["options"]["dims"] == 8


def test_details_and_data_set_are_replaced_with_force_only(tmp_path, capsys):
    assert write_words(tmp_path, 4) == 0
    (tmp_path / "o.npz").unlink()
    assert write_words(tmp_path, 4) == 1
    assert f"{tmp_path}/o_details.npz: is there already; give --force" in capsys.readouterr().err
    (tmp_path / "o_details.npz").unlink()
    assert write_words(tmp_path, 4) == 1
    assert f"{tmp_path}/tfds/recordings/o/1.0.0: is there already; give --force" in capsys.readouterr().err
    assert not (tmp_path / "o.npz").exists()
    assert write_words(tmp_path, 4, "--force") == 0
