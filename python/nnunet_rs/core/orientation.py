"""Towards where in the body a file's axes run, by nibabel's three-letter codes, and turns from one to another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import cos, radians

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.types import Header

CANONICAL = "RAS"  # what nnU-Net's readers that reorient turn images to
AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}  # world axis, direction
# An image whose axes are turned by no more than this against an orientation is taken to be in it, whatever its own axes
# are nearest to: near 45 degrees, as in slices across the heart, that is chance. Above 45, below 90.
MOST_TURNED = 55.0  # degrees

# Where in a NIfTI header, by its size, qform_code and sform_code lie, which follow each other.
_CODES = {348: slice(252, 256), 540: slice(344, 352)}

Turn = tuple[tuple[int, int, int], tuple[bool, bool, bool]]


def is_orientation(codes: str) -> bool:
    """Whether these are three codes, one of each axis of the body."""
    return sorted(AXES[code][0] if code in AXES else -1 for code in codes) == [0, 1, 2]


def stored_orientation(header: Header) -> str | None:
    """Return the orientation that a file is stored in.

    Returns
    -------
    str or None
        As `nibabel.aff2axcodes`: "LPS" where the growing index x runs nearest to left, y to posterior, z to superior.
        None where the file does not say it: pictures, TIFF, arrays, NIfTI with neither sform nor qform.
    """
    from nnunet_rs.core.io import FORMATS  # which whoever reads a model's metadata does not need

    unplaced = ("array", *(known.name for known in FORMATS if not known.placed))
    if header.format in unplaced or not _is_placed(header.nifti):
        return None
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(np.asarray(header.affine)))


def turn_towards(header: Header, orientation: str) -> Turn:
    """Return how a file's axes are brought nearest to an orientation.

    Returns
    -------
    axes
        Axis i (z, y, x) of the turned array is the file's axis axes[i].
    flipped
        Whether the turned axis runs against the file's.
    """
    from nibabel.orientations import io_orientation

    stored = {int(world): (2 - axis, sign) for axis, (world, sign) in enumerate(io_orientation(header.affine))}
    wanted = [AXES[code] for code in reversed(orientation)]  # of z, y, x
    z, y, x = (stored[world][0] for world, _ in wanted)
    flip_z, flip_y, flip_x = (bool(stored[world][1] != direction) for world, direction in wanted)
    return (z, y, x), (flip_z, flip_y, flip_x)


def axes_towards(stored: str, orientation: str) -> tuple[int, int, int]:
    """Return which axis (z, y, x) of a file of one orientation becomes which of another; as `turn_towards`."""
    z, y, x = (
        2 - next(axis for axis, code in enumerate(stored) if AXES[code][0] == AXES[wanted][0])
        for wanted in reversed(orientation)
    )
    return z, y, x


def lies_in(header: Header, orientation: str) -> bool:
    """Whether an image's axes, as they are stored, are turned against an orientation by `MOST_TURNED` or less."""
    directions = np.asarray(header.affine, np.float64)[:3, :3]
    directions = directions / np.linalg.norm(directions, axis=0)
    against: NDArray[np.float64] = _directions(orientation).T @ directions
    return bool(np.linalg.det(against) > 0 and (np.trace(against) - 1) / 2 >= cos(radians(MOST_TURNED)))


def count_orientations(headers: Iterable[Header]) -> dict[str, int]:
    """Count the orientations that files are stored in, the most frequent first; those that do not say it are left out.

    Of equally frequent ones the first alphabetically comes first.
    """
    counts = Counter(stored for header in headers if (stored := stored_orientation(header)) is not None)
    return by_frequency(counts)


def by_frequency(counts: Counter[str]) -> dict[str, int]:
    """Order counted orientations, the most frequent first, equally frequent ones by the alphabet."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _is_placed(nifti: bytes) -> bool:
    """Whether a NIfTI header has a sform or a qform; of other formats there is none to ask."""
    codes = _CODES.get(len(nifti))
    return codes is None or any(nifti[codes])


def _directions(orientation: str) -> NDArray[np.float64]:
    """Return the unit vectors (RAS+) that the axes x, y, z of an orientation run along, as columns."""
    columns = np.zeros((3, 3))
    for axis, code in enumerate(orientation):
        world, direction = AXES[code]
        columns[world, axis] = direction
    return columns
