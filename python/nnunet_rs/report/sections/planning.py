"""What was planned, and why."""

from __future__ import annotations

import math

from nnunet_rs.core.text import by
from nnunet_rs.plan.schema import Configuration
from nnunet_rs.report.blocks import Block, Folded, Points, Section
from nnunet_rs.report.tables import Table, plan_table
from nnunet_rs.report.workfolder import WorkContents


def plan_section(work: WorkContents) -> Section:
    """Show the configurations side by side, then the rule and the numbers behind each choice."""
    plan = work.plan
    reasons: tuple[Block, ...] = (Points(plan.reasons, "Why"),) if plan.reasons else ()
    networks = tuple(_network(configuration) for configuration in plan.configurations.values())
    return Section("plan", "The plan", (plan_table(plan), *reasons, *networks))


def _network(configuration: Configuration) -> Folded:
    return Folded(
        f"{configuration.name}: why, and its network", (Points(configuration.reasons), _stages(configuration))
    )


def _stages(configuration: Configuration) -> Table:
    """List what each resolution of the U-Net works with."""
    sizes, size = [], list(configuration.patch_size)
    for stride in configuration.strides:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        sizes.append(tuple(size))
    rows = tuple(
        (str(stage + 1), by(sizes[stage]), by(configuration.kernels[stage]), str(features), _share(sizes, stage))
        for stage, features in enumerate(configuration.features)
    )
    head = ("stage", "feature map, voxels", "kernel", "feature maps", "of the patch")
    kind = "residual encoder" if configuration.residual else "plain encoder"
    return Table(f"The U-Net of {configuration.name}, {kind}", head, rows)


def _share(sizes: list[tuple[int, ...]], stage: int) -> str:
    share = math.prod(sizes[stage]) / math.prod(sizes[0])
    return f"{share:.2g}" if share < 0.01 else f"{share:.0%}"
