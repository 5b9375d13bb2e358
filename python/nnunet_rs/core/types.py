"""The values that flow through the library. Axes are z, y, x; spacing is in mm; sizes are in voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nnunet_rs.core.issues import Issue

Shape: TypeAlias = tuple[int, ...]
Shape3: TypeAlias = tuple[int, int, int]
Size: TypeAlias = Sequence[int]
Spacing3: TypeAlias = tuple[float, float, float]
Box: TypeAlias = tuple[tuple[int, int], ...]  # half-open [start, stop) per axis
FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.integer[Any]]
Mask: TypeAlias = NDArray[np.bool_]
FoldName: TypeAlias = Literal["all"] | int  # which cases were held out; all: none, the network saw every case


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says besides its voxels: enough to write a result that opens beside the image."""

    format: str  # of the file that was read, by the name of its `Format`; says how it came, decides nothing
    affine: tuple[tuple[float, ...], ...]  # 4 x 4, voxel (x, y, z) to world in mm, RAS+ as nibabel has it
    nifti: bytes = b""  # the NIfTI header block as read; empty for other formats


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image of one case, all channels."""

    data: FloatArray  # (c, z, y, x)
    spacing: Spacing3  # of z, y, x
    header: Header


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """A segmentation of one case."""

    data: IntArray  # (z, y, x)
    spacing: Spacing3  # of z, y, x
    header: Header


@dataclass(frozen=True, slots=True)
class ChannelStats:
    """Intensities of the foreground voxels of one channel: of one case, or of all training cases together."""

    mean: float
    std: float  # of the population (divided by the number of voxels)
    median: float
    min: float
    max: float
    percentile_00_5: float  # linear between neighbours, as numpy.percentile
    percentile_99_5: float


@dataclass(frozen=True, slots=True)
class Region:
    """A union of classes that is predicted as one (for example the whole tumour)."""

    name: str
    classes: tuple[int, ...]  # class indices
    paint: int  # the file value that an exported segmentation gets where this region is predicted


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Which values label files hold, and what the network calls them.

    Inside the library labels are class indices 0 … count-1 (0 is the background), and `count` is the ignore label
    where there is one; `values` maps class indices to file values and back.
    """

    names: tuple[str, ...]  # one per class; names[0] is the background
    values: tuple[int, ...]  # file value of each class; values[0] == 0
    regions: tuple[Region, ...] = ()  # in the order in which they are painted; empty: plain classes
    ignore: int | None = None  # file value of the ignore label

    @property
    def count(self) -> int:
        """Number of classes, the background included, the ignore label not."""
        return len(self.values)

    @property
    def outputs(self) -> int:
        """Channels of the network's output: one per region, or one per class."""
        return len(self.regions) or self.count

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the channels of the network's output stand for: the regions, or the classes with the background."""
        return tuple(region.name for region in self.regions) or self.names

    @property
    def score_names(self) -> tuple[str, ...]:
        """What is scored: the regions, or the classes without the background."""
        return tuple(region.name for region in self.regions) or self.names[1:]

    @property
    def ignore_index(self) -> int | None:
        """Class index of voxels that do not count: the one after the last class; None: there are no such voxels."""
        return None if self.ignore is None else self.count

    @property
    def indices(self) -> range:
        """All class indices that labels hold, the ignore label's included."""
        return range(self.count + (self.ignore is not None))


@dataclass(frozen=True, slots=True)
class Case:
    """The files of one case."""

    name: str
    images: tuple[Path, ...]  # one file per channel, or a single file whose last axis holds the channels
    label: Path | None = None
    output: str = ""  # where a list wants its result, with slashes, within the outputs' folder; empty: by its name
    unannotated: Shape = ()  # indices into `LabelSet.score_names`: what of it may be there and is not in the label file


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset as its folder and dataset.json declare it; no image has been read."""

    name: str
    root: Path
    layout: Literal["decathlon", "nnunet"]
    channels: tuple[str, ...]  # names in channel order; they decide the normalisation
    labels: LabelSet
    training: tuple[Case, ...]  # sorted by name
    test: tuple[Case, ...] = ()
    ending: str = ".nii.gz"
    issues: tuple[Issue, ...] = ()  # found by listing the files; cases with a fatal one are not in `training`
