"""What people type for sizes, times, folds and triples, as numbers. Each text of an error names the form wanted."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(text: str) -> int:
    """Read bytes from `8G`, `512M` or `1.5GiB`; powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise ArgumentTypeError(f"'{text}' is not a size; write a number of bytes with K, M, G or T, as in 8G")
    return int(float(match[1]) * 1024 ** _POWER[match[2].lower()])


def duration(text: str) -> float:
    """Read seconds from `90`, `90s`, `20m`, `1.5h` or `1h30m`."""
    match = _TIME.fullmatch(text.strip())
    parts = [float(part or 0) for part in match.groups()] if match else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if seconds <= 0:
        raise ArgumentTypeError(f"'{text}' is not a time; write it as 90s, 20m or 1h30m")
    return seconds


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def seed(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> float:
    """Read a number above 0."""
    return _numbers(text, "a number above 0")[0]


def step(text: str) -> float:
    """Read the sliding window's step, a fraction of the tile in (0, 1]."""
    value = positive(text)
    if value > 1:
        raise ArgumentTypeError(f"'{text}' is not in (0, 1]; 0.5 moves the window by half its size")
    return value


def spacing(text: str) -> tuple[float, ...]:
    """Read millimetres of z, y, x from `3,1,1`."""
    values = tuple(_numbers(text, "a spacing; write z, y and x in mm, as in 3,1,1"))
    if len(values) != 3:
        raise ArgumentTypeError(f"'{text}' has {len(values)} numbers; write z, y and x in mm, as in 3,1,1")
    return values


def patch(text: str) -> tuple[int, ...]:
    """Read voxels from `64,128,128` or `64x128x128`; two numbers for 2d."""
    wanted = "a patch size; write z, y and x in voxels, as in 64,128,128 (two for 2d)"
    values = _numbers(text.replace("x", ","), wanted)
    if len(values) not in (2, 3) or any(value != int(value) for value in values):
        raise ArgumentTypeError(f"'{text}' is not {wanted}")
    return tuple(int(value) for value in values)


def fold(text: str) -> int | str:
    """Read a fold's number, or `all`."""
    if text == "all":
        return text
    if not text.isdecimal():
        raise ArgumentTypeError(f"'{text}' is not a fold; write its number, counted from 0, or all")
    return int(text)


def part(text: str) -> tuple[int, int]:
    """Read which of how many parts, counted from 1, as (index from 0, count)."""
    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise ArgumentTypeError(f"'{text}' is not a part; write which of how many, as 1/4")
    return int(first) - 1, int(last)


def _numbers(text: str, wanted: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"'{text}' is not {wanted}") from None
    if not all(0 < value < float("inf") for value in values):
        raise ArgumentTypeError(f"'{text}' is not {wanted}; every number must be above 0")
    return values
