"""JSON documents: values of declared types, written for people and read with located errors, of every version.

What a document is, its version, and how documents of earlier versions become today's stands in one value, a Kind.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from nnunet_rs.core.errors import DatasetError, NnunetError, PlanError
from nnunet_rs.core.files import read_json, write_bytes

T = TypeVar("T")

_LARGEST = sys.float_info.max
_WHOLE = 1 << 63  # whole numbers that NumPy can hold
LINE = 140  # a list or table that fits into this many characters stays on one line
_OURS = "nnunet_rs "  # how the value of `format` begins
_ENVELOPE = ("format", "version")

Migration = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """One kind of JSON document: the type of its value, its version, and what becomes of earlier versions."""

    name: str  # "plan": the key `format` says "nnunet_rs plan"
    content: type[T]
    error: type[NnunetError] = DatasetError  # raised where a document cannot be read
    advice: str = "make it again"  # to whoever has one that cannot be read
    version: int = 1
    migrations: Mapping[int, Migration] = field(default_factory=dict)  # from version n to n + 1, of the tables
    compact: bool = False  # on one line, for machines alone
    marked: bool = True  # has the key `format`; where it has not, as version 0.1 wrote some, it may be missing

    def wrap(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document of what `encode` returned."""
        return {**({"format": _OURS + self.name} if self.marked else {}), "version": self.version, **body}

    def unwrap(self, document: Any, where: str) -> dict[str, Any]:
        """Return what a document of this or an earlier version holds, as this version has it; still to be decoded.

        Parameters
        ----------
        document
            What the JSON parser returned.
        where
            The file, for error messages.

        Raises
        ------
        NnunetError
            Of type `error`: another kind of document, an unknown version, or an earlier one that is damaged.
        """
        if not isinstance(document, dict) or document.get("format", self._unmarked) != _OURS + self.name:
            needed = f'the key format must be "{_OURS}{self.name}"' if self.marked else "it must be a table {…}"
            raise self.error(f"{where}: is no {self.name} of nnunet_rs: {needed}")
        version, oldest = document.get("version"), self.oldest
        if not isinstance(version, int) or isinstance(version, bool) or not oldest <= version <= self.version:
            known = f"{oldest} to {self.version}" if oldest < self.version else str(oldest)
            raise self.error(f"{where}: version is {version!r}, this release reads {known}; {self.advice}")
        body = {key: item for key, item in document.items() if key not in _ENVELOPE}
        try:
            for older in range(version, self.version):
                body = self.migrations[older](body)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise self.error(f"{where}: is damaged, of version {version} ({error!r}); {self.advice}") from error
        return body

    @property
    def oldest(self) -> int:
        """The earliest version that is read."""
        version = self.version
        while version - 1 in self.migrations:
            version -= 1
        return version

    @property
    def _unmarked(self) -> str:
        return "" if self.marked else _OURS + self.name

    def to_json(self, value: T) -> dict[str, Any]:
        """Return the document of a value."""
        return self.wrap(encode(value))

    def from_json(self, document: Any, where: str) -> T:
        """Return the value of a document; errors as `unwrap` and `decode`."""
        return decode(self.content, self.unwrap(document, where), f"{where}:", self.error)

    def save(self, path: Path, value: T, *, durable: bool = True) -> None:
        """Write a value, atomically; `durable` and errors as `write_atomically`."""
        document = self.to_json(value)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False) if self.compact else render(document)
        write_bytes(path, (text + "\n").encode(), durable=durable)

    def load(self, path: Path) -> T:
        """Read what `save` wrote, in this release or an earlier one; errors as `read_json` and `from_json`."""
        return self.from_json(read_json(path, self.error), str(path))


def is_of_ours(document: Any) -> bool:
    """Whether a document names a kind of this library, whichever."""
    return isinstance(document, dict) and str(document.get("format")).startswith(_OURS)


