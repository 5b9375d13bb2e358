"""Where nnU-Net's three environment variables say that a dataset, its prepared cases and its models lie."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rs.cli import values
from nnunet_rs.cli.console import UsageError
from nnunet_rs.core.errors import DatasetError

if TYPE_CHECKING:
    from nnunet_rs.data.placement import Placement

RAW, PREPROCESSED, RESULTS = VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
HOME = "nnunet_rs"  # our folder beside nnU-Net's own within a dataset's
_FOLDER = re.compile(r"Dataset(\d+)_(.+)")


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders of the three variables; None: not set."""

    raw: Path | None
    preprocessed: Path | None
    results: Path | None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Paths:
        """Read the variables; an empty one is not set."""
        return cls(*(Path(found) if (found := environment.get(name)) else None for name in VARIABLES))

    def name(self, dataset: str) -> str:
        """Find the full name of a dataset, Dataset027_ACDC, from 27, 027, ACDC or itself.

        Raises
        ------
        DatasetError
            None of the folders holds it, or several datasets fit.
        """
        homes = [home for home in (self.raw, self.preprocessed, self.results) if home is not None]
        if not homes:
            raise UsageError(f"-d {dataset} needs {', '.join(VARIABLES)} (one of them at least); or name the folders")
        there = sorted({path.name for home in homes if home.is_dir() for path in home.iterdir() if path.is_dir()})
        known = [name for name in there if _FOLDER.fullmatch(name)]
        fitting = [name for name in known if _fits(name, dataset)]
        if len(fitting) == 1:
            return fitting[0]
        where = ", ".join(map(str, homes))
        if fitting:
            raise DatasetError(f"-d {dataset}: {', '.join(fitting)} all fit, in {where}; give the full name of one")
        listed = f"there are {', '.join(known)}" if known else "there is no folder of the form Dataset027_ACDC"
        raise DatasetError(f"-d {dataset}: no such dataset in {where}; {listed}")

    def data(self, dataset: str) -> Path:
        """Return the folder with a dataset's scans."""
        if self.raw is None:
            raise UsageError(f"-d {dataset} needs {RAW}, the folder that holds the datasets; or name DATA itself")
        return self.raw / self.name(dataset)

    def work(self, dataset: str) -> Path:
        """Return the dataset's work folder: among the results, or among the prepared data where those are not set."""
        home = self.results or self.preprocessed
        if home is None:
            raise UsageError(f"-d {dataset} needs {PREPROCESSED} or {RESULTS}, for the work folder; or name WORK")
        return home / self.name(dataset) / HOME

    def placement(self, dataset: str, work: Path) -> Placement | None:
        """Return where a work folder's prepared cases shall lie: under nnUNet_preprocessed, if both are set."""
        if self.preprocessed is None or self.results is None or work != self.work(dataset):
            return None
        from nnunet_rs.data.placement import Placement

        return Placement.of(PREPROCESSED, self.preprocessed, f"{self.name(dataset)}/{HOME}")


def fill(
    arguments: argparse.Namespace, environment: Mapping[str, str], say: Callable[[str], None] = lambda _: None
) -> None:
    """Put the folders that `-d` stands for where none were named; `say` reports variables that lead nowhere.

    Raises
    ------
    UsageError
        A folder and `-d` both, neither, or a variable that is needed and not set.
    DatasetError
        No such dataset, or several.
    """
    paths = Paths.of(environment)
    _take_positional(arguments, paths)
    dataset = getattr(arguments, "dataset", None)
    for key, shown, find in (
        ("data", "DATA", paths.data),
        ("work", "WORK", paths.work),
        ("model", "MODEL_OR_WORK", paths.work),
    ):
        if hasattr(arguments, key):
            setattr(arguments, key, _one(arguments, key, shown, find(dataset) if dataset else None))
    if arguments.command in ("plan", "preprocess") and dataset and arguments.output is None:
        arguments.output = paths.work(dataset)
    if arguments.command == "preprocess":
        if arguments.output is None:
            raise UsageError("preprocess needs -o WORK, or -d")
        if dataset:
            arguments.placement = paths.placement(dataset, arguments.output)
    elif dataset and (work := getattr(arguments, "work", None) or getattr(arguments, "model", None)):
        _report_misplaced(paths.placement(dataset, work), work, say)


