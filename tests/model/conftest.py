"""Small plans and a work folder of prepared cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from nnunet_rs.core.types import LabelSet
from nnunet_rs.plan.schema import Configuration, Normalization, Plan
from prepared_cases import write_work


@pytest.fixture
def small3d() -> Configuration:
    """Three stages, the first step within the plane; all kernels differ, so that mixing them up shows."""
    return Configuration(
        name="3d_fullres",
        spacing=(2.0, 1.0, 1.0),
        patch_size=(4, 8, 8),
        batch_size=2,
        median_shape=(8, 16, 16),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        kernels=((1, 3, 3), (3, 3, 3), (3, 3, 1)),
        features=(4, 6, 8),
        blocks_encoder=(2, 2, 2),
        blocks_decoder=(2, 2),
        residual=False,
        batch_dice=False,
        inplane_augmentation=False,
        memory_estimate=0,
    )


@pytest.fixture
def small2d() -> Configuration:
    return Configuration(
        name="2d",
        spacing=(1.0, 1.0),
        patch_size=(16, 8),
        batch_size=3,
        median_shape=(16, 8),
        strides=((1, 1), (2, 2), (2, 1)),
        kernels=((3, 3), (3, 3), (3, 1)),
        features=(4, 6, 8),
        blocks_encoder=(2, 2, 2),
        blocks_decoder=(2, 2),
        residual=False,
        batch_dice=True,
        inplane_augmentation=False,
        memory_estimate=0,
    )


@pytest.fixture
def small_plan(small3d: Configuration, small2d: Configuration) -> Plan:
    return Plan(
        dataset="Made",
        recipe="v2",
        transpose=(0, 1, 2),
        channels=("T1",),
        labels=LabelSet(("background", "large", "small"), (0, 1, 2)),
        normalization=(Normalization("zscore", False, None),),
        configurations={"3d_fullres": small3d, "2d": small2d},
    )


@pytest.fixture
def work(tmp_path: Path, small_plan: Plan) -> Path:
    """A work folder as `preprocess` leaves it: six cases, 2d and 3d_fullres prepared."""
    return write_work(tmp_path, small_plan, (8, 16, 16))
