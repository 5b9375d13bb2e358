from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nnunet_rs.core.types import LabelSet, Region
from nnunet_rs.model.context import Context
from nnunet_rs.model.losses import build_loss
from nnunet_rs.model.network_options import NetworkOptions
from nnunet_rs.plan.schema import Plan


@pytest.fixture
def context(small_plan: Plan) -> Context:
    return Context(small_plan, small_plan.configurations["3d_fullres"], NetworkOptions(deep_supervision=True))


def test_what_a_function_may_know(context: Context) -> None:
    assert context.outputs == ("background", "large", "small")
    assert (context.inputs, context.ignore_index, context.spacing) == (1, None, (2.0, 1.0, 1.0))
    assert context.deep_supervision
    assert context.region_table() is None


def test_regions_and_voxels_to_ignore(context: Context) -> None:
    regions = (Region("all", (1, 2), 1), Region("core", (2,), 2))
    labels = LabelSet(("background", "large", "small"), (0, 1, 2), regions, ignore=7)
    context = replace(context, plan=replace(context.plan, labels=labels))
    assert context.outputs == ("all", "core")
    assert context.ignore_index == 3
    table = context.region_table()
    assert table is not None
    assert table.tolist() == [[0, 1, 1, 0], [0, 0, 1, 0]]
    logits, target = torch.randn(2, 2, 3, 4, 4), torch.randint(0, 4, (2, 3, 4, 4))
    assert torch.equal(context.build_loss("dice")(logits, target), build_loss(labels, "dice")(logits, target))
