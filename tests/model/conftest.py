"""Small plans and a work folder of prepared cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header, LabelSet
from nnunet_rs.data.folds import make_folds, write_splits
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.store import Store, StoreLayout, normalization_key
from nnunet_rs.plan.files import write_fingerprint, write_plan
from nnunet_rs.plan.schema import CasePrint, ChannelStats, Configuration, Fingerprint, Normalization, Plan


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


SHAPE = (8, 16, 16)
CASES = 6


def prepared_case(seed: int) -> Prepared:
    """A noisy image with a bright box (class 1) in whose middle lies a dark one (class 2)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    z, y, x = rng.integers(0, [3, 7, 7])
    labels[z : z + 5, y : y + 9, x : x + 9] = 1
    labels[z + 1 : z + 4, y + 3 : y + 6, x + 3 : x + 6] = 2
    image = (np.array([0, 2, -2], np.float32)[labels] + 0.5 * rng.standard_normal(SHAPE)).astype(np.float32)
    box = tuple((0, length) for length in SHAPE)
    header = Header("nifti", ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)))
    return Prepared(image[None], labels, None, Geometry(SHAPE, (2.0, 1.0, 1.0), (0, 1, 2), box, SHAPE, header))


@pytest.fixture
def work(tmp_path: Path, small_plan: Plan) -> Path:
    """A work folder as `preprocess` leaves it: six cases, 2d and 3d_fullres prepared."""
    names = [f"case_{k}" for k in range(CASES)]
    stats = (ChannelStats(0, 1, 0, -3, 3, -3, 3),)
    prints = tuple(CasePrint(name, SHAPE, SHAPE, (2.0, 1.0, 1.0)) for name in names)
    write_plan(tmp_path / "plan.json", small_plan)
    write_fingerprint(tmp_path / "fingerprint.json", Fingerprint(prints, stats, 1.0))
    write_splits(tmp_path / "splits.json", make_folds(names, count=3))
    keys = (normalization_key(small_plan),)
    for configuration in small_plan.configurations.values():
        store, layout = (
            Store(tmp_path / "prepared" / configuration.name),
            StoreLayout.of(configuration, small_plan.labels),
        )
        for seed, name in enumerate(names):
            store.write(name, prepared_case(seed), keys, layout)
    return tmp_path
