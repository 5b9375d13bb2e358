"""What `plan` and `preprocess` share: how folds are made, what the rules shall not decide."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rs.cli import nnunet, shared, values
from nnunet_rs.cli.renamed import Renamed
from nnunet_rs.core.choices import PLANNER_NAMES
from nnunet_rs.core.workspace import SPLITS_JSON

if TYPE_CHECKING:
    from nnunet_rs.core.issues import Issue
    from nnunet_rs.core.types import Dataset
    from nnunet_rs.data.pipeline import PrepareOptions
    from nnunet_rs.plan.planner import PlanOverrides


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add what is decided by the user in place of the rules."""
    group = parser.add_argument_group("plan", "What the rules decide, unless given here.")
    group.add_argument(
        "--planner",
        metavar="NAME",
        help=f"whose rules: {shared.listed(PLANNER_NAMES)} (default: paper)",
    )
    group.add_argument("--recipe", action=Renamed, dest="planner", const="--planner")
    group.add_argument(
        "--plans", metavar="FILE", type=Path, help="follow nnU-Net's plans.json, edited or not, instead of a planner"
    )
    group.add_argument("-pl", action=nnunet.PlannerOption, help=argparse.SUPPRESS)
    group.add_argument(
        "--vram",
        "-gpu_memory_target",
        metavar="GB",
        type=values.positive,
        help="plan for a device with this much memory",
    )
    group.add_argument(
        "--spacing", metavar="Z,Y,X", type=values.spacing, help="target spacing in mm, in the files' axis order"
    )
    group.add_argument(
        "-overwrite_target_spacing", action=nnunet.Spacing, type=values.positive, nargs=3, help=argparse.SUPPRESS
    )
    group.add_argument(
        "--patch-size", metavar="Z,Y,X", type=values.patch, help="patch size in voxels (two numbers: 2d only)"
    )
    group.add_argument(
        "--reorient",
        action="store_true",
        help="turn images to the axes right, anterior, superior first, as nnU-Net's NibabelIOWithReorient does",
    )
    group.add_argument("--batch-size", metavar="N", type=values.count, help="samples in a batch")
    group.add_argument("--features", metavar="N", type=values.count, help="feature maps of the first stage")


def add_splits(parser: argparse.ArgumentParser) -> None:
    """Add which cases are used, and how they are spread over folds."""
    group = parser.add_argument_group("cases and folds")
    group.add_argument("--skip-faulty", action="store_true", help="leave out cases with errors instead of stopping")
    group.add_argument(
        "--groups",
        metavar="FILE|REGEX",
        help="cases of one group stay in one fold: a .csv of case and group, or a regular expression that finds the "
        "group in the case's name, as in 'patient[0-9]+'",
    )
    group.add_argument(
        "--strata", metavar="FILE", type=Path, help="spread strata evenly over folds: .csv of case and stratum"
    )
    group.add_argument(
        "--num-folds",
        metavar="N",
        type=values.num_folds,
        help=f"folds of cross-validation (default: as many as {SPLITS_JSON} has, else 5)",
    )


def prepare_options(arguments: argparse.Namespace, dataset: Dataset) -> PrepareOptions:
    """Gather what `plan` and `preprocess` share, and what `preprocess` has besides."""
    from nnunet_rs.data.folds import groups_from_pattern, read_case_table
    from nnunet_rs.data.pipeline import PrepareOptions

    groups = arguments.groups
    if groups is not None:
        names = [case.name for case in dataset.training]
        groups = read_case_table(Path(groups)) if groups.endswith(".csv") else groups_from_pattern(names, groups)
    return PrepareOptions(
        planner=arguments.planner,
        overrides=overrides(arguments),
        plans=arguments.plans,
        configurations=tuple(getattr(arguments, "configuration", None) or ()),
        groups=groups,
        strata=read_case_table(arguments.strata) if arguments.strata else None,
        num_folds=arguments.num_folds,
        memory=arguments.memory,
        threads=arguments.threads,
        resume=not getattr(arguments, "fresh", False),
        skip_faulty=arguments.skip_faulty,
        half=getattr(arguments, "half", False),
        placement=getattr(arguments, "placement", None),
    )


def overrides(arguments: argparse.Namespace) -> PlanOverrides:
    """Gather what the rules shall not decide."""
    from nnunet_rs.plan.planner import PlanOverrides

    return PlanOverrides(
        vram_gb=arguments.vram,
        spacing=arguments.spacing,
        patch_size=arguments.patch_size,
        batch_size=arguments.batch_size,
        features=arguments.features,
        reorient=arguments.reorient,
    )


def issue_json(issue: Issue) -> dict[str, Any]:
    """Give an issue as a machine reads it."""
    return {
        "severity": "error" if issue.fatal else "warning",
        "case": issue.case or None,
        "file": issue.file,
        "rule": issue.rule,
        "value": issue.value,
        "advice": issue.advice,
    }
