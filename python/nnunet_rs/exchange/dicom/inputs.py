"""What predict is given as DICOM: a folder, however nested, a zip, a file; or one of these for each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from nnunet_rs.core.dicom.library import is_dicom
from nnunet_rs.core.dicom.listing import ENDING, stand_ins
from nnunet_rs.core.dicom.reader import only_series, opened
from nnunet_rs.core.dicom.series import Found, Series, find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import find_format
from nnunet_rs.core.names import CHANNEL
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import examples
from nnunet_rs.core.unzip import is_zip

_LOOKED_AT = 200  # files of a folder


@dataclass(frozen=True, slots=True)
class DicomInput:
    """Series to segment."""

    folder: Path  # holds a file that stands for each: CASE.dcm, or CASE_0000.dcm … of several channels
    series: tuple[Series, ...]

    def of_cases(self) -> dict[str, Series]:
        """Return the series of each case; of several channels the first, which segmentations refer to."""
        found: dict[str, Series] = {}
        for one in sorted(self.series, key=lambda one: one.name):
            match = CHANNEL.fullmatch(one.name)
            found.setdefault(match["case"] if match else one.name, one)
            found.setdefault(one.name, one)  # where digits number cases
        return found


def is_dicom_input(paths: Sequence[Path]) -> bool:
    """Whether what a user names as images is DICOM: files of it, zips, or folders that hold no image of other kinds."""
    return all(_is_dicom(path) for path in paths)


def _is_dicom(path: Path) -> bool:
    if is_zip(path):
        return True
    if path.is_file():
        known = find_format(path)
        return (known is None or ENDING in known.endings) and is_dicom(path)
    if not path.is_dir():
        return False
    for count, file in enumerate(file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")):
        known = find_format(file)
        if known is not None and ENDING not in known.endings:
            return False
        if is_dicom(file):
            return True
        if count > _LOOKED_AT:
            return False
    return False


@contextmanager
def dicom_input(paths: Sequence[Path], progress: Progress) -> Iterator[DicomInput]:
    """Find the series in what a user names; what is left out is told.

    Parameters
    ----------
    paths
        One folder, zip or file with any number of series; or one with a single series for each channel of one case.

    Raises
    ------
    DatasetError
        No series at all; one of several holds not exactly one series; a damaged zip.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(opened(path)) for path in paths]
        if len(paths) == 1:
            found = find_series(folders[0])
            tell_left_out(found, paths[0], progress)
            series = found.series
            if not series:
                raise DatasetError(
                    f"{paths[0]}: holds no series of DICOM images ({len(found.left_out)} files of DICOM left out, "
                    f"{len(found.others)} of other kinds); `nnunet-rs dicom` lists them"
                )
        else:
            channels = [only_series(folder, path) for folder, path in zip(folders, paths, strict=True)]
            name = CHANNEL.fullmatch(channels[0].name)
            case = name["case"] if name else channels[0].name
            series = tuple(replace(one, name=f"{case}_{number:04d}") for number, one in enumerate(channels))
        yield DicomInput(stack.enter_context(stand_ins(series)), series)


def tell_left_out(found: Found, root: Path, progress: Progress) -> None:
    """Say which files of a folder make no image, by kind, with examples."""
    rules = Counter(issue.rule for issue in found.left_out)
    for rule, count in rules.most_common():
        some = [issue for issue in found.left_out if issue.rule == rule]
        names = examples([issue.file.name for issue in some])
        progress.say(f"warning: {root}: {rule}: {count} left out ({names}): {some[0].value}")
    if found.others:
        names = examples([path.name for path in found.others])
        progress.say(f"warning: {root}: not-dicom: {len(found.others)} left out ({names})")
