"""survey.json: what was found in each case, and the statistics so far, written and read back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nnunet_rs.core.document import Kind
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.issues import Issue
from nnunet_rs.plan.schema import CasePrint
from nnunet_rs.plan.validation import check_case_print

KEPT = 32 << 20  # bytes of statistics; larger ones are not kept


@dataclass(frozen=True, slots=True)
class ScannedCase:
    """What reading one case found."""

    signature: str  # of its files and of what dataset.json declares: another one means that they have changed
    print: CasePrint | None  # None: a fatal issue
    classes: tuple[bool, ...]  # which classes occur, the ignore label last; empty: unknown
    issues: tuple[Issue, ...]
    digest: str = ""  # of its files' content, see `files_digest`; empty: not known


@dataclass(frozen=True, slots=True)
class _CaseRecord:
    """A case as survey.json has it: a valid one; cases with problems are read again."""

    signature: str
    print: CasePrint
    classes: tuple[bool, ...]
    faults: tuple[Issue, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Scan:
    """survey.json."""

    cases: dict[str, _CaseRecord]
    statistics: bytes  # deflated


_SCAN = Kind("survey", _Scan, advice="delete it, and run preprocess", compact=True)


def write_dataset_scan(path: Path, cases: Mapping[str, ScannedCase], statistics: bytes) -> None:
    """Write what `read_dataset_scan` reads, of the valid cases; a rerun can make it again."""
    valid = {name: (case, case.print) for name, case in cases.items() if case.print is not None}
    records = {
        name: _CaseRecord(case.signature, found, case.classes, case.issues, case.digest)
        for name, (case, found) in valid.items()
    }
    _SCAN.save(path, _Scan(records, zlib.compress(statistics, 1)), durable=False)


def read_dataset_scan(path: Path) -> tuple[dict[str, ScannedCase], bytes]:
    """Read survey.json: what was found in each case, and the statistics.

    Raises
    ------
    DatasetError
        It is missing, damaged or of another version.
    """
    scan = _SCAN.load(path)
    cases = {name: _scanned(f"{path}: cases.{name}", name, case) for name, case in scan.cases.items()}
    return cases, _unpacked(path, scan.statistics)


def _unpacked(path: Path, packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        statistics = unpacking.decompress(packed, KEPT)
    except zlib.error as error:
        raise DatasetError(f"{path}: statistics cannot be unpacked: {error}") from error
    if not unpacking.eof:
        raise DatasetError(f"{path}: statistics are cut short, or larger than any that are kept")
    return statistics


def _scanned(where: str, name: str, case: _CaseRecord) -> ScannedCase:
    if case.print.name != name:
        raise DatasetError(f"{where}.print.name is {case.print.name!r}: must be the case's own")
    check_case_print(case.print, f"{where}.print", DatasetError)
    return ScannedCase(case.signature, case.print, case.classes, case.faults, case.digest)
