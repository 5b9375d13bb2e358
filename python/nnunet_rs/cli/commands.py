"""Which function carries out which command.

Each takes the arguments, calls the library, tells what came of it. Every import of the library stands in the function
that needs it: `check` must not wait for torch.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from nnunet_rs.cli import exchange, learn, look, postprocess, prepare, use
from nnunet_rs.cli.console import Console, Outcome


@contextmanager
def warnings_shown(shown: bool) -> Iterator[None]:
    """Keep the libraries' warnings from the terminal unless they were asked for."""
    with warnings.catch_warnings():
        if not shown:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Carry out the command that was asked for."""
    return _COMMANDS[arguments.command](arguments, console)


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], Outcome]] = {
    "demo": look.demo,
    "check": prepare.check,
    "plan": prepare.plan,
    "preprocess": prepare.preprocess,
    "train": learn.train,
    "best": learn.best,
    "predict": use.predict,
    "ensemble": use.ensemble,
    "postprocess": postprocess.postprocess,
    "evaluate": use.evaluate,
    "report": look.report,
    "import": exchange.import_,
    "export": exchange.export,
    "doctor": look.doctor,
    "completion": look.completion,
}
