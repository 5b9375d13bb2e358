"""Statistics of a folder of segmentations: measured, written, and the rest told where a case cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.errors import NnunetError, named
from nnunet_rs.core.io import can_read
from nnunet_rs.core.names import strip_ending
from nnunet_rs.core.progress import Progress, Silent
from nnunet_rs.evaluate.structures_folder import (
    STEM,
    CaseStructures,
    measure_cases,
    require_statistics,
    write_statistics,
)
from nnunet_rs.report.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and what could not be."""

    cases: tuple[CaseStructures, ...]
    failed: dict[str, str] = field(default_factory=dict)  # reasons by case
    paths: tuple[Path, ...] = ()  # of the files that were written

    def require_all(self) -> None:
        """Raise a NnunetError where cases could not be measured."""
        if self.failed:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(self.failed.items()))
            total = len(self.cases) + len(self.failed)
            rest = f"the other {len(self.cases)} are in {self.paths[0]}" if self.cases and self.paths else "none is"
            raise NnunetError(f"{len(self.failed)} of {total} cases could not be measured, {rest}: {reasons}")


@dataclass(frozen=True, slots=True)
class StatisticsPlace:
    """Where statistics are written."""

    folder: Path
    stem: str
    overwrite: bool = False  # keep foreign files of these names aside

    @classmethod
    def of(cls, output: Path) -> StatisticsPlace:
        """Take a folder, or one of the two files: the other lies beside it."""
        if output.suffix.lower() in (".json", ".csv") and not output.is_dir():
            return cls(output.parent, output.stem)
        return cls(output, STEM)

    @classmethod
    def beside(cls, predictions: Path) -> StatisticsPlace:
        """Give the place in a folder of segmentations, or beside a single one, named after it."""
        if can_read(predictions) and not predictions.is_dir():
            return cls(predictions.parent, f"{strip_ending(predictions.name)}.{STEM}")
        return cls(predictions, STEM)

    def require(self) -> None:
        """Check that statistics may be written, before anything is computed; errors as `write_statistics`."""
        require_statistics(self.folder, self.stem, overwrite=self.overwrite)


def measure_predictions(
    found: Predictions,
    place: StatisticsPlace | None = None,
    *,
    threads: int | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure every segmentation, and write statistics.json and statistics.csv.

    Parameters
    ----------
    found
        The segmentations; those with an image are measured with their intensities.
    place
        None: nothing is written.
    threads, memory
        As of `measure_cases`.

    Raises
    ------
    NnunetError
        The files cannot be written, or are not this tool's; see `write_statistics`.
    """
    progress = progress or Silent()
    failed: dict[str, str] = {}
    if place is not None:
        place.require()
    cases = measure_cases(
        found.cases,
        found.labels,
        found.channels,
        threads=threads,
        memory=memory,
        progress=progress,
        failed=_noting(failed, progress.say),
    )
    paths: tuple[Path, ...] = ()
    if place is not None and cases:
        paths = write_statistics(
            place.folder, cases, found.channels, stem=place.stem, overwrite=place.overwrite, say=progress.say
        )
    return Measured(cases, failed, paths)


def _noting(failed: dict[str, str], say: Callable[[str], None]) -> Callable[[str, Exception], None]:
    def note(name: str, error: Exception) -> None:
        failed[name] = named(error)
        say(f"{name} cannot be measured: {failed[name]}")

    return note