def encode(value: object) -> Any:
    """Turn dataclasses, tuples, paths and bytes (as base64), however nested, into what `json` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Path) else value


def render(value: Any, indent: str = "") -> str:
    """Write JSON with two-space indentation, short lists and tables on one line.

    Parameters
    ----------
    value
        What `encode` returned: dictionaries, lists, strings, finite numbers, booleans, None.
    indent
        What the lines after the first begin with.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    flat = not isinstance(value, (dict, list)) or not value
    if flat or (len(line) + len(indent) <= LINE and not _tall(value)):
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{json.dumps(key, ensure_ascii=False)}: {render(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(inner + row for row in rows) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + render(item, inner) for item in value) + f"\n{indent}]"


def _tall(value: Any) -> bool:
    """Return whether one entry a line reads better: sentences, and tables of tables."""
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if isinstance(value, dict):
        return any(isinstance(item, dict) for item in items)
    return any(isinstance(item, dict) or (isinstance(item, str) and " " in item) for item in items)


def decode(kind: type[T], value: Any, where: str, error: type[NnunetError] = PlanError) -> T:
    """Turn parsed JSON into a value of a declared type.

    Parameters
    ----------
    kind
        A dataclass or any type built of dataclasses, tuples, tables (`dict[str, …]`, `dict[int, …]`), literals,
        optionals, scalars, paths and bytes.
    value
        What the JSON parser returned.
    where
        File and key, for the error message: ``plan.json: configurations``.

    Raises
    ------
    NnunetError
        Of type `error`: a key is missing or unknown, or a value is not of its type; the text names file, key, value
        and what is allowed.
    """
    try:
        return typing.cast(T, _decode(kind, value, where))
    except _MismatchError as issue:
        raise error(str(issue)) from None


class _MismatchError(Exception):
    """A value is not of its declared type."""


def _decode(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, where)
    origin = typing.get_origin(kind)
    if origin in _GENERIC:
        return _GENERIC[origin](typing.get_args(kind), value, where)
    if origin is typing.Union or origin is types.UnionType:
        return _alternative(kind, value, where)
    return _scalar(kind, value, where)


def _alternative(kind: Any, value: Any, where: str) -> Any:
    parts = [part for part in typing.get_args(kind) if part is not type(None)]
    if value is None and len(parts) < len(typing.get_args(kind)):
        return None
    issues = []
    for part in parts:
        try:
            return _decode(part, value, where)
        except _MismatchError as issue:
            issues.append(str(issue))
    allowed = (issue.rpartition(": must be ")[2] for issue in issues[1:])
    raise _MismatchError(" or ".join((issues[0], *allowed)))


def _record(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where, "a table {…}")
    hints, required = _fields(kind)
    for key in value:
        if key not in hints:
            raise _MismatchError(f"{_at(where, key)}: unknown key; allowed are {', '.join(hints)}")
    for key in required:
        if key not in value:
            raise _MismatchError(f"{where.rstrip(':')}: the key {key} is missing")
    return kind(**{key: _decode(hints[key], item, _at(where, key)) for key, item in value.items()})


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    hints = typing.get_type_hints(kind)
    needed = (dataclasses.MISSING, dataclasses.MISSING)
    fields = dataclasses.fields(kind)
    return {f.name: hints[f.name] for f in fields}, tuple(
        f.name for f in fields if (f.default, f.default_factory) == needed
    )


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    _expect(isinstance(value, list), value, where, "a list […]")
    kinds: Iterator[Any] = iter(parts)
    if len(parts) == 2 and parts[1] is Ellipsis:
        kinds = iter(parts[:1] * len(value))
    else:
        _expect(len(value) == len(parts), value, where, f"a list of {len(parts)} entries")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _table(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), value, where, "a table {…}")
    return {_key(parts[0], key, where): _decode(parts[1], item, _at(where, key)) for key, item in value.items()}


def _key(kind: Any, key: str, where: str) -> Any:
    if kind is not int:
        return key
    _expect(key.isdecimal() and key.isascii(), key, f"{where} the key", "a whole number")
    return int(key)


def _literal(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    _expect(value in parts, value, where, "one of " + ", ".join(map(str, parts)))
    return value


_GENERIC: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    tuple: _tuple,
    dict: _table,
    Mapping: _table,
    typing.Literal: _literal,
}


def _scalar(kind: Any, value: Any, where: str) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is float:
        _expect(number and abs(value) <= _LARGEST, value, where, "a finite number")
    elif kind is int:
        _expect(number and isinstance(value, int) and abs(value) < _WHOLE, value, where, "a whole number")
    elif kind is bool:
        _expect(isinstance(value, bool), value, where, "true or false")
    elif kind is str:
        _expect(isinstance(value, str), value, where, "a text")
    elif kind is Path:
        _expect(isinstance(value, str), value, where, "a path")
        return Path(value)
    elif kind is bytes:
        return _bytes(value, where)
    else:
        raise TypeError(f"{where}: cannot read values of type {kind!r}")
    return value


def _bytes(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise _MismatchError(f"{where} is {_shown(value)}: must be bytes as base64") from None


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _expect(holds: bool, value: Any, where: str, allowed: str) -> None:
    if not holds:
        raise _MismatchError(f"{where} is {_shown(value)}: must be {allowed}")


def _at(where: str, key: object) -> str:
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"
