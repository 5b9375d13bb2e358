"""Times for people."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Show a time as 0.4 s, 12 s, 3:05 or 1:02:03."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
