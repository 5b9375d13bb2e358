"""The grammar of the command line: the commands, their help, their examples. Imports nothing heavy."""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn

from nnunet_rs.cli import exchange_options, nnunet, options, options_use, shared_options

WIDTH = 100
_OURS = re.compile(r"-\w|--(?!clean)[a-z]+(-[a-z]+)+|--(?!clean)[a-z]{2,}")  # not -step_size, --c, --disable_tta
INTRO = "nnU-Net with its arithmetic in Rust: from a folder of scans and labels to a segmentation network."
OUTRO = """\
examples:
  nnunet-rs demo                                      see everything work, on made-up scans
  nnunet-rs check Task04_Hippocampus                  is this dataset sound?
  nnunet-rs preprocess Task04_Hippocampus -o work     plan it, prepare it
  nnunet-rs train work -c 3d_fullres -f 0             train one fold
  nnunet-rs predict work -i scans -o segmentations    use it

`nnunet-rs COMMAND --help` tells the rest. Where nnU-Net's variables nnUNet_raw, nnUNet_preprocessed and
nnUNet_results are set, `-d 27` stands for the folders. nnU-Net's names of options are understood.
Exit codes: 0 done; 1 it did not work, one line says why; 2 wrong usage; 130 interrupted.
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: where it stands in the list, what it says of itself, which arguments it takes."""

    name: str
    group: str
    summary: str
    usage: str
    description: str
    examples: tuple[str, ...]
    add_arguments: Callable[[argparse.ArgumentParser], None]


