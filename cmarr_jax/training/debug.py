"""Checks inside of training steps (`checkify`): which operation gave the first nan, where it is, in which batch.

The programs are slower then, and otherwise the same but for rounding. `jax_debug_nans` does not serve: it refuses every
nan that a program returns, and the history of a run holds nan for the epochs that are not done yet.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import checkify

CHECKS = checkify.nan_checks | checkify.div_checks  # checks of indices fail on gathers with batch dimensions (JAX 0.10)


class StepFault(ValueError):
    """The first fault that a step reported.

    Attributes:
      text: What happened, where in the code, and in which epoch and step.
      rows: Rows of the corpus in its batch.
    """

    def __init__(self, text: str, rows: np.ndarray):
        super().__init__(text)
        self.text, self.rows = text, rows


class StepChecks:
    """Collects the faults of steps that run inside compiled programs, and raises the first one outside of them."""

    def __init__(self) -> None:
        self.found: list[StepFault] = []

    def checked(self, train_step: Callable[..., Any]) -> Callable[..., Any]:
        """The step with the additional arguments `(rows, where, epoch, index)`, for the report."""
        step = checkify.checkify(train_step, errors=CHECKS)

        def checked_step(*arguments: Any, about: Any) -> Any:
            error, result = step(*arguments)
            jax.debug.callback(self._report, error, *about)
            return result

        return checked_step

    def raising(self, program: Callable[..., Any]) -> Callable[..., Any]:
        """The program, which raises `StepFault` after a call in which a step reported one."""

        def call(*arguments: Any) -> Any:
            result = program(*arguments)
            jax.block_until_ready(result)
            jax.effects_barrier()
            if self.found:
                raise self.found[0]
            return result

        return call

    def _report(self, error: checkify.Error, rows: Any, where: Any, epoch: Any, index: Any) -> None:
        fault = error.get_exception()
        if fault is not None:
            text = f"{_sentence(fault)}; epoch {int(epoch)}, step {int(index)}"
            self.found.append(StepFault(text, np.asarray(rows)[where]))


def _sentence(fault: Any) -> str:
    """What happened, and the innermost line outside of installed packages in which it did."""
    text = " ".join(str(fault).split()).rstrip(".")
    frames = fault.traceback_info.frames if fault.traceback_info is not None else []  # the innermost is the first
    own = [frame for frame in frames if "site-packages" not in frame.file_name]
    return f"{text}, in {own[0].function_name} at {own[0].file_name}:{own[0].line_num}" if own else text
