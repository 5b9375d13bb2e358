"""Cases found by the names of their files: channels put together, labels found, and what does not fit told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.folders import Folders, same_case
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.names import CHANNEL, without_ending
from nnunet_rs.core.text import examples
from nnunet_rs.core.types import Case

RESTORE = "restore it, or take the case out of the dataset"

Listed = tuple[list[Case], list[Issue]]  # the usable cases, and what is wrong with the others


def grouped(
    folder: Path, stems: Mapping[str, str], channels: int, *, plain: bool = False, labels: Collection[str] = ()
) -> Listed:
    """Put the files of each case together by their channel numbers.

    Parameters
    ----------
    folder
        Holds the files.
    stems
        File name to the name without its ending.
    channels
        How many a case has.
    plain
        A file without a number is a case of its own; and if no file is numbered 0000, none is numbered.
    labels
        Names of the label files without their ending: they tell whether digits number cases or channels.
    """
    matches = {name: CHANNEL.fullmatch(stems[name]) for name in sorted(stems)}
    numbered = not plain or any(match and match["channel"] == "0000" for match in matches.values())
    groups: dict[str, dict[int, str]] = {}
    issues = []
    for name, match in matches.items():
        if match and numbered:
            case, channel = match["case"], int(match["channel"])
        elif plain:
            case, channel = stems[name], 0
        else:
            advice = "name it {case}_{channel}, the channel with four digits: liver_001_0000"
            issues.append(Issue(folder / name, "image-name", "has no channel number", advice, stems[name]))
            continue
        if channel in groups.setdefault(case, {}):
            advice = "give one of them a name that no other file has"
            issues.append(Issue(folder / name, "case-twice", f"'{case}' is there twice", advice, case))
        groups[case][channel] = name
    cases = []
    for case, files in groups.items():
        if tuple(files) in ((0,), tuple(range(channels))):
            cases.append(Case(case, tuple(folder / name for name in files.values())))
        elif case not in labels and any(stems[name] in labels for name in files.values()):
            issues += [_case_number(folder / name, stems[name]) for name in files.values()]
        else:
            issues.append(_wrong_channels(folder, files, stems, channels, case))
    return cases, issues


def channel_issue(file: Path, found: str, channels: int, case: str, more: str = "") -> Issue:
    """Return the issue of a case that has a channel too few or too many."""
    expected = f"{channels} expected (0000 … {channels - 1:04d})" if channels > 1 else "one expected (0000)"
    advice = "give every channel a file, or one file all channels" + more
    return Issue(file, "channels", f"{found}, {expected}", advice, case)


def _wrong_channels(
    folder: Path, files: Mapping[int, str], stems: Mapping[str, str], channels: int, case: str
) -> Issue:
    first = files[min(files)]
    numbers = [f"{channel:04d}" for channel in files]
    shown = ", ".join(numbers[:8]) + (f" … ({len(numbers)} files)" if len(numbers) > 8 else "")
    more = f"; if the last four digits number cases, add the channel: {stems[first]}_0000" if len(files) > 1 else ""
    return channel_issue(folder / min(files.values()), f"channels {shown}", channels, case, more)


def _case_number(file: Path, stem: str) -> Issue:
    match = CHANNEL.fullmatch(stem)
    number = match["channel"] if match else ""
    value = f"{number} was read as a channel of '{stem[: -len(number) - 1]}', and labelsTr names its cases like that"
    ending = file.name[len(stem) :]
    return Issue(file, "image-name", value, f"add the channel: name it {stem}_0000{ending}, and leave the label", stem)


@dataclass(frozen=True, slots=True)
class LabelFiles:
    """The label files of a folder, by the names of their cases."""

    folder: Path
    ending: str
    stems: dict[str, str]  # case name to file name
    issues: list[Issue] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, names: Iterable[str], ending: str) -> LabelFiles:
        """Take files of the dataset's ending; two that differ in capitals of the ending alone are an issue."""
        found = cls(folder, ending, {})
        for name in sorted(names):
            stem = without_ending(name, ending)
            if stem in found.stems:
                value = f"'{stem}' is there twice, as {found.stems[stem]} too"
                found.issues.append(Issue(folder / name, "case-twice", value, "move one of them away", stem))
            found.stems.setdefault(stem, name)
        return found

    def paired(self, cases: Iterable[Case], told: Collection[str], folders: Folders) -> tuple[Listed, set[str]]:
        """Give each case its label.

        Parameters
        ----------
        cases
            With images.
        told
            Names of cases that an issue tells of already.
        folders
            Tells what else is in the folder.

        Returns
        -------
        listed
            Cases with labels, and issues: a label is missing or belongs to no image.
        named
            Names of files of other endings that the issues tell of.
        """
        twice = {issue.case for issue in self.issues}
        images = {case.name: case for case in cases if case.name not in twice}
        told = {*told, *twice}
        issues, misnamed = list(self.issues), self._misnamed({*images, *told})
        for name, labels in misnamed.items():
            issues += self._with_numbers(name, labels)
        known = {*images, *told, *(self.stem(label) for labels in misnamed.values() for label in labels)}
        lone = sorted(self.stems.keys() - known)
        issues += [self._alone(stem) for stem in lone]
        whole: list[Case] = []
        named: set[str] = set()
        for name, case in images.items():
            if name in self.stems:
                whole.append(Case(name, case.images, self.folder / self.stems[name]))
            elif name not in misnamed:
                others = same_case(folders.files(self.folder), name)
                named |= set(others)
                issues.append(self._missing(name, others))
        return (whole, issues), named

    def stem(self, name: str) -> str:
        """Return a label file's name without the dataset's ending."""
        return without_ending(name, self.ending)

    def _misnamed(self, cases: Collection[str]) -> dict[str, list[str]]:
        """Labels that have a channel number, as images have, by the case they seem to belong to."""
        found: dict[str, list[str]] = {}
        for stem, name in self.stems.items():
            match = CHANNEL.fullmatch(stem)
            if match and stem not in cases and match["case"] in cases:
                found.setdefault(match["case"], []).append(name)
        return found

    def _with_numbers(self, case: str, names: list[str]) -> list[Issue]:
        """One issue a case; advice that would give two files one name loses one."""
        file, wanted = self.folder / names[0], case + self.ending
        if len(names) > 1:
            value = f"{len(names)} labels have channel numbers of '{case}': {examples(names)}"
            advice = (
                f"labels have no channels: keep one as {wanted} and move the others away; if the digits number cases, "
            )
            return [Issue(file, "label-name", value, f"{advice}name the images {self.stem(names[0])}_0000 …", case)]
        if case in self.stems:
            value = f"has a channel number, and '{case}' has a label without one"
            advice = f"labels have no channels: {wanted} is used; move the other away"
            return [Issue(file, "label-name", value, advice, fatal=False)]
        value = f"has a channel number, it is the label of '{case}'"
        return [Issue(file, "label-name", value, f"name it {wanted}: labels have no channels", case)]

    def _alone(self, stem: str) -> Issue:
        file = self.folder / self.stems[stem]
        return Issue(file, "image-missing", f"no image of '{stem}' in imagesTr", RESTORE, stem)

    def _missing(self, case: str, others: list[str]) -> Issue:
        file = self.folder / (case + self.ending)
        if others:
            value = f"no label of '{case}' that ends in {self.ending}, but {examples(others)}"
            advice = "file_ending holds for labels too: convert it, or convert the images and change file_ending"
            return Issue(self.folder / others[0], "label-missing", value, advice, case)
        return Issue(file, "label-missing", f"no label of '{case}'", RESTORE, case)