COMMANDS = (
    Command(
        name="demo",
        group="try",
        summary="made-up scans through everything, in minutes on two cores",
        usage="[-o DIR] [options]",
        description="Make anisotropic abdominal scans, then check, plan, preprocess, train, predict and evaluate. "
        "Ends with a table of Dice scores, a picture and a page to look at.",
        examples=("nnunet-rs demo", "nnunet-rs demo -o elsewhere --device cuda"),
        add_arguments=options.demo,
    ),
    Command(
        name="check",
        group="prepare",
        summary="every fault of a dataset, with file, rule and value",
        usage="DATA [options]",
        description="Read every file of a dataset once and report all that would go wrong later. "
        "The exit code is 1 if anything is wrong.",
        examples=("nnunet-rs check Task04_Hippocampus", "nnunet-rs check Dataset027_ACDC --json | jq .faults"),
        add_arguments=options.check,
    ),
    Command(
        name="plan",
        group="prepare",
        summary="fingerprint a dataset and decide everything that follows from it",
        usage="DATA -o WORK [options]",
        description="Measure a dataset (its fingerprint) and choose spacing, patch, batch and network by rule.",
        examples=(
            "nnunet-rs plan Task04_Hippocampus -o work --explain",
            "nnunet-rs plan Dataset027_ACDC -o work --vram 24 --recipe v2",
            "nnunet-rs plan --fingerprint dataset_fingerprint.json --dataset-json dataset.json \\",
            "               --recipe v2 --as-nnunet plans.json",
        ),
        add_arguments=options.plan,
    ),
    Command(
        name="preprocess",
        group="prepare",
        summary="check, fingerprint, plan and prepare a dataset in one go; resumes",
        usage="DATA -o WORK [options]",
        description="Bring a dataset into the form that training reads: cropped, normalised, resampled. Checks and "
        "plans on the way. Run it again after an interruption or a change: what is whole stays, the rest is made.",
        examples=(
            "nnunet-rs preprocess Task04_Hippocampus -o work",
            "nnunet-rs preprocess -d 27",
            "nnunet-rs preprocess Dataset027_ACDC -o work -c 3d_fullres --memory 8G --groups patients.csv",
        ),
        add_arguments=options.preprocess,
    ),
    Command(
        name="train",
        group="learn",
        summary="train one fold of a configuration, or everything, and score the validation cases",
        usage="WORK (-c CONFIG -f FOLD | --all) [options]",
        description="Train a network on all cases but one fold's, then predict that fold's cases and score them.",
        examples=(
            "nnunet-rs train work -c 3d_fullres -f 0",
            "nnunet-rs train work -c 3d_fullres -f 0 --recipe fast --time-budget 20m",
            "nnunet-rs train work -c 2d --folds all --resume",
            "nnunet-rs train work --all --device cuda:0,cuda:1",
            "nnunet-rs train -d 27 -c 3d_fullres -f 0",
        ),
        add_arguments=options.train,
    ),
    Command(
        name="best",
        group="learn",
        summary="choose a configuration or a pair, and post-processing, by cross-validation",
        usage="WORK [options]",
        description="Score every trained configuration and every pair of them on the cases that they did not see, "
        "choose the best, and decide whether keeping the largest component helps. Predicting with WORK follows it.",
        examples=("nnunet-rs best work", "nnunet-rs best work -c 2d 3d_fullres -f 0 1 --no-pairs"),
        add_arguments=options.best,
    ),
    Command(
        name="predict",
        group="use",
        summary="segment a folder of images, or one image",
        usage="MODEL_OR_WORK -i IN -o OUT [options]",
        description="Segment images with a trained model. Each result has its image's header and opens beside it. "
        "A rerun skips what is there.",
        examples=(
            "nnunet-rs predict work -i scans -o segmentations",
            "nnunet-rs predict work -i scan.nii.gz -o segmentation.nii.gz",
            "nnunet-rs predict work -i scans -o segmentations -c 3d_fullres -f 0 1 2 --no-mirror",
        ),
        add_arguments=options_use.predict,
    ),
    Command(
        name="ensemble",
        group="use",
        summary="average saved probabilities of several predictions",
        usage="FOLDER FOLDER ... -o OUT [options]",
        description="Average the probabilities that predict --save-probabilities wrote and write the segmentations.",
        examples=("nnunet-rs ensemble flat solid -o both",),
        add_arguments=options_use.ensemble,
    ),
    Command(
        name="postprocess",
        group="use",
        summary="keep largest components, or apply a function, in a folder of segmentations",
        usage="FOLDER -o OUT (--from|--decide|--keep-largest|--function) ... [options]",
        description="Post-process segmentations that lie in a folder, whoever made them. predict WORK does by itself "
        "what best decided; this is for everything else.",
        examples=(
            "nnunet-rs postprocess both -o cleaned --from work",
            "nnunet-rs postprocess segmentations -o cleaned --keep-largest liver spleen",
            "nnunet-rs postprocess validation -o cleaned --decide labelsTr",
        ),
        add_arguments=options_use.postprocess,
    ),
    Command(
        name="evaluate",
        group="use",
        summary="compare segmentations with references",
        usage="PREDICTIONS REFERENCE [-o FILE] [options]",
        description="Score predicted segmentations against references: Dice, IoU, sensitivity, precision, volumes and "
        "surface distances per case and class, with bootstrap intervals; -o FILE.json writes FILE.csv as well.",
        examples=(
            "nnunet-rs evaluate segmentations labelsTs -o summary.json",
            "nnunet-rs evaluate mine labelsTs --against theirs --metric hd95",
        ),
        add_arguments=options_use.evaluate,
    ),
    Command(
        name="report",
        group="use",
        summary="a work folder as one page to look at, at any stage",
        usage="WORK [-o FILE] [options]",
        description="Write one self-contained HTML page: the dataset, the plan and why, curves, scores, the best, "
        "the median and the worst case to scroll through, times, versions, hashes; what is missing, and the command "
        "that makes it.",
        examples=("nnunet-rs report work -o report.html", "nnunet-rs report work --cases 10"),
        add_arguments=options.report,
    ),
    Command(
        name="import",
        group="exchange",
        summary="models that nnU-Net v2 trained, as models of this program",
        usage="SOURCE -o MODELS [options]",
        description="Read models of nnU-Net v2 (nothing is unpickled) and write weights, cards, plan, and what "
        "find_best_configuration chose. predict also takes such a folder or zip as it is.",
        examples=(
            "nnunet-rs import nnUNet_results/Dataset027_ACDC -o models",
            "nnunet-rs import model.zip -o models -c 3d_fullres -f 0 1",
        ),
        add_arguments=exchange_options.import_,
    ),
    Command(
        name="export",
        group="exchange",
        summary="models of this program for nnU-Net v2's own commands",
        usage="MODELS -o TARGET --format nnunet [options]",
        description="Write models as a folder of results, or a zip, that nnUNetv2_predict loads; what nnU-Net cannot "
        "express is refused.",
        examples=(
            "nnunet-rs export work -o nnUNet_results --format nnunet",
            "nnunet-rs export work -o model.zip --format nnunet -c 3d_fullres",
        ),
        add_arguments=exchange_options.export,
    ),
    Command(
        name="doctor",
        group="besides",
        summary="what this machine offers, what is installed, what stands in the way",
        usage="[FOLDER] [options]",
        description="Show versions, devices, threads, memory, instruction sets and the speed of a folder's disk, and "
        "what to mend. The exit code is 1 if something is missing.",
        examples=("nnunet-rs doctor", "nnunet-rs doctor /scratch --json"),
        add_arguments=options.doctor,
    ),
    Command(
        name="completion",
        group="besides",
        summary="print a shell's completion script",
        usage="bash|zsh|fish [options]",
        description="Print the script that completes commands, options and files. It is made from the grammar of this "
        "version; pressing Tab starts no Python.",
        examples=(
            "nnunet-rs completion bash > ~/.local/share/bash-completion/completions/nnunet-rs",
            "nnunet-rs completion zsh > ~/.zfunc/_nnunet-rs     # with fpath+=~/.zfunc before compinit",
            "nnunet-rs completion fish > ~/.config/fish/completions/nnunet-rs.fish",
        ),
        add_arguments=options.completion,
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    root = _Root(prog="nnunet-rs")
    root.add_argument("--version", action=_Version, nargs=0)
    commands = root.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    root.commands = commands.choices
    for command in COMMANDS:
        parser = commands.add_parser(
            command.name,
            help=command.summary,
            usage=f"nnunet-rs {command.name} {command.usage}",
            description=textwrap.fill(command.description, _width()),
            epilog="\n  ".join(("examples:", *command.examples)),
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        command.add_arguments(parser)
        shared_options.display(parser)
        nnunet.add(command.name, parser)
    return root


def own_names(action: argparse.Action) -> list[str]:
    """Names of an option that help and completion show: not those that nnU-Net's scripts call it by."""
    return [name for name in action.option_strings if _OURS.fullmatch(name) and action.help != argparse.SUPPRESS]


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


class _Parser(argparse.ArgumentParser):
    """Tells wrong usage in one line, with the way to the help."""

    def error(self, message: str) -> NoReturn:
        """Leave with code 2."""
        self.exit(2, f"error: {message}; see `{self.prog} --help`\n")

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Take `-j4` for `-j 4`; argparse would also take `-p` for `-part_id`, and `-chk` for `-c hk`."""
        joined = option_string[2:3].isdigit()
        found: list[Any] = super()._get_option_tuples(option_string)
        return [match for match in found if joined and match[1] == option_string[:2]]


class _Root(_Parser):
    """The parser of `nnunet-rs` itself: lists the commands in groups, guesses at misspelt ones."""

    commands: Mapping[str, argparse.ArgumentParser] = MappingProxyType({})

    def format_help(self) -> str:
        """Give the page that `nnunet-rs --help` prints."""
        lines = ["usage: nnunet-rs COMMAND ...", "", INTRO]
        for group in dict.fromkeys(command.group for command in COMMANDS):
            lines += ["", f"{group}:"]
            lines += [f"  {command.name:<14}{command.summary}" for command in COMMANDS if command.group == group]
        lines += ["", "options:", "  -h, --help    show this page", "  --version     show the version", "", OUTRO]
        return "\n".join(lines)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what a command does not know is told by that command, with what was probably meant."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.commands[known.command] if known.command else self
            names = [name for action in parser._actions for name in own_names(action)]
            close = difflib.get_close_matches(unknown[0], names, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            parser.error(f"there is no {' '.join(unknown)} here{meant}")
        return known

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.dest == "command" and value not in (names := [command.name for command in COMMANDS]):
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
        from nnunet_rs import __version__

        print(f"nnunet-rs {__version__}")
        parser.exit(0)
