"""Which plan a work folder follows: the one that is there, perhaps edited by hand, or a new one."""

from __future__ import annotations

from pathlib import Path

from nnunet_rs.core.errors import PlanError
from nnunet_rs.core.files import keep_aside
from nnunet_rs.core.progress import Progress
from nnunet_rs.core.types import Dataset
from nnunet_rs.core.workspace import DATASET_JSON, WorkFolder
from nnunet_rs.plan.comparison import decide_alike
from nnunet_rs.plan.files import read_plan, write_plan
from nnunet_rs.plan.nnunet_plans import plan_from_nnunet
from nnunet_rs.plan.planner import PlanOverrides, make_plan
from nnunet_rs.plan.schema import Fingerprint, Plan

DEFAULT = "paper"


def reconcile_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    work: Path,
    planner: str | None,
    overrides: PlanOverrides | None,
    progress: Progress,
    plans: Path | None = None,
) -> Plan:
    """Return the plan to follow, and see that WORK/plan.json holds it.

    A plan that is there is followed as it is, edited or not, unless another planner or overrides are asked for. Then a
    new one is made; where it differs, the old one is kept as `plan.previous.json` (`keep_aside`).

    Parameters
    ----------
    dataset, fingerprint
        What a new plan is made from, and the plan that is there must fit.
    work
        The work folder.
    planner
        Asked for by the user; None: that of the plan that is there, else "paper".
    overrides
        Asked for by the user.
    plans
        nnU-Net's plans.json, which the user wants to be followed instead; it leaves nothing for planner and overrides.
    progress
        Is told where a plan is followed that would be made otherwise today, or replaced.

    Raises
    ------
    PlanError
        The plan that is there cannot be read, or is of other channels or labels than the dataset; or none can be made.
    """
    if plans is not None:
        return _by_nnunet(plans, dataset, WorkFolder(work).plan_file, progress, asked=(planner, overrides))
    path, wanted = WorkFolder(work).plan_file, overrides or PlanOverrides()
    there = read_plan(path) if path.exists() else None
    if there is not None and planner in (None, there.recipe) and wanted == PlanOverrides():
        _require_fit(there, dataset, path)
        if not decide_alike(there, make_plan(dataset, fingerprint, there.recipe)):
            progress.say(f"{path} is followed as it is, though planning anew would differ; move it away for a new plan")
        return there
    plan = make_plan(dataset, fingerprint, planner or DEFAULT, wanted)
    replace_plan(path, plan, progress)
    return plan


def _by_nnunet(
    plans: Path,
    dataset: Dataset,
    path: Path,
    progress: Progress,
    asked: tuple[str | None, PlanOverrides | None],
) -> Plan:
    if asked[0] is not None or asked[1] not in (None, PlanOverrides()):
        raise PlanError(f"{plans}: decides all that a planner and overrides decide; leave them out, or edit that file")
    plan = plan_from_nnunet(plans, dataset)
    replace_plan(path, plan, progress)
    return plan


def replace_plan(path: Path, plan: Plan, progress: Progress) -> None:
    """Write a plan; where another one is there, it is kept aside, and that is said.

    Raises
    ------
    PlanError
        What is there is no plan.
    """
    if path.exists() and not decide_alike(read_plan(path), plan):
        progress.say(f"{path} was another plan: it is kept as {keep_aside(path).name}")
    write_plan(path, plan)


def _require_fit(plan: Plan, dataset: Dataset, path: Path) -> None:
    if plan.channels != dataset.channels:
        raise PlanError(
            f"{path}: is for the channels {', '.join(plan.channels)}, the dataset has {', '.join(dataset.channels)}; "
            f"move it away for a new plan"
        )
    if plan.labels != dataset.labels:
        raise PlanError(
            f"{path}: its labels are not those of the dataset's {DATASET_JSON}; move it away for a new plan"
        )
