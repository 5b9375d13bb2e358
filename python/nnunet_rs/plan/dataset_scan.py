"""One reading of a whole dataset: every file is checked and measured, and what was found is kept for the next time.

What a work folder holds of it: `fingerprint.json`, for planning, and `survey.json`: what each valid case's files were
(size and time), what was found in them, and the statistics so far. With it an interrupted scan resumes,
and a case more costs the reading of one case. Cases with issues are read again: what repairs them may leave no trace.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_rs.core.budget import Budget, StoppedError, in_parallel
from nnunet_rs.core.check import CheckedCase, check_case, dataset_issues, too_large
from nnunet_rs.core.errors import DatasetError, NnunetError
from nnunet_rs.core.geometry import nonzero_box
from nnunet_rs.core.issues import Issue, fatal
from nnunet_rs.core.labels import present_classes
from nnunet_rs.core.memory_estimate import estimate_case_memory
from nnunet_rs.core.outliers import ComparedCase
from nnunet_rs.core.progress import Silent, Task
from nnunet_rs.core.types import Box, Case, Dataset, Labels, Volume
from nnunet_rs.core.workspace import WorkFolder
from nnunet_rs.plan.dataset_scan_file import KEPT, ScannedCase, read_dataset_scan, write_dataset_scan
from nnunet_rs.plan.files import read_fingerprint, write_fingerprint
from nnunet_rs.plan.fingerprint import COUNTERS, FingerprintBuilder
from nnunet_rs.plan.schema import CasePrint, Fingerprint

_SAVE_EVERY = 10.0  # seconds of reading that a killed process may lose
_HASHED = 1 << 16  # bytes of a file's beginning, and of its end, that tell it from others
_LARGE = 1 << 22  # voxels from which a case is worth several threads

Visit = Callable[[Case, Volume, Labels, Box], None]


@dataclass(frozen=True, slots=True)
class FilesRecord:
    """What a work folder remembers of a case's files."""

    signature: str  # of `case_signature`
    digest: str  # of `files_digest`; empty in older work folders


@dataclass(frozen=True, slots=True)
class DatasetScan:
    """What reading a dataset found."""

    cases: dict[str, ScannedCase]  # by name, in the dataset's order
    issues: tuple[Issue, ...]  # all: the dataset's, the cases', and what only all cases together tell
    fingerprint: Fingerprint | None  # of the valid cases; None if there is none

    def valid(self) -> tuple[str, ...]:
        """Return the names of the cases without a fatal issue, in the dataset's order."""
        return tuple(name for name, case in self.cases.items() if case.print is not None)


def scan_dataset(
    dataset: Dataset,
    work: Path | None,
    budget: Budget,
    *,
    threads: int,
    counters: int = COUNTERS,
    task: Task | None = None,
    visit: Visit | None = None,
) -> DatasetScan:
    """Read every case once, check it and measure it.

    Parameters
    ----------
    dataset
        As `read_dataset` gave it.
    work
        The work folder, whose earlier scan is used as far as it holds and which gets this one. None: no files.
    budget
        Of memory: a case is read when what it needs is free.
    threads
        Cases read side by side.
    counters
        Bytes that the statistics may take, besides the budget.
    task
        Advances by one for each case.
    visit
        Is called, in the reading thread, with each valid case that is read: image, class indices, crop box.

    Returns
    -------
    DatasetScan
        Cases with issues are listed in it, not raised.
    """
    reading = _Reading(dataset, budget, threads, counters, task or Silent(), visit)
    if work is not None:
        reading.recall(work)
    known = None if work is None or reading.missing() else _known_fingerprint(work, reading.prints())
    if known is None:
        reading.read_missing(work)
        known = reading.finish() if reading.holds_foreground() else None
        if work is not None:
            reading.save(work)
            if known is not None:
                write_fingerprint(WorkFolder(work).fingerprint_file, known)
    return DatasetScan(reading.in_order(), reading.issues(), known)


