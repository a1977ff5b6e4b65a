"""A data set for streaming, and batches of it."""

import numpy as np
from tiny import make_corpus

from cmarr_jax.data.archive import read_archive, write_archive
from cmarr_jax.data.corpus import UNLABELLED
from cmarr_jax.data.streamed import Batches
from data_prep.details import NUMBERS, Details, details_path, write_details
from data_prep.iemocap.iemocap_dataset_builder import Builder
from data_prep.tfds_corpus import write_dataset

ROWS = np.array([3, 0, 7, 18, 40, 21, 5, 11, 12, 13, 30, 31, 32])  # 13 rows: two batches of 6 and one row


def make_data_set(folder, unlabelled=()):
    """A corpus with frames and vectors, absent entries and unlabelled rows, and the folder of its data set."""
    corpus, path = make_corpus(sequences=("audio", "text"), absent=0.3), folder / "made.npz"
    corpus.label[list(unlabelled)] = UNLABELLED
    text, number = np.full(len(corpus), ""), np.zeros(len(corpus), np.float32)
    write_archive(path, corpus)
    details = Details(corpus.utterance_id, text, text, text, **dict.fromkeys(NUMBERS, number), record={})
    write_details(details_path(path), details)
    return read_archive(path), write_dataset(Builder, path, folder / "tfds", corpus=corpus)


def make_batches(data_set, **changes):
    return Batches(data_set, **({"rows": ROWS, "batch_size": 6, "max_frames": 4, "num_epochs": 2, "seed": 0} | changes))
