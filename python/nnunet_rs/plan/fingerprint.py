"""The fingerprint: what planning needs to know of a dataset, from one read of each file."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import nonzero_box
from nnunet_rs.core.kernels import ForegroundAccumulator
from nnunet_rs.core.orientation import stored_orientation
from nnunet_rs.core.types import Box, ChannelStats, Dataset, IntArray, Volume
from nnunet_rs.plan.schema import CasePrint, Fingerprint
from nnunet_rs.plan.spacing import percentile

COUNTERS = 256 << 20  # bytes for the values of true floats that lie near a percentile; whole numbers need little


class FingerprintBuilder:
    """The fingerprint of a dataset in the making: cases in any order, from any thread, each read once.

    The result is the same, bit for bit, whatever the order and the threads.

    Parameters
    ----------
    dataset
        Its channels and the order of its training cases.
    counters
        Bytes that the intensity statistics may take; see `ForegroundAccumulator`.
    """

    def __init__(self, dataset: Dataset, *, counters: int = COUNTERS) -> None:
        self._dataset = dataset
        self._foreground = ForegroundAccumulator(len(dataset.channels), memory=counters)
        self._cases: dict[str, CasePrint] = {}
        self._lock = threading.Lock()

    def add(
        self, case: str, volume: Volume, labels: IntArray, *, box: Box | None = None, threads: int | None = None
    ) -> CasePrint:
        """Add one case, and return what the fingerprint keeps of it.

        Parameters
        ----------
        case
            Its name; each may be added once.
        volume
            The image as read.
        labels
            (z, y, x) on the volume's grid; voxels above 0 are foreground.
        box
            The volume's non-zero box, where it is known.
        threads
            Of the statistics; None: all processors.

        Raises
        ------
        ValueError
            The case was added before, or image and labels do not fit each other.
        """
        crop = nonzero_box(volume.data) if box is None else box
        found = CasePrint(
            case, _shape(volume.data), _lengths(crop), volume.spacing, stored_orientation(volume.header) or ""
        )
        with self._lock:
            if case in self._cases:
                raise ValueError(f"case {case} was added before")
            self._cases[case] = found
        self._foreground.add(volume.data, labels, threads=threads)
        return found

    @property
    def pending(self) -> bool:
        """Whether every case must be shown once more to `refine`: rare, and of floating-point images only."""
        return self._foreground.pending

    def refine(self, volume: Volume, labels: IntArray, *, threads: int | None = None) -> None:
        """Add one case once more, where `pending`."""
        self._foreground.refine(volume.data, labels, threads=threads)

    def to_bytes(self) -> bytes:
        """Return the statistics so far, for `restore`. No case must be in the middle of `add`."""
        return self._foreground.to_bytes()

    def restore(self, cases: Sequence[CasePrint], statistics: bytes) -> None:
        """Add the cases of an earlier builder by what it kept of them.

        Raises
        ------
        ValueError
            The statistics are damaged, of another version or of another number of channels.
        """
        self._foreground.merge(ForegroundAccumulator.from_bytes(statistics))
        self._cases.update({case.name: case for case in cases})

    def finish(self) -> Fingerprint:
        """Return the fingerprint of the cases so far, in the dataset's order.

        Raises
        ------
        DatasetError
            No case was added, or none has foreground.
        ValueError
            `pending`, and not every case was refined.
        """
        cases = tuple(self._cases[case.name] for case in self._dataset.training if case.name in self._cases)
        if not cases:
            raise DatasetError(f"{self._dataset.root}: no training case can be used; run check to see why")
        if self._foreground.pending:
            raise ValueError("every case must be shown to refine before the fingerprint can be finished")
        relative = [math.prod(case.shape_after_crop) / math.prod(case.shape) for case in cases]
        return Fingerprint(cases, self._statistics(), percentile(relative, 50))

    def _statistics(self) -> tuple[ChannelStats, ...]:
        try:
            return self._foreground.finish()
        except ValueError as issue:
            raise DatasetError(
                f"{self._dataset.root}: the intensity statistics cannot be taken: {issue}; "
                f"see that the label files hold the declared labels"
            ) from issue


def _shape(data: NDArray[Any]) -> tuple[int, int, int]:
    _, z, y, x = data.shape
    return z, y, x


def _lengths(box: Box) -> tuple[int, int, int]:
    z, y, x = (stop - start for start, stop in box)
    return z, y, x