def commands_as_typed(arguments: argparse.Namespace) -> Callable[[str], str]:
    """Return what writes `-d N` in the commands of a text, where the user named the dataset so and not its folders."""
    dataset = getattr(arguments, "dataset", None)
    work = getattr(arguments, "work", None) or getattr(arguments, "model", None)
    work = work or (arguments.output if arguments.command in ("plan", "preprocess") else None)
    if dataset is None or work is None:
        return str
    named = "|".join(re.escape(text) for text in dict.fromkeys((str(work), shlex.quote(str(work)))))
    command = re.compile(rf"(nnunet-rs \w+) (?:DATA -o )?(?:{named})(?=[\s`,;)]|$)")
    return lambda text: command.sub(rf"\1 -d {dataset}", text)


def _report_misplaced(placement: Placement | None, work: Path, say: Callable[[str], None]) -> None:
    if placement is None:
        return
    from nnunet_rs.data.placement import placement_warning

    remark = placement_warning(work, placement)
    if remark:
        say(remark)


def _take_positional(arguments: argparse.Namespace, paths: Paths) -> None:
    """Understand a dataset where a folder stands, as in nnU-Net's `train 27 3d_fullres 0`."""
    for key in ("model", "folder"):  # that nnU-Net names by an option
        given = getattr(arguments, f"{key}_option", None)
        if given is not None and getattr(arguments, key) is None:
            setattr(arguments, key, given)
    inputs: list[Path] = getattr(arguments, "input", None) or []
    if arguments.command == "predict" and arguments.model is None and len(inputs) > 1 and inputs[-1].is_dir():
        arguments.model = inputs.pop()  # predict -i IN MODEL: -i takes all that follows
    words = getattr(arguments, "words", None)
    if words:
        _take_words(arguments, words)
    for key in ("data", "work", "model"):
        named = getattr(arguments, key, None)
        if named is None or arguments.dataset is not None or named.exists():
            continue
        if paths == Paths(None, None, None) and str(named).isdecimal():
            raise UsageError(f"{named}: no such folder; as a dataset's number it needs one of {', '.join(VARIABLES)}")
        if paths != Paths(None, None, None) and (str(named).isdecimal() or _FOLDER.fullmatch(str(named))):
            arguments.dataset = str(named)
            setattr(arguments, key, None)


def _take_words(arguments: argparse.Namespace, words: list[str]) -> None:
    if len(words) != 2 or arguments.configuration is not None or arguments.fold is not None:
        shown = " ".join((str(arguments.work), *words))
        raise UsageError(f"{shown}: write train WORK -c CONFIG -f FOLD, or train -d 27 -c CONFIG -f FOLD")
    try:
        arguments.configuration, arguments.fold = words[0], values.fold(words[1])
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None


def _one(arguments: argparse.Namespace, key: str, shown: str, found: Path | None) -> Path | None:
    named: Path | None = getattr(arguments, key)
    if named is not None and found is not None:
        raise UsageError(f"{shown} ({named}) and -d {arguments.dataset} name the same thing; give one of them")
    if named is None and found is None and arguments.command != "plan":
        raise UsageError(f"{arguments.command} needs {shown}, or -d with nnU-Net's environment variables")
    return named or found


def _fits(name: str, dataset: str) -> bool:
    number, rest = _FOLDER.fullmatch(name).groups()  # type: ignore[union-attr]
    return dataset in (name, rest) or (dataset.isdecimal() and int(dataset) == int(number))


def cache_folder(environment: Mapping[str, str], platform: str = sys.platform) -> Path | None:
    """Return where programs may keep for this user what they can make again; None: the environment names no home."""
    if platform == "win32":
        home = environment.get("LOCALAPPDATA", "")
    elif platform == "darwin":
        home = f"{environment['HOME']}/Library/Caches" if environment.get("HOME") else ""
    else:
        home = environment.get("XDG_CACHE_HOME", "")
        if not Path(home).is_absolute():  # the standard says: to be ignored
            home = f"{environment['HOME']}/.cache" if environment.get("HOME") else ""
    return Path(home) / "nnunet_rs" if home else None
