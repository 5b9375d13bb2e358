"""Lists, tables, texts and numbers out of a pickle, without unpickling: the few instructions that such a file takes.

Nothing is imported and nothing is called: a function that the pickle names comes out as its name, a NumPy number as
the number that its bytes are. Whatever else the file asks for is refused.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
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


_NOTHING = {"PROTO", "FRAME"}
_KEPT = {"MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"}
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


_SIMPLE = {  # instructions without argument
    "(": "MARK", ".": "STOP", "N": "NONE", "\x88": "NEWTRUE", "\x89": "NEWFALSE", "]": "EMPTY_LIST", "}": "EMPTY_DICT",
    ")": "EMPTY_TUPLE", "a": "APPEND", "e": "APPENDS", "s": "SETITEM", "u": "SETITEMS", "t": "TUPLE", "\x85": "TUPLE1",
    "\x86": "TUPLE2", "\x87": "TUPLE3", "\x93": "STACK_GLOBAL", "\x94": "MEMOIZE", "R": "REDUCE", "b": "BUILD",
    "Q": "BINPERSID",
}  # fmt: skip
_FIXED = {  # those whose argument has one size
    "J": ("BININT", "<i"), "K": ("BININT1", "<B"), "M": ("BININT2", "<H"), "G": ("BINFLOAT", ">d"),
    "q": ("BINPUT", "<B"), "r": ("LONG_BINPUT", "<I"), "h": ("BINGET", "<B"), "j": ("LONG_BINGET", "<I"),
    "\x80": ("PROTO", "<B"), "\x95": ("FRAME", "<Q"),
}  # fmt: skip
_TEXTS = {"X": ("BINUNICODE", "<I"), "\x8c": ("SHORT_BINUNICODE", "<B")}  # the length of a text, before it
_TEXT_NAMES = {name for name, _ in _TEXTS.values()}
_READ = {ord(code): (name, struct.Struct("")) for code, name in _SIMPLE.items()}
_READ |= {ord(code): (name, struct.Struct(form)) for code, (name, form) in (_FIXED | _TEXTS).items()}
_GLOBAL = ord("c")  # followed by a module's name and a function's, a line each


def _instructions(content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield names and arguments as `pickletools.genops`, several times faster where a pickle has many."""
    at = 0
    while at < len(content):
        code = content[at]
        at += 1
        if code in _READ:
            name, fixed = _READ[code]
            argument: Any = fixed.unpack_from(content, at)[0] if fixed.size else None
            at += fixed.size
            if name in _TEXT_NAMES:
                end = at + argument
                argument, at = str(content[at:end], "utf-8", "surrogatepass"), end
        elif code == _GLOBAL:
            end = content.index(b"\n", content.index(b"\n", at) + 1)
            name, argument, at = "GLOBAL", content[at:end].decode().replace("\n", " "), end + 1
        else:
            name, argument, at = _rare(content, code, at)
        yield name, argument


def _rare(content: bytes, code: int, at: int) -> tuple[str, Any, int]:
    """Return name and argument of any instruction, and where the next one stands."""
    known = _described()[chr(code)]
    stream = io.BytesIO(content)
    stream.seek(at)
    argument = None if known.arg is None else known.arg.reader(stream)
    return known.name, argument, stream.tell()


@cache
def _described() -> dict[str, Any]:
    """Return Python's own description of every instruction; it takes longer to import than most pickles to be read."""
    import pickletools

    return {opcode.code: opcode for opcode in pickletools.opcodes}


class Pickled:
    """The stack and the memory of a pickle; a subclass tells what more it takes than lists, tables and numbers."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []  # how high the stack was
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """Carry out the instructions up to the end."""
        for name, argument in _instructions(content):
            if name == "STOP":
                return self.stack.pop()
            if name in _VALUES:
                self.stack.append(argument)
            elif name in _KEPT:
                self.memo[len(self.memo) if name == "MEMOIZE" else int(argument)] = self.stack[-1]
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
            self.marks.append(len(self.stack))
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
            place = self.marks.pop()
            items, self.stack[place:] = self.stack[place:], []
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
