"""What the command of manifests says of features that are worth a look: zeros, videos without a sound, an id twice."""

import numpy as np
import pytest

from cmarr_jax.data.archive import read_archive
from cmarr_jax.data.corpus import ArchiveError
from data_prep import sources
from data_prep.details import read_details
from data_prep.manifest_table import write_manifest
from data_prep.media import Media
from data_prep.utterances import Utterance
from tests import stub_extractors
from tests.test_manifest import BOTH, ROWS, convert, with_sounds


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    monkeypatch.setattr(sources, "make_extractor", stub_extractors.make)


class NoWord(stub_extractors.Letters):
    """Zeros for the word `nothing`, as a detector of faces gives where there is none."""

    zeros_mean = "no word was found"

    def extract(self, media):
        return super().extract(media) * (media.text != "nothing")


@pytest.mark.parametrize("as_vector", [False, True])
@pytest.mark.parametrize("present", [False, True])
def test_zeros_of_an_extractor_are_absent_unless_it_is_said(tmp_path, capsys, monkeypatch, as_vector, present):
    monkeypatch.setattr(stub_extractors, "Letters", NoWord)
    monkeypatch.setattr(NoWord, "gives_vector", as_vector)
    rows = [{**row, "text": "nothing" if index in (1, 5) else "two words"} for index, row in enumerate(ROWS)]
    write_manifest(tmp_path / "m.csv", with_sounds(tmp_path, rows))
    options = ["--zeros-are-present"] if present else []
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, "--without-tfds", *options) == 0
    corpus, record = read_archive(tmp_path / "o.npz"), read_details(tmp_path / "o_details.npz").record
    assert corpus.present[:, 1].tolist() == [present or index not in (1, 5) for index in range(12)]
    assert corpus.present[:, 0].all()
    zero, printed = [rows[index]["utterance_id"] for index in (1, 5)], capsys.readouterr().out
    said = f"text: no word was found: 2 ({min(zero)!r} first), taken as absent (--zeros-are-present takes them as pr"
    assert record["failures"]["text"] == ({} if present else dict.fromkeys(zero, "no word was found"))
    assert record["extractors"]["text"]["options"].get("zeros_are_present", False) == present
    assert (said in printed) == (not present)
    assert (f"text: zeros in every frame of 2 ({min(zero)!r} first)" in printed) == present


def test_the_cache_serves_both_ways_to_take_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr(stub_extractors, "Letters", NoWord)
    item, option = Utterance(Media("a", text="nothing"), "s", "s", "l"), ":zeros_are_present=1"
    plain, kept = (sources.make_source(sources.parse_spec("--text", f"text_transformer{end}")) for end in ("", option))
    assert plain.features([item], tmp_path, 1) == ({}, {"a": "no word was found"})
    monkeypatch.setattr(NoWord, "extract", None)
    found, reasons = kept.features([item], tmp_path, 1)
    assert (found["a"].tolist(), reasons) == ([[0]], {})
    again = sources.make_source(
        sources.Spec("--text", "text_transformer", kept.record()["options"])
    )  # as a prediction does
    assert again.record() == kept.record()
    with pytest.raises(ArchiveError, match="--text: option 'zeros_are_present' must be 0 or 1, found 'no'"):
        sources.make_source(sources.parse_spec("--text", "text_transformer:zeros_are_present=no"))


def test_finished_features_of_zeros_are_present(tmp_path, capsys):
    write_manifest(tmp_path / "m.csv", with_sounds(tmp_path))
    np.savez(tmp_path / "f.npz", **{row["utterance_id"]: np.zeros(3) + index for index, row in enumerate(ROWS)})
    argv = ("--audio", "compare_2016", "--video", f"features:{tmp_path}/f.npz", "--without-tfds")
    assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *argv) == 0
    assert read_archive(tmp_path / "o.npz").present.all()
    assert "video: zeros in every frame of 1 ('ann/calm 0' first)" in capsys.readouterr().out


def test_an_id_twice_in_a_table_of_vectors_is_said(tmp_path, capsys):
    write_manifest(tmp_path / "m.csv", with_sounds(tmp_path))
    lines = [f"{row['utterance_id']},{index},1" for index, row in enumerate(ROWS)]
    argv = ("--audio", "compare_2016", "--video", f"features:{tmp_path}/f.csv", "--without-tfds", "--force")
    for extra, said in (
        ([], ""),
        (lines[4:5], "video: f.csv: a table of frames: 1 of 12 names have several rows ('bo/"),
    ):
        (tmp_path / "f.csv").write_text("\n".join(["utterance_id,x,y", *lines, *extra]) + "\n")
        assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *argv) == 0
        printed = capsys.readouterr().out
        assert said in printed
        assert ("a repeated id may be a mistake\n" in printed) == bool(said)
        assert ("video" in read_archive(tmp_path / "o.npz").length) == bool(said)


def test_videos_without_a_sound_are_counted(tmp_path, capsys):
    """An empty cell of a column `audio` is no sound, whatever the video has."""
    rows = [{**row, "video": f"sound/{index}.wav"} for index, row in enumerate(with_sounds(tmp_path))]
    for row in rows[2:]:
        row["audio"] = ""
    write_manifest(tmp_path / "m.csv", rows)
    said = "note: 10 of 12 utterances have no sound, though they have a video ('ann/angry 0' first); where the column"
    for options in (["--dry-run"], []):
        assert convert(tmp_path / "m.csv", tmp_path / "o.npz", *BOTH, "--without-tfds", *options) == 0
        assert said in capsys.readouterr().out
    assert read_archive(tmp_path / "o.npz").present[:, 0].tolist() == [True] * 2 + [False] * 10
