"""Names of files: which ending belongs to a format, what remains without it, and nnU-Net's channel numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from nnunet_rs.core.io import endings as known_endings
from nnunet_rs.core.io import find_format
from nnunet_rs.core.workspace import PREDICTION_JSON, SUMMARY_JSON

CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")  # nnU-Net's name of one channel's file, without the ending
ZIP = ".zip"
SEGMENTATION = ".seg.nrrd"  # how 3D Slicer saves a segmentation beside its image
HIDDEN = "."  # how the names of resource forks, editors' files and our own temporaries begin
SKIPPED = (HIDDEN, "_")  # how the names begin that no listing of a folder takes for data
TAKEN = (PREDICTION_JSON, SUMMARY_JSON)  # no file of a case may have these names, however they are written


def strip_ending(name: str) -> str:
    """Return a file's name without the ending of its format, in capitals or not.

    `.nii.gz` and `.seg.nrrd` go as a whole, and so does `.gz` after any format; of other files the last suffix goes.
    """
    found = _pattern(known_endings()).search(name)
    return name[: found.start()] if found and found.start() else Path(name).stem


@cache
def _pattern(endings: tuple[str, ...]) -> re.Pattern[str]:
    formats = sorted({re.escape(ending.removesuffix(".gz")) for ending in endings}, key=len, reverse=True)
    return re.compile(rf"(?:\.seg(?=\.nrrd))?(?:{'|'.join(formats)})(?:\.gz)?\Z", re.IGNORECASE)


def ending_of(name: str) -> str:
    """Return what `strip_ending` takes away."""
    return name[len(strip_ending(name)) :]


def may_be_folders(ending: str) -> bool:
    """Whether images of an ending may be folders or zips of their files; those that have no known ending may."""
    known = find_format(Path(f"x{ending}"))
    return known is None or known.folders


def without_ending(name: str, ending: str) -> str:
    """Return a name without the dataset's ending, or without that of a zip in its place; a folder's as it is."""
    if name.lower().endswith(ending.lower()):
        return name[: -len(ending)]
    return name[: -len(ZIP)] if name.lower().endswith(ZIP) else name


def result_ending(name: str) -> str:
    """Return the ending of a segmentation of an image of this name: its own, where its format holds segmentations."""
    known = find_format(Path(name))
    return ".nii.gz" if known is None else known.results or ending_of(name)


def has_ending(name: str, endings: str | tuple[str, ...] | None = None) -> bool:
    """Whether a file's name ends in (one of) these (None: those of all formats), in capitals or not.

    `.seg.nrrd` does not end in `.nrrd`.
    """
    wanted = known_endings() if endings is None else (endings,) if isinstance(endings, str) else endings
    lower = name.lower()
    if lower.endswith(SEGMENTATION):
        return SEGMENTATION in {ending.lower() for ending in wanted}
    return lower.endswith(tuple(ending.lower() for ending in wanted))


def count_endings(names: Iterable[str]) -> str:
    """Return the endings and how often each occurs, as text."""
    counts = Counter(ending_of(name) or "no ending" for name in names)
    return ", ".join(f"{count} {ending}" for ending, count in counts.most_common(4))
