"""Numbers, sizes and times as people write them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_EXAMPLES = 3


def clock(seconds: float) -> str:
    """Show a time as 0.4 s, 12 s, 3:05 or 1:02:03."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def by(values: Iterable[float], spec: str = "g") -> str:
    """Write sizes or spacings in plain text: 128 x 128 x 96."""
    return " x ".join(format(value, spec) for value in values)


def times(values: Iterable[float]) -> str:
    """Write sizes or spacings in tables: 128 × 128 × 96."""
    return " × ".join(f"{value:.4g}" for value in values)


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: no cases, 1 case, 2 cases."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def examples(names: Collection[str]) -> str:
    """Return the first names as text, and how many more there are."""
    first = ", ".join(sorted(names)[:_EXAMPLES])
    return first + (f" and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else "")
