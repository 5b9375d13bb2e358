"""What people type for sizes, times, folds and triples, as numbers. Each text of an error names the form wanted."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*")
_CLOCK = re.compile(r"(?:([0-9]+)-)?([0-9]+):([0-5][0-9]):([0-5][0-9])")  # as SLURM: [days-]hours:minutes:seconds
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WORDS = {
    word: words[0]
    for words in (
        ("d", "day", "days"),
        ("h", "hr", "hrs", "hour", "hours"),
        ("m", "min", "mins", "minute", "minutes"),
        ("s", "sec", "secs", "second", "seconds"),
    )
    for word in words
}
_LONGEST = 1e9  # seconds, 30 years
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def size(text: str) -> int:
    """Read bytes from `8G`, `512M` or `1.5GiB`; powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    number = 0.0 if match is None else float(match[1]) * 1024 ** _POWER[match[2].lower()]
    if not 0 < number < float("inf"):
        raise ArgumentTypeError(f"'{text}' is not a size; write a number of bytes with K, M, G or T, as in 8G")
    return int(number)


def duration(text: str) -> float:
    """Read seconds from `90`, `90s`, `20m`, `1.5h`, `2d`, `1h30m`, `1h30` (30 minutes), `1:30:00` or `1-12:00:00`.

    Units may be written out (`30min`, `2 hours`), with blanks or without. What can be read in two ways is refused:
    `1:30`, `1.5h30`, `1h90`.
    """
    text = text.strip()
    clock = _CLOCK.fullmatch(text)
    seconds = _by_clock(*clock.groups(default="0")) if clock else _by_units(text)
    if not 0 < seconds <= _LONGEST:
        raise ArgumentTypeError(f"'{text}' is not a time; write it as 90s, 20min, 1h30m or 1:30:00")
    return seconds


def _by_clock(days: str, hours: str, minutes: str, seconds: str) -> float:
    return sum(float(part) * unit for part, unit in zip((days, hours, minutes, seconds), _UNITS.values(), strict=True))


def _by_units(text: str) -> float:
    """Add up numbers with units, greatest first; the last without unit is of the next smaller one. 0: it is no time."""
    pieces, units = _PIECE.findall(text.lower()), list(_UNITS)
    unread = _PIECE.sub("", text.lower())
    if unread or not all(unit in _WORDS or not unit for _, unit in pieces):
        return 0.0
    total, last = 0.0, -1  # index of the last unit
    for index, (number, unit) in enumerate(pieces):
        here = units.index(_WORDS[unit]) if unit else (last + 1 if pieces[1:] else units.index("s"))
        if not last < here < len(units) or ("." in number and pieces[index + 1 :]):
            return 0.0
        seconds = float(number) * _UNITS[units[here]]
        if last >= 0 and seconds >= _UNITS[units[last]]:  # 1h90
            return 0.0
        total, last = total + seconds, here
    return total


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def num_folds(text: str) -> int:
    """Read a whole number of at least 2."""
    if not text.isdecimal() or int(text) < 2:
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 2; train -f all holds no case out")
    return int(text)


def seed(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"'{text}' is not a whole number of at least 0")
    return int(text)


def positive(text: str) -> float:
    """Read a number above 0."""
    if "," in text:
        raise ArgumentTypeError(f"'{text}' is not a number above 0; write one, with a point, as in 0.5")
    return _numbers(text, "a number above 0")[0]


def step(text: str) -> float:
    """Read the sliding window's step, a fraction of the tile in (0, 1]."""
    value = positive(text)
    if value > 1:
        raise ArgumentTypeError(f"'{text}' is not in (0, 1]; 0.5 moves the window by half its size")
    return value


def fraction(text: str) -> float:
    """Read a share, a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"'{text}' is not a number from 0 to 1; write a share, as in 0.5")
    return value


def weight(text: str) -> tuple[str, float]:
    """Read a name and its weight from `liver=2.5`."""
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not name or not 0 <= value < float("inf"):
        raise ArgumentTypeError(f"'{text}' is not a weight; write a name and a number from 0, as in liver=2.5")
    return name, value


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


def axes(text: str) -> tuple[int, ...]:
    """Read axes of the image's array from `none`, `all`, `z,y` or `0,1`."""
    if text in ("none", "all"):
        return (0, 1, 2) if text == "all" else ()
    names = {name: axis for axis in range(3) for name in (str(axis), "zyx"[axis])}
    parts = [part.strip().lower() for part in text.split(",")]
    if not set(parts) <= names.keys():
        raise ArgumentTypeError(f"'{text}' names no axes; write none, all, or some of z,y,x (or 0,1,2), as in z,y")
    return tuple(sorted({names[part] for part in parts}))


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