def case_signature(dataset: Dataset, case: Case) -> str:
    """Hash what a case's files are (place, size, time of the last change) and how they are to be understood."""
    files = [*case.images, *([case.label] if case.label else [])]
    declared = [dataclasses.astuple(dataset.labels), dataset.channels]
    declared += [case.unannotated] if case.unannotated else []
    content = [declared, [_file_signature(dataset.root, path) for path in files]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def files_digest(files: Sequence[Path]) -> str:
    """Hash files by size, beginning and end: it tells other scans apart, wherever copies of them lie; empty: unread."""
    digest = hashlib.sha256()
    try:
        for path in files:
            size = path.stat().st_size
            digest.update(size.to_bytes(8, "little"))
            with path.open("rb") as stream:
                digest.update(stream.read(_HASHED))
                stream.seek(max(_HASHED, size - _HASHED))
                digest.update(stream.read(_HASHED))
    except OSError:
        return ""
    return digest.hexdigest()


def recorded_files(work: Path) -> dict[str, FilesRecord]:
    """Return what a work folder's scan remembers of each valid case's files; nothing where it cannot be read."""
    try:
        cases, _ = read_dataset_scan(WorkFolder(work).scan_file)
    except NnunetError:
        return {}
    return {name: FilesRecord(case.signature, case.digest) for name, case in cases.items()}


def scanned_classes(work: Path) -> dict[str, tuple[bool, ...]]:
    """Tell, for each valid case of a work folder's scan, which classes occur, the ignore label last.

    Raises
    ------
    DatasetError
        survey.json is missing, damaged or of another version.
    """
    try:
        cases, _ = read_dataset_scan(WorkFolder(work).scan_file)
    except DatasetError as error:
        raise DatasetError(f"{error}; it is made anew by preprocess") from error
    return {name: case.classes for name, case in cases.items()}


@dataclass(slots=True)
class _Reading:
    """A scan on its way."""

    dataset: Dataset
    budget: Budget
    threads: int
    counters: int
    task: Task
    visit: Visit | None
    found: dict[str, ScannedCase] = field(default_factory=dict)
    builder: FingerprintBuilder = field(init=False)
    signatures: dict[str, str] = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)  # `found` and the statistics agree where it is free

    def __post_init__(self) -> None:
        self.builder = self._empty_builder()
        self.signatures = {case.name: case_signature(self.dataset, case) for case in self.dataset.training}

    def missing(self) -> tuple[Case, ...]:
        """Return the cases that have not been read."""
        return tuple(case for case in self.dataset.training if case.name not in self.found)

    def in_order(self) -> dict[str, ScannedCase]:
        """Return what was found, in the dataset's order."""
        return {case.name: self.found[case.name] for case in self.dataset.training if case.name in self.found}

    def prints(self) -> tuple[CasePrint, ...]:
        """Return the fingerprint's part of each valid case."""
        return tuple(case.print for case in self.in_order().values() if case.print is not None)

    def issues(self) -> tuple[Issue, ...]:
        """Return all issues, in the order of `check_dataset`."""
        cases = self.in_order().values()
        files = {case.name: case.images[0] for case in self.dataset.training}
        seen = [CheckedCase(case.issues, case.classes, _measured(case.print, files)) for case in cases]
        told = (issue for case in cases for issue in case.issues)
        return (*self.dataset.issues, *told, *dataset_issues(self.dataset, seen))

    def holds_foreground(self) -> bool:
        """Whether any valid case holds a label above the background: without, there is nothing to measure."""
        return any(any(case.classes[1:]) for case in self.found.values() if case.print is not None)

    def recall(self, work: Path) -> None:
        """Take over what an earlier scan found, as far as files have not changed since."""
        try:
            cases, statistics = read_dataset_scan(WorkFolder(work).scan_file)
        except NnunetError:
            return
        known = (0, self.dataset.labels.count + 1)  # numbers of classes that a case can tell of
        fitting = {name: case for name, case in cases.items() if len(case.classes) in known}
        same = {name: case for name, case in fitting.items() if self.signatures.get(name) == case.signature}
        valid = [case.print for case in cases.values() if case.print is not None]
        if all(print.name in same for print in valid):  # else the statistics hold what is there no more
            try:
                self.builder.restore(valid, statistics)
                self.found = same
            except ValueError:
                self.builder = self._empty_builder()
        self.task.advance(len(self.found))

    def read_missing(self, work: Path | None) -> None:
        """Read what has not been read, saving what was found from time to time and at an interruption."""
        saved = time.monotonic()
        try:
            for case, _ in in_parallel(self._read, self.missing(), self.threads, self.budget):
                self.task.advance(1, case.name)
                if work is not None and time.monotonic() - saved > _SAVE_EVERY:
                    self.save(work)
                    saved = time.monotonic()
        except BaseException:
            if work is not None and self.found:
                self.save(work)
            raise

    def finish(self) -> Fingerprint:
        """Return the fingerprint, reading all valid cases again in the rare case that the percentiles need it."""
        if self.builder.pending:
            again = [case for case in self.dataset.training if self.found[case.name].print is not None]
            for _ in in_parallel(self._refine, again, self.threads, self.budget):
                pass
        return self.builder.finish()

    def save(self, work: Path) -> None:
        """Write survey.json."""
        with self.lock:
            statistics = self.builder.to_bytes()
            cases = {name: case for name, case in self.in_order().items() if case.print is not None}
        if len(statistics) <= KEPT:
            write_dataset_scan(WorkFolder(work).scan_file, cases, statistics)

    def _empty_builder(self) -> FingerprintBuilder:
        return FingerprintBuilder(self.dataset, counters=self.counters)

    def _read(self, case: Case) -> None:
        needed = estimate_case_memory(case, len(self.dataset.channels)).reading
        if needed > self.budget.total:
            self._keep(case, ScannedCase(self.signatures[case.name], None, (), (too_large(case, needed, self.budget),)))
            return
        try:
            with self.budget.hold(needed):
                self._read_now(case)
        except StoppedError:  # another case ended the work, and will be told
            return

    def _read_now(self, case: Case) -> None:
        volume, labels, issues = check_case(self.dataset, case)
        signature = self.signatures[case.name]
        if volume is None or labels is None or fatal(issues):
            self._keep(case, ScannedCase(signature, None, (), issues))
            return
        box = nonzero_box(volume.data)
        classes = present_classes(labels.data, self.dataset.labels)
        digest = files_digest((*case.images, *([case.label] if case.label else [])))
        threads = None if labels.data.size >= _LARGE else 1
        with self.lock:
            print = self.builder.add(case.name, volume, labels.data, box=box, threads=threads)
            self.found[case.name] = ScannedCase(signature, print, classes, issues, digest)
        if self.visit is not None:
            self.visit(case, volume, labels, box)

    def _keep(self, case: Case, found_case: ScannedCase) -> None:
        with self.lock:
            self.found[case.name] = found_case

    def _refine(self, case: Case) -> None:
        with self.budget.hold(estimate_case_memory(case, len(self.dataset.channels)).reading):
            volume, labels, _ = check_case(self.dataset, case)
            if volume is None or labels is None:
                raise NnunetError(f"{case.images[0]}: has changed while it was read; run again")
            self.builder.refine(volume, labels.data, threads=1)


def _measured(print: CasePrint | None, files: Mapping[str, Path]) -> ComparedCase | None:
    if print is None:
        return None
    file = files[print.name]
    return ComparedCase(print.name, file, print.shape, print.spacing, orientation=print.orientation)


def _file_signature(root: Path, path: Path) -> list[object]:
    try:
        status = path.stat()
    except OSError:
        return [str(path)]
    place = path.relative_to(root) if path.is_relative_to(root) else path
    return [place.as_posix(), status.st_size, status.st_mtime_ns]


def _known_fingerprint(work: Path, prints: tuple[CasePrint, ...]) -> Fingerprint | None:
    """Return the work folder's fingerprint if it is that of these cases."""
    try:
        known = read_fingerprint(WorkFolder(work).fingerprint_file)
    except NnunetError:
        return None
    return known if known.cases == prints else None
