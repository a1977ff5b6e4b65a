"""The rows of the tables: methods of the library with some options and loss weights changed, and classical models."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class TableRow(NamedTuple):
    """A row of the table: a method of the library with some options and loss weights changed."""

    label: str
    method: str
    options: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}


_TOLD = {"availability_bits": True, "patterns": 2, "late_logits": True}
_EARLY = {"alignment": 1.0, "late_alignment": 0.1}  # chosen on validation parts: experiments/NOTES.md

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
        options=_TOLD,
    ),
    "cm_arr_labelled_only": TableRow("CM-ARR, labelled utterances only", "cm_arr", options={"unlabelled": False}),
    "cm_arr_early": TableRow("CM-ARR, strong alignment first", "cm_arr", weights=_EARLY),
    "cm_arr_early_told": TableRow(
        "CM-ARR, strong alignment first, told what is missing, two patterns a step, late logits",
        "cm_arr",
        options=_TOLD,
        weights=_EARLY,
    ),
    "cm_arr_early_told_self": TableRow(
        "CM-ARR, strong alignment first, told what is missing, two patterns a step, late logits, self-training",
        "cm_arr",
        options={**_TOLD, "pseudo_labels": True},
        weights=_EARLY,
    ),
    "cm_arr_within_told": TableRow(
        "CM-ARR, strong alignment first, within speakers, told what is missing, two patterns a step, late logits",
        "cm_arr",
        options={**_TOLD, "within_speaker": True},
        weights=_EARLY,
    ),
    "cm_arr_within_told_self": TableRow(
        "CM-ARR, strong alignment first, within speakers, told what is missing, two patterns a step, late logits, "
        "self-training",
        "cm_arr",
        options={**_TOLD, "within_speaker": True, "pseudo_labels": True},
        weights=_EARLY,
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
        options=_TOLD,
    ),
    "zero_fill_self": TableRow("Zero-fill, self-training", "zero_fill", options={"pseudo_labels": True}),
    "zero_fill_told_self": TableRow(
        "Zero-fill, told what is missing, two patterns a step, late logits, self-training",
        "zero_fill",
        options={**_TOLD, "pseudo_labels": True},
    ),
    "contrastive": TableRow("Contrastive pre-training, then fine-tuning", "contrastive"),
    "contrastive_told": TableRow(
        "Contrastive pre-training, then fine-tuning, told what is missing, two patterns a step, late logits",
        "contrastive",
        options=_TOLD,
        weights={"late_alignment": 0.1},
    ),
    "contrastive_told_self": TableRow(
        "Contrastive pre-training, then fine-tuning, told what is missing, two patterns a step, late logits, "
        "self-training",
        "contrastive",
        options={**_TOLD, "pseudo_labels": True},
        weights={"late_alignment": 0.1},
    ),
    "contrastive_within_told": TableRow(
        "Contrastive pre-training within speakers, then fine-tuning, told what is missing, two patterns a step, late "
        "logits",
        "contrastive",
        options={**_TOLD, "within_speaker": True},
        weights={"late_alignment": 0.1},
    ),
    "contrastive_within_told_self": TableRow(
        "Contrastive pre-training within speakers, then fine-tuning, told what is missing, two patterns a step, late "
        "logits, self-training",
        "contrastive",
        options={**_TOLD, "within_speaker": True, "pseudo_labels": True},
        weights={"late_alignment": 0.1},
    ),
    "late_fusion": TableRow("Late fusion", "late_fusion"),
    "dedicated": TableRow("A model for each condition", "dedicated"),
    "impute_mean": TableRow("Imputation by the mean", "imputation"),
    "impute_ridge": TableRow("Imputation by ridge regression", "imputation", options={"guess": "ridge"}),
    "mmin": TableRow("MMIN", "mmin"),
    "mmin_unlabelled": TableRow("MMIN, imagination of unlabelled too", "mmin", options={"unlabelled": True}),
    "cif_mmin": TableRow("CIF-MMIN", "cif_mmin"),
    "dicmor": TableRow("DiCMoR-like", "dicmor"),
}
CLASSICAL_ROWS = {  # label, kind, self-training; fitted by scikit-learn (`experiments.classical`)
    "late_fusion_lda": ("Late fusion of shrinkage LDAs", "lda", False),
    "late_fusion_logistic": ("Late fusion of logistic regressions", "logistic", False),
    "late_fusion_lda_self": ("Late fusion of shrinkage LDAs, self-training", "lda", True),
}
LABELS = {name: row.label for name, row in TABLE_ROWS.items()} | {
    name: label for name, (label, *_) in CLASSICAL_ROWS.items()
}
ABOUT = {  # for readers of a page who know none of the methods
    "zero_fill": "the embedding of a missing modality is zeros; in training, modalities are hidden at random",
    "zero_fill_told": "zero-fill that is told what is missing, sees each utterance with two patterns in a step and "
    "adds the logits of each modality by itself",
    "zero_fill_self": "zero-fill that labels the unlabelled utterances itself: the class that it is sure of with all "
    "modalities is the label it is trained to give with some (as FixMatch, Sohn 2020)",
    "zero_fill_told_self": "zero-fill that is told what is missing, sees each utterance with two patterns in a step, "
    "adds the logits of each modality by itself, and labels the unlabelled utterances itself",
    "contrastive": "encoders that are first trained, on unlabelled utterances too, to draw the modalities of one "
    "utterance together (by cosine, as CLIP, Radford 2021), then zero-fill from there on the labelled ones",
    "contrastive_told": "contrastive pre-training whose alignment goes on with a tenth of its weight, told what is "
    "missing, with two patterns of an utterance in a step and logits of each modality by itself",
    "contrastive_told_self": "contrastive pre-training whose alignment goes on with a tenth of its weight, told what "
    "is missing, with two patterns of an utterance in a step and logits of each modality by itself, that labels the "
    "unlabelled utterances itself in the second stage",
    "contrastive_within_told": "contrastive pre-training that compares an utterance with those of its speaker only, "
    "whose alignment goes on with a tenth of its weight, told what is missing, with two patterns of an utterance in a "
    "step and logits of each modality by itself",
    "contrastive_within_told_self": "contrastive pre-training that compares an utterance with those of its speaker "
    "only, whose alignment goes on with a tenth of its weight, told what is missing, with two patterns of an utterance "
    "in a step and logits of each modality by itself, that labels the unlabelled utterances itself in the second stage",
    "dedicated": "a network for each condition, trained on the modalities of that condition only",
    "late_fusion": "a network for each modality; their log-posteriors are added, less the log class shares for every "
    "modality but one",
    "late_fusion_lda": "late fusion of a shrinkage LDA of scikit-learn for each modality",
    "late_fusion_lda_self": "late fusion of shrinkage LDAs that label the unlabelled utterances themselves: the class "
    "that all modalities together are sure of is the label when each is fitted again",
    "late_fusion_logistic": "late fusion of a logistic regression of scikit-learn for each modality",
    "impute_mean": "the embedding of a missing modality is its mean over the training utterances",
    "impute_ridge": "the embedding of a missing modality is predicted from the available ones by ridge regression",
    "mmin": "missing modality imagination network: cascaded residual autoencoders imagine the missing embedding (Zhao "
    "2021)",
    "mmin_unlabelled": "MMIN whose imagination is trained on unlabelled utterances too; its teacher knows the labelled "
    "ones only",
    "cif_mmin": "MMIN with features that the modalities share (Liu 2024)",
    "dicmor": "after DiCMoR (Wang 2023): flows take each modality to a common Gaussian, and the missing one back",
    "cm_arr": "each modality of an utterance is a Gaussian; Gaussians of one utterance are aligned (2-Wasserstein "
    "distance), flows recover missing ones, and points of one class are drawn together; unlabelled utterances, if any, "
    "take part in alignment and recovery",
    "cm_arr_cross_entropy": "the network of CM-ARR and as many passes, without its other losses",
    "cm_arr_told": "CM-ARR that is told what is missing, sees each utterance with two patterns in a step and adds the "
    "logits of each modality by itself",
    "cm_arr_early": "CM-ARR that aligns ten times as strongly in stage 1 as in stage 2",
    "cm_arr_early_told": "CM-ARR that aligns ten times as strongly in stage 1 as in stage 2, is told what is missing, "
    "sees each utterance with two patterns in a step and adds the logits of each modality by itself",
    "cm_arr_early_told_self": "CM-ARR that aligns ten times as strongly in stage 1 as in stage 2, is told what is "
    "missing, sees each utterance with two patterns in a step, adds the logits of each modality by itself, and labels "
    "the unlabelled utterances itself",
    "cm_arr_within_told": "CM-ARR that compares an utterance with those of its speaker only, aligns ten times as "
    "strongly in stage 1 as in stage 2, is told what is missing, sees each utterance with two patterns in a step and "
    "adds the logits of each modality by itself",
    "cm_arr_within_told_self": "CM-ARR that compares an utterance with those of its speaker only, aligns ten times as "
    "strongly in stage 1 as in stage 2, is told what is missing, sees each utterance with two patterns in a step, adds "
    "the logits of each modality by itself, and labels the unlabelled utterances itself",
    "cm_arr_labelled_only": "CM-ARR that leaves the unlabelled utterances out of training",
    "cm_arr_no_alignment": "CM-ARR without its alignment",
    "cm_arr_cosine": "CM-ARR that aligns points by their cosine",
    "cm_arr_kl": "CM-ARR that aligns by the symmetric Kullback-Leibler divergence",
    "cm_arr_mean_only": "CM-ARR that aligns by the distance of the means",
    "cm_arr_no_flow": "CM-ARR whose missing points are zeros",
    "cm_arr_autoencoder": "CM-ARR with an autoencoder in place of its flows",
    "cm_arr_no_refinement": "CM-ARR without its refinement",
    "cm_arr_unsupervised": "CM-ARR whose refinement draws the points of one utterance together, not of one class",
    "cm_arr_clean_target": "CM-ARR whose target of the reconstruction is encoded without dropout",
    "bayes": "what a classifier reaches that knows the formula the data were drawn from; no method is better on "
    "average, but on a finite test set one can be, by chance",
    "late_fusion_exact": "each modality judged exactly, then combined as if they were independent given the class; a "
    "method that uses how they depend on each other can be better",
}
TABLES = {  # rows of `--table`, the full method last
    "main": ("zero_fill", "late_fusion", "mmin", "cm_arr"),
    "conditions": (
        "zero_fill",
        "zero_fill_told",
        "dedicated",
        "late_fusion",
        "late_fusion_lda",
        "late_fusion_logistic",
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
    "labels": (
        "zero_fill",
        "zero_fill_told",
        "zero_fill_self",
        "zero_fill_told_self",
        "late_fusion",
        "late_fusion_lda",
        "late_fusion_lda_self",
        "mmin_unlabelled",
        "cif_mmin",
        "dicmor",
        "contrastive",
        "contrastive_told",
        "contrastive_told_self",
        "contrastive_within_told",
        "contrastive_within_told_self",
        "cm_arr_cross_entropy",
        "cm_arr_labelled_only",
        "cm_arr_told",
        "cm_arr_early",
        "cm_arr_early_told",
        "cm_arr_early_told_self",
        "cm_arr_within_told",
        "cm_arr_within_told_self",
        "cm_arr",
    ),
}
CLASSES_ONLY = ("dicmor", *CLASSICAL_ROWS)  # rows that cannot do regression
TABLES["rates"] = TABLES["main"]
TABLES["all"] = tuple(dict.fromkeys((*TABLES["conditions"][:-1], *TABLES["ablations"])))
