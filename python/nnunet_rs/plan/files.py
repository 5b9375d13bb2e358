"""fingerprint.json and plan.json: JSON that a person can read and edit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_rs.core.document import Kind, render
from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.files import read_json, write_bytes
from nnunet_rs.plan.schema import Fingerprint, Plan
from nnunet_rs.plan.validation import check_fingerprint, check_plan

_ADVICE = "use the nnunet_rs that wrote it, or move it away and run preprocess again"
PLAN = Kind("plan", Plan, PlanError, _ADVICE)
FINGERPRINT = Kind("fingerprint", Fingerprint, PlanError, _ADVICE)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Return the JSON document of a plan: tables, lists, texts and numbers."""
    return PLAN.to_json(plan)


def plan_from_json(document: Any, source: str = "plan") -> Plan:
    """Read a plan's JSON document, of this or any earlier version, and check that it can be followed.

    Parameters
    ----------
    document
        What the JSON parser returned.
    source
        The file it came from, for error messages.

    Raises
    ------
    PlanError
        Unknown version, missing or unknown key, value of another type, or values that contradict each other: the text
        names file, key, value and what is allowed.
    """
    plan = PLAN.from_json(document, source)
    check_plan(plan, source)
    return plan


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """Return the JSON document of a fingerprint."""
    return FINGERPRINT.to_json(fingerprint)


def fingerprint_from_json(document: Any, source: str = "fingerprint") -> Fingerprint:
    """Read a fingerprint's JSON document, of this or any earlier version.

    Raises
    ------
    PlanError
        As `plan_from_json`.
    """
    fingerprint = FINGERPRINT.from_json(document, source)
    check_fingerprint(fingerprint, source)
    return fingerprint


def plan_text(plan: Plan) -> str:
    """Return the text of plan.json: indented, small lists on one line."""
    return render(plan_to_json(plan)) + "\n"


def fingerprint_text(fingerprint: Fingerprint) -> str:
    """Return the text of fingerprint.json: one line a case."""
    return render(fingerprint_to_json(fingerprint)) + "\n"


def write_plan(path: str | Path, plan: Plan) -> None:
    """Write plan.json; the file is whole or not there."""
    path = Path(path)
    write_bytes(path, plan_text(plan).encode())


def read_plan(path: str | Path) -> Plan:
    """Read plan.json as written by `write_plan` and perhaps edited by hand.

    Raises
    ------
    PlanError
        The file is not there, is no JSON, or `plan_from_json` refuses it.
    """
    path = Path(path)
    if not path.exists():
        raise PlanError(f"{path}: no such file; nnunet-rs preprocess DATA -o {path.parent} makes it (plan alone too)")
    return plan_from_json(read_json(path, PlanError), str(path))


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Write fingerprint.json; the file is whole or not there."""
    write_bytes(path, fingerprint_text(fingerprint).encode())


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read fingerprint.json.

    Raises
    ------
    PlanError
        The file is not there, is no JSON, or `fingerprint_from_json` refuses it.
    """
    path = Path(path)
    return fingerprint_from_json(read_json(path, PlanError), str(path))
