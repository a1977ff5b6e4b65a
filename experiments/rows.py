"""The rows of the tables: methods of the library with some options and loss weights changed, and classical models."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cmarr_jax.config import check_choice
from cmarr_jax.methods import is_own_method


class TableRow(NamedTuple):
    """A row of the table: a method of the library with some options and loss weights changed.

    Attributes:
      label: In the tables.
      method: Of the library.
      about: For readers of a page who know none of the methods.
      options: That are changed.
      weights: That are changed.
      tricks: Names of the `TRICKS` among these changes.
    """

    label: str
    method: str
    about: str
    options: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}
    tricks: tuple[str, ...] = ()

    def with_tricks(self, *names: str) -> "TableRow":
        """The same method with some of `TRICKS` added, by name."""
        row = self
        for name in names:
            trick = TRICKS[name]
            row = TableRow(
                f"{row.label}, {trick.label}",
                row.method,
                f"{row.about}; {trick.about}",
                {**row.options, **trick.options},
                {**row.weights, **trick.weights},
                (*row.tricks, name),
            )
        return row

    def without_tricks(self) -> tuple[str, str]:
        """Label and explanation of the method alone."""
        tricks = [TRICKS[name] for name in self.tricks]
        label = self.label.removesuffix("".join(f", {trick.label}" for trick in tricks))
        return label, self.about.removesuffix("".join(f"; {trick.about}" for trick in tricks))


class Trick(NamedTuple):
    """What several methods can do beside what is their own.

    Attributes:
      label: After that of the row.
      about: After that of the row.
      options: That are changed.
      weights: That are changed.
      chosen: How these weights were chosen; empty if nothing was tried.
    """

    label: str
    about: str
    options: Mapping[str, Any] = {}
    weights: Mapping[str, float] = {}
    chosen: str = ""


TRICKS = {
    "told": Trick(
        "three tricks",
        "the method is told what is missing, sees each utterance twice in a step, with other modalities hidden, "
        "and adds logits that each modality gives by itself",
        options={"availability_bits": True, "patterns": 2, "late_logits": True},
    ),
    "self": Trick(
        "self-training",
        "the method labels the unlabelled utterances itself: the class that it is sure of with all modalities is the "
        "label that it is trained to give with some (as FixMatch, Sohn et al., NeurIPS 2020)",
        options={"pseudo_labels": True},
    ),
    "within": Trick(
        "within speakers",
        "the alignment compares an utterance with those of its speaker only",
        options={"within_speaker": True},
    ),
    "early": Trick(
        "strong alignment first",
        "the method aligns ten times as strongly in stage 1 as in stage 2",
        weights={"alignment": 1.0, "late_alignment": 0.1},
        chosen="on the validation parts of CREMA-D votes, digits, CMU-MOSI and RAVDESS, with 5 % of the labels",
    ),
    "late": Trick(
        "alignment goes on",
        "the alignment goes on in fine-tuning, with a tenth of its weight",
        weights={"late_alignment": 0.1},
    ),
}
_ZERO_FILL = TableRow(
    "Zero-fill",
    "zero_fill",
    "the embedding of a missing modality is zeros; in training, modalities are hidden at random",
)
_CONTRASTIVE = TableRow(
    "Contrastive pre-training, then fine-tuning",
    "contrastive",
    "encoders that are first trained, on unlabelled utterances too, to draw the modalities of one utterance together "
    "(by cosine, as CLIP, Radford et al., ICML 2021), then zero-fill from there on the labelled ones",
)
_CM_ARR = TableRow(
    "CM-ARR",
    "cm_arr",
    "Cross-Modal Alignment, Reconstruction, and Refinement (arXiv 2407.09029): each modality of an utterance is a "
    "Gaussian; those of one utterance are drawn together (alignment, 2-Wasserstein "
    "distance), flows make missing ones from the others (reconstruction), and points of one class are drawn together "
    "(refinement); unlabelled utterances, if any, take part in the first two",
)
_MMIN = TableRow(
    "MMIN",
    "mmin",
    "missing modality imagination network: cascaded residual autoencoders imagine the missing embedding (Zhao et al., "
    "ACL 2021)",
)


def _cm_arr(label: str, about: str, **changed: Any) -> TableRow:
    return TableRow(f"CM-ARR, {label}", "cm_arr", f"CM-ARR {about}", **changed)


_NO_ALIGNMENT = _cm_arr("no alignment", "without its alignment", weights={"alignment": 0.0})
_NO_FLOW = _cm_arr("no flow (zeros)", "whose missing points are zeros", options={"recovery": "zeros"})
_NO_REFINEMENT = _cm_arr("no refinement", "without its refinement", weights={"refinement": 0.0})
_CROSS_ENTROPY = dict.fromkeys(("alignment", "nll", "squared_error", "refinement"), 0.0)
TABLE_ROWS = {
    "zero_fill": _ZERO_FILL,
    "zero_fill_told": _ZERO_FILL.with_tricks("told"),
    "zero_fill_self": _ZERO_FILL.with_tricks("self"),
    "zero_fill_told_self": _ZERO_FILL.with_tricks("told", "self"),
    "contrastive": _CONTRASTIVE,
    "contrastive_told": _CONTRASTIVE.with_tricks("late", "told"),
    "contrastive_told_self": _CONTRASTIVE.with_tricks("late", "told", "self"),
    "contrastive_within_told": _CONTRASTIVE.with_tricks("late", "within", "told"),
    "contrastive_within_told_self": _CONTRASTIVE.with_tricks("late", "within", "told", "self"),
    "late_fusion": TableRow(
        "Late fusion",
        "late_fusion",
        "a network for each modality; their log-posteriors are added, and the class shares are counted once",
    ),
    "dedicated": TableRow(
        "A model for each condition",
        "dedicated",
        "a network for each condition, trained on the modalities of that condition only",
    ),
    "impute_mean": TableRow(
        "Imputation by the mean",
        "imputation",
        "the embedding of a missing modality is its mean over the training utterances",
    ),
    "impute_ridge": TableRow(
        "Imputation by ridge regression",
        "imputation",
        "the embedding of a missing modality is predicted from the available ones by ridge regression",
        options={"guess": "ridge"},
    ),
    "mmin": _MMIN,
    "mmin_unlabelled": TableRow(
        "MMIN, imagination of unlabelled too",
        "mmin",
        "MMIN whose imagination is trained on unlabelled utterances too; its teacher knows the labelled ones only",
        options={"unlabelled": True},
    ),
    "cif_mmin": TableRow(
        "CIF-MMIN", "cif_mmin", "MMIN with features that the modalities share (Liu et al., TAFFC 2024)"
    ),
    "dicmor": TableRow(
        "DiCMoR-like",
        "dicmor",
        "after DiCMoR (Wang et al., ICCV 2023): flows take each modality to a common Gaussian, and the missing one "
        "back",
    ),
    "cm_arr": _CM_ARR,
    "cm_arr_cross_entropy": TableRow(
        "CM-ARR's network, cross-entropy alone",
        "cm_arr",
        "the network of CM-ARR, with the same budget and stopping rule, without its other losses",
        weights=_CROSS_ENTROPY,
    ),
    "cm_arr_told": _CM_ARR.with_tricks("told"),
    "cm_arr_early": _CM_ARR.with_tricks("early"),
    "cm_arr_early_told": _CM_ARR.with_tricks("early", "told"),
    "cm_arr_early_told_self": _CM_ARR.with_tricks("early", "told", "self"),
    "cm_arr_within_told": _CM_ARR.with_tricks("early", "within", "told"),
    "cm_arr_within_told_self": _CM_ARR.with_tricks("early", "within", "told", "self"),
    "cm_arr_labelled_only": _cm_arr(
        "labelled utterances only",
        "that leaves the unlabelled utterances out of training",
        options={"unlabelled": False},
    ),
    "cm_arr_no_alignment": _NO_ALIGNMENT,
    "cm_arr_no_alignment_told_self": _NO_ALIGNMENT.with_tricks("told", "self"),
    "cm_arr_cosine": _cm_arr(
        "points aligned by cosine", "that aligns points by their cosine", options={"alignment": "cosine"}
    ),
    "cm_arr_kl": _cm_arr(
        "symmetric KL",
        "that aligns by the symmetric Kullback-Leibler divergence",
        options={"alignment": "symmetric_kl"},
    ),
    "cm_arr_mean_only": _cm_arr(
        "distance of means", "that aligns by the distance of the means", options={"alignment": "squared_mean"}
    ),
    "cm_arr_no_flow": _NO_FLOW,
    "cm_arr_no_flow_within_told_self": _NO_FLOW.with_tricks("early", "within", "told", "self"),
    "cm_arr_residual": _cm_arr(
        "residual head",
        "that has layers between an encoder and the mean of its Gaussian",
        options={"head": "residual"},
    ),
    "cm_arr_autoencoder": _cm_arr(
        "autoencoder", "with an autoencoder in place of its flows", options={"recovery": "autoencoder"}
    ),
    "cm_arr_no_refinement": _NO_REFINEMENT,
    "cm_arr_no_refinement_within_told_self": _NO_REFINEMENT.with_tricks("early", "within", "told", "self"),
    "cm_arr_unsupervised": _cm_arr(
        "unsupervised refinement",
        "whose refinement draws the points of one utterance together, not of one class",
        options={"refinement": "unsupervised"},
    ),
    "cm_arr_clean_target": _cm_arr(
        "target without dropout",
        "whose target of the reconstruction is encoded without dropout",
        options={"clean_target": True},
    ),
}
CLASSICAL_ROWS = {  # label, kind, self-training; fitted by scikit-learn (`experiments.classical`)
    "late_fusion_lda": ("Late fusion of shrinkage LDAs", "lda", False),
    "late_fusion_logistic": ("Late fusion of logistic regressions", "logistic", False),
    "late_fusion_lda_self": ("Late fusion of shrinkage LDAs, self-training", "lda", True),
}
LABELS = {name: row.label for name, row in TABLE_ROWS.items()} | {
    name: label for name, (label, *_) in CLASSICAL_ROWS.items()
}
ABOUT = {name: row.about for name, row in TABLE_ROWS.items()} | {
    "late_fusion_lda": "late fusion of a shrinkage LDA of scikit-learn for each modality",
    "late_fusion_lda_self": "late fusion of shrinkage LDAs that label the unlabelled utterances themselves: the class "
    "that all modalities together are sure of is the label when each is fitted again",
    "late_fusion_logistic": "late fusion of a logistic regression of scikit-learn for each modality",
    "bayes": "what a classifier reaches that knows the formula the data were drawn from; no method is better on "
    "average, but on a finite test set one can be, by chance",
    "late_fusion_exact": "each modality judged exactly, then combined as if they were independent given the class; a "
    "method that uses how they depend on each other can be better, and by chance on a finite test set any can",
}


def table_row(name: str) -> TableRow:
    """A row that is trained here: one of `TABLE_ROWS`, or the method of a module of your own, by the module's name.

    Raises:
      ValueError: for another name, with the known ones, or for a row of scikit-learn.
    """
    if name in CLASSICAL_ROWS:
        raise ValueError(f"row {name} is fitted by scikit-learn and has no network; leave it out")
    if name not in TABLE_ROWS and is_own_method(name):
        return TableRow(name, name, f"the method of the module {name}")
    check_choice("method", name, LABELS)
    return TABLE_ROWS[name]


def explanations(names: Iterable[str]) -> dict[str, str]:
    """What readers of a page are told of its rows, by label: each method once, then each trick once."""
    methods, tricks = dict[str, str](), dict[str, str]()
    for name in names:
        if row := TABLE_ROWS.get(name):
            label, about = row.without_tricks()
            methods[label] = about
            tricks |= {f"..., {TRICKS[one].label}": TRICKS[one].about for one in row.tricks}
        elif name in ABOUT:
            methods[LABELS.get(name, name)] = ABOUT[name]
    return methods | tricks


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
        "cm_arr_residual",
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
