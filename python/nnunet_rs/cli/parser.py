"""The grammar of the command line, made of its commands. Imports nothing heavy."""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from nnunet_rs.cli import commands, nnunet, shared
from nnunet_rs.cli.command import Command, own_names

WIDTH = 100
INTRO = "nnU-Net, accelerated in Rust: from a folder of scans and labels to a segmentation network."
OUTRO = """\
examples:
  nnunet-rs demo                                      run every step, on made-up scans
  nnunet-rs check Task04_Hippocampus                  is this dataset valid?
  nnunet-rs preprocess Task04_Hippocampus -o work     plan and prepare it
  nnunet-rs train work -c 3d_fullres -f 0             train one fold
  nnunet-rs predict work -i scans -o segmentations    segment scans

See `nnunet-rs COMMAND --help` for each command. Where nnU-Net's variables nnUNet_raw, nnUNet_preprocessed and
nnUNet_results are set, `-d 27` stands for the folders. nnU-Net's own option names are accepted.
Exit codes: 0 done; 1 error, told in one line; 2 wrong usage; 130 interrupted.
"""


def build_parser() -> RootParser:
    """Build the parser of all commands."""
    root = RootParser(prog="nnunet-rs")
    root.add_argument("--version", action=_Version, nargs=0)
    subparsers = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=CommandParser)
    root.commands = subparsers.choices
    for command in commands.COMMANDS:
        parser = subparsers.add_parser(
            command.name,
            help=command.summary,
            usage=f"nnunet-rs {command.name} {command.usage}",
            description=textwrap.fill(command.description, _width()),
            epilog="\n  ".join(("examples:", *command.examples)),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        parser.command = command
    subparsers.choices[commands.completion.COMMAND.name].set_defaults(grammar=root)
    return root


def _width() -> int:
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal, up to WIDTH columns; an option's value is named once, nnU-Net's names are not."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, max_help_position=30, width=_width())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        names = ", ".join(own_names(action))
        if action.nargs == 0:
            return names
        return f"{names} {self._format_args(action, self._get_default_metavar_for_optional(action))}"


class CommandParser(argparse.ArgumentParser):
    """Tells wrong usage in one line, with the way to the help; a command's options are added with their first use."""

    command: Command | None = None  # whose options are still to be added

    @property
    def arguments(self) -> Sequence[argparse.Action]:
        """Every argument that it takes; argparse itself has no public way to list them."""
        self._complete()
        return tuple(self._actions)

    def format_help(self) -> str:
        """Give the page that `--help` prints."""
        self._complete()
        return super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, as argparse does."""
        self._complete()
        return super().parse_known_args(args, namespace)

    def _complete(self) -> None:
        command, self.command = self.command, None
        if command is not None:
            command.add_arguments(self)
            shared.add_display(self)
            nnunet.add(command.name, self)

    def error(self, message: str) -> NoReturn:
        """Leave with code 2."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Take `-j4` for `-j 4`; argparse would also take `-p` for `-part_id`, and `-chk` for `-c hk`."""
        joined = option_string[2:3].isdigit()
        found: list[Any] = super()._get_option_tuples(option_string)
        return [match for match in found if joined and match[1] == option_string[:2]]


class RootParser(CommandParser):
    """The parser of `nnunet-rs` itself: lists the commands in groups, guesses at misspelt ones."""

    commands: Mapping[str, CommandParser] = MappingProxyType({})

    def format_help(self) -> str:
        """Give the page that `nnunet-rs --help` prints."""
        lines = ["usage: nnunet-rs COMMAND ...", "", INTRO]
        for group in dict.fromkeys(command.group for command in commands.COMMANDS):
            lines += ["", f"{group}:"]
            lines += [
                f"  {command.name:<14}{command.summary}" for command in commands.COMMANDS if command.group == group
            ]
        lines += ["", "options:", "  -h, --help    show this page", "  --version     show the version", "", OUTRO]
        return "\n".join(lines)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what a command does not know is an error of that command, with what was probably meant."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.commands[known.command] if known.command else self
            names = [name for action in parser.arguments for name in own_names(action)]
            close = difflib.get_close_matches(unknown[0], names, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"there is no {' '.join(unknown)} here{meant}")
        return known

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.dest == "command" and value not in (names := [command.name for command in commands.COMMANDS]):
            close = difflib.get_close_matches(str(value), names, 1)
            known = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(names)}"
            instead = nnunet.command_instead(str(value))
            if instead is not None:
                known = f"write `nnunet-rs {instead}`"
            raise argparse.ArgumentError(None, f"no command '{value}'; {known}")
        super()._check_value(action, value)


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and leave."""
        from nnunet_rs.core.version import installed_version

        print(f"nnunet-rs {installed_version()}")
        parser.exit(0)
