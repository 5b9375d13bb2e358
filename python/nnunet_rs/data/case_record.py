"""What a prepared case says of itself: case.json in its file."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_rs.core.document import Kind
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.plan.normalization import IntensityMap


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """What case.json says of a class that occurs."""

    voxels: int  # as in ClassLocations
    locations: tuple[int, int]  # the span in ClassLocations


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What case.json says."""

    keys: tuple[str, ...]  # of each configuration that it is for, a hash of what it was made from: see `has`
    channels: int
    classes: dict[int, ClassRecord]
    geometry: Geometry
    intensities: tuple[IntensityMap, ...] = ()  # of the channels, where the image is not normalised yet

    @property
    def spans(self) -> dict[int, tuple[int, int]]:
        """As in ClassLocations."""
        return {index: found.locations for index, found in self.classes.items()}

    @property
    def voxels(self) -> dict[int, int]:
        """As in ClassLocations."""
        return {index: found.voxels for index, found in self.classes.items()}


RECORD = Kind("prepared case", CaseRecord, advice="run preprocess again", version=2, marked=False)
