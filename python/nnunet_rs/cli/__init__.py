"""The command line: the only part that prints."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nnunet_rs.cli import commands
from nnunet_rs.cli.console import Console, Display, UsageError
from nnunet_rs.cli.parser import build_parser
from nnunet_rs.cli.renamed import remarks
from nnunet_rs.core.termination import Terminated, termination_unwinds

WRONG_USAGE = 2  # as argparse has it
_CALLED = {"cc3d": "connected-components-3d", "PIL": "pillow"}  # packages that are not named as their modules
UNHEARD = 141  # what shells report for a closed pipe
BY_SIGNAL = 128  # and, with the signal's number added, for a program that a signal ended: 130 for Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments after the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code: 0 done, 1 it did not work, 2 wrong usage, 130 interrupted, 143 asked to end by SIGTERM, and so on for
        other signals. What the parser itself finds wrong leaves by `SystemExit` with code 2.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    console = Console(Display(arguments.json, arguments.quiet, arguments.verbose))
    for remark in remarks(arguments):
        console.say(remark)
    begun = time.monotonic()
    try:
        from nnunet_rs.cli.paths import commands_as_typed, fill
        from nnunet_rs.core.resources import limit_spinning

        limit_spinning()  # before a command loads PyTorch
        fill(arguments, os.environ, console.say)
        console.as_typed = commands_as_typed(arguments)
        with termination_unwinds(watched=True), _warnings_shown(arguments.verbose):
            outcome = commands.run(arguments, console)
        return console.finish(arguments.command, outcome, time.monotonic() - begun)
    except KeyboardInterrupt as interruption:
        number = interruption.signal if isinstance(interruption, Terminated) else signal.SIGINT
        said = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
        console.fail(arguments.command, said, "what was finished is kept, nothing is half-written")
        return BY_SIGNAL + number
    except BrokenPipeError:  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD
    except UsageError as error:
        console.fail(arguments.command, str(error), f"see `nnunet-rs {arguments.command} --help`")
        return WRONG_USAGE
    except Exception as error:  # the last line of defence: no traceback unless asked for
        if arguments.verbose:
            import traceback

            traceback.print_exc(file=sys.stderr)
        console.fail(arguments.command, *_explain(error))
        return 1


@contextmanager
def _warnings_shown(shown: bool) -> Iterator[None]:
    """Keep the libraries' warnings from the terminal unless they were asked for."""
    import logging

    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _explain(error: Exception) -> tuple[str, str]:
    """Say what went wrong and, where the error itself does not, what to do."""
    from nnunet_rs.core.errors import NnunetError, is_out_of_memory, named, noted

    text = str(error) or type(error).__name__
    if isinstance(error, NnunetError):
        return text, ""
    if is_out_of_memory(error):
        return (
            f"out of memory ({' '.join(text.split())})",
            "give less to do at once: --memory, -j, --batch-size or a smaller --vram",
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        during = "".join(f", in {what}" for what in noted(error))
        return f"{where}{error.strerror or text}{during}", ""
    if isinstance(error, ModuleNotFoundError) and (error.name or "nnunet_rs").partition(".")[0] != "nnunet_rs":
        package = (error.name or "").partition(".")[0]
        during = "".join(f", in {what}" for what in noted(error))
        return f"{package} is not installed, and this takes it{during}", f"pip install {_CALLED.get(package, package)}"
    return named(error), "this should not happen; run again with -v and report what it prints"
