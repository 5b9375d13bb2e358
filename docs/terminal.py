"""A picture of a terminal: what a command shows after some seconds, or when it is done, as SVG.

    python docs/terminal.py FILE.svg [--after SECONDS] [--rows 24] [--columns 100] -- COMMAND ...

Needs pyte and rich (`pip install pyte rich`), and a system with pseudo-terminals.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import time
from fcntl import ioctl
from itertools import groupby
from pathlib import Path
from termios import TIOCSWINSZ

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

COLOURS = {"brown": "yellow"}  # as pyte calls it


def shown(command: list[str], screen: pyte.Screen, seconds: float) -> None:
    """Run a command until it is done, or for so long; the screen then holds what a user sees."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(screen.columns), "LINES": str(screen.lines)}
        os.execvp(command[0], command)
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", screen.lines, screen.columns, 0, 0))
    stream, end, feed = pyte.ByteStream(screen), time.monotonic() + seconds, True
    with contextlib.suppress(OSError):  # the command is done
        while True:
            if feed and not select.select([terminal], [], [], max(end - time.monotonic(), 0))[0]:
                os.kill(process, signal.SIGINT)
                feed = False
            said = os.read(terminal, 1 << 16)
            if feed:
                stream.feed(said)
    os.waitpid(process, 0)


def picture(screen: pyte.Screen, prompt: str) -> str:
    """Draw the screen as SVG, the command above it, empty lines below left out."""
    console = Console(record=True, width=screen.columns, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "dim"), (prompt, "bold")))
    lines = [line(screen, row) for row in range(screen.lines)]
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for text in (*lines, Text()):
        console.print(text, no_wrap=True, overflow="crop")
    svg = console.export_svg(title="", theme=DIMMED_MONOKAI)
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # nothing is fetched


def line(screen: pyte.Screen, row: int) -> Text:
    """Give a row with its colours."""
    text = Text()
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    for (fore, bold, reverse), run in groupby(cells, key=lambda cell: (cell.fg, cell.bold, cell.reverse)):
        text.append("".join(cell.data for cell in run), Style(color=colour(fore), bold=bold, reverse=reverse))
    text.rstrip()
    return text


def colour(name: str) -> str | None:
    """Translate a colour's name from pyte to rich."""
    if name == "default":
        return None
    return f"#{name}" if len(name) == 6 and all(c in "0123456789abcdef" for c in name) else COLOURS.get(name, name)


def main() -> None:
    """Run, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="FILE.svg", type=Path)
    parser.add_argument("--after", metavar="SECONDS", type=float, default=3600)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    screen = pyte.Screen(options.columns, options.rows)
    shown(options.command, screen, options.after)
    options.output.write_text(picture(screen, shlex.join(options.command)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
