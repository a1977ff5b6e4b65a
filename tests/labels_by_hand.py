"""Tables of several shares of the labels, made by hand: outputs with a known share of right decisions."""

import json

import numpy as np
from results_by_hand import CONFIG

from cmarr_jax.training.checkpoint import OUTPUTS, save_record
from experiments.label_shares import share_name
from experiments.units import Outputs, Unit, counts_by_speaker

FOLDS, PER_SPEAKER = ("f1", "f2", "f3", "f4"), 40


def write_shares(root, right, labels, seeds=(0,), smoke=False):
    """A table for each share: rows of which a share of the decisions is right, in all conditions.

    Args:
      root: Where to write.
      right: Per row, the share of right decisions at each share of the labels; None: no runs.
      labels: Share of the labels and labelled training utterances of a fold.
      seeds: Of each fold.
      smoke: Whether the configuration says that the numbers mean nothing.
    """
    for place, (share, number) in enumerate(labels.items()):
        folder = root / share_name(share)
        folder.mkdir(parents=True)
        sizes = {
            "train": number,
            "val": max(1, number // 4),
            "test": 2 * PER_SPEAKER,
            "unlabelled": max(labels.values()) - number,
        }
        config = CONFIG | {
            "folds": [{"name": name, **sizes} for name in FOLDS],
            "methods": {row: {} for row in right},
            "seeds": list(seeds),
            "label_share": share,
            "smoke": smoke,
        }
        (folder / "config.json").write_text(json.dumps(config))
        for row, shares in right.items():
            for seed in seeds:
                for fold in FOLDS if shares[place] is not None else ():
                    _write_unit(folder, Unit(row, fold, seed), shares[place])


def _write_unit(folder, unit, right):
    """Two speakers, two classes, two modalities. As many decisions of each speaker and class are wrong, but for one."""
    half = PER_SPEAKER // 2
    label = np.tile(np.repeat([0, 1], half), 2)
    place = np.tile(np.arange(half), 4)
    step = (1, 3)[FOLDS.index(unit.fold) % 2] / half  # so that speakers differ a little
    moved = np.repeat([0, 1, 1, 0], half) * step
    predicted = np.where(place + 0.5 < half * (right - moved), label, 1 - label)
    logits = np.broadcast_to(np.eye(2)[predicted], (3, len(label), 2))
    speaker = np.repeat([f"{unit.fold}a", f"{unit.fold}b"], PER_SPEAKER)
    present = np.ones((len(label), 2), bool)
    outputs = Outputs(np.arange(len(label)).astype(str), speaker, label, present, logits)
    counts = counts_by_speaker(outputs, np.unique(speaker)).sum(0)
    record = {
        "name": unit.row, "fold": unit.fold, "seed": unit.seed, "modalities": ["left", "right"], "status": "converged",
        "test_counts": counts,
    }  # fmt: skip
    arrays = {
        f"{part}_{name}": value
        for part in ("val", "test")
        for name, value in outputs._asdict().items()
        if value is not None
    }
    save_record(folder / unit.path, record, {OUTPUTS: arrays})
