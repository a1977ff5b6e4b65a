"""The search: per fold, on validation only, resumable; and tables that use what it chose."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from baselines import VECTORS
from tiny import NO_PROCESS, in_order, make_batch, make_corpus, make_setup, random_params, run_config

from cmarr_jax.data.archive import write_archive
from cmarr_jax.data.device import modality_configs, to_device
from cmarr_jax.data.folds import make_folds, stack_folds
from cmarr_jax.methods import hyperparameters_of, make_method
from cmarr_jax.training.checkpoint import to_json
from cmarr_jax.training.sweep import stack_runs
from cmarr_jax.training.sweep_memory import GIB, compile_sweep
from experiments import reproduce, tune
from experiments.own_folder import LOCK, own_folder
from experiments.presets import PRESETS, SMOKE
from experiments.rows import TABLE_ROWS
from experiments.search_space import as_parameters, searched_weights
from experiments.trials import read_lines
from experiments.tuned import read_tuned, search_settings, tuned_config, tuned_row
from experiments.units import Unit

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    write_archive(path, make_corpus(sequences=(), sessions=2))
    return path


@pytest.fixture(scope="module")
def tuned(archive, tmp_path_factory):
    """Three trials of zero-fill on four folds."""
    out = tmp_path_factory.mktemp("tuned") / "out"
    tune.main(arguments(archive, out, trials=3))
    return out


def arguments(archive, out, **changes):
    return tune.Arguments(
        out=out, **{"data": str(archive), "methods": ("zero_fill",), "smoke": True, "at_once": 2, **changes}
    )


def test_every_fold_has_its_own_best_trial(tuned):
    trials = [json.loads(line) for line in (tuned / "trials.jsonl").read_text().splitlines()]
    chosen = json.loads((tuned / "tuned.json").read_text())["chosen"]["zero_fill"]
    assert len(chosen) == 4
    for fold, choice in chosen.items():
        own = [trial for trial in trials if trial["fold"] == fold]
        assert len(own) == choice["trials"] == 3
        first = min(own, key=lambda trial: trial["trial"])
        assert (first["learning_rate"], first["dropout"]) == (SMOKE.learning_rate, SMOKE.dropout)  # the preset
        best = max(own, key=lambda trial: trial["val_uar"])
        assert best["val_uar"] == choice["val_uar"]
        assert (choice["learning_rate"], choice["dropout"]) in {
            (trial["learning_rate"], trial["dropout"]) for trial in own if trial["val_uar"] == best["val_uar"]
        }
    assert len({trial["learning_rate"] for trial in trials}) > 4


def test_the_search_goes_on_where_it_was(archive, tuned, tmp_path):
    before = (tuned / "tuned.json").read_text()
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in tuned.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    tune.main(arguments(archive, copy, trials=3))  # nothing is left
    strip = lambda text: {key: value for key, value in json.loads(text).items() if key != "command"}
    assert strip((copy / "tuned.json").read_text()) == strip(before)
    tune.main(arguments(archive, copy, trials=4))
    chosen = json.loads((copy / "tuned.json").read_text())["chosen"]["zero_fill"]
    assert {choice["trials"] for choice in chosen.values()} == {4}
    assert all(
        choice["val_uar"] >= json.loads(before)["chosen"]["zero_fill"][f]["val_uar"] for f, choice in chosen.items()
    )
    with pytest.raises(ValueError, match=r"another setting: preset.learning_rate was 0.001 and is 0.01 now"):
        tune.main(arguments(archive, copy, changes=dataclasses.replace(tune.Changes(), learning_rate=0.01)))


@pytest.mark.parametrize("ended", [1, 9])
def test_a_search_that_was_killed_chooses_as_one_that_was_not(archive, tuned, tmp_path, ended):
    """Killed after some of its twelve trials, in the midst of a line, with a file half-written."""
    lines = (tuned / "trials.jsonl").read_text().splitlines(keepends=True)
    rounds = sorted(lines, key=lambda line: json.loads(line)["trial"] // 2)  # as they were kept: two of each fold
    out = tmp_path / "killed"
    out.mkdir()
    (out / "tune.json").write_text((tuned / "tune.json").read_text())
    (out / "trials.jsonl").write_text("".join(rounds[:ended]) + rounds[ended][:30])
    (out / f".tuned.json.{NO_PROCESS}.partial").write_text('{"da')
    tune.main(arguments(archive, out, trials=3))
    files = [path for path in out.iterdir() if path.name != LOCK]
    assert {path.name for path in files} == {"tune.json", "trials.jsonl", "tuned.json"}
    for path in files:
        assert path.read_text() == (tuned / path.name).read_text()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "line 2 is no JSON object"),
        (b"\xff", "line 2 is no JSON object"),
        (b'{"row": "a", "fold": "f"}', "line 2.trial is missing"),
        (b'{"row": "a", "fold": "f", "trial": "1"}', "line 2.trial is '1', no int"),
    ],
)
def test_a_damaged_trial_is_named(tuned, tmp_path, line, fault):
    first = (tuned / "trials.jsonl").read_bytes().splitlines(keepends=True)[0]
    (tmp_path / "trials.jsonl").write_bytes(first + line + b"\n")
    with pytest.raises(ValueError, match=rf"/trials\.jsonl is damaged \({re.escape(fault)}\); delete the line"):
        read_lines(tmp_path)


def test_a_search_that_was_killed_before_its_settings_can_be_given_again(tmp_path):
    (tmp_path / f".tune.json.{NO_PROCESS}.partial").write_text('{"da')
    tune.open_folder(tmp_path, {"at_once": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["tune.json"]
    with pytest.raises(ValueError, match="another setting: at_once was 2 and is 4 now; name another folder"):
        tune.open_folder(tmp_path, {"at_once": 4})


def test_a_second_search_in_the_same_folder_is_refused(archive, tmp_path):
    (tmp_path / f".tune.json.{NO_PROCESS}.partial").write_text('{"da')  # of the first one
    with own_folder(tmp_path), pytest.raises(ValueError, match="another command is training in this folder"):
        tune.main(arguments(archive, tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, f".tune.json.{NO_PROCESS}.partial"}


def test_a_trial_never_reads_a_test_utterance():
    setup = make_setup("zero_fill", make_corpus(sequences=()))
    folds = tune.without_test(setup.folds)
    runs = stack_runs(folds, [0, 3], [0, 0], [setup.hyper] * 2)
    plan = compile_sweep(setup.parts, setup.data, runs, devices=jax.local_devices()[:2], memory=GIB)
    results = []
    for poisoned in (False, True):
        corpus = setup.corpus
        if poisoned:
            rows = make_folds(corpus)[0].test
            features = {name: values.copy() for name, values in corpus.features.items()}
            for values in features.values():
                values[rows] = np.nan
            label = corpus.label.copy()
            label[rows] = 0
            corpus = dataclasses.replace(corpus, features=features, label=label)
        results.append(jax.tree.map(lambda x: x[0], in_order(plan.run(to_device(corpus), runs))))
    clean, other = results
    np.testing.assert_array_equal(clean.val_logits, other.val_logits)
    assert np.isfinite(clean.val_logits).all()
    assert clean.val_counts.any()
    assert not clean.test_counts.any()


def test_a_table_uses_the_choice_of_each_fold(archive, tuned, tmp_path):
    out = tmp_path / "table"
    reproduce.main(
        reproduce.Arguments(
            data=str(archive), methods=("zero_fill", "late_fusion_lda"), out=out, smoke=True, tuned=(tuned,)
        )
    )
    chosen = json.loads((tuned / "tuned.json").read_text())["chosen"]["zero_fill"]
    for fold, choice in chosen.items():
        config = json.loads((out / Unit("zero_fill", fold, 0).path / "run.json").read_text())["config"]
        assert (config["learning_rate"], config["dropout"]) == (choice["learning_rate"], choice["dropout"])
    assert json.loads((out / "config.json").read_text())["tuned"] == {"zero_fill": chosen}
    with pytest.raises(ValueError, match=r"tuned\.json has no row mmin; tune it into a new folder, .*--methods mmin"):
        reproduce.main(
            reproduce.Arguments(data=str(archive), methods=("mmin",), out=tmp_path / "x", smoke=True, tuned=(tuned,))
        )
    with pytest.raises(ValueError, match=r"another setting: tuned\.zero_fill"):
        reproduce.main(reproduce.Arguments(data=str(archive), methods=("zero_fill",), out=out, smoke=True))


def test_other_data_and_folds_are_refused(tuned):
    stored = json.loads((tuned / "tuned.json").read_text())
    with pytest.raises(ValueError, match="was tuned on other data"):
        read_tuned([tuned], ["zero_fill"], stored | {"data": {"sha256": "0" * 64}})
    for name, value, difference in (
        ("label_share", 0.1, r"label_share was 1\.0 and is 0\.1 now"),
        ("folds", [*stored["folds"], "group9"], r"folds was .* now"),
        ("preset", stored["preset"] | {"dropout": 0.1}, r"preset\.dropout was .* now"),
    ):
        with pytest.raises(ValueError, match=rf"was tuned with another setting: {difference}; tune again with "):
            read_tuned([tuned], ["zero_fill"], stored | {name: value})


def test_choices_of_a_fold_that_lacks_are_refused(tuned, tmp_path):
    stored = json.loads((tuned / "tuned.json").read_text())
    lacking = stored["chosen"]["zero_fill"].pop(stored["folds"][1])
    assert lacking["trials"] == 3
    (tmp_path / "tuned.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=f"has no choice for fold {stored['folds'][1]} of zero_fill"):
        read_tuned([tmp_path], ["zero_fill_told"], stored)


def test_choices_of_other_folds_of_the_same_names_are_refused(tmp_path):
    """With more folds a speaker that a table tests trains or validates in a trial of the same name."""
    corpus = make_corpus(sequences=())
    corpus = dataclasses.replace(corpus, session=corpus.speaker)  # groups of speakers
    four, three = (search_settings("0", SMOKE, make_folds(corpus, num_folds=number), 1.0) for number in (4, 3))
    assert set(three["folds"]) < set(four["folds"])
    choice = {"learning_rate": 0.1, "dropout": 0.5, "weights": {}, "trials": 1}
    chosen = {"zero_fill": dict.fromkeys(four["folds"], choice)}
    (tmp_path / "tuned.json").write_text(to_json({**four, "chosen": chosen}))
    assert read_tuned([tmp_path], ["zero_fill"], four) == chosen
    with pytest.raises(ValueError, match="was tuned with another setting: folds was "):
        read_tuned([tmp_path], ["zero_fill"], three)


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "choices").glob("*.json")), ids=lambda path: path.stem)
def test_choices_of_published_tables_have_what_is_compared(path):
    stored = json.loads(path.read_text())
    for row in stored["chosen"]:
        assert set(read_tuned([path], [row], stored)[row]) == set(stored["folds"])


def test_rows_begin_with_the_same_learning_rates_and_dropouts(archive, tmp_path):
    """Rows with more loss weights take more random numbers, which must not change rate and dropout."""
    corpus = make_corpus(sequences=())
    splits = make_folds(corpus)
    tried = []
    for row in ("zero_fill", "mmin", "cm_arr"):
        config = SMOKE.run_config(row, modality_configs(corpus), 4)
        asked = arguments("", tmp_path, trials=6, at_once=6)
        search = tune.make_search(row, config, splits, stack_folds(splits), asked)
        choices = [one.choice for one in tune.ask(search, search.waiting())]
        tried.append([(choice["learning_rate"], choice["dropout"]) for choice in choices])
    assert tried[0] == tried[1] == tried[2]
    assert len(set(tried[0])) == 5 * len(splits) + 1  # the preset is the first of each fold
    rates = np.array([rate for rate, _ in tried[0]]) / SMOKE.learning_rate
    assert 1 / 5 <= rates.min() < 1 / 2
    assert 2 < rates.max() <= 5


def test_rows_with_different_numbers_of_trials_are_no_fair_table(tuned, tmp_path):
    stored = json.loads((tuned / "tuned.json").read_text())
    chosen = stored["chosen"]["zero_fill"]
    path, folds = tmp_path / "tuned.json", list(chosen)
    more = {fold: {**choice, "trials": 16} for fold, choice in chosen.items()}
    path.write_text(json.dumps({**stored, "chosen": {"zero_fill": chosen, "mmin": more}}))
    assert set(read_tuned([path], ["mmin"], stored)) == {"mmin"}
    with pytest.raises(ValueError, match=r"different numbers of trials \(zero_fill 3, mmin 16\), which is not fair"):
        read_tuned([path], ["zero_fill", "mmin"], stored)
    more[folds[0]]["trials"] = 4  # a search that was stopped in between
    path.write_text(json.dumps({**stored, "chosen": {"mmin": more}}))
    with pytest.raises(ValueError, match=r"\(mmin 16/4\)"):
        read_tuned([path], ["mmin"], stored)


def test_searches_of_different_rows_are_put_together(tuned, tmp_path):
    stored = json.loads((tuned / "tuned.json").read_text())
    chosen = stored["chosen"]["zero_fill"]
    other = {fold: {**choice, "dropout": 0.25} for fold, choice in chosen.items()}
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({**stored, "chosen": {"mmin": other}}))
    found = read_tuned([tuned, path], ["zero_fill_told", "mmin", "zero_fill"], stored)
    assert found["zero_fill"] == chosen
    assert found["mmin"] == other
    with pytest.raises(
        ValueError,
        match=rf"^{path}, {tuned}/tuned\.json has no row cm_arr; tune it .* --methods cm_arr --out NEW",
    ):
        read_tuned([path, tuned], ["cm_arr"], stored)
    path.write_text(json.dumps({**stored, "chosen": {"mmin": other, "zero_fill": other}}))
    with pytest.raises(ValueError, match=rf"{tuned}/tuned\.json and {path} both have row zero_fill; give one of them"):
        read_tuned([tuned, path], ["mmin"], stored)


def test_tuned_without_a_search_is_refused():
    with pytest.raises(ValueError, match=r"--tuned needs what experiments\.tune wrote"):
        reproduce.main(reproduce.Arguments(smoke=True, tuned=()))


def test_an_ablation_uses_the_choices_of_the_full_model():
    known = {"cm_arr": {}, "mmin": {}}
    assert tuned_row("cm_arr_no_alignment", known) == "cm_arr"
    assert tuned_row("cm_arr_no_alignment", {**known, "cm_arr_no_alignment": {}}) == "cm_arr_no_alignment"
    assert tuned_row("zero_fill_told", known) is None
    config = SMOKE.run_config("cm_arr_no_alignment", modality_configs(make_corpus()), 4)
    choice = {"learning_rate": 0.5, "dropout": 0.1, "weights": {"alignment": 0.7, "refinement": 0.2}}
    tuned = tuned_config("cm_arr_no_alignment", config, choice)
    assert (tuned.learning_rate, tuned.dropout) == (0.5, 0.1)
    assert tuned.weights == {"alignment": 0.0, "refinement": 0.2}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_first_trial_is_the_preset(preset):
    for row in TABLE_ROWS:
        config = PRESETS[preset].run_config(row, modality_configs(make_corpus()), 4)
        choice = tune.choice_of(config)
        expected = {name: choice["weights"][name] for name in searched_weights(row)}
        expected |= {name: choice[name] for name in ("learning_rate", "dropout")}
        assert as_parameters(row, choice) == expected


def test_bounds_that_do_not_hold_the_preset_are_refused():
    """The first trial would else be another one than the preset."""
    choice = {"learning_rate": 0.001, "dropout": 0.5, "weights": {"squared_error": 5.0}}
    with pytest.raises(ValueError, match=r"the bounds of squared_error in row dicmor, 0\.01 to 3, do not hold the"):
        as_parameters("dicmor", choice)


def test_cross_entropy_alone_is_that():
    weights = TABLE_ROWS["cm_arr_cross_entropy"].weights
    config = run_config(VECTORS, method="cm_arr", weights=weights, dropout=0.0)
    method, batch = make_method(config), make_batch(VECTORS, size=6)
    hide = np.arange(18).reshape(6, 3) % 2 == 0
    total, terms = method.loss(
        random_params(method.init, batch), batch, hide, jax.random.key(0), hyperparameters_of(config)
    )
    assert min(abs(float(value)) for name, value in terms.items() if name != "entropy") > 1e-4
    np.testing.assert_allclose(total, terms["cross_entropy"], rtol=1e-6)


def test_which_weights_are_searched():
    assert searched_weights("cm_arr_no_alignment").keys() == {"refinement"}
    assert searched_weights("zero_fill_told_self").keys() == {"threshold", "pseudo"}
    assert not searched_weights("zero_fill_told")
    assert not searched_weights("contrastive")  # it has no alignment in stage 2: experiments/rows.py
