"""Faults in the files of the MMIN family."""

import pickle

import numpy as np

from tests.fault_case import Case
from tests.faulty_files import (
    change_h5,
    change_npy,
    cut,
    mmin,
    move_to_train,
    nothing,
    pickled,
    remove,
    rename,
    reorder,
    swap_parts,
    to_five,
    write,
)

UTTERANCE = "Ses01F_impro01_F000"  # of class 0; Ses01F_impro01_F001 is the other one of that speaker and class

CASES = (
    Case("truncated HDF5", "mmin_features", mmin(cut("V/denseface.h5"))),
    Case("an HDF5 file that is none", "mmin_features", mmin(write("V/denseface.h5", b"<html>404</html>"))),
    Case("a feature file is missing", "mmin_features", mmin(remove("L/bert_large.h5"))),
    Case("wrong width", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((3, 4), "f4")))),
    Case("an utterance is missing in one modality", "mmin_features", mmin(change_h5("V/denseface.h5", UTTERANCE))),
    Case(
        "the same, allowed", "mmin_features", mmin(change_h5("V/denseface.h5", UTTERANCE), "--allow-missing"), "video:"
    ),
    Case("nan", "mmin_features", mmin(change_h5("L/bert_large.h5", UTTERANCE, np.full((3, 7), np.nan)))),
    Case("too large for float32", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.full((3, 5), 1e300)))),
    Case("no frames", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((0, 5), "f4")))),
    Case("a vector where frames are wanted", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones(5)))),
    Case("a group (the aligned features)", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, "group"))),
    Case(
        "names of the features are others",
        "mmin_features",
        mmin(lambda root: rename(root / "A/comparE.h5"), "--allow-missing"),
    ),
    Case("an unknown label", "mmin_features", mmin(change_npy("2/val_label.npy", to_five))),
    Case("a row that is not one-hot", "mmin_features", mmin(change_npy("2/val_label.npy", lambda label: label / 2))),
    Case(
        "two labels for one utterance", "mmin_features", mmin(change_npy("2/trn_label.npy", lambda label: label[::-1]))
    ),
    Case("fewer labels than names", "mmin_features", mmin(change_npy("1/trn_label.npy", lambda label: label[1:]))),
    Case("a pickled npy", "mmin_features", mmin(pickled)),
    Case("a pickle that calls itself npy", "mmin_features", mmin(write("target/1/trn_label.npy", pickle.dumps([1])))),
    Case("truncated npy", "mmin_features", mmin(cut("target/1/trn_int2name.npy"))),
    Case(
        "numbers where names are wanted",
        "mmin_features",
        mmin(change_npy("1/trn_int2name.npy", lambda name: np.ones(16))),
    ),
    Case("a name twice", "mmin_features", mmin(change_npy("1/trn_int2name.npy", lambda name: name[[0, *range(15)]]))),
    Case(
        "an utterance in two parts",
        "mmin_features",
        mmin(change_npy("1/val_int2name.npy", lambda name: np.r_[name[1:], [[b"Ses02F_impro01_F000"]]])),
    ),
    Case(
        "a name of no corpus",
        "mmin_features",
        mmin(change_npy("1/tst_int2name.npy", lambda name: np.r_[[[b"clip_17"]], name[1:]])),
    ),
    Case(
        "names of two corpora",
        "mmin_features",
        mmin(change_npy("1/tst_int2name.npy", lambda name: np.r_[[[b"MSP-IMPROV-S01A-F01-S-FM01"]], name[1:]])),
    ),
    Case("no target folder", "mmin_features", mmin(lambda root: (root / "target").rename(root / "targets") and None)),
    Case("other counts than the known ones", "mmin_features", mmin(nothing, counts=False)),
    Case("two folds that share a speaker", "mmin_features", mmin(swap_parts), "folds: speaker 01M"),
    Case("names in another order", "mmin_features", mmin(reorder), "folds: the folds"),
    Case(
        "a video without faces",
        "mmin_features",
        mmin(change_h5("V/denseface.h5", UTTERANCE, np.zeros((3, 6)))),
        "video:",
    ),
    Case("training and test share a speaker", "mmin_features", mmin(move_to_train), "folds: fold 1: trn and tst"),
    Case("--fold that is not there", "mmin_features", mmin(nothing, "--fold", "11")),
    Case(
        "the means of a fold are missing",
        "mmin_features",
        mmin(change_h5("A/comparE_mean_std.h5", "3")),
        "A/comparE_mean_std.h5: has no",
    ),
    Case("the archive is there already", "mmin_features", mmin(lambda root: write("out.npz", b"x")(root.parent))),
    Case("no folder for the archive", "mmin_features", lambda folder: [str(folder), str(folder / "none/out.npz")]),
)
