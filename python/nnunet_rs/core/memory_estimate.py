"""How much memory a case will take, told from its files' sizes and headers before anything is read."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.io import read_grid
from nnunet_rs.core.types import Case

_SMALL = 4 << 20  # a gzip file below this holds less than 4 GiB: its last four bytes tell its content's size
_DEFLATE = 1032  # deflate's largest ratio
_WIDEST = 8  # bytes of a voxel


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Upper bounds of what a case's files hold."""

    image: int  # bytes of the image files, decompressed
    label: int  # bytes of the label file, decompressed
    voxels: int  # of all channels together

    @property
    def reading(self) -> int:
        """Bytes of memory that reading and checking the case takes at most.

        The files as stored, of which the one being decompressed counts twice; then these and the image as float32; then
        the image, and the label file as stored, as integers and as class indices.
        """
        return max(2 * self.image, self.image + 4 * self.voxels, 4 * self.voxels + 3 * self.label)


def estimate_case_memory(case: Case, channels: int) -> MemoryEstimate:
    """Bound what the files of a case hold; a file that cannot be told counts nothing (reading it will say why)."""
    several = len(case.images) > 1
    images = [_content(path, 1 if several else channels) for path in case.images]
    label = (0, 0) if case.label is None else _content(case.label, 1)
    return MemoryEstimate(sum(size for size, _ in images), label[0], sum(voxels for _, voxels in images))


def _content(path: Path, channels: int) -> tuple[int, int]:
    """Bound the decompressed bytes and the voxels of a file."""
    try:
        stored = path.stat().st_size if path.is_file() else 0  # a series of DICOM: 16 bits a voxel, most often
        zipped = path.name.lower().endswith(".gz")
        if zipped and stored < _SMALL:
            held = min(_last_word(path), _DEFLATE * stored)
            return held, held
        shape, _ = read_grid(path)
        voxels = max(math.prod(shape), math.prod(shape[1:]) * channels)
        if not zipped:
            return max(stored or 2 * voxels, voxels), voxels
        held = _last_word(path)
        while held < voxels:
            held += 1 << 32
        return min(held, _WIDEST * voxels), voxels
    except (OSError, DatasetError):
        return 0, 0


def _last_word(path: Path) -> int:
    """Return the last four bytes of a file as a number: the content's size modulo 2^32, in a gzip file."""
    with path.open("rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int.from_bytes(stream.read(4), "little")
