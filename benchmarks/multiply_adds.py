"""Counts the multiply-adds of the matrix products in a JAX function, those inside scans as often as they run."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def multiply_adds(function: Callable[..., Any], *args: Any) -> int:
    """Multiply-adds of the products of `function(*args)`, which is traced, not run. Convolutions are not counted.

    Raises:
      ValueError: for a loop whose number of steps is not known from the program.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        inner = sum(_count(part) for part in _programs(params))
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += math.prod(out) * math.prod(left[axis] for axis in contracted)
        elif name == "while" and inner:
            raise ValueError("a product stands in a while loop, whose number of steps the program does not tell")
        else:
            total += inner * params.get("length", 1) if name == "scan" else inner
    return total


def _programs(params: dict[str, Any]) -> list[Jaxpr]:
    """The programs inside an equation; of the branches of a condition all are counted."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, Jaxpr):
                found.append(item)
    return found
