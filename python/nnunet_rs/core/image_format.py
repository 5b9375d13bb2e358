"""What an image format is: its endings, what reads and writes it, and what it cannot hold.

A format is one module, which ends in its `Format`, and one entry of the table in `core.io`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.image_file import ImageFile
from nnunet_rs.core.types import Header, IntArray, Shape, Spacing3


def no_companions(_: Path) -> tuple[Path, ...]:
    """Return no files."""
    return ()


@dataclass(frozen=True, slots=True)
class Format:
    """One format of image and label files."""

    name: str  # as it stands in `Header.format`
    endings: Mapping[str, str]  # small letters, longest first where one ends another -> nnU-Net's class that reads it
    read: Callable[[Path], ImageFile]
    read_grid: Callable[[Path], tuple[Shape, Spacing3]]  # (c, z, y, x) and (z, y, x), without the voxels
    write_labels: Callable[[Path, IntArray, Header], None]  # (z, y, x), atomically
    placed: bool = True  # it says where in space voxels lie
    flat: bool = False  # it holds one slice
    # ending -> nnU-Net's class that reads the files of a dataset that has slices only, where that is another
    nnunet_slices: Mapping[str, str] = field(default_factory=dict)
    results: str = ""  # ending of segmentations of its images, where they are not of its own format
    folders: bool = False  # an image may be a folder or a zip of its files
    companions: Callable[[Path], tuple[Path, ...]] = no_companions  # files that may belong to one, as its voxels

    def holds(self, path: Path) -> bool:
        """Whether a file has one of the endings, in capitals or not."""
        return path.name.lower().endswith(tuple(self.endings))
