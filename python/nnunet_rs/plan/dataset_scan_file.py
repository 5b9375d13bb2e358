"""survey.json: what was found in each case, and the statistics so far, written and read back."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nnunet_rs.core.document import decode, encode
from nnunet_rs.core.errors import DatasetError
from nnunet_rs.core.files import read_json, write_bytes
from nnunet_rs.core.issues import Issue
from nnunet_rs.plan.schema import CasePrint
from nnunet_rs.plan.validation import check_case_print

VERSION = 1
KEPT = 32 << 20  # bytes of statistics; larger ones are not kept


@dataclass(frozen=True, slots=True)
class ScannedCase:
    """What reading one case found."""

    signature: str  # of its files and of what dataset.json declares: another one means that they have changed
    print: CasePrint | None  # None: a fatal fault
    classes: tuple[bool, ...]  # which classes occur, the ignore label last; empty: unknown
    issues: tuple[Issue, ...]
    digest: str = ""  # of its files' content, see `files_digest`; empty: not known


def write_survey(path: Path, cases: Mapping[str, ScannedCase], statistics: bytes) -> None:
    """Write what `read_survey` reads, of cases without a fatal fault; a rerun can make it again."""
    packed = base64.b64encode(zlib.compress(statistics, 1)).decode()
    write_bytes(path, json.dumps(_to_json(cases, packed)).encode() + b"\n", durable=False)


@dataclass(frozen=True, slots=True)
class _IssueRecord:
    """A fault as survey.json has it."""

    file: str
    rule: str
    value: str
    advice: str
    case: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class _CaseRecord:
    """A case as survey.json has it: a valid one; cases with problems are read again."""

    signature: str
    print: CasePrint
    classes: tuple[bool, ...]
    faults: tuple[_IssueRecord, ...]
    digest: str = ""


@dataclass(frozen=True, slots=True)
class _Record:
    """survey.json."""

    format: Literal["nnunet_rs survey"]
    version: int
    cases: dict[str, _CaseRecord]
    statistics: str


def read_survey(path: Path) -> tuple[dict[str, ScannedCase], bytes]:
    """Read survey.json: what was found in each case, and the statistics.

    Raises
    ------
    DatasetError
        It is missing, damaged or of another version.
    """
    record = decode(_Record, read_json(path), f"{path}:", DatasetError)
    if record.version != VERSION:
        raise DatasetError(f"{path}: version is {record.version}, this release reads {VERSION}")
    cases = {name: _surveyed(f"{path}: cases.{name}", name, case) for name, case in record.cases.items()}
    return cases, _unpacked(path, record.statistics)


def _unpacked(path: Path, packed: str) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        statistics = unpacking.decompress(base64.b64decode(packed, validate=True), KEPT)
    except (ValueError, zlib.error) as error:
        raise DatasetError(f"{path}: statistics cannot be unpacked: {error}") from error
    if not unpacking.eof:
        raise DatasetError(f"{path}: statistics are cut short, or larger than any that are kept")
    return statistics


def _surveyed(where: str, name: str, case: _CaseRecord) -> ScannedCase:
    if case.print.name != name:
        raise DatasetError(f"{where}.print.name is {case.print.name!r}: must be the case's own")
    check_case_print(case.print, f"{where}.print", DatasetError)
    faults = tuple(Issue(Path(f.file), f.rule, f.value, f.advice, f.case, f.fatal) for f in case.faults)
    return ScannedCase(case.signature, case.print, case.classes, faults, case.digest)


def _to_json(cases: Mapping[str, ScannedCase], statistics: str) -> dict[str, Any]:
    return {
        "format": "nnunet_rs survey",
        "version": VERSION,
        "cases": {name: _case_to_json(case) for name, case in cases.items()},
        "statistics": statistics,
    }


def _case_to_json(case: ScannedCase) -> dict[str, Any]:
    faults = [{**encode(issue), "file": str(issue.file)} for issue in case.issues]
    return {
        "signature": case.signature,
        "digest": case.digest,
        "print": encode(case.print),
        "classes": case.classes,
        "faults": faults,
    }
