"""The rows of the table: what they share, and in what they differ."""

from tiny import make_corpus

from cmarr_jax.data.device import modality_configs
from cmarr_jax.methods.cm_arr import WEIGHTS
from experiments.presets import PRESETS, SMOKE
from experiments.rows import LABELS, TABLE_ROWS, TABLES


def test_presets_of_the_methods():
    modalities = modality_configs(make_corpus())
    configs = {name: SMOKE.run_config(name, modalities, 4) for name in TABLE_ROWS}
    full = configs["cm_arr"]
    assert configs["cm_arr_no_alignment"].weights == {**full.weights, "alignment": 0.0}
    assert configs["cm_arr_no_refinement"].weights == {**full.weights, "refinement": 0.0}
    assert configs["cm_arr_no_flow"].options["recovery"] == "zeros"
    assert configs["cm_arr_residual"].options == {**full.options, "head": "residual"}
    assert configs["zero_fill"].method == "zero_fill"
    # The same encoders, budget, stopping rule and learning rate for all.
    assert {config.train for config in configs.values()} == {SMOKE.train}
    assert {config.learning_rate for config in configs.values()} == {SMOKE.learning_rate}
    assert {config.encoders for config in configs.values()} == {full.encoders}
    assert PRESETS["msp_improv"].learning_rate == 5e-4


def test_rows_of_few_labels_without_a_part_keep_all_else():
    whole = TABLE_ROWS["cm_arr_within_told_self"]
    for part, options, weights in (
        ("no_alignment_told_self", {"within_speaker": False}, {"alignment": 0.0, "late_alignment": 1.0}),
        ("no_flow_within_told_self", {"recovery": "zeros"}, {}),
        ("no_refinement_within_told_self", {}, {"refinement": 0.0}),
    ):
        row = TABLE_ROWS[f"cm_arr_{part}"]
        defaults = {"within_speaker": False, "recovery": "flow"}
        assert defaults | row.options == defaults | whole.options | options
        assert WEIGHTS | row.weights == WEIGHTS | whole.weights | weights


def test_tables_have_known_rows_and_those_of_few_labels_stay_in_theirs():
    assert set().union(*TABLES.values()) <= set(LABELS)
    of_labels = set(TABLES["labels"]) - set(TABLES["all"])
    assert of_labels == {
        "late_fusion_lda_self", "zero_fill_self", "zero_fill_told_self", "mmin_unlabelled", "contrastive",
        "contrastive_told", "contrastive_told_self", "contrastive_within_told", "contrastive_within_told_self",
        "cm_arr_labelled_only",
        "cm_arr_early", "cm_arr_early_told", "cm_arr_early_told_self", "cm_arr_within_told", "cm_arr_within_told_self",
    }  # fmt: skip
