"""JSON files of the user: what is damaged is one sentence with file and key."""

import errno
import json
import re
from pathlib import Path

import pytest
from results_by_hand import CONFIG, write_table

from cmarr_jax.data.json_object import check_kinds, is_kind, read_object
from experiments.results_folder import read_config
from experiments.tuned import read_tuned
from experiments.units import read_rows


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b'{"a": "\xff"}', b"[" * 100_000, b"\xff\xfe{\0}\0"])
def test_what_is_no_object(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"^\S+/a\.json is damaged \(.+\); copy it again$") as error:
        read_object(tmp_path / "a.json", "copy it again")
    assert type(error.value) is ValueError


def test_an_object_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_object(tmp_path / "a.json", "") == {"a": [1, "é"]}
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "b.json", "")


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        (1, float, True),
        (-1.5, float, True),
        (True, float, False),
        (float("nan"), float, False),
        (float("-inf"), float, False),
        (10**400, float, False),
        ("1", float, False),
        ("1", str, True),
        (None, str, False),
        ([], list, True),
        ({}, list, False),
    ],
)
def test_kinds(value, kind, expected):
    assert is_kind(value, kind) is expected


def test_a_key_is_named(tmp_path):
    path = tmp_path / "a.json"
    check_kinds(path, {"a": 1, "b": 2}, {"a": int}, "", "x")
    for value, sentence in (
        ([], "(data is no JSON object); try"),
        ({}, "(data.a is missing); try"),
        ({"a": "x" * 100}, f"(data.a is '{'x' * 59}..., no int); try"),
        ({"a": float(10**5)}, "(data.a is 100000.0, no int); try"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{path} is damaged {sentence}")):
            check_kinds(path, value, {"a": int}, "data", "try")


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        ValueError, match=r"/a\.json cannot be read \(Permission denied\); give a file that you may read"
    ):
        read_object(tmp_path / "a.json", "")


def test_a_number_of_many_digits_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"a is a number of thousands of digits, no str\)"):
        check_kinds(tmp_path, {"a": 10**5000}, {"a": str}, "", "")


def change(path, *keys, value=None):
    """Sets a value in a JSON file, or takes it out."""
    stored = json.loads(path.read_text())
    place = stored
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("methods",), None, "methods is missing"),
        (("methods",), [], "methods is [], no dict"),
        (("data", "sha256"), 5, "data.sha256 is 5, no str"),
        (("folds",), [1], "folds[0] is no JSON object"),
        (("folds", 1, "name"), None, "folds[1].name is missing"),
        (("seeds",), ["x"], "seeds are ['x'], no whole numbers"),
        (("commands",), ["x"], "commands[0] is 'x', no words of a command"),
        (("commands",), [[]], "commands[0] is [], no words of a command"),
        (("devices",), None, "devices is missing"),
        (("label_share",), "x", "label_share is 'x', no number"),
    ],
)
def test_a_damaged_configuration_of_a_table(tmp_path, keys, value, sentence):
    write_table(tmp_path)
    assert read_config(tmp_path) == CONFIG
    change(tmp_path / "config.json", *keys, value=value)
    with pytest.raises(ValueError, match=re.escape(f"config.json is damaged ({sentence})")):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("name",), "../../secret", "the record of '../../secret/f1_seed0', which is another run"),
        (("seed",), 1, "the record of 'a/f1_seed1', which is another run"),
        (("seed",), "0", "(seed is '0', no int)"),
        (("fold",), None, "(fold is missing)"),
        (("format",), "x", "(its format is 'x')"),
        (("status",), None, "(status is missing)"),
        (("status",), "", "(status is '')"),
        (("modalities",), ["left"], "(modalities are ['left'])"),
        (("modalities",), ["left", "left"], "(modalities are ['left', 'left'])"),
        (("modalities",), ["left", {}], "(modalities are ['left', {}])"),
        (("test_counts",), None, "(test_counts of the 3 conditions are None)"),
        (("test_counts",), [[[1]], [[1]]], "(test_counts of the 3 conditions are [[[1]], [[1]]])"),
        (("test_counts", 0), [[1, 2], [3]], "(test_counts of the 3 conditions are"),
        (("test_counts", 0, 0, 0), -1, "(test_counts of the 3 conditions are"),
        (("test_counts", 0, 0, 0), "1", "(test_counts of the 3 conditions are"),
        (("test_counts", 0, 0, 0), float("nan"), "(test_counts of the 3 conditions are"),
    ],
)
def test_a_damaged_record_of_a_table(tmp_path, keys, value, sentence):
    write_table(tmp_path)
    assert len(read_rows(tmp_path)) == 4 * 3
    change(tmp_path / "a/f1_seed0/run.json", *keys, value=value)
    with pytest.raises(ValueError, match=rf"a/f1_seed0/run\.json is .*{re.escape(sentence)}"):
        read_rows(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "sentence"),
    [
        (("data",), None, "data is missing"),
        (("chosen",), [], "chosen is [], no dict"),
        (("folds",), None, "folds is missing"),
        (("preset",), [], "preset is [], no dict"),
        (("label_share",), "x", "label_share is 'x', no float"),
        (("chosen", "zero_fill"), [], "chosen.zero_fill is [], no dict"),
        (("chosen", "zero_fill", "f1"), 1, "chosen.zero_fill.f1 is no JSON object"),
        (("chosen", "zero_fill", "f1", "dropout"), None, "chosen.zero_fill.f1.dropout is missing"),
        (("chosen", "zero_fill", "f1", "dropout"), 1.0, "chosen.zero_fill.f1 has learning_rate 0.1 and dropout 1"),
        (("chosen", "zero_fill", "f1", "learning_rate"), float("inf"), "chosen.zero_fill.f1.learning_rate is inf"),
        (("chosen", "zero_fill", "f1", "trials"), [3], "chosen.zero_fill.f1.trials is [3], no int"),
        (("chosen", "zero_fill", "f1", "learning_rate"), -1, "chosen.zero_fill.f1 has learning_rate -1"),
        (("chosen", "zero_fill", "f1", "weights"), {"x": "1"}, "chosen.zero_fill.f1.weights.x is '1', no float"),
    ],
)
def test_damaged_choices(tmp_path, keys, value, sentence):
    choice = {"learning_rate": 0.1, "dropout": 0.5, "weights": {}}
    wanted = {"data": {"sha256": "0"}, "label_share": 1.0, "preset": {}, "folds": ["f1"]}
    (tmp_path / "tuned.json").write_text(json.dumps(wanted | {"chosen": {"zero_fill": {"f1": choice}}}))
    assert read_tuned([tmp_path], ["zero_fill"], wanted) == {"zero_fill": {"f1": choice}}
    change(tmp_path / "tuned.json", *keys, value=value)
    with pytest.raises(ValueError, match=re.escape(f"tuned.json is damaged ({sentence}")):
        read_tuned([tmp_path], ["zero_fill"], wanted)
