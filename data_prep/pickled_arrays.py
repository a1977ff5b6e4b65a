"""The parts of numpy that a pickled array names, as checks: `restricted_pickle` calls these and nothing else."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np

_DTYPE = re.compile(r"[<>=|]?([biufcSUO])(\d{0,9})")
_ORDERS = {"C": "C", "F": "F", "K": "C"}  # K: C, then transposed
_LATIN = ("latin1", "latin-1")


class NotData(ValueError):
    """The pickle holds something that is not data; the message continues "since it"."""


class Name(NamedTuple):
    """A function or class of numpy or Python that pickled arrays name."""

    module: str
    attribute: str

    @classmethod
    def of(cls, module: Any, attribute: Any) -> Self | None:
        """The name under one spelling, or `None` if it is not needed for arrays."""
        if not (isinstance(module, str) and isinstance(attribute, str)):
            return None
        # numpy 2 moved numpy.core to numpy._core; Python 3 renamed __builtin__
        module = re.sub(r"^numpy\._?core\.", "numpy.core.", module).replace("__builtin__", "builtins")
        name = cls(module, attribute)
        return name if name in CALLS or name == NDARRAY else None


NDARRAY = Name("numpy", "ndarray")


class Unfinished:
    """An array or a dtype that gets its values by the instruction BUILD.

    Attributes:
      memo_keys: Where the memo refers to it.
      is_finished: Whether it has its values.
    """

    def __init__(self, finish: Callable[..., Any]) -> None:
        self.memo_keys: list[int] = []
        self.is_finished = False
        self._finish = finish

    def finish(self, state: Any) -> Any:
        """The array or dtype with this state."""
        self.is_finished = True
        return self._finish(*state)


def _dtype(name: Any, align: Any = False, copy: Any = True) -> Unfinished:
    match = _DTYPE.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise NotData(f"has an array of dtype {ascii(name)[:40]}; only numbers, text and bytes are read")
    dtype = np.dtype(name)

    def finish(version: int, order: Any, subtype: None, names: None, fields: None, *_: Any) -> np.dtype:
        if subtype is not None or names is not None or fields is not None or order not in ("<", ">", "=", "|"):
            raise NotData("has an array of records; only numbers, text and bytes are read")
        return dtype.newbyteorder(order)

    return Unfinished(finish)


def _reconstruct(kind: Any, shape: Any, code: Any) -> Unfinished:
    if kind != NDARRAY:
        raise NotData("has a subclass of arrays")

    def finish(version: int, shape: Any, dtype: Any, is_fortran: Any, values: Any) -> np.ndarray:
        return _array(values, dtype, shape, "F" if is_fortran else "C")

    return Unfinished(finish)


def _frombuffer(values: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> np.ndarray:
    array = _array(values, dtype, shape, _ORDERS[order])
    return array if order != "K" or axes is None else array.transpose(axes)


def _scalar(dtype: Any, value: Any) -> Any:
    return _array(value, dtype, (1,), "C")[0]


def _array(values: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Raises ValueError if `values` are not exactly the bytes that dtype and shape ask for."""
    if not isinstance(dtype, np.dtype):
        raise ValueError("no dtype")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("no shape")
    count = math.prod(shape)
    if dtype.hasobject:
        return _objects(values, count).reshape(shape, order=order)
    data = values.encode("latin-1") if isinstance(values, str) else values
    if not isinstance(data, bytes) or len(data) != count * dtype.itemsize or dtype.itemsize == 0:
        raise ValueError("another number of bytes than the shape")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _objects(values: Any, count: int) -> np.ndarray:
    if type(values) is not list or len(values) != count:
        raise ValueError("another number of objects than the shape")
    for value in values:
        if not isinstance(value, (str, bytes, int, float, complex, np.number, np.bool_, type(None))):
            raise NotData(f"has an array of {type(value).__name__}; only numbers, text and bytes are read")
    array = np.empty(count, object)
    array[:] = values
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in _LATIN:
        raise NotData(f"asks for the encoding {ascii(encoding)[:40]}")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


CALLS: dict[Name, Callable[..., Any]] = {
    Name("numpy", "dtype"): _dtype,
    Name("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    Name("numpy.core.multiarray", "scalar"): _scalar,
    Name("numpy.core.numeric", "_frombuffer"): _frombuffer,
    Name("_codecs", "encode"): _encode,  # bytes, in protocols 0 to 2
    Name("builtins", "bytes"): _empty_bytes,  # the same, where there are none
}
