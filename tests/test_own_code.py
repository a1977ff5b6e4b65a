"""Methods and extractors that users write beside the library, named on a command line by their module."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from predict_units import make_unit
from tiny import make_corpus

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.corpus import ArchiveError
from cmarr_jax.predict import load_unit
from data_prep import extractors, manifest
from data_prep.manifest_table import write_manifest
from data_prep.sources import parse_spec
from experiments import predict, reproduce, tune
from experiments.datasets import load_archive
from experiments.presets import Changes
from experiments.report.write import write_report
from experiments.rows import table_row
from experiments.search_space import OF_OWN_METHOD
from experiments.trials import TRIALS

METHOD = "from cmarr_jax.methods.zero_fill import Options, make\n"
WEIGHTED = """
from cmarr_jax.methods.mmin import Options, make

SEARCHED_WEIGHTS = {"imagination": (2.0, 8.0)}
"""
EXTRACTOR = """
import dataclasses
from pathlib import Path
import numpy as np
from data_prep.extractors import Extractor, MediaError

@dataclasses.dataclass(frozen=True)
class Letters(Extractor):
    modality = "text"
    libraries = ()
    times: float = 1.0
    low: bool = False
    lexicon: Path | None = None

    @property
    def width(self):
        return 2

    def extract(self, media):
        if not media.text:
            raise MediaError("there is no transcript")
        return self.times * np.array([[ord(letter), 1] for letter in media.text], float)

class NoDataclass(Letters):
    more: int = 1

@dataclasses.dataclass(frozen=True)
class Named(Letters):
    name = "named"

@dataclasses.dataclass(frozen=True)
class Misspelt(Letters):
    libraries = ("nunpy",)

@dataclasses.dataclass(frozen=True)
class Lacking(Extractor):
    modality = "text"
    libraries = ()

number = 1
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Two modules where Python finds them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_method.py").write_text(METHOD)
    (folder / "my_weighted.py").write_text(WEIGHTED)
    (folder / "my_features.py").write_text(EXTRACTOR)
    (folder / "my_fault.py").write_text("import not_installed\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("my_method", "my_weighted", "my_features"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def table(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    write_archive(folder / "toy.npz", make_corpus(sequences=(), sessions=2, absent=0.1))
    rows, changes = ("zero_fill", "my_method"), Changes(complete_epochs=1, missing_epochs=1)
    arguments = reproduce.Arguments(
        data=str(folder / "toy.npz"), smoke=True, methods=rows, seeds=1, out=folder / "out", changes=changes
    )
    reproduce.main(arguments)
    return folder / "out"


def test_a_module_is_a_row_of_a_table(table):
    """The same code under another name: the same scores."""
    rows = {name: sorted((table / name).glob("*/run.json")) for name in ("zero_fill", "my_method")}
    counts = {name: [json.loads(path.read_text())["test_counts"] for path in paths] for name, paths in rows.items()}
    assert len(counts["my_method"]) == 4
    assert counts["my_method"] == counts["zero_fill"]
    assert "| my_method |" in (table / "table.md").read_text()


def test_a_report_needs_no_module(table, own, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(own)])
    monkeypatch.delitem(sys.modules, "my_method")
    assert "| my_method |" in write_report(table)


def test_a_model_whose_module_is_gone_says_so(table, own, monkeypatch):
    unit = next((table / "my_method").glob("*/run.json")).parent
    assert load_unit(unit).config.method == "my_method"
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(own)])
    monkeypatch.delitem(sys.modules, "my_method")
    with pytest.raises(ArchiveError, match=r"run.json: the method 'my_method' is none of .*; a module of your own"):
        load_unit(unit)


def search(table, out):
    return tune.Arguments(data=str(table.parent / "toy.npz"), methods=("my_weighted",), trials=2, out=out, smoke=True)


def test_a_module_is_tuned(own, table, tmp_path):
    tune.main(search(table, tmp_path))
    chosen = json.loads((tmp_path / tune.FILE).read_text())["chosen"]["my_weighted"]
    assert {choice["trials"] for choice in chosen.values()} == {2}
    tried = [json.loads(line)["imagination"] for line in (tmp_path / TRIALS).read_text().splitlines()]
    assert 4.0 in tried  # the preset
    assert len(set(tried)) > 1
    assert all(2.0 <= weight <= 8.0 for weight in tried)


