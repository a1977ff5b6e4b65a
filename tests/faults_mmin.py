"""Faults in the files of the MMIN family."""

import gzip
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
from tests.faulty_mmin import (
    add_entry,
    all_of,
    damage_entry,
    features_of_folds,
    link,
    lock,
    move,
    one_folder_off,
    rename_entries,
    repeat_fold,
    rows_of_folds,
    shift_entries,
    zero_entries,
)
from tests.mmin_full import labels_of_iemocap

FILES = ("A/comparE.h5", "V/denseface.h5", "L/bert_large.h5")
OTHER_ORDER = ("neutral", "angry", "sad", "happy")
UTTERANCE = "Ses01F_impro01_F000"  # of class 0; Ses01F_impro01_F001 is the other one of that speaker and class
SEVERAL = all_of(
    change_h5("A/comparE.h5", "Ses01F_impro01_F000", np.ones((0, 5))),
    change_h5("A/comparE.h5", "Ses01F_impro01_F001", np.full((3, 5), np.nan)),
    change_h5("A/comparE.h5", "Ses01F_impro02_F000", np.full((2, 5), np.inf)),
    change_h5("A/comparE.h5", "Ses01F_impro02_F001", "group"),
    change_h5("A/comparE.h5", "Ses01F_impro03_F000"),
    damage_entry("A/comparE.h5", "Ses01F_impro03_F001"),
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"

CASES = (
    Case("an HDF5 file that another program has open", "mmin_features", mmin(lock("V/denseface.h5"))),
    Case("a Git LFS pointer", "mmin_features", mmin(write("V/denseface.h5", LFS))),
    Case("a Git LFS pointer among the labels", "mmin_features", mmin(write("target/1/trn_label.npy", LFS))),
    Case("an empty feature file", "mmin_features", mmin(write("A/comparE.h5", b""))),
    Case("an empty npy", "mmin_features", mmin(write("target/1/tst_label.npy", b""))),
    Case("a feature file that is a web page", "mmin_features", mmin(write("V/denseface.h5", b"<html>404</html>"))),
    Case("a feature file packed with gzip", "mmin_features", mmin(write("V/denseface.h5", gzip.compress(b"x")))),
    Case("a link to a file that is not there", "mmin_features", mmin(link("V/denseface.h5", "../faces.h5"))),
    Case("truncated HDF5", "mmin_features", mmin(cut("V/denseface.h5"))),
    Case("an HDF5 file that is none", "mmin_features", mmin(write("V/denseface.h5", b"features"))),
    Case("a feature file is missing", "mmin_features", mmin(remove("L/bert_large.h5"))),
    Case("a feature file in other letter case", "mmin_features", mmin(move("V/denseface.h5", "V/DenseFace.h5"))),
    Case("rows of each fold in npy files", "mmin_features", mmin(rows_of_folds)),
    Case("rows of each fold in an HDF5 file", "mmin_features", mmin(features_of_folds("V/denseface.h5"))),
    Case("video divided otherwise than the labels", "mmin_features", mmin(rename_entries("V/denseface.h5", 5))),
    Case(
        "video divided otherwise than the labels, allowed",
        "mmin_features",
        mmin(rename_entries("V/denseface.h5", 5), "--allow-missing"),
        "video: cannot use",
    ),
    Case(
        "video of other utterances under the right names",
        "mmin_features",
        mmin(shift_entries("V/denseface.h5")),
        "lengths: audio and video",
    ),
    Case(
        "entries that no label names",
        "mmin_features",
        mmin(add_entry("V/denseface.h5", "Ses05F_impro01_M000")),
        "video: entries",
    ),
    Case("wrong width", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((3, 4), "f4")))),
    Case("an utterance is missing in one modality", "mmin_features", mmin(change_h5("V/denseface.h5", UTTERANCE))),
    Case(
        "the same, allowed",
        "mmin_features",
        mmin(change_h5("V/denseface.h5", UTTERANCE), "--allow-missing"),
        "video: cannot use",
    ),
    Case("nan", "mmin_features", mmin(change_h5("L/bert_large.h5", UTTERANCE, np.full((3, 7), np.nan)))),
    Case("too large for float32", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.full((3, 5), 1e300)))),
    Case("no frames", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones((0, 5), "f4")))),
    Case("a vector where frames are wanted", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, np.ones(5)))),
    Case("a group (the aligned features)", "mmin_features", mmin(change_h5("A/comparE.h5", UTTERANCE, "group"))),
    Case("damaged bytes of one utterance", "mmin_features", mmin(damage_entry("A/comparE.h5", UTTERANCE))),
    Case("several utterances with faults", "mmin_features", mmin(SEVERAL)),
    Case(
        "several utterances with faults, allowed",
        "mmin_features",
        mmin(SEVERAL, "--allow-missing"),
        "audio: cannot use",
    ),
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
    Case("no target folder", "mmin_features", mmin(move("target", "targets"))),
    Case("a target folder in other letter case", "mmin_features", mmin(move("target", "Target"))),
    Case("the folder above is given", "mmin_features", one_folder_off("")),
    Case("the target folder itself is given", "mmin_features", one_folder_off("iemocap_features/target")),
    Case("a folder that is not there is given", "mmin_features", one_folder_off("iemocap_feature")),
    Case("folds one folder deeper", "mmin_features", mmin(all_of(move("target", "t"), move("t", "target/iemocap")))),
    Case("other counts than the known ones", "mmin_features", mmin(nothing, counts=False)),
    Case("two folds that share a speaker", "mmin_features", mmin(swap_parts)),
    Case(
        "two folds that share a speaker, allowed",
        "mmin_features",
        mmin(swap_parts, "--allow-fold-differences"),
        "folds: speaker 01M",
    ),
    Case("a fold that repeats another", "mmin_features", mmin(repeat_fold)),
    Case(
        "a fold that repeats another, allowed",
        "mmin_features",
        mmin(repeat_fold, "--allow-fold-differences"),
        "folds: fold 4",
    ),
    Case("--fold with a speaker in training and test", "mmin_features", mmin(move_to_train, "--fold", "1")),
    Case("a fold without its training part", "mmin_features", mmin(remove("target/2/trn_int2name.npy"))),
    Case("names in another order", "mmin_features", mmin(reorder), "folds: the folds"),
    Case(
        "a video without faces",
        "mmin_features",
        mmin(zero_entries("V/denseface.h5", UTTERANCE)),
        "video: utterances of zeros",
    ),
    Case(
        "a video without faces, as the MMIN family takes it",
        "mmin_features",
        mmin(zero_entries("V/denseface.h5", UTTERANCE), "--zeros-are-present"),
        "video: utterances of zeros",
    ),
    Case("no video with a face", "mmin_features", mmin(zero_entries("V/denseface.h5"))),
    Case(
        "an utterance without any modality",
        "mmin_features",
        mmin(all_of(*(zero_entries(path, UTTERANCE) for path in FILES))),
        "left out",
    ),
    Case("labels in another order", "mmin_features", labels_of_iemocap(OTHER_ORDER)),
    Case(
        "labels in another order, a tenth of the utterances missing",
        "mmin_features",
        labels_of_iemocap(OTHER_ORDER, "--allow-count-differences", keep=0.9),
    ),
    Case(
        "labels of two classes in another order",
        "mmin_features",
        labels_of_iemocap(OTHER_ORDER, "--allow-count-differences", classes=("angry", "happy")),
    ),
    Case(
        "counts that do not tell the order of the labels",
        "mmin_features",
        mmin(nothing),
        "warning: the counts do not tell",
    ),
    Case("training and test share a speaker", "mmin_features", mmin(move_to_train), "folds: fold 1: trn and tst"),
    Case("~ of a user who is not there", "mmin_features", mmin(nothing, "--video=~nobody-of-this-name/V.h5")),
    Case("--fold that is not there", "mmin_features", mmin(nothing, "--fold", "11")),
    Case(
        "the means of a fold are missing",
        "mmin_features",
        mmin(change_h5("A/comparE_mean_std.h5", "3")),
        "A/comparE_mean_std.h5: has no",
    ),
    Case(
        "the means are damaged, which are not needed",
        "mmin_features",
        mmin(cut("A/comparE_mean_std.h5")),
        "A/comparE_mean_std.h5: is not needed",
    ),
    Case("the archive is there already", "mmin_features", mmin(lambda root: write("out.npz", b"x")(root.parent))),
    Case("no folder for the archive", "mmin_features", lambda folder: [str(folder), str(folder / "none/out.npz")]),
)
