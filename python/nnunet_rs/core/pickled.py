"""Lists, tables, texts and numbers out of a pickle, without unpickling: the few instructions that such a file takes.

Nothing is imported and nothing is called: a function that the pickle names comes out as its name, a NumPy number as
the number that its bytes are. Whatever else the file asks for is refused.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rs.core.errors import DatasetError

MOST = 1 << 20  # bytes; what is read here takes a few hundred


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle that holds lists, tuples, dictionaries, texts, numbers, None and names of functions.

    Raises
    ------
    DatasetError
        The file is missing, too large, damaged, or holds anything else.
    """
    try:
        if path.stat().st_size > MOST:
            raise DatasetError(f"{path}: is larger than {MOST} bytes, which no such file is")
        return Pickled().run(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except RefusedError as error:
        raise DatasetError(f"{path}: holds {error}, which is not read") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: is damaged, or no pickle ({error})") from error


class RefusedError(Exception):
    """An instruction that lists and numbers do not need."""


_MARK = object()
_NOTHING = {"PROTO", "FRAME"}
_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "UNICODE", "SHORT_BINBYTES", "BINBYTES",
}  # fmt: skip
_SCALARS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
_NUMBERS = {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "b1"}


class Name(str):
    """What a function or type is called."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _NumberType:
    """A type of NumPy's numbers, little-endian."""

    code: str


class Pickled:
    """The stack and the memory of a pickle; a subclass tells what more it takes than lists, tables and numbers."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """Carry out the instructions up to the end."""
        for instruction, argument, _ in pickletools.genops(content):
            name = instruction.name
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name not in _NOTHING:
                self.build(name, argument)
        raise ValueError("it ends early")

    def build(self, name: str, argument: Any) -> None:
        """Carry out what makes lists, tables and names, or looks into the memory."""
        if name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            self.stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif name in ("APPEND", "APPENDS"):
            items = self.taken(name == "APPENDS", 1)
            self.stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self.taken(name == "SETITEMS", 2)
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.taken(name == "TUPLE", int(name[-1]) if name != "TUPLE" else 0)))
        elif name == "GLOBAL":
            self.stack.append(self.named(Name(str(argument).replace(" ", "."))))
        elif name == "STACK_GLOBAL":
            self.stack.append(self.named(Name(".".join(self.taken(False, 2)))))
        elif name == "REDUCE":
            self.stack.append(self.called(*self.taken(False, 2)))
        elif name == "BUILD":
            self.stack.append(self.with_state(*self.taken(False, 2)))
        elif name == "BINPERSID":
            self.stack.append(self.stored(self.stack.pop()))
        else:
            raise RefusedError(f"the instruction {name}")

    def named(self, name: Name) -> Any:
        """Return what stands for a function or type that the pickle names."""
        return name

    def called(self, function: Any, arguments: Any) -> Any:
        """Return what stands for the result of a call: here of those that NumPy's numbers take."""
        return _number(function, arguments)

    def with_state(self, value: Any, state: Any) -> Any:
        """Return a value that is given a state."""
        if not isinstance(value, _NumberType) or state[1] not in ("<", "|"):
            raise RefusedError(f"a state of {type(value).__name__}")
        return value

    def stored(self, key: Any) -> Any:
        """Return what stands for a value that is kept outside the pickle."""
        raise RefusedError(f"a reference to {key!r}")

    def taken(self, marked: bool, count: int) -> list[Any]:
        """Take the values down to the last mark, or so many."""
        if marked:
            place = max(i for i, value in enumerate(self.stack) if value is _MARK)
            items, self.stack[place:] = self.stack[place + 1 :], []
            return items
        if len(self.stack) < count:
            raise ValueError("its stack is empty")
        items, self.stack[len(self.stack) - count :] = self.stack[len(self.stack) - count :], []
        return items


def _number(function: Any, arguments: Any) -> Any:
    """Return what the three calls that NumPy's numbers take stand for: bytes, a type, a number."""
    if isinstance(function, Name) and isinstance(arguments, tuple):
        if function == "_codecs.encode" and isinstance(arguments[0], str) and arguments[1:] == ("latin1",):
            return arguments[0].encode("latin1")  # how old protocols write bytes
        if function == "numpy.dtype" and arguments[0] in _NUMBERS:
            return _NumberType(arguments[0])
        if function in _SCALARS and isinstance(arguments[0], _NumberType) and isinstance(arguments[1], bytes):
            kind, content = arguments[0].code, arguments[1]
            if len(content) == int(kind[1]):
                return np.frombuffer(content, f"<{kind}")[0].item()
    raise RefusedError(f"a call of {function}")
