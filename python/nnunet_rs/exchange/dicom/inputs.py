"""What predict is given as DICOM: a folder, however nested, a zip, a file; or one of these for each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.dicom.listing import StandIn, stand_ins
from nnunet_rs.core.dicom.reader import only_series, opened
from nnunet_rs.core.dicom.series import Found, Series, find_series
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue
from nnunet_rs.core.names import CHANNEL
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.text import examples
from nnunet_rs.exchange.dicom.channels import EXAMPLE
from nnunet_rs.exchange.dicom.choice import EACH, SeriesChoice


@dataclass(frozen=True, slots=True)
class DicomInput:
    """Series to segment."""

    folder: Path  # holds a file that stands for each: CASE.dcm, or CASE_0000.dcm … of several channels
    series: tuple[StandIn, ...]
    refused: tuple[Issue, ...] = ()  # cases that are not among them: a channel is missing, or not certain

    def of_cases(self) -> dict[str, Series]:
        """Return the series of each case; of several channels the first, which segmentations refer to."""
        found: dict[str, Series] = {}
        for one in sorted(self.series, key=lambda one: one.name):
            match = CHANNEL.fullmatch(one.name)
            found.setdefault(match["case"] if match else one.name, one.series)
            found.setdefault(one.name, one.series)  # where digits number cases
        return found


@contextmanager
def dicom_input(
    paths: Sequence[Path],
    progress: Progress,
    choice: SeriesChoice = EACH,
    channels: Callable[[], Sequence[str]] = tuple,
) -> Iterator[DicomInput]:
    """Find the series in what a user names; what is left out is reported.

    Parameters
    ----------
    paths
        One folder, zip or file with any number of series; or one with a single series for each channel of one case.
    choice
        Which series are channels of a case; not made: each series is a case, or is named CASE_0000 and so on.
    channels
        Gives the names of what the model takes; empty: that is not known.

    Raises
    ------
    DatasetError
        No series at all; one of several holds not exactly one series; a model of several channels, and nobody says
        which series they are; a damaged zip; as `SeriesChoice.studies`.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(opened(path)) for path in paths]
        refused: tuple[Issue, ...] = ()
        if len(paths) == 1:
            series, refused = _of_folder(folders[0], paths[0], progress, choice, channels)
        elif choice.is_made:
            raise DatasetError(
                f"{paths[0]} and others: a folder for each channel is given; leave out --channels and --series-table"
            )
        else:
            series = _of_channels(folders, paths)
        yield DicomInput(stack.enter_context(stand_ins(series)), series, refused)


def _of_folder(
    folder: Path, named: Path, progress: Progress, choice: SeriesChoice, channels: Callable[[], Sequence[str]]
) -> tuple[tuple[StandIn, ...], tuple[Issue, ...]]:
    """Return the series of a folder as cases, and the cases that cannot be used."""
    found = find_series(folder, named=named)
    report_left_out(found, named, progress)
    if not found.series:
        raise DatasetError(
            f"{named}: holds no series of DICOM images ({len(found.left_out)} files of DICOM left out, "
            f"{len(found.others)} of other kinds); `nnunet-rs dicom` lists them"
        )
    if not choice.is_made:
        _require_one_channel(found.series, named, channels())
        return tuple(StandIn(one.name, one) for one in found.series), ()
    wanted = channels()
    studies = choice.studies(found.series, named, wanted)
    _report_other_names(named, studies.channels, wanted, progress)
    if studies.rest:
        names = examples([one.name for one in studies.rest])
        progress.say(f"{named}: {len(studies.rest)} series of no channel left out ({names})")
    refused = tuple(issue for case in studies.cases for issue in case.issues)
    if all(case.issues for case in studies.cases):
        raise DatasetError(str(refused[0]))
    series = tuple(
        StandIn(f"{case.name}_{number:04d}", one)
        for case in studies.cases
        if not case.issues
        for number, one in enumerate(case.channels)
        if one is not None
    )
    return series, refused


def _report_other_names(named: Path, channels: Sequence[str], wanted: Sequence[str], progress: Progress) -> None:
    """Say that channels are taken in the order in which they are given, for the model's have other names."""
    if wanted and [name.casefold() for name in channels] != [name.casefold() for name in wanted]:
        progress.say(
            f"{named}: channels {', '.join(channels)} are taken in this order; the model was trained on "
            f"{', '.join(wanted)}"
        )


def _require_one_channel(series: Sequence[Series], named: Path, channels: Sequence[str]) -> None:
    """See that series that are cases of their own can be what a model takes."""
    several = any(CHANNEL.fullmatch(one.name) or one.stack.planes[0].samples > 1 for one in series)
    if len(channels) > 1 and not several:
        raise DatasetError(
            f"{named}: the model takes {len(channels)} channels ({', '.join(channels)}); say which series each of them "
            f"is: {EXAMPLE}, or a folder for each (-i T1 FLAIR); `nnunet-rs dicom {named}` lists the series"
        )


def _of_channels(folders: Sequence[Path], paths: Sequence[Path]) -> tuple[StandIn, ...]:
    """Return the only series of each folder as the channels of one case."""
    channels = [only_series(folder, path) for folder, path in zip(folders, paths, strict=True)]
    name = CHANNEL.fullmatch(channels[0].name)
    case = name["case"] if name else channels[0].name
    return tuple(StandIn(f"{case}_{number:04d}", one) for number, one in enumerate(channels))


def report_left_out(found: Found, root: Path, progress: Progress) -> None:
    """Say which files of a folder make no image, by kind, with examples."""
    rules = Counter(issue.rule for issue in found.left_out)
    for rule, count in rules.most_common():
        some = [issue for issue in found.left_out if issue.rule == rule]
        names = examples([issue.file.name for issue in some])
        progress.say(f"warning: {root}: {rule}: {count} left out ({names}): {some[0].value}")
    if found.others:
        names = examples([found.shown.path(path).name for path in found.others])
        progress.say(f"warning: {root}: not-dicom: {len(found.others)} left out ({names})")
