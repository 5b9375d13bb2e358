"""Lists, tables, texts and numbers out of a pickle, without unpickling: the few instructions that such a file takes.

Nothing is imported and nothing is called: a function that the pickle names comes out as its name, a NumPy number as
the number that its bytes are. Whatever else the file asks for is refused.
"""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Iterator
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
    except (ValueError, LookupError, TypeError, AttributeError, struct.error, StopIteration) as error:
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


_FIXED = {  # what follows an instruction whose argument has one size; all others without argument are read so too
    "BININT": "<i", "BININT1": "<B", "BININT2": "<H", "BINFLOAT": ">d", "BINPUT": "<B", "BINGET": "<B",
    "LONG_BINPUT": "<I", "LONG_BINGET": "<I", "PROTO": "<B", "FRAME": "<Q",
}  # fmt: skip
_TEXTS = {"BINUNICODE": "<I", "SHORT_BINUNICODE": "<B"}  # the length of a text
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_READ = {
    code: (opcode.name, struct.Struct(_FIXED.get(opcode.name, "") or _TEXTS.get(opcode.name, "")))
    for code, opcode in _OPCODES.items()
    if opcode.arg is None or opcode.name in _FIXED or opcode.name in _TEXTS
}


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield names and arguments as `pickletools.genops`, several times faster where a pickle has many."""
    at, stream = 0, io.BytesIO(content)
    while at < len(content):
        code = content[at]
        at += 1
        if code in _READ:
            name, fixed = _READ[code]
            argument: Any = fixed.unpack_from(content, at)[0] if fixed.size else None
            at += fixed.size
            if name in _TEXTS:
                end = at + argument
                argument, at = str(content[at:end], "utf-8", "surrogatepass"), end
        else:
            name, argument = _OPCODES[code].name, None
            stream.seek(at)
            if (described := _OPCODES[code].arg) is not None:
                argument = described.reader(stream)
            at = stream.tell()
        yield name, argument


class Pickled:
    """The stack and the memory of a pickle; a subclass tells what more it takes than lists, tables and numbers."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """Carry out the instructions up to the end."""
        for name, argument in _instructions(content):
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
        if name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[int(argument)])
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            self.stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = self.stack[-1]
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
            place = next(i for i in range(len(self.stack) - 1, -1, -1) if self.stack[i] is _MARK)
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
