"""What `experiments.tune` may change, and within which bounds. All of it is D: docs/decisions.md."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna

from cmarr_jax.own_module import find_module
from experiments.rows import TABLE_ROWS, table_row

RATE_FACTOR = 5.0  # the learning rate is searched from a fifth to five times the preset's
DROPOUT = 0.0, 0.7
WEIGHTS: Mapping[str, Mapping[str, tuple[float, float]]] = {  # per method; logarithmic
    "cm_arr": {"alignment": (0.003, 1.0), "late_alignment": (0.01, 1.0), "refinement": (0.01, 3.0)},
    "mmin": {"imagination": (0.1, 10.0)},
    "cif_mmin": {"imagination": (0.1, 10.0), "consistency": (1.0, 100.0)},
    "dicmor": {"squared_error": (0.01, 3.0)},
}
WEIGHTS_OF_OPTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {  # those that an option of a row brings
    "pseudo_labels": {"threshold": (0.7, 0.99), "pseudo": (0.1, 10.0)},
    "guess": {"ridge": (0.01, 100.0)},
}
OF_OWN_METHOD = "SEARCHED_WEIGHTS"  # a mapping as those in WEIGHTS, in the module of a method of one's own
FACTOR_OF = {"late_alignment": "alignment"}  # where a row changes the weight, its factor is not searched either


def searched_weights(row: str) -> dict[str, tuple[float, float]]:
    """The loss weights that are searched for a row; not those that the row itself changes."""
    of_row = table_row(row)
    if row not in TABLE_ROWS:
        return dict(getattr(find_module(row), OF_OWN_METHOD, {}))
    known = dict(WEIGHTS.get(of_row.method, {}))
    for option, weights in WEIGHTS_OF_OPTIONS.items():
        known |= weights if of_row.options.get(option) else {}
    return {name: bounds for name, bounds in known.items() if not {name, FACTOR_OF.get(name)} & of_row.weights.keys()}


def suggest(trial: optuna.Trial, row: str, learning_rate: float) -> dict[str, Any]:
    """A choice as in `experiments.tuned`: what a trial tries.

    Args:
      trial: Of the study of one fold.
      row: Of the table.
      learning_rate: The preset's.
    """
    low, high = learning_rate / RATE_FACTOR, learning_rate * RATE_FACTOR
    return {
        "learning_rate": trial.suggest_float("learning_rate", low, high, log=True),
        "dropout": trial.suggest_float("dropout", *DROPOUT),
        "weights": {
            name: trial.suggest_float(name, *bounds, log=True) for name, bounds in searched_weights(row).items()
        },
    }


def random_parameters(fold: int, count: int, learning_rate: float) -> list[dict[str, float]]:
    """Learning rates and dropouts of the first trials of a fold: the same in every row, so that none is luckier.

    Args:
      fold: Its number.
      count: How many.
      learning_rate: The preset's.
    """
    random = np.random.default_rng(fold)
    factors = RATE_FACTOR ** random.uniform(-1, 1, count)
    dropouts = random.uniform(*DROPOUT, count)
    return [
        {"learning_rate": float(learning_rate * factor), "dropout": float(dropout)}
        for factor, dropout in zip(factors, dropouts, strict=True)
    ]


def as_parameters(row: str, choice: Mapping[str, Any]) -> dict[str, float]:
    """A choice as the parameters of a trial. Raises ValueError if a weight is unknown or outside its bounds."""
    if lacking := searched_weights(row).keys() - choice["weights"].keys():
        known = ", ".join(choice["weights"]) or "none"
        raise ValueError(f"the bounds of row {row} name {sorted(lacking)[0]!r}; its loss weights are: {known}")
    weights = {name: choice["weights"][name] for name in searched_weights(row)}
    for name, (low, high) in searched_weights(row).items():
        if not low <= weights[name] <= high:
            text = f"{low:g} to {high:g}, do not hold the preset's {weights[name]:g}; widen them where they are written"
            raise ValueError(f"the bounds of {name} in row {row}, {text}")
    return {"learning_rate": choice["learning_rate"], "dropout": choice["dropout"], **weights}
