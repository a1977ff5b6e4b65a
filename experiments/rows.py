"""The rows of the tables: methods of the library with some options and loss weights changed, and classical models."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TableRow(NamedTuple):
    """A row of the table: a method of the library with some options and loss weights changed."""

    label: str
    method: str
    options: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}


TABLE_ROWS = {
    "zero_fill": TableRow("Zero-fill", "zero_fill"),
    "cm_arr": TableRow("CM-ARR", "cm_arr"),
    "cm_arr_no_alignment": TableRow("CM-ARR, no alignment", "cm_arr", weights={"alignment": 0.0}),
    "cm_arr_no_flow": TableRow("CM-ARR, no flow (zeros)", "cm_arr", options={"recovery": "zeros"}),
    "cm_arr_no_refinement": TableRow("CM-ARR, no refinement", "cm_arr", weights={"refinement": 0.0}),
    "cm_arr_clean_target": TableRow("CM-ARR, target without dropout", "cm_arr", options={"clean_target": True}),
    "cm_arr_cross_entropy": TableRow(
        "CM-ARR's network, cross-entropy alone",
        "cm_arr",
        weights=dict.fromkeys(("alignment", "nll", "squared_error", "refinement"), 0.0),
    ),
    "cm_arr_told": TableRow(
        "CM-ARR, told what is missing, two patterns a step, late logits",
        "cm_arr",
        options={"availability_bits": True, "patterns": 2, "late_logits": True},
    ),
    "cm_arr_cosine": TableRow("CM-ARR, points aligned by cosine", "cm_arr", options={"alignment": "cosine"}),
    "cm_arr_kl": TableRow("CM-ARR, symmetric KL", "cm_arr", options={"alignment": "symmetric_kl"}),
    "cm_arr_mean_only": TableRow("CM-ARR, distance of means", "cm_arr", options={"alignment": "squared_mean"}),
    "cm_arr_autoencoder": TableRow("CM-ARR, autoencoder", "cm_arr", options={"recovery": "autoencoder"}),
    "cm_arr_unsupervised": TableRow(
        "CM-ARR, unsupervised refinement", "cm_arr", options={"refinement": "unsupervised"}
    ),
    "zero_fill_told": TableRow(
        "Zero-fill, told what is missing, two patterns a step, late logits",
        "zero_fill",
        options={"availability_bits": True, "patterns": 2, "late_logits": True},
    ),
    "late_fusion": TableRow("Late fusion", "late_fusion"),
    "dedicated": TableRow("A model for each condition", "dedicated"),
    "impute_mean": TableRow("Imputation by the mean", "imputation"),
    "impute_ridge": TableRow("Imputation by ridge regression", "imputation", options={"guess": "ridge"}),
    "mmin": TableRow("MMIN", "mmin"),
    "cif_mmin": TableRow("CIF-MMIN", "cif_mmin"),
    "dicmor": TableRow("DiCMoR-like", "dicmor"),
}
CLASSICAL_ROWS = {  # label and kind; fitted by scikit-learn (`experiments.classical`)
    "late_fusion_lda": ("Late fusion of shrinkage LDAs", "lda"),
    "late_fusion_logistic": ("Late fusion of logistic regressions", "logistic"),
}
LABELS = {name: row.label for name, row in TABLE_ROWS.items()} | {
    name: label for name, (label, _) in CLASSICAL_ROWS.items()
}
TABLES = {  # rows of `--table`, the full method last
    "main": ("zero_fill", "late_fusion", "mmin", "cm_arr"),
    "conditions": (
        "zero_fill",
        "zero_fill_told",
        "dedicated",
        "late_fusion",
        *CLASSICAL_ROWS,
        "impute_mean",
        "impute_ridge",
        "mmin",
        "cif_mmin",
        "dicmor",
        "cm_arr_cross_entropy",
        "cm_arr_told",
        "cm_arr",
    ),
    "ablations": (
        "cm_arr_no_alignment",
        "cm_arr_cosine",
        "cm_arr_kl",
        "cm_arr_mean_only",
        "cm_arr_no_flow",
        "cm_arr_autoencoder",
        "cm_arr_no_refinement",
        "cm_arr_unsupervised",
        "cm_arr_clean_target",
        "cm_arr",
    ),
}
TABLES["rates"] = TABLES["main"]
TABLES["all"] = tuple(dict.fromkeys((*TABLES["conditions"][:-1], *TABLES["ablations"])))
