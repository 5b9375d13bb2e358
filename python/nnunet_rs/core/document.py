"""JSON documents: values read by their declared types with located errors, and written for people."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from nnunet_rs.core.errors import NnunetError, PlanError

T = TypeVar("T")

_LARGEST = sys.float_info.max
_WHOLE = 1 << 63  # whole numbers that NumPy can hold
LINE = 110  # a list or table that fits into this many characters stays on one line


def encode(value: object) -> Any:
    """Turn dataclasses and tuples, however nested, into what `json` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


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
    """Tell whether one entry a line reads better: sentences, and tables of tables."""
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if isinstance(value, dict):
        return any(isinstance(item, dict) for item in items)
    return any(isinstance(item, dict) or (isinstance(item, str) and " " in item) for item in items)


def decode(kind: type[T], value: Any, where: str, error: type[NnunetError] = PlanError) -> T:
    """Turn parsed JSON into a value of a declared type.

    Parameters
    ----------
    kind
        A dataclass or any type built of dataclasses, tuples, `dict[str, …]`, literals, optionals and scalars.
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
    return {key: _decode(parts[1], item, _at(where, key)) for key, item in value.items()}


def _literal(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    _expect(value in parts, value, where, "one of " + ", ".join(map(str, parts)))
    return value


_GENERIC: dict[Any, Callable[[tuple[Any, ...], Any, str], Any]] = {
    tuple: _tuple,
    dict: _table,
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
    else:
        raise TypeError(f"{where}: cannot read values of type {kind!r}")
    return value


def _expect(holds: bool, value: Any, where: str, allowed: str) -> None:
    if not holds:
        shown = json.dumps(value, ensure_ascii=False)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise _MismatchError(f"{where} is {shown}: must be {allowed}")


def _at(where: str, key: object) -> str:
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"
