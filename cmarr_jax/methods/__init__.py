"""The methods of the table, by name. One file per method: its network, loss and stages.

A method's module has `Options`, a frozen dataclass of what shapes its network beside the encoders, and
`make(encoders, num_classes, train, options) -> Method`, where `num_classes` is 1 in a regression. A module of your own
needs no registration: its dotted name is its name.
"""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from cmarr_jax.config import Hyperparameters, RunConfig, check_numbers
from cmarr_jax.methods.base import Method, Stage, check_weights, make_hyperparameters
from cmarr_jax.own_module import find_module
from cmarr_jax.task import TASKS

REGISTRY = {  # imported when asked for: CM-ARR's flow loads distrax, which takes a second or two
    "cm_arr": "cmarr_jax.methods.cm_arr",
    "zero_fill": "cmarr_jax.methods.zero_fill",
    "contrastive": "cmarr_jax.methods.contrastive",
    "late_fusion": "cmarr_jax.methods.late_fusion",
    "dedicated": "cmarr_jax.methods.dedicated",
    "imputation": "cmarr_jax.methods.imputation",
    "mmin": "cmarr_jax.methods.mmin",
    "cif_mmin": "cmarr_jax.methods.cif_mmin",
    "dicmor": "cmarr_jax.methods.dicmor",
}

__all__ = [
    "REGISTRY",
    "Method",
    "Stage",
    "UnknownMethodError",
    "hyperparameters_of",
    "is_own_method",
    "make_method",
    "make_options",
    "with_all_defaults",
]


class UnknownMethodError(ValueError):
    """A name that is no method of the library, and no module of one's own that can be imported here."""


def make_method(config: RunConfig) -> Method:
    """The method of a configuration.

    Raises:
      ValueError: for an unknown method, option or loss weight, with the known names.
    """
    module = _find(config.method)
    options = make_options(config.method, config.options)
    method = module.make(config.encoders, config.num_outputs, config.train, options)._replace(task=TASKS[config.task])
    for weights in (config.weights, *(stage.weights for stage in method.stages)):
        check_weights(method.weights, weights)
    return method


def is_own_method(name: str) -> bool:
    """Whether this is the name of a module outside the library that holds a method and can be imported here."""
    try:
        return name not in REGISTRY and _find(name) is not None
    except UnknownMethodError:
        return False


def with_all_defaults(config: RunConfig) -> RunConfig:
    """The configuration with all options and loss weights of its method: the same run, whatever the defaults become."""
    method, options = make_method(config), make_options(config.method, config.options)
    return dataclasses.replace(
        config, options=dataclasses.asdict(options), weights={**method.weights, **config.weights}
    )


def make_options(name: str, values: Mapping[str, Any]) -> Any:
    """The options of a method with these fields changed.

    Raises:
      ValueError: for an unknown name, with the known ones, or an impossible value.
    """
    options = _find(name).Options
    known = list(options.__dataclass_fields__)
    for field in values:
        if field not in known:
            raise ValueError(f"method {name} has no option {field!r}; it has: {', '.join(known) or 'none'}")
    found = options(**values)
    check_numbers(found)
    return found


def hyperparameters_of(config: RunConfig) -> Hyperparameters:
    """The hyperparameters of a configuration, as `train_run` takes them."""
    return make_hyperparameters(make_method(config), config.learning_rate, config.dropout, config.weights)


def _find(name: str) -> ModuleType:
    module = find_module(REGISTRY.get(name, name))
    if not hasattr(module, "make") or not hasattr(module, "Options"):
        raise UnknownMethodError(
            f"the method {name!r} is none of {', '.join(REGISTRY)}, and no module with Options and make that can be "
            "imported here; a module of your own must be in the working folder or installed"
        )
    return module  # type: ignore[return-value]