@pytest.mark.parametrize(
    ("bounds", "fault"),
    [
        (
            {"pseudo": (0.1, 1.0)},
            "the bounds of row my_weighted name 'pseudo'; its loss weights are: imagination, cycle",
        ),
        ({"imagination": (2.0, 3.0)}, "the bounds of imagination in row my_weighted, 2 to 3, do not hold the preset's"),
    ],
)
def test_wrong_bounds_are_refused(own, table, tmp_path, monkeypatch, bounds, fault):
    monkeypatch.setattr(importlib.import_module("my_weighted"), OF_OWN_METHOD, bounds)
    with pytest.raises(ValueError, match=fault):
        tune.main(search(table, tmp_path))


def test_what_is_no_row_gives_the_known_ones(own):
    for name in ("my_methods", "my_features", "my_method.make", "imputation", ""):
        with pytest.raises(ValueError, match=f"method must be one of zero_fill, .*found '{name}'"):
            table_row(name)
    with pytest.raises(ValueError, match="row late_fusion_lda is fitted by scikit-learn and has no network"):
        table_row("late_fusion_lda")
    with pytest.raises(ModuleNotFoundError, match="not_installed"):
        table_row("my_fault")


@pytest.fixture(scope="module")
def archive(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    splits = ["train"] * 4 + ["val", "val", "test", "test"]
    rows = [
        {"utterance_id": f"u{row}", "speaker": f"{split}{row % 2}", "label": "abcd"[row % 4], "text": f"yes {row}"}
        | {"split": split}
        for row, split in enumerate(splits)
    ]
    write_manifest(folder / "m.csv", rows)
    options = ["--text", "my_features.Letters:times=2", "--modality", "words=text_hashing", "--without-tfds"]
    given = ["--audio", "none", "--video", "none", "--num-workers", "2"]
    assert manifest.main([str(folder / "m.csv"), str(folder / "a.npz"), *options, *given]) == 0
    return folder / "a.npz"


def test_a_class_makes_features(archive):
    """In worker processes, which import its module again."""
    source = load_archive(archive)
    assert source.extractors["text"]["name"] == "my_features.Letters"
    assert source.extractors["text"]["options"] == {"times": 2, "low": False, "lexicon": None}
    corpus = source.corpus
    assert corpus.modalities == ("text", "words")
    frames = [[2 * ord(letter), 2] for letter in "yes 0"]
    np.testing.assert_allclose(corpus.features["text"][: corpus.length["text"][0]], frames)


def test_a_prediction_makes_the_same_features(archive, tmp_path):
    source = load_archive(archive)
    unit, _ = make_unit(tmp_path, "zero_fill", source.corpus, extractors=source.extractors)
    answers = []
    for given in (archive.with_name("m.csv"), archive):
        out = tmp_path / f"{given.suffix[1:]}.csv"
        assert predict.main(["--run", str(unit), "--input", str(given), "--out", str(out)]) == 0
        answers.append(out.read_text())
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        (
            "my_features.Pitch",
            ValueError,
            "there is no extractor 'my_features.Pitch'; .*; a class of your own",
        ),
        ("my_feature.Letters", ValueError, "there is no extractor 'my_feature.Letters'"),
        (".Letters", ValueError, "there is no extractor '.Letters'"),
        ("my_features.number", ValueError, "my_features.number is no frozen dataclass derived from"),
        ("my_features.NoDataclass", ValueError, "my_features.NoDataclass is no frozen dataclass derived from"),
        ("my_features.Named", ValueError, "my_features.Named has the name 'named', .*; leave `name` out"),
        ("my_features.Lacking", TypeError, "abstract"),
        ("my_fault.Letters", ModuleNotFoundError, "not_installed"),
    ],
)
def test_what_is_no_extractor_is_told(own, name, error, text):
    with pytest.raises(error, match=text):
        extractors.get(name)


def test_a_library_that_is_not_installed_is_told(own, archive, capsys):
    out = archive.with_name("misspelt.npz")
    options = [
        "--text",
        "my_features.Misspelt",
        "--modality",
        "words=text_hashing",
        "--audio",
        "none",
        "--video",
        "none",
    ]
    assert manifest.main([str(archive.with_name("m.csv")), str(out), *options]) == 1
    said = "the package 'nunpy', which `libraries` of my_features.Misspelt names, is not installed"
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_an_option_is_a_field(own):
    with pytest.raises(
        ValueError, match=r"extractor 'my_features.Letters' has no option 'time'; it has times, low, lexicon, pool"
    ):
        extractors.get("my_features.Letters", time=2)
    assert extractors.get("my_features.Letters", low=1).low is True
    given = parse_spec("--text", "my_features.Letters:low=1,times=2,lexicon=~/007").values
    found = extractors.get("my_features.Letters", **given)
    assert (found.low, found.times, found.lexicon) == (True, 2, Path("~/007").expanduser())
    with pytest.raises(ValueError, match="option 'low' must be 0 or 1, found 'yes'"):
        extractors.get("my_features.Letters", low="yes")
