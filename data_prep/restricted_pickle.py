"""Reads data from a pickle without running code: numbers, text, bytes, lists, tuples, dicts and numpy arrays.

`pickle.load` may call any function that a file names. Here the instructions of the file (`pickletools.genops`) are
interpreted by a table that has no call in it: the few names of numpy that arrays need are replaced by checks of dtype,
shape and number of bytes. Every length is compared with what is in the file, so memory is bounded by a multiple of its
size.
"""

import mmap
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cmarr_jax.data.corpus import ArchiveError
from data_prep.pickled_arrays import CALLS, Name, NotData, Unfinished
from data_prep.text_files import cannot_read

_MARK = object()
_SCALARS = (str, bytes, int, float, np.number, np.bool_)

# Instructions that push their argument.
_LITERALS = frozenset(
    [
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "UNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
    ]
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(path: Path) -> Any:
    """What a pickle of protocol 0 to 5 holds, if it is data only.

    Text of Python 2 is taken as Latin-1; in its protocol 0 it must be ASCII, so arrays of Python 2 need protocol 2.

    Arrays may hold numbers, text or bytes; those of objects become arrays of objects if every item is a number or text.

    Raises:
      ArchiveError: if the file cannot be read, is damaged, or holds anything else than data.
    """
    try:
        # mapped memory never makes room for more bytes than there are, whatever length the file claims
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Machine(room=16 * len(data)).run(data)
    except OSError as error:
        raise ArchiveError(cannot_read(path, error)) from error
    except NotData as error:
        text = "nothing of it was run; take the file from a source that you trust, as arrays, text and numbers only"
        raise ArchiveError(f"{path}: is refused, since it {error}; {text}") from error
    except Exception as error:  # damaged bytes make pickletools, numpy and the stack raise many types
        raise ArchiveError(f"{path}: is damaged or no pickle; download it again") from error


class _Machine:
    """Stack and memo of one pickle.

    `room` is how many bytes calls may make. A list of None has 8 bytes for each byte of the file; nothing has more.
    """

    def __init__(self, room: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.unfinished = 0
        self.room = room

    def run(self, data: mmap.mmap) -> Any:
        for opcode, argument, _ in pickletools.genops(data):  # type: ignore[arg-type]  # it has read and readline, which is all that is used
            name = opcode.name
            if name in _LITERALS:
                self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _TUPLES:
                self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
            elif name == "STOP":
                break
            elif name not in ("PROTO", "FRAME"):
                self.step(name, argument)
        (result,) = self.stack
        if self.unfinished or result is _MARK:
            raise ValueError("a mark or an array without values is left")
        return result

    def step(self, name: str, argument: Any) -> None:
        """One of the instructions that use what is on the stack."""
        match name:
            case "POP":
                self.stack.pop()
            case "DUP":
                self.stack.append(self.stack[-1])
            case "POP_MARK":
                self.marked()
            case "TUPLE":
                self.stack.append(tuple(self.marked()))
            case "LIST":
                self.stack.append(self.marked())
            case "DICT":
                self.stack.append(_fill({}, self.marked()))
            case "APPEND" | "APPENDS":
                items = self.marked() if name == "APPENDS" else [self.pop()]
                _of(list, self.stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.marked() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
                _fill(_of(dict, self.stack[-1]), items)
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.put(len(self.memo) if argument is None else argument)
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(_name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self.stack.append(_name(module, attribute))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                self.reduce(_of(Name, function), _of(tuple, arguments))
            case "BUILD":
                state, value = self.pop(), self.pop()
                self.finish(_of(Unfinished, value), state)
            case _:
                raise NotData(f"has the pickle instruction {name}, which makes objects")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def marked(self) -> list[Any]:
        """Removes everything down to the last mark."""
        items: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def put(self, key: int) -> None:
        value = self.stack[-1]
        self.memo[key] = value
        if isinstance(value, Unfinished):
            value.memo_keys.append(key)

    def reduce(self, function: Name, arguments: tuple[Any, ...]) -> None:
        value = CALLS[function](*arguments)
        if isinstance(value, Unfinished):
            self.unfinished += 1
            self.stack.append(value)
        else:
            self.push_new(value)

    def finish(self, value: Unfinished, state: Any) -> None:
        """Replaces an array or dtype that waits for its state, on the stack and in the memo."""
        if value.is_finished:
            raise ValueError("state is given twice")
        finished = value.finish(state)
        self.unfinished -= 1
        self.push_new(finished)
        for key in value.memo_keys:
            if self.memo[key] is value:
                self.memo[key] = finished

    def push_new(self, value: Any) -> None:
        """Pushes what a call made. The sum of sizes is bounded, since one long text could be encoded many times."""
        if isinstance(value, np.ndarray | np.generic):  # np.str_ and np.bytes_, too
            self.room -= value.nbytes
        elif isinstance(value, bytes):
            self.room -= len(value)
        if self.room < 0:
            raise NotData("unpacks to many times its size")
        self.stack.append(value)


def _name(module: Any, attribute: Any) -> Name:
    name = Name.of(module, attribute)
    if name is None:
        raise NotData(f"names {ascii(f'{module}.{attribute}')[1:-1][:80]}, which is code and not data")
    return name


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} where {kind.__name__} is needed")
    return value


def _fill(into: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """Adds key, value, key, value, ... A key is a single value: the hash of deeply nested tuples exhausts the stack."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, _SCALARS):
            raise NotData(f"has a {type(key).__name__} as key of a dict")
        into[key] = value
    return into
