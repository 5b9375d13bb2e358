"""A work folder as `preprocess` leaves it, of six made-up cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nnunet_rs.core.geometry import Geometry
from nnunet_rs.core.types import Header, Shape3
from nnunet_rs.data.folds import make_folds, write_splits
from nnunet_rs.data.preprocess import Prepared
from nnunet_rs.data.store import Store, StoreLayout, normalization_key
from nnunet_rs.plan.files import write_fingerprint, write_plan
from nnunet_rs.plan.schema import CasePrint, ChannelStats, Fingerprint, Plan

NAMES = tuple(f"case_{number}" for number in range(6))
SPACING = (2.0, 1.0, 1.0)


def write_work(folder: Path, plan: Plan, shape: Shape3) -> Path:
    """Write the plan, three folds and every configuration's cases, of this shape (z, y, x); returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder / "plan.json", plan)
    prints = tuple(CasePrint(name, shape, shape, SPACING) for name in NAMES)
    write_fingerprint(folder / "fingerprint.json", Fingerprint(prints, (ChannelStats(0, 1, 0, -3, 3, -3, 3),), 1.0))
    write_splits(folder / "splits.json", make_folds(list(NAMES), count=3))
    for configuration in plan.configurations.values():
        store = Store(folder / "prepared" / configuration.name)
        layout = StoreLayout.of(configuration, plan.labels)
        for seed, name in enumerate(NAMES):
            store.write(name, _case(seed, shape), (normalization_key(plan),), layout)
    return folder


def _case(seed: int, shape: Shape3) -> Prepared:
    """A noisy image with a bright box (class 1), half as long as it, in whose middle lies a dark one (class 2)."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    large = [length // 2 + 1 for length in shape]
    corner = rng.integers(0, np.subtract(shape, large))
    for value, margins in ((1, [0, 0, 0]), (2, [length // 3 for length in large])):
        sides = zip(corner, large, margins, strict=True)
        labels[tuple(slice(low + margin, low + length - margin) for low, length, margin in sides)] = value
    image = (np.array([0, 2, -2], np.float32)[labels] + 0.5 * rng.standard_normal(shape)).astype(np.float32)
    box = tuple((0, length) for length in shape)
    header = Header("nifti", ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 2, 0), (0, 0, 0, 1)))
    return Prepared(image[None], labels, None, Geometry(shape, SPACING, (0, 1, 2), box, shape, header))
