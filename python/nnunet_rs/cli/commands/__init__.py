"""The commands, a file each, in the order of the first page.

A file holds the command's help, options and examples, and the function that carries it out: that takes the arguments,
calls the library and tells what came of it. Every import of the library stands in the function that needs it: help must
wait for nothing, and `check` not for torch.
"""

from __future__ import annotations

import argparse

from nnunet_rs.cli.command import Command
from nnunet_rs.cli.commands import (
    best,
    cancel,
    check,
    completion,
    demo,
    dicom,
    doctor,
    ensemble,
    evaluate,
    export,
    import_,
    plan,
    postprocess,
    predict,
    preprocess,
    report,
    statistics,
    status,
    train,
    view,
)
from nnunet_rs.cli.console import Console, Outcome

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    check.COMMAND,
    dicom.COMMAND,
    plan.COMMAND,
    preprocess.COMMAND,
    train.COMMAND,
    status.COMMAND,
    cancel.COMMAND,
    best.COMMAND,
    predict.COMMAND,
    ensemble.COMMAND,
    postprocess.COMMAND,
    evaluate.COMMAND,
    statistics.COMMAND,
    report.COMMAND,
    view.COMMAND,
    import_.COMMAND,
    export.COMMAND,
    doctor.COMMAND,
    completion.COMMAND,
)


def run(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Carry out the command that was asked for."""
    (command,) = (command for command in COMMANDS if command.name == arguments.command)
    return command.run(arguments, console)
