"""Which series a SEG or RTSTRUCT file is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rs.core.content import COPY_AGAIN, reason
from nnunet_rs.core.dicom.library import read_dataset
from nnunet_rs.core.dicom.series import Series
from nnunet_rs.core.issues import Issue, IssueError

_TAGS = (
    "SOPClassUID FrameOfReferenceUID ReferencedSeriesSequence ReferencedFrameOfReferenceSequence "
    "SharedFunctionalGroupsSequence SourceImageSequence"
)


@dataclass(frozen=True, slots=True)
class References:
    """What a file of labels refers to."""

    series: frozenset[str]  # Series Instance UIDs
    images: frozenset[str]  # SOP Instance UIDs
    frames: frozenset[str]  # Frame of Reference UIDs


def read_references(path: Path) -> References:
    """Read what a SEG or RTSTRUCT file refers to.

    Raises
    ------
    IssueError
        `unreadable`.
    """
    dataset, _ = read_dataset(path, _TAGS.split(), pixels=False)
    try:
        found = list(_named(dataset, {"SeriesInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID"}))
    except Exception as error:  # pydicom converts a value when it is asked for, and raises anything
        value = f"what it refers to cannot be read: {reason(error)}"
        raise IssueError(Issue(path, "unreadable", value, COPY_AGAIN)) from error
    series, images, frames = (
        frozenset(value for keyword, value in found if keyword == wanted)
        for wanted in ("SeriesInstanceUID", "ReferencedSOPInstanceUID", "FrameOfReferenceUID")
    )
    return References(series, images, frames)


def _named(dataset: Any, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the UIDs of these keywords, in all sequences."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _named(item, wanted)
        elif element.keyword in wanted and element.value:
            yield element.keyword, str(element.value)


def series_of(path: Path, series: Sequence[Series]) -> Series | None:
    """Return the series that a file of labels belongs to: by its images, its series, or the only one in its frame.

    Raises
    ------
    IssueError
        As `read_references`.
    """
    found = read_references(path)
    shared = [(sum(plane.uid in found.images for plane in one.stack.planes), one) for one in series]
    most = max((count for count, _ in shared), default=0)
    if most:
        return next(one for count, one in shared if count == most)
    named = [one for one in series if one.origin.series in found.series]
    if len(named) == 1:
        return named[0]
    near = [one for one in series if one.origin.frame_of_reference in found.frames - {""}]
    return near[0] if len(near) == 1 and not named else None
