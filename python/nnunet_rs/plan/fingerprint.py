"""The fingerprint: what planning needs to know of a dataset, from one read of each file."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from numpy.typing import NDArray

from nnunet_rs.core.budget import Budget, in_parallel
from nnunet_rs.core.check import check_case
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.geometry import nonzero_box
from nnunet_rs.core.issues import Issue, require_none
from nnunet_rs.core.kernels import ForegroundAccumulator
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.core.resources import processors, resident_memory
from nnunet_rs.core.types import Box, Case, ChannelStats, Dataset, IntArray, Volume
from nnunet_rs.plan.schema import CasePrint, Fingerprint
from nnunet_rs.plan.spacing import percentile

COUNTERS = 256 << 20  # bytes for the values of true floats that lie near a percentile; whole numbers need little
_UNLIMITED = 1 << 62

Show: TypeAlias = Callable[[Case, Volume, IntArray], None]


class FingerprintBuilder:
    """The fingerprint of a dataset in the making: cases in any order, from any thread, each read once.

    `preprocess` shows it the cases that it reads anyway; `fingerprint_dataset` reads them for it. The result is the
    same, bit for bit, whatever the order and the threads.

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
        """Take in one case, and return what the fingerprint keeps of it.

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
        found = CasePrint(case, _shape(volume.data), _lengths(crop), volume.spacing)
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
        """Take in one case once more, where `pending`."""
        self._foreground.refine(volume.data, labels, threads=threads)

    def to_bytes(self) -> bytes:
        """Return the statistics so far, for `restore`. No case must be in the middle of `add`."""
        return self._foreground.to_bytes()

    def restore(self, cases: Sequence[CasePrint], statistics: bytes) -> None:
        """Take in the cases of an earlier builder by what it kept of them.

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


def fingerprint_dataset(
    dataset: Dataset, *, threads: int | None = None, memory: int | None = None, progress: Progress | None = None
) -> Fingerprint:
    """Read every training case once and return the dataset's fingerprint.

    Parameters
    ----------
    dataset
        As `read_dataset` gave it.
    threads
        Cases read at the same time; None: one per processor this process may use.
    memory
        Bytes that this process may hold; None: no limit.
    progress
        Is told of each case.

    Returns
    -------
    Fingerprint
        The same for any number of threads and any memory.

    Raises
    ------
    IssueError
        A file of a training case is missing, unreadable or contradicts another: the first fault in the cases' order.
    DatasetError
        There is no case, no foreground, or a case that does not fit into the memory.
    """
    require_none(dataset.issues)
    counters = COUNTERS if memory is None else min(COUNTERS, memory // 8)
    builder = FingerprintBuilder(dataset, counters=counters)
    reader = _Reader(dataset, threads or processors(), memory, 2 * counters)
    shown = progress or Silent()

    def add(case: Case, volume: Volume, labels: IntArray) -> None:
        builder.add(case.name, volume, labels, threads=1)

    def refine(case: Case, volume: Volume, labels: IntArray) -> None:  # noqa: ARG001
        builder.refine(volume, labels, threads=1)

    reader.show_all("fingerprint", add, shown)
    if builder.pending:
        reader.show_all("percentiles, second pass", refine, shown)
    return builder.finish()


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads all training cases, several at a time, within a memory budget."""

    dataset: Dataset
    threads: int
    memory: int | None  # bytes that this process may hold
    taken: int  # bytes that others will hold

    def show_all(self, name: str, show: Show, progress: Progress) -> None:
        """Read each case and hand it to `show`; then raise the first fault in the cases' order."""
        issues: dict[str, tuple[Issue, ...]] = {}
        budget = Budget(_UNLIMITED if self.memory is None else self.memory - resident_memory() - self.taken)
        cases = self.dataset.training
        with progress.task(name, len(cases)) as task:
            for case, found in in_parallel(partial(self._show, show, budget), cases, self.threads, budget):
                issues[case.name] = found
                task.advance(1, case.name)
        require_none(tuple(issue for case in cases for issue in issues[case.name]))

    def _show(self, show: Show, budget: Budget, case: Case) -> tuple[Issue, ...]:
        needed = estimate_case_memory(case, len(self.dataset.channels)).reading
        if needed > budget.total:
            raise DatasetError(
                f"{case.images[0]}: reading case {case.name} may take {needed / 1e9:.2g} GB, of the memory allowed "
                f"{max(0, budget.total) / 1e9:.2g} GB are left; raise --memory"
            )
        with budget.hold(needed):
            volume, labels, issues = check_case(self.dataset, case)
            if volume is not None and labels is not None:
                show(case, volume, labels.data)
        return issues


def _shape(data: NDArray[Any]) -> tuple[int, int, int]:
    _, z, y, x = data.shape
    return z, y, x


def _lengths(box: Box) -> tuple[int, int, int]:
    z, y, x = (stop - start for start, stop in box)
    return z, y, x
